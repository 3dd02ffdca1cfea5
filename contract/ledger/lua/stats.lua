-- Count jobs. ARGV: now_ms (0: Redis clock), queues.
-- Returns {{queued, running, oldest_age_ms, queued_bytes} per queue, totals (flat list), errors (flat list), dead}.
local now = clock(ARGV[1])
local rows = {}
for at = 2, #ARGV do
  local queued, running = K.queued .. ARGV[at], K.running .. ARGV[at]
  local oldest = redis.call('ZRANGE', queued, 0, 0, 'WITHSCORES')
  local age_ms = oldest[2] and math.max(0, now - tonumber(oldest[2])) or 0
  local bytes = tonumber(redis.call('HGET', K.queued_bytes, ARGV[at]) or 0)
  rows[#rows + 1] = {redis.call('ZCARD', queued), redis.call('ZCARD', running), age_ms, bytes}
end
return {rows, redis.call('HGETALL', K.totals), redis.call('HGETALL', K.errors), redis.call('ZCARD', K.dead)}
