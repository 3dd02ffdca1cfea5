-- Forget jobs that are still queued. ARGV: ids.
for _, id in ipairs(ARGV) do
  local found = redis.call('HMGET', K.job .. id, 'status', 'queue')
  if found[1] == 'queued' then
    redis.call('DEL', K.job .. id)
    redis.call('ZREM', K.queued .. found[2], id)
    redis.call('ZREM', K.unseen .. found[2], id)
  end
end
return 1
