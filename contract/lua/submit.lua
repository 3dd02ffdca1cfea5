-- Store new queued jobs.
-- ARGV: most jobs that may wait in a queue, then a job: id, queue, created_ms, deadline_ms (0: none), n, n values
-- (name, value ...).
-- Returns a job: 1 stored, 0 the id is taken, 2 the queue is full.
local most = tonumber(ARGV[1])
local results, at = {}, 2
while at <= #ARGV do
  local id, queued, created_ms, deadline_ms, count = unpack(ARGV, at, at + 4)
  queued = K.queued .. queued
  if redis.call('EXISTS', K.job .. id) == 1 then
    results[#results + 1] = 0
  elseif redis.call('ZCARD', queued) >= most then
    results[#results + 1] = 2
  else
    redis.call('HSET', K.job .. id, unpack(ARGV, at + 5, at + 4 + count))
    redis.call('ZADD', queued, created_ms, id)
    if deadline_ms ~= '0' then
      redis.call('ZADD', K.deadlines, deadline_ms, id)
    end
    results[#results + 1] = 1
  end
  at = at + 5 + count
end
return results
