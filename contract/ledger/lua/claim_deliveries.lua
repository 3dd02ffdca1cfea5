-- Lease deliveries that are due to a notifier, oldest lane first. A paused lane gets one try at a time.
-- ARGV: now_ms (0: Redis clock), lease_ms, how many, how many of a lane at a time, maximum age in ms, then per lane of
-- which the notifier has deliveries in progress: lane, how many.
-- Returns, per delivery: {id, lane, its fields}.
write_when_full()
local now, lease_ms, left = clock(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local lane_max, max_age_ms = tonumber(ARGV[4]), tonumber(ARGV[5])
local busy, claimed = {}, {}
for at = 6, #ARGV, 2 do
  busy[ARGV[at]] = tonumber(ARGV[at + 1])
end

-- Why a delivery is not tried again; nil if it is.
local function problem_of(owner, url, since_ms)
  if redis.call('HEXISTS', K.gone_endpoints .. owner, url) == 1 then
    return 'The endpoint is switched off, because it answered 410. A redelivery switches it on.'
  elseif now - since_ms > max_age_ms then
    return 'The delivery waited too long for its turn, because the endpoint kept failing.'
  end
end

local function take(lane, wanted)
  local taken = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.lane .. lane, '-inf', text(now), 'LIMIT', 0, wanted + 100)) do
    if taken == wanted then
      break
    end
    local key = K.delivery .. id
    local url, owner, since_ms = unpack(redis.call('HMGET', key, 'webhook', 'owner', 'since_ms'))
    local problem = url and problem_of(owner or '', url, tonumber(since_ms))
    if not url then -- it has expired
      redis.call('ZREM', K.lane .. lane, id)
    elseif problem then
      bury_delivery(id, lane, now, problem)
    else
      redis.call('HINCRBY', key, 'claims', 1)
      redis.call('ZADD', K.lane .. lane, text(now + lease_ms), id)
      claimed[#claimed + 1] = {id, lane, redis.call('HGETALL', key)}
      taken = taken + 1
    end
  end
  return taken
end

for _, lane in ipairs(redis.call('ZRANGEBYSCORE', K.lanes, '-inf', text(now), 'LIMIT', 0, 1000)) do
  local is_paused = redis.call('HEXISTS', K.lane_pauses, lane) == 1
  local wanted = math.min(left, (is_paused and 1 or lane_max) - (busy[lane] or 0))
  if wanted > 0 then
    local taken = take(lane, wanted)
    left = left - taken
    if is_paused and taken > 0 then
      redis.call('HSET', K.lane_pauses, lane, text(now + lease_ms))
    end
    schedule_lane(lane)
  end
end
return claimed
