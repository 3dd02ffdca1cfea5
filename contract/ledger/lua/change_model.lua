-- Begin to change the live version of a model. `settle_model` makes it live when all workers hold it.
-- ARGV: now_ms (0: Redis clock), name, version ('': the one that was live before), who, why, limit_ms, the revision that
-- the model must have ('': any).
-- Returns {code, revision}: `begun`, `live` (it already is), or why nothing changed: `unknown_model`, `unknown_version`,
-- `no_previous`, `changed` (the model has another revision), `changing` (another change has begun).
local now, name, version, by, why = clock(ARGV[1]), unpack(ARGV, 2, 5)
local key = K.model .. name
local live, previous, revision, next = unpack(redis.call('HMGET', key, 'live', 'previous', 'revision', 'next'))
if not revision then
  return {'unknown_model', 0}
elseif ARGV[7] ~= '' and ARGV[7] ~= revision then
  return {'changed', tonumber(revision)}
elseif version == '' and not previous then
  return {'no_previous', tonumber(revision)}
end
version = version == '' and previous or version
if redis.call('HEXISTS', key, 'version:' .. version) == 0 then
  return {'unknown_version', tonumber(revision)}
end
next = next and cjson.decode(next)
if next and next.until_ms > now then
  local is_same = next.version == version and next.by == by -- a repeated request
  return {is_same and 'begun' or 'changing', is_same and next.revision or tonumber(revision)}
elseif version == live then
  return {'live', tonumber(revision)}
end
revision = redis.call('HINCRBY', key, 'revision', 1)
redis.call('HSET', key, 'next', cjson.encode({version = version, by = by, why = why, revision = revision,
  started_ms = now, until_ms = now + tonumber(ARGV[6])}))
log_change(name, 'changing', version, by, revision, why)
return {'begun', revision}
