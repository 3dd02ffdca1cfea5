-- Extend leases. ARGV: now_ms (0: Redis clock), lease_ms, then per job: id, fence.
-- Returns, per job: 1 if the claim is current, else 0.
write_when_full()
local now, lease = clock(ARGV[1]), tonumber(ARGV[2])
local held = {}
for at = 3, #ARGV, 2 do
  local current = is_current(ARGV[at], ARGV[at + 1])
  if current then
    local queue = redis.call('HGET', K.job .. ARGV[at], 'queue')
    redis.call('ZADD', K.running .. queue, text(now + lease), ARGV[at])
  end
  held[#held + 1] = current and 1 or 0
end
return held
