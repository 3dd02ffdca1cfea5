-- Make the next version of a model live, or its canary, if every live worker of the model holds it; take the change back
-- if one of them cannot load it, or if its time is over. Does nothing while workers are loading it, or if no change has begun.
-- ARGV: now_ms (0: Redis clock), name.
local now, name = clock(ARGV[1]), ARGV[2]
local key = K.model .. name
local stored, live = unpack(redis.call('HMGET', key, 'next', 'live'))
if not stored then
  return 0
end
local next = cjson.decode(stored)

-- The state of a version in a worker's heartbeat; nil if the worker does not serve the model.
local function state_of(beat)
  local found = nil
  for _, held in ipairs(beat.models or {}) do
    if held.name == name then
      found = found or 'waiting'
      -- What an earlier attempt left behind does not count.
      if held.version == next.version and (beat.prepared or {})[name] == next.revision then
        return held.state, held.problem
      end
    end
  end
  return found or (beat.model_name == name and not beat.prepared and 'waiting') or nil
end

local waiting, ready, problem = 0, 0, nil
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.workers_alive, '(' .. text(now), '+inf')) do
  local state, found = state_of(cjson.decode(redis.call('HGET', K.workers, id) or '{}'))
  if state == 'ready' then
    ready = ready + 1
  elseif state == 'failed' then
    problem = problem or found
  elseif state then
    waiting = waiting + 1
  end
end
if not problem and now > next.until_ms then
  problem = ready + waiting == 0 and 'No worker serves the model.'
    or text(waiting) .. ' of ' .. text(ready + waiting) .. ' workers did not load it in time.'
end
if problem then
  next.problem = problem
elseif waiting > 0 or ready == 0 then
  return 0
end
next.settled_ms = now
local record = cjson.encode(next)
if not problem then
  end_canary(name, next.by, 'Version ' .. next.version .. ' replaces it.', '')
  if next.kind == 'canary' then
    redis.call('HSET', key, 'canary', record)
  else
    redis.call('HSET', key, 'live', next.version, 'previous', live)
  end
end
redis.call('HDEL', key, 'next')
redis.call('HSET', key, 'last', record)
local revision = redis.call('HINCRBY', key, 'revision', 1)
if next.kind == 'canary' and not problem then
  log_change(name, 'canary', next.version, next.by, revision, next.why, 'percent', tostring(next.percent))
else
  log_change(name, problem and 'not_changed' or next.kind, next.version, next.by, revision, problem or next.why)
end
return 1
