-- End jobs that have not ended. ARGV: ttl_s, now_ms (0: own clock), ids. Returns 1 a job canceled, 0 any other.
local ttl_s, now = ARGV[1], clock(ARGV[2])
local canceled, ended = {}, {}
for at = 3, #ARGV do
  local status = redis.call('HGET', K.job .. ARGV[at], 'status')
  local open = status == 'queued' or status == 'running'
  if open then
    discard(finish(ARGV[at], now, ttl_s, 'canceled', '', '', ''))
    ended[#ended + 1] = ARGV[at]
  end
  canceled[#canceled + 1] = open and 1 or 0
end
wake(ended)
settle(now, ttl_s)
return canceled
