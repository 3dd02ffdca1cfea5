-- Record the right label of a job; the last one counts. ARGV: id, right label, predicted label, model, version, day
-- (since 1970). Returns 1, or 0 if the job has no prediction or no longer exists.
local id, label, predicted, name, version, day = unpack(ARGV, 1, 6)
local key = K.job .. id
local status, before = unpack(redis.call('HMGET', key, 'status', 'feedback'))
if status ~= 'succeeded' then
  return 0
elseif before == label then
  return 1
end

local counts = K.feedback .. name .. ':' .. day
local function field(given)
  return version .. '|' .. (given == predicted and 'right' or 'wrong')
end

redis.call('HSET', key, 'feedback', label)
if before then
  redis.call('HINCRBY', counts, field(before), -1)
end
redis.call('HINCRBY', counts, field(label), 1)
redis.call('EXPIRE', counts, K.feedback_days * 86400)
-- The totals are exported as counters, which never fall: a second label counts once more.
redis.call('HINCRBY', K.feedback_totals, name .. '@' .. field(label), 1)
return 1
