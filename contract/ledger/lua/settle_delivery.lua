-- Record a try to deliver an event. ARGV: now_ms (0: Redis clock), id, number of its claim, result ('delivered', 'failed'
-- or 'gone'), ms until the next try (-1: none), what was wrong.
-- Returns 1 if it was recorded, 0 if the delivery was purged or claimed again meanwhile.
write_when_full()
local now, id, result, pause_ms = clock(ARGV[1]), ARGV[2], ARGV[4], tonumber(ARGV[5])
local key = K.delivery .. id
local url, owner, claims = unpack(redis.call('HMGET', key, 'webhook', 'owner', 'claims'))
if not url then
  return 0
end
owner = owner or ''
local lane = lane_of(owner, url)
if result == 'delivered' then
  redis.call('HINCRBY', K.delivery_totals, 'delivered', 1)
  redis.call('HDEL', K.lane_failures, lane)
  redis.call('HDEL', K.lane_pauses, lane)
  drop_delivery(id)
  return 1
end
if claims ~= ARGV[3] then
  return 0
end
redis.call('HINCRBY', K.delivery_totals, 'failed', 1)
redis.call('HINCRBY', key, 'tries', 1)
redis.call('HSET', key, 'tried_ms', text(now), 'problem', ARGV[6])
if result == 'gone' then
  redis.call('HSET', K.gone_endpoints .. owner, url, text(now))
  redis.call('EXPIRE', K.gone_endpoints .. owner, K.delivery_days * 86400)
end
if result == 'gone' or pause_ms < 0 then
  bury_delivery(id, lane, now, ARGV[6])
else
  redis.call('ZADD', K.lane .. lane, text(now + pause_ms), id)
  redis.call('HSET', key, 'next_ms', text(now + pause_ms))
end
local more = redis.call('HINCRBY', K.lane_failures, lane, 1) - K.lane_failures_max
if more >= 0 then
  local pause = math.min(K.lane_pause_ms * 2 ^ math.min(more, 10), tonumber(K.lane_pause_max_ms))
  redis.call('HSET', K.lane_pauses, lane, text(now + pause))
end
schedule_lane(lane)
return 1
