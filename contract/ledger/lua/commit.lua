-- Finish jobs whose claim is current, and notify waiting clients.
-- ARGV: ttl_s, now_ms (0: Redis clock), then per job: id, fence, status, label, error code, result as JSON.
-- Returns, per job: 1 if finished, 0 if the claim is not current.
write_when_full()
local ttl_s, now = ARGV[1], clock(ARGV[2])
local committed, finished = {}, {}
for at = 3, #ARGV, 6 do
  local id, fence, status, label, code, result = unpack(ARGV, at, at + 5)
  if is_current(id, fence) then
    count_attempt(id, fence) -- its model may have been loaded just now
    finish(id, now, ttl_s, status, label, code, result)
    finished[#finished + 1] = id
    committed[#committed + 1] = 1
  else
    redis.call('HINCRBY', K.counters, 'late_commits', 1)
    committed[#committed + 1] = 0
  end
end
notify(finished)
write_counts(now, ttl_s)
return committed
