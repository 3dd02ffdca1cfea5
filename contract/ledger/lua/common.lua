-- Shared functions, prepended to every other script together with `K`, the table of keys.

-- The given time, or the Redis clock if it is 0.
local function clock(given_ms)
  local now_ms = tonumber(given_ms)
  if now_ms > 0 then
    return now_ms
  end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Let this script write even if Redis is full, because accepted jobs must finish. A full Redis refuses the first write of
-- a script if it may need memory, but never a later one, so the first write deletes a key that does not exist. Scripts
-- that store something new do not call this.
local function write_when_full()
  redis.call('DEL', K.unused)
end

-- The id of a record of `owner`: `id`, or `own_id` if another owner uses `id`. `own_id` is '' if nobody else can use it.
local function choose_id(prefix, id, own_id, owner)
  if own_id == '' or redis.call('EXISTS', prefix .. own_id) == 1 then
    return own_id == '' and id or own_id
  end
  local is_foreign = redis.call('EXISTS', prefix .. id) == 1 and (redis.call('HGET', prefix .. id, 'owner') or '') ~= owner
  return is_foreign and own_id or id
end

-- Format a number for Redis: Lua's own conversion loses digits of large numbers.
local function text(number)
  return string.format('%.0f', number)
end

-- Whether a claim is the latest one of a running job.
local function is_current(id, fence)
  local found = redis.call('HMGET', K.job .. id, 'status', 'fence')
  return found[1] == 'running' and found[2] == fence
end

-- Add a job and its image to the counts of waiting jobs (sign 1), or subtract them (sign -1): in total and per owner.
local function count_waiting(id, queue, sign)
  local size, owner = unpack(redis.call('HMGET', K.job .. id, 'size_bytes', 'owner'))
  local bytes = text(sign * tonumber(size or 0) + 0) -- "+ 0" avoids "-0", which Redis rejects
  redis.call('HINCRBY', K.queued_bytes, queue, bytes)
  if owner then
    redis.call('HINCRBY', K.owner_bytes .. queue, owner, bytes)
    if redis.call('HINCRBY', K.owner_jobs .. queue, owner, sign) <= 0 then
      redis.call('HDEL', K.owner_jobs .. queue, owner)
      redis.call('HDEL', K.owner_bytes .. queue, owner)
    end
  end
end

-- Add a job to the waiting jobs, ordered by time of acceptance.
local function enter_queue(id, queue, created_ms)
  if redis.call('ZADD', K.queued .. queue, created_ms, id) == 1 then
    count_waiting(id, queue, 1)
  end
end

-- Remove a job from the waiting jobs if it is waiting.
local function leave_queue(id, queue)
  if redis.call('ZREM', K.queued .. queue, id) == 1 then
    count_waiting(id, queue, -1)
  end
end

-- Count the records that clients sent in the current hour, by owner.
local function count_records(now, numbers)
  for owner, number in pairs(numbers) do
    local key = K.owner_records .. text(math.floor(now / 3600000))
    if redis.call('HINCRBY', key, owner, number) == number then
      redis.call('EXPIRE', key, (K.owner_records_hours + 1) * 3600)
    end
  end
end

-- Pending changes to the counts of submissions: id -> status -> number. `write_counts` writes them.
local moved = {}

-- Add a job's status change to the pending changes of its submission. `submission` is false for a job without one, and
-- `from` is nil for a new job.
local function move(submission, from, to)
  if submission and from ~= to then
    local counts = moved[submission] or {}
    moved[submission] = counts
    counts[to] = (counts[to] or 0) + 1
    if from then
      counts[from] = (counts[from] or 0) - 1
    end
  end
end

-- Numbers of the jobs that finished, by submission, in order. `write_counts` adds them to the submission's list.
local listed = {}

-- Jobs that started or returned to their queue, and submissions that were closed. `write_counts` publishes them with the
-- submissions whose counts changed.
local updated = {}

-- Add a finished job to the list of its submission. `number` is false for a job that an earlier version stored: the
-- list gets it from `list_finished.lua`.
local function list_finished(submission, number)
  if submission and number then
    local numbers = listed[submission] or {}
    listed[submission] = numbers
    numbers[#numbers + 1] = number
  end
end

-- Live versions and canaries that were looked up, by model.
local routes = {}

local function routes_of(name)
  if not routes[name] then
    local live, canary = unpack(redis.call('HMGET', K.model .. name, 'live', 'canary'))
    routes[name] = {live = live or '', canary = canary and cjson.decode(canary)}
  end
  return routes[name]
end

-- Whether a job belongs to a share of all jobs: always the same for a job, and larger shares contain smaller ones.
local function is_in_share(id, percent)
  return tonumber(string.sub(redis.sha1hex(id), 1, 7), 16) < percent / 100 * 268435456 -- 16^7
end

-- The model and version that process a job, as NAME@VERSION: those that its sender named, else the live version at this
-- moment, or the canary for its share of the jobs. `model` is false for a job that names no model, `trial` is the job's
-- field. Returns '' if the model is not registered.
-- While the model has a canary, also returns the new `trial` of the job ('canary' or 'live', and which canary), and for a
-- job of the canary the live version, which processes the job if its worker does not hold the canary.
local function route(id, model, trial)
  if model and string.find(model, '@', 1, true) then
    return model
  end
  local name = model or redis.call('GET', K.default_model) or ''
  local found = routes_of(name)
  if found.live == '' then
    return ''
  end
  local live, canary = name .. '@' .. found.live, found.canary
  if not canary or trial == 'tried' then
    return live
  elseif is_in_share(id, canary.percent) then
    return name .. '@' .. canary.version, 'canary ' .. text(canary.revision), live
  end
  return live, 'live ' .. text(canary.revision)
end

-- Add a change of a model to the stream of changes, with further fields.
local function log_change(name, action, version, by, revision, why, ...)
  redis.call('XADD', K.model_changes, 'MAXLEN', '~', K.model_changes_kept, '*', 'model', name, 'action', action,
    'version', version, 'by', by, 'revision', text(revision), 'why', why, ...)
end

-- End the canary of a model, if it has one. `problem` is what was wrong with it, or ''. Returns its version, or nil.
local function end_canary(name, by, why, problem)
  local key = K.model .. name
  local stored = redis.call('HGET', key, 'canary')
  if not stored then
    return nil
  end
  local version = cjson.decode(stored).version
  redis.call('HDEL', key, 'canary')
  redis.call('DEL', K.trial .. name)
  local revision = redis.call('HINCRBY', key, 'revision', 1)
  if problem ~= '' then
    redis.call('HINCRBY', key, 'taken_back', 1)
  end
  log_change(name, problem == '' and 'canary_ended' or 'canary_taken_back', version, by, revision,
    problem == '' and why or problem)
  return version
end

-- Wake a worker for a queue, unless a ticket is waiting there: whoever receives it claims jobs until the queue is empty.
-- `ticket` is a Celery message in which QUEUE stands for the name of its queue.
local function offer_ticket(queue, ticket)
  if redis.call('LLEN', K.tickets .. queue) == 0 then
    redis.call('LPUSH', K.tickets .. queue, (string.gsub(ticket, 'QUEUE', queue)))
  end
end

-- The same, unless no job is waiting.
local function offer_ticket_if_waiting(queue, ticket)
  if redis.call('ZCARD', K.queued .. queue) > 0 then
    offer_ticket(queue, ticket)
  end
end

-- Count an attempt of a job whose claim is current, unless it is counted.
local function count_attempt(id, fence)
  if redis.call('HGET', K.job .. id, 'begun') ~= fence then
    redis.call('HINCRBY', K.job .. id, 'attempts', 1)
    redis.call('HSET', K.job .. id, 'begun', fence)
  end
end

-- Take back the attempt of a job whose claim is current.
local function take_back_attempt(id, fence)
  if redis.call('HGET', K.job .. id, 'begun') == fence then
    redis.call('HINCRBY', K.job .. id, 'attempts', -1)
    redis.call('HDEL', K.job .. id, 'begun')
  end
end

-- Let the live version process the next attempt of a job, because the canary to which it was routed failed. The attempt
-- of the canary does not count. Returns whether the job was routed to a canary.
local function leave_canary(id, fence)
  if string.find(redis.call('HGET', K.job .. id, 'trial') or '', 'canary', 1, true) ~= 1 then
    return false
  end
  redis.call('HSET', K.job .. id, 'trial', 'tried')
  redis.call('HDEL', K.job .. id, 'instead')
  take_back_attempt(id, fence)
  return true
end

-- Return a job to its old position in the queue.
local function requeue(id, queue, created_ms, submission)
  redis.call('HSET', K.job .. id, 'status', 'queued')
  redis.call('HDEL', K.job .. id, 'started_ms', 'begun')
  redis.call('ZREM', K.running .. queue, id)
  enter_queue(id, queue, created_ms)
  move(submission, 'running', 'queued')
  updated[#updated + 1] = id
end

-- Count a finished job. Labels come from models: beyond the limit, those that are new share one name.
local function count_total(queue, status, label)
  local name = queue .. '|' .. status .. '|' .. label
  if redis.call('HEXISTS', K.totals, name) == 0
      and redis.call('HINCRBY', K.counters, 'total_names', 1) > tonumber(K.totals_kept) then
    name = queue .. '|' .. status .. '|(other)'
  end
  redis.call('HINCRBY', K.totals, name, 1)
end

-- The lane of a delivery: an owner, and the server of its endpoint.
local function lane_of(owner, url)
  return owner .. ' ' .. string.lower(string.match(url, '^%a+://[^/?#]*') or '')
end

-- Update the time from which notifiers may take deliveries of a lane.
local function schedule_lane(lane)
  local first = redis.call('ZRANGE', K.lane .. lane, 0, 0, 'WITHSCORES')
  if first[1] then
    local paused_ms = tonumber(redis.call('HGET', K.lane_pauses, lane) or 0)
    redis.call('ZADD', K.lanes, text(math.max(tonumber(first[2]), paused_ms)), lane)
  else
    redis.call('ZREM', K.lanes, lane)
    redis.call('HDEL', K.lane_failures, lane)
    redis.call('HDEL', K.lane_pauses, lane)
  end
end

-- Write the event of a job or a submission that has just finished, to be delivered to `url`. The event contains a copy of
-- the record, because a delivery may outlive it. `prefix` is that of the record's key.
local function emit(prefix, id, event, url, now)
  local owner = redis.call('HGET', prefix .. id, 'owner') or ''
  local digest = redis.sha1hex(prefix .. id .. ' ' .. text(now))
  -- A UUID of version 8, which is also the `webhook-id`.
  local delivery = string.sub(digest, 1, 8) .. '-' .. string.sub(digest, 9, 12) .. '-8' .. string.sub(digest, 13, 15)
    .. '-a' .. string.sub(digest, 16, 18) .. '-' .. string.sub(digest, 19, 30)
  local key, lane, expires_s = K.delivery .. delivery, lane_of(owner, url), K.delivery_days * 86400
  redis.call('HSET', prefix .. id, 'delivery', delivery)
  redis.call('COPY', prefix .. id, key, 'REPLACE')
  redis.call('HSET', key, 'type', event, 'subject', id, 'emitted_ms', text(now), 'since_ms', text(now), 'tries', 0,
    'next_ms', text(now))
  redis.call('EXPIRE', key, expires_s)
  redis.call('ZADD', K.deliveries .. owner, text(now), delivery)
  redis.call('EXPIRE', K.deliveries .. owner, expires_s)
  redis.call('ZADD', K.lane .. lane, text(now), delivery)
  schedule_lane(lane)
end

-- Remove a delivery with everything that belongs to it.
local function drop_delivery(id)
  local url, owner = unpack(redis.call('HMGET', K.delivery .. id, 'webhook', 'owner'))
  redis.call('ZREM', K.dead_deliveries, id)
  if url then
    local lane = lane_of(owner or '', url)
    redis.call('ZREM', K.deliveries .. (owner or ''), id)
    redis.call('ZREM', K.lane .. lane, id)
    schedule_lane(lane)
    redis.call('UNLINK', K.delivery .. id)
  end
end

-- Keep a delivery that will not be tried again, with the reason.
local function bury_delivery(id, lane, now, problem)
  redis.call('ZREM', K.lane .. lane, id)
  redis.call('HSET', K.delivery .. id, 'dead_ms', text(now), 'problem', problem)
  redis.call('HDEL', K.delivery .. id, 'next_ms')
  redis.call('ZADD', K.dead_deliveries, text(now), id)
  redis.call('HINCRBY', K.delivery_totals, 'dead', 1)
  local more = redis.call('ZCARD', K.dead_deliveries) - K.dead_deliveries_kept
  for _, oldest in ipairs(more > 0 and redis.call('ZRANGE', K.dead_deliveries, 0, more - 1) or {}) do
    drop_delivery(oldest)
  end
end

-- Set the final status of a job and count it. Returns the reference of its image, or false if it has none.
local function finish(id, now, ttl_s, status, label, code, result)
  local key = K.job .. id
  local queue, image, before, submission, number, webhook =
    unpack(redis.call('HMGET', key, 'queue', 'image', 'status', 'submission', 'n', 'webhook'))
  local event = redis.call('XADD', K.events, 'MAXLEN', '~', K.events_kept, '*', 'id', id)
  redis.call('HSET', key, 'status', status, 'outcome', result, 'finished_ms', text(now), 'event', event)
  redis.call('HDEL', key, 'image', 'begun', 'alone', 'instead')
  if webhook then
    emit(K.job, id, 'job.' .. status, webhook, now)
  end
  redis.call('EXPIRE', key, ttl_s)
  leave_queue(id, queue)
  redis.call('ZREM', K.running .. queue, id)
  redis.call('ZREM', K.deadlines, id)
  count_total(queue, status, label)
  if code ~= '' then
    redis.call('HINCRBY', K.errors, code, 1)
  end
  move(submission, before, status)
  list_finished(submission, number)
  return image
end

-- Add an image to the list of images to delete.
local function discard(image)
  if image then
    redis.call('RPUSH', K.discarded, image)
  end
end

-- Notify the clients waiting for these jobs or submissions.
local function notify(ids)
  if #ids > 0 then
    redis.call('PUBLISH', K.done, table.concat(ids, ' '))
  end
end

-- The number of unfinished jobs of a submission.
local function count_pending(key)
  local counts = redis.call('HMGET', key, 'queued', 'running')
  return tonumber(counts[1] or 0) + tonumber(counts[2] or 0)
end

-- Count a submission among those that its owner has open, until it expires.
local function count_open(id, expires_ms)
  redis.call('ZADD', K.open_submissions .. redis.call('HGET', K.submission .. id, 'owner'), expires_ms, id)
end

-- Set the expiry of a submission without unfinished jobs, and finish it if it is closed.
local function on_idle(id, now, ttl_s)
  local key = K.submission .. id
  redis.call('EXPIRE', key, ttl_s)
  redis.call('EXPIRE', K.submission_jobs .. id, ttl_s)
  redis.call('EXPIRE', K.submission_finished .. id, ttl_s)
  local closed_ms, finished_ms, webhook = unpack(redis.call('HMGET', key, 'closed_ms', 'finished_ms', 'webhook'))
  if not closed_ms then
    count_open(id, text(now + ttl_s * 1000))
  elseif not finished_ms then
    redis.call('HSET', key, 'finished_ms', text(now))
    if webhook and webhook ~= '' then
      emit(K.submission, id, 'submission.finished', webhook, now)
    end
    notify({id})
  end
end

-- Move the start of the window over which a submission's rate is measured: the window stays one to two times
-- `rate_span_ms` long.
local function update_mark(key, now)
  local found = redis.call('HMGET', key, 'succeeded', 'failed', 'expired', 'next_mark_ms', 'next_mark_processed')
  local processed = tonumber(found[1] or 0) + tonumber(found[2] or 0) + tonumber(found[3] or 0)
  local age_ms, span_ms = now - tonumber(found[4] or now), tonumber(K.rate_span_ms)
  if age_ms > 2 * span_ms then -- after a pause, start over
    redis.call('HSET', key, 'mark_ms', text(now), 'mark_processed', processed)
  elseif age_ms >= span_ms then
    redis.call('HSET', key, 'mark_ms', found[4], 'mark_processed', found[5])
  elseif found[4] then
    return
  end
  redis.call('HSET', key, 'next_mark_ms', text(now), 'next_mark_processed', processed)
end

-- Write the pending changes to the counts and lists of submissions, and publish what changed for those who follow its
-- events. Every script that calls `move` ends with this call; scripts that can finish jobs pass `ttl_s`.
local function write_counts(now, ttl_s)
  for id, counts in pairs(moved) do
    updated[#updated + 1] = id
    local key = K.submission .. id
    if redis.call('EXISTS', key) == 1 then
      for status, number in pairs(counts) do
        redis.call('HINCRBY', key, status, number)
      end
      local numbers = listed[id] or {}
      for at = 1, #numbers, 1000 do -- Lua unpacks at most 8,000 values
        redis.call('RPUSH', K.submission_finished .. id, unpack(numbers, at, math.min(at + 999, #numbers)))
      end
      if (counts.running or 0) > 0 then
        redis.call('HSETNX', key, 'started_ms', text(now))
      end
      if (counts.succeeded or counts.failed or counts.expired) then
        update_mark(key, now)
      end
      if ttl_s and count_pending(key) == 0 then
        on_idle(id, now, ttl_s)
      end
    end
  end
  if #updated > 0 then
    redis.call('PUBLISH', K.done, K.changed .. ' ' .. table.concat(updated, ' '))
  end
end

-- The side of a job in the comparison of a model's canary with its live version, 'canary' or 'live'. Returns nil if the
-- job takes no part: it was claimed before the canary began, names a version, or another version processed it.
local function side_of(id, name, version)
  local found = routes_of(name)
  if found.canary then
    local trial, revision = redis.call('HGET', K.job .. id, 'trial'), text(found.canary.revision)
    if trial == 'canary ' .. revision and version == found.canary.version then
      return 'canary'
    elseif trial == 'live ' .. revision and version == found.live then
      return 'live'
    end
  end
  return nil
end

-- Count the right label of a job instead of the one that was reported before; false stands for none.
local function count_label(label, before, predicted, name, version, day)
  local counts = K.feedback .. name .. ':' .. day
  local function field(given)
    return version .. '|' .. (given == predicted and 'right' or 'wrong')
  end
  if before then
    redis.call('HINCRBY', counts, field(before), -1)
  end
  if label then
    redis.call('HINCRBY', counts, field(label), 1)
    redis.call('EXPIRE', counts, K.feedback_days * 86400)
    -- The totals are exported as counters, which never fall: a second label counts once more.
    redis.call('HINCRBY', K.feedback_totals, name .. '@' .. field(label), 1)
  end
end

-- Call `change` with the suffix of each set in which the kept image of a job is: those of all owners, and of its own.
local function in_review_sets(id, change)
  local owner = redis.call('HGET', K.review .. id, 'owner') or ''
  change('')
  if owner ~= '' then
    change(owner)
  end
end

-- Let reviewers get a kept image from this time on.
local function await_review(id, from_ms)
  in_review_sets(id, function(owner)
    redis.call('ZADD', K.review_waiting .. owner, text(from_ms), id)
  end)
end

-- Record the label of a kept image, and who gave it.
local function mark_reviewed(id, label, by, now)
  redis.call('HSET', K.review .. id, 'label', label, 'labeled_by', by, 'labeled_ms', text(now))
  in_review_sets(id, function(owner)
    redis.call('ZREM', K.review_waiting .. owner, id)
  end)
end

-- Remove the kept image of a job from review. Returns its reference, or false if there is none.
local function drop_review(id)
  local image, size = unpack(redis.call('HMGET', K.review .. id, 'image', 'size_bytes'))
  in_review_sets(id, function(owner)
    redis.call('ZREM', K.review_kept .. owner, id)
    redis.call('ZREM', K.review_waiting .. owner, id)
  end)
  if image then
    redis.call('HINCRBY', K.counters, 'review_bytes', text(-size))
    redis.call('UNLINK', K.review .. id)
  end
  return image
end

-- Remove kept images that are older than `ttl_ms`, and those that are too many or too large: first the oldest ones that
-- have no label. Returns the number of removed images.
local function trim_reviews(now, ttl_ms, max_images, max_bytes)
  for removed = 0, 999 do -- the next sweep continues
    local oldest = redis.call('ZRANGE', K.review_kept, 0, 0)[1]
    if not oldest then
      return removed
    end
    local kept_ms = tonumber(redis.call('HGET', K.review .. oldest, 'kept_ms') or 0)
    if kept_ms + ttl_ms > now then
      local bytes = tonumber(redis.call('HGET', K.counters, 'review_bytes') or 0)
      if redis.call('ZCARD', K.review_kept) <= max_images and bytes <= max_bytes then
        return removed
      end
      oldest = redis.call('ZRANGE', K.review_waiting, 0, 0)[1] or oldest
    end
    discard(drop_review(oldest))
  end
  return 1000
end
-- Which of the two versions that predicted a job were right. `compared` is the job's field `shadow`, decoded, `label` what
-- the live version predicted.
local function which_is_right(compared, label, right)
  if label == right then
    return compared.label == right and 'both' or 'live'
  end
  return compared.label == right and 'shadow' or 'neither'
end

-- Count a job that two versions predicted, under the day on which it finished. Beyond the limit, new pairs of versions
-- are not counted.
local function count_compared(compared, day, side, number)
  local key, field = K.shadow .. compared.model .. ':' .. text(day), compared.pair .. '|' .. side
  if redis.call('HLEN', key) < tonumber(K.shadow_counts_kept) or redis.call('HEXISTS', key, field) == 1 then
    redis.call('HINCRBY', key, field, number)
    redis.call('EXPIRE', key, K.feedback_days * 86400)
  end
end

-- Count which versions were right about a job that was compared, if its label is now known or another one; false stands for
-- no label.
local function count_compared_label(id, label, before, predicted, day)
  local stored = redis.call('HGET', K.job .. id, 'shadow')
  if stored then
    local compared = cjson.decode(stored)
    if before then
      count_compared(compared, day, which_is_right(compared, predicted, before), -1)
    end
    if label then
      count_compared(compared, day, which_is_right(compared, predicted, label), 1)
    end
  end
end
