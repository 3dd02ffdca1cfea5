-- Lease the oldest waiting jobs of queues, and count an attempt for them. A job whose deadline has passed expires instead.
-- At most one job is claimed that must be processed alone.
-- ARGV: now_ms (0: Redis clock), lease_ms, ttl_s, result (JSON) and error code of an expired job, ticket,
-- then per queue: name, maximum number of jobs.
-- Returns, per claimed job: {id, its record as a flat list}.
write_when_full()
local now, lease, ttl_s, ticket = clock(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[6]
local claims, expired, has_alone = {}, {}, false

local function claim(id, queue)
  local key = K.job .. id
  local deadline_ms, submission, alone, model, trial =
    unpack(redis.call('HMGET', key, 'deadline_ms', 'submission', 'alone', 'model', 'trial'))
  if deadline_ms and tonumber(deadline_ms) <= now then
    discard(finish(id, now, ttl_s, 'expired', '', ARGV[5], ARGV[4]))
    expired[#expired + 1] = id
  elseif not (alone and has_alone) then
    has_alone = has_alone or alone
    -- Fences are unique across all jobs: a claim on an expired job must not be valid for a new job with the same id.
    local fence = text(redis.call('HINCRBY', K.counters, 'claims', 1))
    local routed, side, instead = route(id, model, trial)
    redis.call('HSET', key, 'status', 'running', 'started_ms', text(now), 'fence', fence, 'begun', fence,
      'routed', routed)
    if side then
      redis.call('HSET', key, 'trial', side, 'instead', instead or '')
    elseif trial and trial ~= 'tried' then
      redis.call('HDEL', key, 'trial', 'instead')
    end
    redis.call('HINCRBY', key, 'attempts', 1)
    leave_queue(id, queue)
    move(submission, 'queued', 'running')
    redis.call('ZADD', K.running .. queue, text(now + lease), id)
    claims[#claims + 1] = {id, redis.call('HGETALL', key)}
    updated[#updated + 1] = id
  end
end

for at = 7, #ARGV, 2 do
  local queue, count = ARGV[at], tonumber(ARGV[at + 1])
  for _, id in ipairs(count > 0 and redis.call('ZRANGE', K.queued .. queue, 0, count - 1) or {}) do
    claim(id, queue)
  end
  offer_ticket_if_waiting(queue, ticket) -- another worker may be idle
end
notify(expired)
write_counts(now, ttl_s)
return claims
