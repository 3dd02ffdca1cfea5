-- The heartbeats that still count. ARGV: workers, alive, now_ms (0: own clock).
local now = clock(ARGV[3])
local ids = redis.call('ZRANGEBYSCORE', ARGV[2], '(' .. text(now), '+inf')
if #ids == 0 then
  return {}
end
return redis.call('HMGET', ARGV[1], unpack(ids))
