-- Store a worker's heartbeat, and delete heartbeats that expired over a minute ago.
-- ARGV: now_ms (0: Redis clock), ttl_ms, id, heartbeat.
write_when_full()
local now = clock(ARGV[1])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.workers_alive, '-inf', text(now - 60000))) do
  redis.call('HDEL', K.workers, id)
  redis.call('ZREM', K.workers_alive, id)
end
redis.call('HSET', K.workers, ARGV[3], ARGV[4])
redis.call('ZADD', K.workers_alive, text(now + ARGV[2]), ARGV[3])
return 1
