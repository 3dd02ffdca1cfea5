-- Lease a kept image to a reviewer: a given one, whose label is taken back if this reviewer gave it, or else the one that
-- waits longest. ARGV: now_ms (0: Redis clock), lease_ms, reviewer, owner of the images ('': all owners), id ('': any).
-- Returns the id, or '' if there is none.
local now, lease_ms, reviewer, owner, id = clock(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
if id == '' then
  id = redis.call('ZRANGEBYSCORE', K.review_waiting .. owner, '-inf', text(now), 'LIMIT', 0, 1)[1]
  if not id then
    return ''
  end
end
local key = K.review .. id
local holder, label, fence, predicted, name, version, day =
  unpack(redis.call('HMGET', key, 'holder', 'label', 'fence', 'predicted', 'model', 'version', 'day'))
if not fence then
  return ''
elseif label then
  if holder ~= reviewer then
    return ''
  end
  count_label(false, label, predicted, name, version, day)
  redis.call('HDEL', key, 'label', 'labeled_by', 'labeled_ms')
  if redis.call('HGET', K.job .. id, 'fence') == fence then
    redis.call('HDEL', K.job .. id, 'feedback')
    count_compared_label(id, false, label, predicted, day)
  end
elseif holder and holder ~= reviewer and tonumber(redis.call('ZSCORE', K.review_waiting, id)) > now then
  return ''
end
redis.call('HSET', key, 'holder', reviewer)
await_review(id, now + lease_ms)
return id
