-- Forget jobs that are still queued. ARGV: job prefix, queued prefix, ids.
for at = 3, #ARGV do
  local key = ARGV[1] .. ARGV[at]
  local found = redis.call('HMGET', key, 'status', 'queue')
  if found[1] == 'queued' then
    redis.call('DEL', key)
    redis.call('ZREM', ARGV[2] .. found[2], ARGV[at])
  end
end
return 1
