-- Requeue or finish the jobs of a queue whose worker died, and wake a worker if jobs are waiting.
-- ARGV: queue, now_ms (0: Redis clock), max_attempts, limit, ttl_s, error code and result (JSON) of a lost job, error code
-- and result of an expired job, ticket. Returns the number of requeued jobs.
write_when_full()
local queue, now = ARGV[1], clock(ARGV[2])
local max_attempts, limit, ttl_s, ticket = tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[10]
local requeued, finished = 0, {}

-- Waiting jobs whose deadline has passed.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.deadlines, '-inf', text(now), 'LIMIT', 0, limit)) do
  redis.call('ZREM', K.deadlines, id)
  if redis.call('HGET', K.job .. id, 'status') == 'queued' then
    discard(finish(id, now, ttl_s, 'expired', '', ARGV[8], ARGV[9]))
    finished[#finished + 1] = id
  end
end

-- Running jobs whose lease has expired: their worker died, or cannot reach Redis.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.running .. queue, '-inf', text(now), 'LIMIT', 0, limit)) do
  local created_ms, fence, begun, attempts, submission =
    unpack(redis.call('HMGET', K.job .. id, 'created_ms', 'fence', 'begun', 'attempts', 'submission'))
  -- Only a job that was being decoded or predicted can have killed its worker.
  local suspect = begun and begun == fence
  if not leave_canary(id, fence) and suspect and tonumber(attempts) >= max_attempts then
    local image = finish(id, now, ttl_s, 'failed', '', ARGV[6], ARGV[7])
    redis.call('HSET', K.job .. id, 'dead_image', image or '')
    redis.call('ZADD', K.dead, text(now), id)
    finished[#finished + 1] = id
  else
    if suspect then
      redis.call('HSET', K.job .. id, 'alone', 1)
    end
    requeue(id, queue, created_ms, submission)
    requeued = requeued + 1
  end
end

-- Waiting jobs without a ticket: a worker was killed while it received one.
offer_ticket_if_waiting(queue, ticket)
redis.call('UNLINK', K.unseen .. queue)

-- Dead letters whose record has expired.
local expired_ms = now - tonumber(ttl_s) * 1000
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.dead, '-inf', text(expired_ms), 'LIMIT', 0, limit)) do
  if redis.call('EXISTS', K.job .. id) == 0 then
    redis.call('ZREM', K.dead, id)
  end
end

notify(finished)
write_counts(now, ttl_s)
return requeued
