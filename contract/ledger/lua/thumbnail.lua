-- Store the thumbnail of a job, unless the job was purged or its id belongs to a new job.
-- ARGV: id, fence of the claim under which the image was decoded, ttl_s, thumbnail. Returns 1 if stored, else 0.
local key = K.job .. ARGV[1]
if redis.call('HGET', key, 'fence') ~= ARGV[2] then
  return 0
end
-- A purge finds a thumbnail only through the job's record, so the thumbnail must not outlive it.
local ttl_ms, record_ttl_ms = ARGV[3] * 1000, redis.call('PTTL', key)
if record_ttl_ms > 0 then
  ttl_ms = math.min(ttl_ms, record_ttl_ms)
end
redis.call('SET', K.thumbnail .. ARGV[1], ARGV[4], 'PX', text(ttl_ms))
return 1
