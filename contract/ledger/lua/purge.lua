-- Remove jobs and everything that Redis stores about them: the given jobs, or some jobs of a submission. The submission
-- itself is removed with its last job. Unfinished jobs are canceled first.
-- ARGV: now_ms (0: Redis clock), ttl_s, submission (or ''), how many of its jobs to remove, ids of jobs.
-- Returns {number of removed jobs, 1 if the submission has jobs left else 0, references of images to delete}.
write_when_full()
local now, ttl_s, submission = clock(ARGV[1]), ARGV[2], ARGV[3]
local removed, images = {}, {}

local function remove_keys(prefixes, id)
  for _, prefix in ipairs(prefixes) do
    redis.call('UNLINK', prefix .. id)
  end
end

local function remove(id)
  local key = K.job .. id
  local kept = drop_review(id)
  images[#images + 1] = kept or nil
  local status, parent, idempotency_key, dead_image, retried_as =
    unpack(redis.call('HMGET', key, 'status', 'submission', 'idempotency_key', 'dead_image', 'retried_as'))
  if not status then
    removed[#removed + 1] = kept and id or nil -- the record has expired, but not the image that was kept for review
    return
  end
  redis.call('HDEL', key, 'webhook') -- a purged job sends no event
  if status == 'queued' or status == 'running' then
    images[#images + 1] = finish(id, now, ttl_s, 'canceled', '', '', '') or nil
  end
  images[#images + 1] = dead_image or nil
  redis.call('ZREM', K.dead, id)
  local event, shadow, delivery = unpack(redis.call('HMGET', key, 'event', 'shadow', 'delivery'))
  if delivery then
    drop_delivery(delivery)
  end
  if event then
    redis.call('XDEL', K.events, event)
  end
  local compared = shadow and cjson.decode(shadow)
  if compared and compared.entry then
    redis.call('XDEL', K.disagreements .. compared.model, compared.entry)
  end
  -- The key may have been used again after this job expired.
  if idempotency_key and redis.call('HGET', K.idempotency .. idempotency_key, 'id') == id then
    redis.call('UNLINK', K.idempotency .. idempotency_key)
  end
  if parent and submission == '' then
    -- Keep the entry, because readers address the jobs of a submission by position.
    for _, at in ipairs(redis.call('LPOS', K.submission_jobs .. parent, id, 'COUNT', 0)) do
      redis.call('LSET', K.submission_jobs .. parent, at, '')
    end
  end
  remove_keys(K.job_keys, id)
  removed[#removed + 1] = id
  if retried_as then
    remove(retried_as) -- it has the same image
  end
end

-- Hide a submission from readers, and keep it from accepting images. Returns whether it exists.
local function hide(id)
  local key = K.submission .. id
  local owner = redis.call('HGET', key, 'owner')
  if not owner then
    redis.call('ZREM', K.purging, id)
    return false
  end
  redis.call('ZADD', K.purging, text(now), id)
  if redis.call('HSETNX', key, 'purging_ms', text(now)) == 1 then
    redis.call('HSETNX', key, 'closed_ms', text(now))
    local delivery = redis.call('HGET', key, 'delivery')
    if delivery then
      drop_delivery(delivery)
    end
    redis.call('HDEL', key, 'webhook')
    redis.call('ZREM', K.submissions .. owner, id)
    redis.call('ZREM', K.open_submissions .. owner, id)
    notify({id})
  end
  return true
end

local has_more = false
if submission == '' then
  for at = 5, #ARGV do
    remove(ARGV[at])
  end
elseif hide(submission) then
  -- From the end, so that the positions of the other jobs stay the same.
  for _, id in ipairs(redis.call('RPOP', K.submission_jobs .. submission, ARGV[4]) or {}) do
    remove(id)
  end
  has_more = redis.call('EXISTS', K.submission_jobs .. submission) == 1
end
for _, image in ipairs(images) do
  redis.call('LPUSH', K.discarded, image)
end
notify(removed)
write_counts(now, ttl_s)
if submission ~= '' and not has_more then
  remove_keys(K.submission_keys, submission)
  redis.call('ZREM', K.purging, submission)
end
if #removed > 0 then
  redis.call('HINCRBY', K.counters, 'purged', #removed)
end
return {#removed, has_more and 1 or 0, images}
