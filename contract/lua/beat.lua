-- Store a worker's heartbeat and forget those long silent. ARGV: workers, alive, now_ms (0: own clock), ttl_ms, id, heartbeat.
local now = clock(ARGV[3])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ARGV[2], '-inf', text(now - 60000))) do
  redis.call('HDEL', ARGV[1], id)
  redis.call('ZREM', ARGV[2], id)
end
redis.call('HSET', ARGV[1], ARGV[5], ARGV[6])
redis.call('ZADD', ARGV[2], text(now + ARGV[4]), ARGV[5])
return 1
