-- Return jobs to their old position in the queue, without counting the attempt, and wake a worker.
-- ARGV: ticket, whether their version cannot be loaded, then per job: id, fence. Returns, per job: 1 if the claim was
-- current, else 0.
write_when_full()
local released, filled = {}, {}
for at = 3, #ARGV, 2 do
  local id, fence = ARGV[at], ARGV[at + 1]
  local current = is_current(id, fence)
  if current then
    if ARGV[2] == '1' then
      leave_canary(id, fence)
    end
    take_back_attempt(id, fence)
    local queue, created_ms, submission = unpack(redis.call('HMGET', K.job .. id, 'queue', 'created_ms', 'submission'))
    requeue(id, queue, created_ms, submission)
    filled[queue] = true
  end
  released[#released + 1] = current and 1 or 0
end
for queue in pairs(filled) do
  offer_ticket(queue, ARGV[1])
end
write_counts()
return released
