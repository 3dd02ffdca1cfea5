-- Let a submission take no more jobs. ARGV: id, now_ms (0: own clock), ttl_s, 1 to withdraw it if it has not finished.
-- Returns 1, 0 where there is no such submission.
local id, now, ttl_s = ARGV[1], clock(ARGV[2]), ARGV[3]
local key = K.submission .. id
if redis.call('EXISTS', key) == 0 then
  return 0
end
redis.call('HSETNX', key, 'closed_ms', text(now))
if ARGV[4] == '1' and redis.call('HEXISTS', key, 'finished_ms') == 0 then
  redis.call('HSETNX', key, 'canceled_ms', text(now))
end
if count_pending(key) == 0 then
  rest(id, now, ttl_s)
end
return 1
