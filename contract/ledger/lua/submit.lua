-- Store new queued jobs.
-- ARGV: most jobs and most bytes that may wait in a queue, the same of one owner, seconds that an idempotency key is kept,
-- then a job: id, queue, created_ms, deadline_ms (0: none), size in bytes, idempotency key (or ''), fingerprint (or ''),
-- owner (or ''), submission (or ''), n, n values (name, value ...).
-- Returns a job: {result, id}. Results: 0 the id is taken, 1 stored, 2 the queue is full, 3 the same job is there already,
-- 4 the idempotency key was used for other bytes, 5 the owner's share of the queue is full, 6 the submission takes no more.
local most_jobs, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local owner_most_jobs, owner_most_bytes, key_ttl_s = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]

-- What an earlier submit of the same id or the same idempotency key means for this one; nil if there was none.
local function earlier(id, idempotency_key, fingerprint, owner)
  if idempotency_key ~= '' then
    local known = redis.call('HMGET', K.idempotency .. idempotency_key, 'fingerprint', 'id')
    if known[1] and redis.call('EXISTS', K.job .. known[2]) == 1 then
      return {known[1] == fingerprint and 3 or 4, known[2]}
    end
  end
  if redis.call('EXISTS', K.job .. id) == 1 then
    local known = redis.call('HMGET', K.job .. id, 'fingerprint', 'owner')
    local same = fingerprint ~= '' and known[1] == fingerprint and (known[2] or '') == owner
    return {same and 3 or 0, id}
  end
end

-- Whether a hash holds more than `most` for a name once `more` is added.
local function exceeds(key, name, more, most)
  return tonumber(redis.call('HGET', key, name) or 0) + more > most
end

-- Why there is no room for a job; nil if there is.
local function no_room(id, queue, size, owner)
  if redis.call('ZCARD', K.queued .. queue) >= most_jobs or exceeds(K.queued_bytes, queue, size, most_bytes) then
    return {2, id}
  end
  if owner ~= '' and (exceeds(K.owner_jobs .. queue, owner, 1, owner_most_jobs)
      or exceeds(K.owner_bytes .. queue, owner, size, owner_most_bytes)) then
    return {5, id}
  end
end

-- Whether a submission takes jobs, by id: looked up once.
local takes = {}

-- Why a job cannot join its submission; nil if it can, or belongs to none.
local function no_submission(id, submission)
  if submission == '' then
    return nil
  end
  if takes[submission] == nil then
    local key = K.submission .. submission
    takes[submission] = redis.call('EXISTS', key) == 1 and redis.call('HEXISTS', key, 'closed_ms') == 0
  end
  return not takes[submission] and {6, id} or nil
end

local function store(id, queue, created_ms, deadline_ms, idempotency_key, fingerprint, submission, from, count)
  redis.call('HSET', K.job .. id, unpack(ARGV, from, from + count - 1))
  enter_queue(id, queue, created_ms)
  if deadline_ms ~= '0' then
    redis.call('ZADD', K.deadlines, deadline_ms, id)
  end
  if fingerprint ~= '' then
    redis.call('HSET', K.job .. id, 'fingerprint', fingerprint)
  end
  if idempotency_key ~= '' then
    redis.call('HSET', K.idempotency .. idempotency_key, 'fingerprint', fingerprint, 'id', id)
    redis.call('EXPIRE', K.idempotency .. idempotency_key, key_ttl_s)
  end
  if submission ~= '' then
    move(submission, nil, 'queued')
    redis.call('RPUSH', K.submission_jobs .. submission, id)
  end
  return {1, id}
end

local results, at = {}, 6
while at <= #ARGV do
  local id, queue, created_ms, deadline_ms, size, idempotency_key, fingerprint, owner, submission, count =
    unpack(ARGV, at, at + 9)
  results[#results + 1] = earlier(id, idempotency_key, fingerprint, owner)
    or no_submission(id, submission)
    or no_room(id, queue, size, owner)
    or store(id, queue, created_ms, deadline_ms, idempotency_key, fingerprint, submission, at + 10, count)
  at = at + 10 + count
end
for submission in pairs(moved) do -- it lives until its last job has ended
  redis.call('PERSIST', K.submission .. submission)
  redis.call('PERSIST', K.submission_jobs .. submission)
end
settle()
return results
