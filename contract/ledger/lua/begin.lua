-- Count an attempt for postponed jobs whose claim is current. ARGV, per job: id, fence.
write_when_full()
for at = 1, #ARGV, 2 do
  local is_begun = redis.call('HGET', K.job .. ARGV[at], 'begun') == ARGV[at + 1]
  if is_current(ARGV[at], ARGV[at + 1]) and not is_begun then
    redis.call('HINCRBY', K.job .. ARGV[at], 'attempts', 1)
    redis.call('HSET', K.job .. ARGV[at], 'begun', ARGV[at + 1])
  end
end
return 1
