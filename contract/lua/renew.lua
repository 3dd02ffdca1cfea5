-- Prolong leases. ARGV: job prefix, running prefix, now_ms (0: own clock), lease_ms, then a job: id, fence.
local now, lease = clock(ARGV[3]), tonumber(ARGV[4])
local held = {}
for at = 5, #ARGV, 2 do
  local found = redis.call('HMGET', ARGV[1] .. ARGV[at], 'status', 'fence', 'queue')
  local current = found[1] == 'running' and found[2] == ARGV[at + 1]
  if current then
    redis.call('ZADD', ARGV[2] .. found[3], text(now + lease), ARGV[at])
  end
  held[#held + 1] = current and 1 or 0
end
return held
