-- Cancel jobs that are not finished. ARGV: ttl_s, now_ms (0: Redis clock), ids.
-- Returns, per job: 1 if canceled, else 0.
write_when_full()
local ttl_s, now = ARGV[1], clock(ARGV[2])
local canceled, finished = {}, {}
for at = 3, #ARGV do
  local status = redis.call('HGET', K.job .. ARGV[at], 'status')
  local is_pending = status == 'queued' or status == 'running'
  if is_pending then
    discard(finish(ARGV[at], now, ttl_s, 'canceled', '', '', ''))
    finished[#finished + 1] = ARGV[at]
  end
  canceled[#canceled + 1] = is_pending and 1 or 0
end
notify(finished)
write_counts(now, ttl_s)
return canceled
