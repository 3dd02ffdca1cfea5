-- Become or stay the leader. ARGV: worker id, ttl_ms. Returns 1 for the leader, else 0.
write_when_full()
local leader = redis.call('GET', K.leader)
if leader and leader ~= ARGV[1] then
  return 0
end
redis.call('SET', K.leader, ARGV[1], 'PX', ARGV[2])
return 1
