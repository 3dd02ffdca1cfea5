-- Store new queued jobs. ARGV: job prefix, queued prefix, then a job: id, queue, created_ms, n, n values (name, value ...).
-- Returns 1 a stored job, 0 where the id is taken.
local job_prefix, queued_prefix = ARGV[1], ARGV[2]
local stored, at = {}, 3
while at <= #ARGV do
  local id, queue, created_ms, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local key = job_prefix .. id
  if redis.call('EXISTS', key) == 1 then
    stored[#stored + 1] = 0
  else
    redis.call('HSET', key, unpack(ARGV, at + 4, at + 3 + count))
    redis.call('ZADD', queued_prefix .. queue, created_ms, id)
    stored[#stored + 1] = 1
  end
  at = at + 4 + count
end
return stored
