-- Count an attempt for jobs whose claim is current. ARGV: job prefix, then a job: id, fence.
for at = 2, #ARGV, 2 do
  local key = ARGV[1] .. ARGV[at]
  local found = redis.call('HMGET', key, 'status', 'fence')
  if found[1] == 'running' and found[2] == ARGV[at + 1] then
    redis.call('HINCRBY', key, 'attempts', 1)
    redis.call('HSET', key, 'begun', ARGV[at + 1])
  end
end
return 1
