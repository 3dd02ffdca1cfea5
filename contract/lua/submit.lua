-- Store new queued jobs.
-- ARGV: most jobs and most bytes that may wait in a queue, seconds that an idempotency key is kept,
-- then a job: id, queue, created_ms, deadline_ms (0: none), size in bytes, idempotency key (or ''), fingerprint (or ''),
-- n, n values (name, value ...).
-- Returns a job: {result, id}. Results: 0 the id is taken, 1 stored, 2 the queue is full, 3 the same job is there already,
-- 4 the idempotency key was used for other bytes.
local most_jobs, most_bytes, key_ttl_s = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

-- What an earlier submit of the same id or the same idempotency key means for this one; nil if there was none.
local function earlier(id, idempotency_key, fingerprint)
  if idempotency_key ~= '' then
    local known = redis.call('HMGET', K.idempotency .. idempotency_key, 'fingerprint', 'id')
    if known[1] and redis.call('EXISTS', K.job .. known[2]) == 1 then
      return {known[1] == fingerprint and 3 or 4, known[2]}
    end
  end
  if redis.call('EXISTS', K.job .. id) == 1 then
    local same = fingerprint ~= '' and redis.call('HGET', K.job .. id, 'fingerprint') == fingerprint
    return {same and 3 or 0, id}
  end
end

local function store(id, queue, created_ms, deadline_ms, idempotency_key, fingerprint, from, count)
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
  return {1, id}
end

local results, at = {}, 4
while at <= #ARGV do
  local id, queue, created_ms, deadline_ms, size, idempotency_key, fingerprint, count = unpack(ARGV, at, at + 7)
  local waiting_bytes = tonumber(redis.call('HGET', K.queued_bytes, queue) or 0)
  local is_full = redis.call('ZCARD', K.queued .. queue) >= most_jobs or waiting_bytes + size > most_bytes
  results[#results + 1] = earlier(id, idempotency_key, fingerprint)
    or is_full and {2, id}
    or store(id, queue, created_ms, deadline_ms, idempotency_key, fingerprint, at + 8, count)
  at = at + 8 + count
end
return results
