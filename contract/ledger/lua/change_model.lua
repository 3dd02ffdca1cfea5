-- Begin to change the live version of a model, or to give it a canary. `settle_model` does it when all workers hold the
-- version.
-- ARGV: now_ms (0: Redis clock), name, version ('': the one that was live before), who, why, limit_ms, the revision that
-- the model must have ('': any), kind (`live` or `canary`), further members of the change (JSON).
-- Returns {code, revision}: `begun`, `live` (it already is so), or why nothing changed: `unknown_model`,
-- `unknown_version`, `no_previous`, `is_live` (a canary is another version), `changed` (the model has another revision),
-- `changing` (another change has begun).
local now, name, version, by, why = clock(ARGV[1]), unpack(ARGV, 2, 5)
local kind, options = ARGV[8], cjson.decode(ARGV[9])
local key = K.model .. name
local live, previous, revision, next, canary =
  unpack(redis.call('HMGET', key, 'live', 'previous', 'revision', 'next', 'canary'))
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

-- Whether another change asks for the same.
local function is_same(other)
  for option, value in pairs(options) do
    if other[option] ~= value then
      return false
    end
  end
  return other.kind == kind and other.version == version
end

next = next and cjson.decode(next)
if next and next.until_ms > now then
  local is_repeated = is_same(next) and next.by == by
  return {is_repeated and 'begun' or 'changing', is_repeated and next.revision or tonumber(revision)}
elseif version == live then
  return {kind == 'live' and 'live' or 'is_live', tonumber(revision)}
elseif canary and is_same(cjson.decode(canary)) then
  return {'live', tonumber(revision)}
end
revision = redis.call('HINCRBY', key, 'revision', 1)
local change = {kind = kind, version = version, by = by, why = why, revision = revision, started_ms = now,
  until_ms = now + tonumber(ARGV[6])}
for option, value in pairs(options) do
  change[option] = value
end
redis.call('HSET', key, 'next', cjson.encode(change))
log_change(name, 'changing', version, by, revision, why)
return {'begun', revision}
