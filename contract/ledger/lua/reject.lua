-- Record rejected images in their submissions, each once. ARGV: now_ms (0: Redis clock), ttl_s, then per image:
-- id, submission, id to use if another owner uses the first (or ''), owner, n, n values (name, value ...). Returns, per image: 1 if recorded, else 0.
local now, ttl_s = clock(ARGV[1]), ARGV[2]
local stored = {}

local function record(id, submission, from, count)
  local key = K.submission .. submission
  local is_open = redis.call('EXISTS', key) == 1 and redis.call('HEXISTS', key, 'closed_ms') == 0
  if not is_open or redis.call('EXISTS', K.job .. id) == 1 then
    return 0
  end
  local number = redis.call('RPUSH', K.submission_jobs .. submission, id)
  redis.call('HSET', K.job .. id, 'finished_ms', text(now), 'n', number, unpack(ARGV, from, from + count - 1))
  redis.call('EXPIRE', K.job .. id, ttl_s)
  move(submission, nil, 'rejected')
  list_finished(submission, number)
  local owner = redis.call('HGET', key, 'owner')
  if owner ~= '' then
    stored[owner] = (stored[owner] or 0) + 1
  end
  return 1
end

local recorded, at = {}, 3
while at <= #ARGV do
  local id, submission, own_id, owner, count = unpack(ARGV, at, at + 4)
  recorded[#recorded + 1] = record(choose_id(K.job, id, own_id, owner), submission, at + 5, count)
  at = at + 5 + count
end
count_records(now, stored)
write_counts(now, ttl_s)
return recorded
