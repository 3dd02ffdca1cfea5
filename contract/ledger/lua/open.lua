-- Open a submission. ARGV: id, owner, now_ms (0: Redis clock), ttl_s, maximum open submissions of the owner,
-- id to use if another owner uses the first (or ''), n, n values (name, value ...).
-- Returns 0 if the id is taken, 1 if stored, 3 if the same submission exists, 7 if it is being purged, 8 if the owner has
-- too many.
local id, owner, now, ttl_s, max_open = ARGV[1], ARGV[2], clock(ARGV[3]), ARGV[4], tonumber(ARGV[5])
id = choose_id(K.submission, id, ARGV[6], owner)
local key = K.submission .. id

local function is_same()
  for at = 8, 7 + ARGV[7], 2 do
    if ARGV[at] ~= 'created_ms' and (redis.call('HGET', key, ARGV[at]) or '') ~= ARGV[at + 1] then
      return false
    end
  end
  return true
end

if redis.call('HEXISTS', key, 'purging_ms') == 1 then
  return 7
end
if redis.call('EXISTS', key) == 1 then
  return is_same() and 3 or 0
end
local open = K.open_submissions .. owner
if redis.call('ZCOUNT', open, '(' .. text(now), '+inf') >= max_open then
  return 8
end
redis.call('HSET', key, unpack(ARGV, 8)) -- the first write, because a full Redis must refuse it
redis.call('ZREMRANGEBYSCORE', open, '-inf', text(now))
redis.call('EXPIRE', key, ttl_s)
count_open(id, text(now + ttl_s * 1000))
redis.call('ZADD', K.submissions .. owner, text(now), id)
redis.call('ZREMRANGEBYRANK', K.submissions .. owner, 0, -1 - K.submissions_kept)
-- Remove expired submissions from the list, at most 100 at a time.
for _, oldest in ipairs(redis.call('ZRANGE', K.submissions .. owner, 0, 99)) do
  if redis.call('EXISTS', K.submission .. oldest) == 0 then
    redis.call('ZREM', K.submissions .. owner, oldest)
    redis.call('DEL', K.submission_finished .. oldest) -- version 0.1 sets no expiry
  end
end
return 1
