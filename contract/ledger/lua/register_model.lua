-- Register a version of a model. The first version of a model is live at once.
-- ARGV: name, version, description (JSON), checksum, who registers it, 1 to make it live (it may then replace another
-- bundle with the same version), 1 to make the model the default model.
-- Returns 0 if nothing changed, 1 if something did, 2 if another bundle has the same version, 3 if there are too many.
local name, version, description, checksum, by = unpack(ARGV, 1, 5)
local make_live, make_default = ARGV[6] == '1', ARGV[7] == '1'
local key, changed = K.model .. name, 0

local function change(action)
  log_change(name, action, version, by, redis.call('HINCRBY', key, 'revision', 1), '')
  changed = 1
end

local known = redis.call('HGET', key, 'checksum:' .. version)
if known and known ~= checksum and not make_live then
  return 2
end
if not known then
  local versions = 0
  for _, field in ipairs(redis.call('HKEYS', key)) do
    versions = versions + (string.find(field, 'version:', 1, true) == 1 and 1 or 0)
  end
  local is_new = redis.call('SISMEMBER', K.models, name) == 0
  if is_new and redis.call('SCARD', K.models) >= tonumber(K.models_kept)
      or versions >= tonumber(K.versions_kept) then
    return 3
  end
end
if known ~= checksum then
  if known and version == redis.call('HGET', key, 'live') then
    end_canary(name, by, 'Another bundle replaced the live version ' .. version .. '.', '')
  end
  redis.call('HSET', key, 'version:' .. version, description, 'checksum:' .. version, checksum)
  redis.call('SADD', K.models, name)
  change('registered')
end
local live = redis.call('HGET', key, 'live')
if live ~= version and (make_live or not live) then
  end_canary(name, by, 'Version ' .. version .. ' became live.', '')
  redis.call('HSET', key, 'live', version)
  change('live')
end
if make_default and redis.call('GET', K.default_model) ~= name then
  redis.call('SET', K.default_model, name)
  change('default')
end
return changed
