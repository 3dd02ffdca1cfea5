-- Record the right label of a job; the last one counts. If its image is kept for review, it is reviewed with this.
-- ARGV: id, right label, predicted label, model, version, day (since 1970), who, now_ms (0: Redis clock).
-- Returns 1, or 0 if the job has no prediction or no longer exists.
local id, label, predicted, name, version, day, by = unpack(ARGV, 1, 7)
local key = K.job .. id
local status, before, fence = unpack(redis.call('HMGET', key, 'status', 'feedback', 'fence'))

-- Count the label in the comparison of a canary with the live version. Labels of the Review page do not count there: they
-- are of doubtful images, and one version may have more of them.
local function count_on_side(side)
  local function add(given, sign)
    redis.call('HINCRBY', K.trial .. name, side .. '/' .. (given == predicted and 'right' or 'wrong'), sign)
  end
  local counted = redis.call('HGET', key, 'counted_label')
  if counted then
    add(counted, -1)
  end
  add(label, 1)
  redis.call('HSET', key, 'counted_label', label)
end

if status ~= 'succeeded' then
  return 0
elseif before ~= label then
  redis.call('HSET', key, 'feedback', label)
  count_label(label, before, predicted, name, version, day)
  count_compared_label(id, label, before, predicted, day)
end
local side = side_of(id, name, version)
if side then
  count_on_side(side)
end
if redis.call('HGET', K.review .. id, 'fence') == fence then
  mark_reviewed(id, label, by, clock(ARGV[8]))
end
return 1
