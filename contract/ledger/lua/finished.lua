-- Read jobs of a submission in the order in which they finished. ARGV: submission, start (0: the first), count.
-- Returns a flat list: number and id of each job.
local jobs, start = K.submission_jobs .. ARGV[1], tonumber(ARGV[2])
local found = {}
local numbers = redis.call('LRANGE', K.submission_finished .. ARGV[1], text(start), text(start + ARGV[3] - 1))
for _, number in ipairs(numbers) do
  found[#found + 1] = number
  found[#found + 1] = redis.call('LINDEX', jobs, number - 1) or ''
end
return found
