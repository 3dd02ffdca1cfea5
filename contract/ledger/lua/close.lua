-- Close a submission. ARGV: id, now_ms (0: Redis clock), ttl_s, 1 to mark it as canceled unless it is finished,
-- ttl_s of one without images.
-- Returns 1, or 0 if there is no such submission.
write_when_full()
local id, now, ttl_s = ARGV[1], clock(ARGV[2]), ARGV[3]
local key = K.submission .. id
if redis.call('EXISTS', key) == 0 then
  return 0
end
redis.call('HSETNX', key, 'closed_ms', text(now))
if ARGV[4] == '1' and redis.call('HEXISTS', key, 'finished_ms') == 0 then
  redis.call('HSETNX', key, 'canceled_ms', text(now))
end
if redis.call('EXISTS', K.submission_jobs .. id) == 1 then
  redis.call('ZREM', K.open_submissions .. redis.call('HGET', key, 'owner'), id)
else
  -- It still counts as open: otherwise a client could fill Redis with submissions that it opens and closes.
  ttl_s = ARGV[5]
  count_open(id, text(now + ttl_s * 1000))
end
if count_pending(key) == 0 then
  on_idle(id, now, ttl_s)
end
updated[#updated + 1] = id
write_counts(now, ttl_s)
return 1
