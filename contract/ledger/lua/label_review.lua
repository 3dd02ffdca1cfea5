-- Record the label that a reviewer gives to a kept image, or let it wait for a while.
-- ARGV: now_ms (0: Redis clock), id, reviewer, label ('': skip), who, how long it waits if it is skipped (ms).
-- Returns `done`, `taken` (another reviewer has it, or labeled it), or `unknown` (it is no longer kept).
local now, id, reviewer, label, by = clock(ARGV[1]), unpack(ARGV, 2, 5)
local key = K.review .. id
local holder, before, fence, predicted, name, version, day =
  unpack(redis.call('HMGET', key, 'holder', 'label', 'fence', 'predicted', 'model', 'version', 'day'))
if not fence then
  return 'unknown'
elseif before then
  return holder == reviewer and before == label and 'done' or 'taken'
elseif holder ~= reviewer and holder and tonumber(redis.call('ZSCORE', K.review_waiting, id)) > now then
  return 'taken'
end
if label == '' then
  redis.call('HDEL', key, 'holder')
  await_review(id, now + tonumber(ARGV[6]))
  return 'done'
end
redis.call('HSET', key, 'holder', reviewer)
count_label(label, false, predicted, name, version, day)
mark_reviewed(id, label, by, now)
if redis.call('HGET', K.job .. id, 'fence') == fence then
  redis.call('HSET', K.job .. id, 'feedback', label)
  count_compared_label(id, label, false, predicted, day)
end
return 'done'
