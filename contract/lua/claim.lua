-- Lease jobs. ARGV: job prefix, queued prefix, running prefix, now_ms (0: own clock), lease_ms, ids.
-- Returns the record of each leased job as a flat list, false for one that is not to be had.
local job_prefix, queued_prefix, running_prefix = ARGV[1], ARGV[2], ARGV[3]
local now, lease = clock(ARGV[4]), tonumber(ARGV[5])
local claims = {}
for at = 6, #ARGV do
  local id = ARGV[at]
  local key = job_prefix .. id
  local found = redis.call('HMGET', key, 'status', 'queue')
  local status, queue = found[1], found[2]
  local free = status == 'queued'
  if status == 'running' then
    local lease_end = redis.call('ZSCORE', running_prefix .. queue, id)
    free = not lease_end or tonumber(lease_end) <= now
  end
  if free then
    redis.call('HINCRBY', key, 'fence', 1)
    redis.call('HSET', key, 'status', 'running', 'started_ms', text(now))
    redis.call('ZREM', queued_prefix .. queue, id)
    redis.call('ZADD', running_prefix .. queue, text(now + lease), id)
    claims[#claims + 1] = redis.call('HGETALL', key)
  else
    claims[#claims + 1] = false
  end
end
return claims
