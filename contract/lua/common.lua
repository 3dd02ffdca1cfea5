-- Begins every other script, after `K`, the table of keys.

-- The time to go by: the one given, or Redis's own where that is 0.
local function clock(given_ms)
  local now_ms = tonumber(given_ms)
  if now_ms > 0 then
    return now_ms
  end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Redis takes numbers as text; Lua would shorten large ones.
local function text(number)
  return string.format('%.0f', number)
end

-- Whether a claim is the latest one of a running job.
local function is_current(id, fence)
  local found = redis.call('HMGET', K.job .. id, 'status', 'fence')
  return found[1] == 'running' and found[2] == fence
end

-- Count a job and its picture among those that wait (sign 1) or no longer (sign -1): in all, and of its owner.
local function count_waiting(id, queue, sign)
  local size, owner = unpack(redis.call('HMGET', K.job .. id, 'size_bytes', 'owner'))
  local bytes = text(sign * tonumber(size or 0) + 0) -- never "-0", which Redis does not take
  redis.call('HINCRBY', K.queued_bytes, queue, bytes)
  if owner then
    redis.call('HINCRBY', K.owner_bytes .. queue, owner, bytes)
    if redis.call('HINCRBY', K.owner_jobs .. queue, owner, sign) <= 0 then
      redis.call('HDEL', K.owner_jobs .. queue, owner)
      redis.call('HDEL', K.owner_bytes .. queue, owner)
    end
  end
end

-- Put a job among those that wait, at the place of its time of acceptance.
local function enter_queue(id, queue, created_ms)
  if redis.call('ZADD', K.queued .. queue, created_ms, id) == 1 then
    count_waiting(id, queue, 1)
  end
end

-- Take a job from among those that wait, if it is there.
local function leave_queue(id, queue)
  if redis.call('ZREM', K.queued .. queue, id) == 1 then
    count_waiting(id, queue, -1)
  end
  redis.call('ZREM', K.unseen .. queue, id)
end

-- Put a job back in its queue, at its old place.
local function requeue(id, queue, created_ms)
  redis.call('HSET', K.job .. id, 'status', 'queued')
  redis.call('HDEL', K.job .. id, 'started_ms', 'begun')
  redis.call('ZREM', K.running .. queue, id)
  enter_queue(id, queue, created_ms)
end

-- End a job for good, and count it. Returns the reference of its picture, false if it has none.
local function finish(id, now, ttl_s, status, label, code, outcome)
  local key = K.job .. id
  local queue, image = unpack(redis.call('HMGET', key, 'queue', 'image'))
  redis.call('HSET', key, 'status', status, 'outcome', outcome, 'finished_ms', text(now))
  redis.call('HDEL', key, 'image', 'begun', 'alone')
  redis.call('EXPIRE', key, ttl_s)
  leave_queue(id, queue)
  redis.call('ZREM', K.running .. queue, id)
  redis.call('ZREM', K.deadlines, id)
  redis.call('HINCRBY', K.totals, queue .. '|' .. status .. '|' .. label, 1)
  if code ~= '' then
    redis.call('HINCRBY', K.errors, code, 1)
  end
  redis.call('XADD', K.events, 'MAXLEN', '~', K.events_kept, '*', 'id', id)
  return image
end

-- Leave a picture to be deleted by whoever sweeps.
local function discard(image)
  if image then
    redis.call('RPUSH', K.discarded, image)
  end
end

-- Wake whoever waits for these jobs.
local function wake(ids)
  if #ids > 0 then
    redis.call('PUBLISH', K.done, table.concat(ids, ' '))
  end
end
