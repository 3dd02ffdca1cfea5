-- Count jobs. ARGV: queued prefix, running prefix, totals, errors, now_ms (0: own clock), queues.
-- Returns {{queued, running, oldest_age_ms} a queue, totals as a flat list, errors as a flat list}.
local now = clock(ARGV[5])
local rows = {}
for at = 6, #ARGV do
  local queued, running = ARGV[1] .. ARGV[at], ARGV[2] .. ARGV[at]
  local oldest = redis.call('ZRANGE', queued, 0, 0, 'WITHSCORES')
  local age = oldest[2] and math.max(0, now - tonumber(oldest[2])) or 0
  rows[#rows + 1] = {redis.call('ZCARD', queued), redis.call('ZCARD', running), age}
end
return {rows, redis.call('HGETALL', ARGV[3]), redis.call('HGETALL', ARGV[4])}
