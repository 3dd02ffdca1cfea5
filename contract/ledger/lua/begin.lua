-- Count an attempt for jobs whose claim is current. ARGV, per job: id, fence.
write_when_full()
for at = 1, #ARGV, 2 do
  if is_current(ARGV[at], ARGV[at + 1]) then
    redis.call('HINCRBY', K.job .. ARGV[at], 'attempts', 1)
    redis.call('HSET', K.job .. ARGV[at], 'begun', ARGV[at + 1])
  end
end
return 1
