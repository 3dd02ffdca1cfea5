-- Remove a job from the dead-letter list. ARGV: id, id of the job that retries it (or '').
-- Returns its image reference, or false if it is not listed.
write_when_full()
if redis.call('ZREM', K.dead, ARGV[1]) == 0 then
  return false
end
local image = redis.call('HGET', K.job .. ARGV[1], 'dead_image')
redis.call('HDEL', K.job .. ARGV[1], 'dead_image')
if ARGV[2] ~= '' then
  redis.call('HSET', K.job .. ARGV[1], 'retried_as', ARGV[2])
end
return image or ''
