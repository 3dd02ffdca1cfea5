-- Remove a job from the dead-letter list. ARGV: id. Returns its image reference, or false if it is not listed.
if redis.call('ZREM', K.dead, ARGV[1]) == 0 then
  return false
end
local image = redis.call('HGET', K.job .. ARGV[1], 'dead_image')
redis.call('HDEL', K.job .. ARGV[1], 'dead_image')
return image or ''
