-- Stop a shadow that workers cannot run: it stays in the registry with the reason.
-- ARGV: name, revision of the shadow, who, reason. Returns 1, or 0 if that shadow is not running.
local name, by, problem = ARGV[1], ARGV[3], ARGV[4]
local key = K.model .. name
local stored = redis.call('HGET', key, 'shadow')
local shadow = stored and cjson.decode(stored)
if not shadow or text(shadow.revision) ~= ARGV[2] or shadow.problem ~= '' then
  return 0
end
shadow.problem = problem
redis.call('HSET', key, 'shadow', cjson.encode(shadow))
log_change(name, 'shadow_stopped', shadow.version, by, redis.call('HINCRBY', key, 'revision', 1), problem)
return 1
