-- Give jobs back at their old place, the attempt uncounted. ARGV: job prefix, queued prefix, running prefix, then a job: id, fence.
local released = {}
for at = 4, #ARGV, 2 do
  local id, fence = ARGV[at], ARGV[at + 1]
  local key = ARGV[1] .. id
  local found = redis.call('HMGET', key, 'status', 'fence', 'queue', 'created_ms', 'begun')
  local current = found[1] == 'running' and found[2] == fence
  if current then
    redis.call('HSET', key, 'status', 'queued')
    redis.call('HDEL', key, 'started_ms', 'begun')
    if found[5] == fence then
      redis.call('HINCRBY', key, 'attempts', -1)
    end
    redis.call('ZREM', ARGV[3] .. found[3], id)
    redis.call('ZADD', ARGV[2] .. found[3], found[4], id)
  end
  released[#released + 1] = current and 1 or 0
end
return released
