-- Lease jobs. A job whose deadline has passed expires instead.
-- ARGV: now_ms (0: Redis clock), lease_ms, ttl_s, result (JSON) and error code of an expired job, ids.
-- Returns, per job: its record as a flat list, or false if it was not leased.
write_when_full()
local now, lease, ttl_s = clock(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

local function is_free(id, status, queue)
  if status ~= 'running' then
    return status == 'queued'
  end
  local lease_end = redis.call('ZSCORE', K.running .. queue, id)
  return not lease_end or tonumber(lease_end) <= now
end

local claims, expired = {}, {}
for at = 6, #ARGV do
  local id = ARGV[at]
  local key = K.job .. id
  local status, queue, deadline_ms, submission, model =
    unpack(redis.call('HMGET', key, 'status', 'queue', 'deadline_ms', 'submission', 'model'))
  claims[#claims + 1] = false
  if not is_free(id, status, queue) then
    -- Another worker has a lease on it, or it is finished.
  elseif deadline_ms and tonumber(deadline_ms) <= now then
    discard(finish(id, now, ttl_s, 'expired', '', ARGV[5], ARGV[4]))
    expired[#expired + 1] = id
  else
    -- Fences are unique across all jobs: a claim on an expired job must not be valid for a new job with the same id.
    local fence = redis.call('HINCRBY', K.counters, 'claims', 1)
    redis.call('HSET', key, 'status', 'running', 'started_ms', text(now), 'fence', text(fence), 'routed', route(model))
    leave_queue(id, queue)
    move(submission, status, 'running')
    redis.call('ZADD', K.running .. queue, text(now + lease), id)
    claims[#claims] = redis.call('HGETALL', key)
  end
end
notify(expired)
write_counts(now, ttl_s)
return claims
