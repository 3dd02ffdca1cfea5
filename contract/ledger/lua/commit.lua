-- Finish jobs whose claim is current, and notify waiting clients. A job on which a canary failed is returned to its queue
-- instead: the live version processes it.
-- ARGV: ttl_s, now_ms (0: Redis clock), ticket, then per job: id, fence, status, label, error code, whether its version
-- is to blame for the error, result as JSON.
-- Returns, per job: 1 if finished, 0 if the claim is not current, 2 if returned.
write_when_full()
local ttl_s, now, ticket = ARGV[1], clock(ARGV[2]), ARGV[3]
local committed, finished, filled = {}, {}, {}
for at = 4, #ARGV, 7 do
  local id, fence, status, label, code, is_to_blame, result = unpack(ARGV, at, at + 6)
  local is_ours = is_current(id, fence)
  if is_ours and is_to_blame == '1' and leave_canary(id, fence) then
    local queue, created_ms, submission = unpack(redis.call('HMGET', K.job .. id, 'queue', 'created_ms', 'submission'))
    requeue(id, queue, created_ms, submission)
    filled[queue] = true
    committed[#committed + 1] = 2
  elseif is_ours then
    count_attempt(id, fence) -- its model may have been loaded just now
    finish(id, now, ttl_s, status, label, code, result)
    finished[#finished + 1] = id
    committed[#committed + 1] = 1
  else
    redis.call('HINCRBY', K.counters, 'late_commits', 1)
    committed[#committed + 1] = 0
  end
end
for queue in pairs(filled) do
  offer_ticket(queue, ticket)
end
notify(finished)
write_counts(now, ttl_s)
return committed
