-- Set the shadow of a model, or remove it.
-- ARGV: now_ms (0: Redis clock), name, version ('': remove it), who, why, sample, the revision that the model must have
-- ('': any).
-- Returns {code, revision}: `begun`, or why nothing changed: `unknown_model`, `unknown_version`, `changed` (the model has
-- another revision), `live` (a version is not its own shadow).
local now, name, version, by, why = clock(ARGV[1]), unpack(ARGV, 2, 5)
local key, sample = K.model .. name, tonumber(ARGV[6])
local live, revision, stored = unpack(redis.call('HMGET', key, 'live', 'revision', 'shadow'))
if not revision then
  return {'unknown_model', 0}
elseif ARGV[7] ~= '' and ARGV[7] ~= revision then
  return {'changed', tonumber(revision)}
elseif version ~= '' and redis.call('HEXISTS', key, 'version:' .. version) == 0 then
  return {'unknown_version', tonumber(revision)}
elseif version ~= '' and version == live then
  return {'live', tonumber(revision)}
end
local shadow = stored and cjson.decode(stored) or {version = '', problem = ''}
if shadow.version == version and (shadow.sample or sample) == sample and shadow.problem == '' then
  return {'begun', tonumber(revision)} -- a repeated request
end
revision = redis.call('HINCRBY', key, 'revision', 1)
if version == '' then
  redis.call('HDEL', key, 'shadow')
else
  redis.call('HSET', key, 'shadow', cjson.encode({version = version, sample = sample, by = by, why = why,
    revision = revision, started_ms = now, problem = ''}))
end
log_change(name, version == '' and 'no_shadow' or 'shadow', version == '' and shadow.version or version, by, revision, why)
return {'begun', revision}
