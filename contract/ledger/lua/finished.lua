-- Read jobs of a submission in the order in which they finished. ARGV: submission, start (0: the first), count.
-- Returns a flat list: number and id of each job.
local finished, jobs, start = K.submission_finished .. ARGV[1], K.submission_jobs .. ARGV[1], tonumber(ARGV[2])

-- Ids are read in blocks: jobs that finish together were accepted together, and each read walks the list from its end.
local blocks, block_size = {}, 64

local function id_of(number)
  local at = (number - 1) % block_size
  local first = number - 1 - at
  blocks[first] = blocks[first] or redis.call('LRANGE', jobs, first, first + block_size - 1)
  return blocks[first][at + 1] or ''
end

local found = {}
for _, number in ipairs(redis.call('LRANGE', finished, text(start), text(start + ARGV[3] - 1))) do
  found[#found + 1] = number
  found[#found + 1] = id_of(tonumber(number))
end
return found
