-- Find the jobs of a queue that nobody works on and no message carries; give them back to the queue, or end them.
-- ARGV: queue, now_ms (0: own clock), oldest_message_ms, grace_ms, most attempts, limit, ttl_s, code and result (JSON) of a lost
-- job, code and result of an expired one. Returns the ids that need a message.
local queue, now, oldest_message_ms, grace_ms = ARGV[1], clock(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local most_attempts, limit, ttl_s = tonumber(ARGV[5]), ARGV[6], ARGV[7]
local orphans, ended = {}, {}

-- Jobs whose deadline has passed while they waited.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.deadlines, '-inf', text(now), 'LIMIT', 0, limit)) do
  redis.call('ZREM', K.deadlines, id)
  if redis.call('HGET', K.job .. id, 'status') == 'queued' then
    discard(finish(id, now, ttl_s, 'expired', '', ARGV[10], ARGV[11]))
    ended[#ended + 1] = id
  end
end

-- Jobs whose lease has ended: their worker died, or has lost sight of the ledger.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.running .. queue, '-inf', text(now), 'LIMIT', 0, limit)) do
  local created_ms, fence, begun, attempts, submission =
    unpack(redis.call('HMGET', K.job .. id, 'created_ms', 'fence', 'begun', 'attempts', 'submission'))
  -- Only what was being decoded or predicted can have killed its worker.
  local suspect = begun and begun == fence
  if suspect and tonumber(attempts) >= most_attempts then
    local image = finish(id, now, ttl_s, 'failed', '', ARGV[8], ARGV[9])
    redis.call('HSET', K.job .. id, 'dead_image', image or '')
    redis.call('ZADD', K.dead, text(now), id)
    ended[#ended + 1] = id
  else
    if suspect then
      redis.call('HSET', K.job .. id, 'alone', 1)
    end
    requeue(id, queue, created_ms, submission)
    redis.call('ZADD', K.unseen .. queue, text(now), id)
    orphans[#orphans + 1] = id
  end
end

-- Jobs that wait although every message as old as they are has been taken: given some grace, as a worker may be about
-- to claim them.
local before = oldest_message_ms > 0 and '(' .. text(oldest_message_ms) or '+inf'
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.queued .. queue, '-inf', before, 'LIMIT', 0, limit)) do
  redis.call('ZADD', K.unseen .. queue, 'NX', text(now), id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.unseen .. queue, '-inf', text(now - grace_ms), 'LIMIT', 0, limit)) do
  redis.call('ZADD', K.unseen .. queue, text(now), id)
  orphans[#orphans + 1] = id
end

-- Dead letters whose record is gone: nobody can decide about them any more.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.dead, '-inf', text(now - tonumber(ttl_s) * 1000), 'LIMIT', 0, limit)) do
  if redis.call('EXISTS', K.job .. id) == 0 then
    redis.call('ZREM', K.dead, id)
  end
end

wake(ended)
settle(now, ttl_s)
return orphans
