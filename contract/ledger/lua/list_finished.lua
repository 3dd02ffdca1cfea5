-- Add jobs to the list of a submission's finished jobs that an earlier version finished, which had no such list.
-- ARGV: submission, start (0: the first job), number of jobs to examine.
-- Returns the start for the next call; 0 if the list is complete.
local id, start, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local key, jobs, finished = K.submission .. id, K.submission_jobs .. id, K.submission_finished .. id

local missing = -redis.call('LLEN', finished)
for _, number in ipairs(redis.call('HMGET', key, 'succeeded', 'failed', 'canceled', 'expired', 'rejected')) do
  missing = missing + tonumber(number or 0)
end
if missing <= 0 then
  return 0
end

local is_listed = {}
for _, number in ipairs(redis.call('LRANGE', finished, 0, -1)) do
  is_listed[tonumber(number)] = true
end

-- Whether the job with this number is finished. Its record may have expired, or belong to a new job with the same id.
local function is_finished(job_id, number)
  local status, current = unpack(redis.call('HMGET', K.job .. job_id, 'status', 'n'))
  return not (status == 'queued' or status == 'running') or (current and tonumber(current) ~= number)
end

local job_ids = redis.call('LRANGE', jobs, text(start), text(start + count - 1))
for at, job_id in ipairs(job_ids) do
  local number = start + at
  if missing > 0 and not is_listed[number] and is_finished(job_id, number) then
    redis.call('RPUSH', finished, number)
    missing = missing - 1
  end
end
-- Keep the list as long as the submission.
local ttl_ms = redis.call('PTTL', key)
if ttl_ms > 0 then
  redis.call('PEXPIRE', finished, text(ttl_ms))
else
  redis.call('PERSIST', finished)
end
return missing > 0 and #job_ids == count and start + count or 0
