-- Try a delivery again from now on, with all retries; its endpoint is no longer switched off.
-- ARGV: now_ms (0: Redis clock), id, owner. Returns its fields; none if the owner has no such delivery.
local now, id, owner = clock(ARGV[1]), ARGV[2], ARGV[3]
local key = K.delivery .. id
local url, found = unpack(redis.call('HMGET', key, 'webhook', 'owner'))
if not url or (found or '') ~= owner then
  return {}
end
local lane = lane_of(owner, url)
redis.call('HSET', key, 'since_ms', text(now), 'next_ms', text(now), 'tries', 0)
redis.call('HDEL', key, 'dead_ms')
redis.call('EXPIRE', key, K.delivery_days * 86400)
redis.call('ZREM', K.dead_deliveries, id)
redis.call('HDEL', K.gone_endpoints .. owner, url)
redis.call('HDEL', K.lane_pauses, lane)
redis.call('ZADD', K.lane .. lane, text(now), id)
schedule_lane(lane)
return redis.call('HGETALL', key)
