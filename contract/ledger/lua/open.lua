-- Open a submission. ARGV: id, owner, now_ms (0: own clock), ttl_s, n, n values (name, value ...).
-- Returns 0 the id is taken, 1 stored, 3 the same submission is there already.
local id, owner, now, ttl_s = ARGV[1], ARGV[2], clock(ARGV[3]), ARGV[4]
local key = K.submission .. id

local function is_the_same()
  for at = 6, 5 + ARGV[5], 2 do
    if ARGV[at] ~= 'created_ms' and redis.call('HGET', key, ARGV[at]) ~= ARGV[at + 1] then
      return false
    end
  end
  return true
end

if redis.call('EXISTS', key) == 1 then
  return is_the_same() and 3 or 0
end
redis.call('HSET', key, unpack(ARGV, 6))
redis.call('EXPIRE', key, ttl_s)
redis.call('ZADD', K.submissions .. owner, text(now), id)
redis.call('ZREMRANGEBYRANK', K.submissions .. owner, 0, -1 - K.submissions_kept)
return 1
