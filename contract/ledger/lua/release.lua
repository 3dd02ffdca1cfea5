-- Return jobs to their old position in the queue, without counting the attempt. ARGV, per job: id, fence.
-- Returns, per job: 1 if the claim was current, else 0.
write_when_full()
local released = {}
for at = 1, #ARGV, 2 do
  local id, fence = ARGV[at], ARGV[at + 1]
  local current = is_current(id, fence)
  if current then
    local queue, created_ms, begun, submission =
      unpack(redis.call('HMGET', K.job .. id, 'queue', 'created_ms', 'begun', 'submission'))
    if begun == fence then
      redis.call('HINCRBY', K.job .. id, 'attempts', -1)
    end
    requeue(id, queue, created_ms, submission)
  end
  released[#released + 1] = current and 1 or 0
end
write_counts()
return released
