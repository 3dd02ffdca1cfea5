-- Forget jobs that are still queued. ARGV: ids.
for _, id in ipairs(ARGV) do
  local found = redis.call('HMGET', K.job .. id, 'status', 'queue')
  if found[1] == 'queued' then
    leave_queue(id, found[2])
    redis.call('ZREM', K.deadlines, id)
    redis.call('DEL', K.job .. id)
  end
end
return 1
