-- End jobs whose claim is current, and wake whoever waits.
-- ARGV: ttl_s, now_ms (0: own clock), then a job: id, fence, status, label, error code, result as JSON.
-- Returns 1 an ended job, 0 where the claim is not current.
local ttl_s, now = ARGV[1], clock(ARGV[2])
local committed, ended = {}, {}
for at = 3, #ARGV, 6 do
  local id, fence, status, label, code, result = unpack(ARGV, at, at + 5)
  if is_current(id, fence) then
    finish(id, now, ttl_s, status, label, code, result)
    ended[#ended + 1] = id
    committed[#committed + 1] = 1
  else
    redis.call('HINCRBY', K.counters, 'late_commits', 1)
    committed[#committed + 1] = 0
  end
end
wake(ended)
settle(now, ttl_s)
return committed
