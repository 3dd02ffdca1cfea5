-- Store new queued jobs.
-- ARGV: job prefix, queued prefix, most jobs that may wait in a queue,
-- then a job: id, queue, created_ms, n, n values (name, value ...).
-- Returns a job: 1 stored, 0 the id is taken, 2 the queue is full.
local job_prefix, queued_prefix, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local results, at = {}, 4
while at <= #ARGV do
  local id, queued, created_ms, count = ARGV[at], queued_prefix .. ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local key = job_prefix .. id
  if redis.call('EXISTS', key) == 1 then
    results[#results + 1] = 0
  elseif redis.call('ZCARD', queued) >= most then
    results[#results + 1] = 2
  else
    redis.call('HSET', key, unpack(ARGV, at + 4, at + 3 + count))
    redis.call('ZADD', queued, created_ms, id)
    results[#results + 1] = 1
  end
  at = at + 4 + count
end
return results
