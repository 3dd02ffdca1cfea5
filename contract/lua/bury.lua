-- Put a job back on the dead-letter list. ARGV: id, reference of its picture.
redis.call('ZADD', K.dead, text(clock('0')), ARGV[1])
redis.call('HSET', K.job .. ARGV[1], 'dead_image', ARGV[2])
return 1
