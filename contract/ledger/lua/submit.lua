-- Store new jobs, and wake a worker.
-- ARGV: maximum jobs and bytes waiting in a queue, maximum jobs and bytes per owner, ttl_s of an idempotency key, ticket,
-- then per job: id, queue, created_ms, deadline_ms (0: none), size in bytes, idempotency key (or ''),
-- fingerprint (or ''), owner (or ''), submission (or ''), id to use if another owner uses the first (or ''),
-- n, n values (name, value ...).
-- Returns, per job: {status, id}. Status: 0 the id is taken, 1 stored, 2 the queue is full, 3 the same job exists,
-- 4 the idempotency key was used with a different image, 5 the owner's share of the queue is full,
-- 6 the submission is closed.
local max_jobs, max_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local owner_max_jobs, owner_max_bytes, key_ttl_s, ticket = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6]

-- The reply if the id or the idempotency key is already in use; else nil.
local function reply_if_known(id, idempotency_key, fingerprint, owner)
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

-- Whether adding `more` to a value of a hash exceeds `maximum`.
local function exceeds(key, name, more, maximum)
  return tonumber(redis.call('HGET', key, name) or 0) + more > maximum
end

-- The reply if the queue or the owner's share is full; else nil.
local function reply_if_full(id, queue, size, owner)
  if redis.call('ZCARD', K.queued .. queue) >= max_jobs or exceeds(K.queued_bytes, queue, size, max_bytes) then
    return {2, id}
  end
  if owner ~= '' and (exceeds(K.owner_jobs .. queue, owner, 1, owner_max_jobs)
      or exceeds(K.owner_bytes .. queue, owner, size, owner_max_bytes)) then
    return {5, id}
  end
end

-- Number of stored jobs by owner, and the queues that got a job.
local stored, filled = {}, {}

-- Cache: whether a submission is open, by id.
local is_open = {}

-- The reply if the job's submission is closed or does not exist; else nil.
local function reply_if_closed(id, submission)
  if submission == '' then
    return nil
  end
  if is_open[submission] == nil then
    local key = K.submission .. submission
    is_open[submission] = redis.call('EXISTS', key) == 1 and redis.call('HEXISTS', key, 'closed_ms') == 0
  end
  return not is_open[submission] and {6, id} or nil
end

local function store(id, queue, created_ms, deadline_ms, idempotency_key, fingerprint, owner, submission, from, count)
  redis.call('HSET', K.job .. id, unpack(ARGV, from, from + count - 1))
  enter_queue(id, queue, created_ms)
  filled[queue] = true
  if deadline_ms ~= '0' then
    redis.call('ZADD', K.deadlines, deadline_ms, id)
  end
  if fingerprint ~= '' then
    redis.call('HSET', K.job .. id, 'fingerprint', fingerprint)
  end
  if idempotency_key ~= '' then
    redis.call('HSET', K.job .. id, 'idempotency_key', idempotency_key)
    redis.call('HSET', K.idempotency .. idempotency_key, 'fingerprint', fingerprint, 'id', id)
    redis.call('EXPIRE', K.idempotency .. idempotency_key, key_ttl_s)
  end
  if submission ~= '' then
    move(submission, nil, 'queued')
    redis.call('HSET', K.job .. id, 'n', redis.call('RPUSH', K.submission_jobs .. submission, id))
  end
  if owner ~= '' then
    stored[owner] = (stored[owner] or 0) + 1
  end
  return {1, id}
end

local results, at = {}, 7
while at <= #ARGV do
  local id, queue, created_ms, deadline_ms, size, idempotency_key, fingerprint, owner, submission, own_id, count =
    unpack(ARGV, at, at + 10)
  id = choose_id(K.job, id, own_id, owner)
  results[#results + 1] = reply_if_known(id, idempotency_key, fingerprint, owner)
    or reply_if_closed(id, submission)
    or reply_if_full(id, queue, size, owner)
    or store(id, queue, created_ms, deadline_ms, idempotency_key, fingerprint, owner, submission, at + 11, count)
  at = at + 11 + count
end
-- A submission does not expire while it has unfinished jobs.
for submission in pairs(moved) do
  redis.call('PERSIST', K.submission .. submission)
  redis.call('PERSIST', K.submission_jobs .. submission)
  redis.call('PERSIST', K.submission_finished .. submission)
  count_open(submission, '+inf')
end
count_records(ARGV[9], stored)
for queue in pairs(filled) do
  offer_ticket(queue, ticket)
end
write_counts()
return results
