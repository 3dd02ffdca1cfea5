-- Requeue or finish the lost jobs of a queue: jobs whose worker died or whose message disappeared.
-- ARGV: queue, now_ms (0: Redis clock), oldest_message_ms, grace_ms, max_attempts, limit, ttl_s, error code and
-- result (JSON) of a lost job, error code and result of an expired job. Returns the ids of the jobs to publish.
write_when_full()
local queue, now, oldest_message_ms, grace_ms = ARGV[1], clock(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local max_attempts, limit, ttl_s = tonumber(ARGV[5]), ARGV[6], ARGV[7]
local orphans, finished = {}, {}

-- Waiting jobs whose deadline has passed.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.deadlines, '-inf', text(now), 'LIMIT', 0, limit)) do
  redis.call('ZREM', K.deadlines, id)
  if redis.call('HGET', K.job .. id, 'status') == 'queued' then
    discard(finish(id, now, ttl_s, 'expired', '', ARGV[10], ARGV[11]))
    finished[#finished + 1] = id
  end
end

-- Running jobs whose lease has expired: their worker died, or cannot reach Redis.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.running .. queue, '-inf', text(now), 'LIMIT', 0, limit)) do
  local created_ms, fence, begun, attempts, submission =
    unpack(redis.call('HMGET', K.job .. id, 'created_ms', 'fence', 'begun', 'attempts', 'submission'))
  -- Only a job that was being decoded or predicted can have killed its worker.
  local suspect = begun and begun == fence
  if suspect and tonumber(attempts) >= max_attempts then
    local image = finish(id, now, ttl_s, 'failed', '', ARGV[8], ARGV[9])
    redis.call('HSET', K.job .. id, 'dead_image', image or '')
    redis.call('ZADD', K.dead, text(now), id)
    finished[#finished + 1] = id
  else
    if suspect then
      redis.call('HSET', K.job .. id, 'alone', 1)
    end
    requeue(id, queue, created_ms, submission)
    redis.call('ZADD', K.unseen .. queue, text(now), id)
    orphans[#orphans + 1] = id
  end
end

-- Waiting jobs older than every message in the queue. They get a new message, but only after a grace period: a worker
-- may have just received the old one and be about to claim them.
local before = oldest_message_ms > 0 and '(' .. text(oldest_message_ms) or '+inf'
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.queued .. queue, '-inf', before, 'LIMIT', 0, limit)) do
  redis.call('ZADD', K.unseen .. queue, 'NX', text(now), id)
end
local overdue = redis.call('ZRANGEBYSCORE', K.unseen .. queue, '-inf', text(now - grace_ms), 'LIMIT', 0, limit)
for _, id in ipairs(overdue) do
  redis.call('ZADD', K.unseen .. queue, text(now), id)
  orphans[#orphans + 1] = id
end

-- Dead letters whose record has expired.
local expired_ms = now - tonumber(ttl_s) * 1000
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.dead, '-inf', text(expired_ms), 'LIMIT', 0, limit)) do
  if redis.call('EXISTS', K.job .. id) == 0 then
    redis.call('ZREM', K.dead, id)
  end
end

notify(finished)
write_counts(now, ttl_s)
return orphans
