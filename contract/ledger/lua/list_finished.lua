-- Add jobs that version 0.1 finished to their submission's list of finished jobs, which that version did not have.
-- ARGV: submission, number of the first job to examine, maximum number of jobs to examine.
-- Returns the first number for the next call; 0 if the list is complete.
write_when_full()
local id, first, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local key, finished, bits = K.submission .. id, K.submission_finished .. id, K.submission_listed .. id

local missing = -redis.call('LLEN', finished)
for _, number in ipairs(redis.call('HMGET', key, 'succeeded', 'failed', 'canceled', 'expired', 'rejected')) do
  missing = missing + tonumber(number or 0)
end
if missing <= 0 then
  return 0
end

local function add_bits(numbers)
  for _, number in ipairs(numbers) do
    redis.call('SETBIT', bits, number - 1, 1)
  end
end

-- Whether the job with this number is finished. Its record may have expired, or belong to a later job with the same id.
local function is_finished(job_id, number)
  local status, current = unpack(redis.call('HMGET', K.job .. job_id, 'status', 'n'))
  return not (status == 'queued' or status == 'running') or (current and tonumber(current) ~= number)
end

local function examine(job_ids)
  local found = {}
  for at, job_id in ipairs(job_ids) do
    local number = first + at - 1
    if #found < missing and redis.call('GETBIT', bits, number - 1) == 0 and is_finished(job_id, number) then
      redis.call('RPUSH', finished, number)
      found[#found + 1] = number
    end
  end
  add_bits(found)
  return #found
end

-- The bits hold the list as a set. They expire soon, and are updated before they are used.
local known = redis.call('EXISTS', bits) == 1 and tonumber(redis.call('HGET', key, 'listed')) or 0
local unknown = redis.call('LRANGE', finished, known, known + count - 1)
add_bits(unknown)
known = known + #unknown
if #unknown < count then
  first = math.max(first, redis.call('BITPOS', bits, 0) + 1) -- all jobs before it are listed
  local job_ids = redis.call('LRANGE', K.submission_jobs .. id, first - 1, first + count - 2)
  local added = examine(job_ids)
  known = known + added
  first = #job_ids == count and added < missing and first + count or 0
end
redis.call('HSET', key, 'listed', known)
redis.call('EXPIRE', bits, 600)

-- Keep the list as long as the submission.
local ttl_ms = redis.call('PTTL', key)
if ttl_ms > 0 then
  redis.call('PEXPIRE', finished, text(ttl_ms))
else
  redis.call('PERSIST', finished)
end
return first
