-- End the canary of a model at once, also one that workers are still loading. Jobs that it has begun finish.
-- ARGV: now_ms (0: Redis clock), name, who, why, the revision that the model must have ('': any), which canary ('': any),
-- what is wrong with it ('': nothing).
-- Returns {code, revision}: `live` (it has no canary now), or why nothing changed: `unknown_model`, `changed`.
local now, name, by, why, expected, which, problem = clock(ARGV[1]), unpack(ARGV, 2, 7)
local key = K.model .. name
local revision, next, canary = unpack(redis.call('HMGET', key, 'revision', 'next', 'canary'))
next, canary = next and cjson.decode(next), canary and cjson.decode(canary)
if not revision then
  return {'unknown_model', 0}
elseif expected ~= '' and expected ~= revision or which ~= '' and not (canary and text(canary.revision) == which) then
  return {'changed', tonumber(revision)}
end
if which == '' and next and next.kind == 'canary' then
  next.settled_ms, next.problem = now, 'The canary was ended before it began.'
  redis.call('HDEL', key, 'next')
  redis.call('HSET', key, 'last', cjson.encode(next))
  log_change(name, 'not_changed', next.version, by, redis.call('HINCRBY', key, 'revision', 1), next.problem)
end
if end_canary(name, by, why, problem) then
  revision = tonumber(redis.call('HGET', key, 'revision'))
  redis.call('HSET', key, 'last', cjson.encode({kind = 'canary_end', version = canary.version, by = by, why = why,
    revision = revision, started_ms = now, until_ms = now, settled_ms = now, problem = problem}))
end
return {'live', tonumber(redis.call('HGET', key, 'revision'))}
