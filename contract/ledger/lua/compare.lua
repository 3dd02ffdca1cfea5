-- Count what the live version and the shadow of a model predicted for jobs, and keep where they differ.
-- ARGV: now_ms (0: Redis clock), then per job: id, model, live version, shadow, label, label of the shadow, confidence,
-- confidence of the shadow, 1 if they agree, fence of its claim (0: any).
-- Returns, per job: 1 if it was counted, 0 if it no longer exists, was counted before, or is a new job with the same id.
local now, counted = clock(ARGV[1]), {}

local function compare(id, name, live, shadow, label, other, confidence, other_confidence, agreed, fence)
  local key = K.job .. id
  local status, finished_ms, right, before, job_fence =
    unpack(redis.call('HMGET', key, 'status', 'finished_ms', 'feedback', 'shadow', 'fence'))
  if status ~= 'succeeded' or before or (fence ~= '0' and fence ~= job_fence) then
    return 0
  end
  local compared = {model = name, pair = live .. '|' .. shadow, label = other}
  if agreed == '0' then
    local stream = K.disagreements .. name
    compared.entry = redis.call('XADD', stream, 'MAXLEN', K.disagreements_kept, '*', 'job', id, 'live', live,
      'shadow', shadow, 'label', label, 'shadow_label', other, 'confidence', confidence,
      'shadow_confidence', other_confidence)
    redis.call('XTRIM', stream, 'MINID', text(math.max(0, now - K.disagreements_days * 86400000)))
    redis.call('EXPIRE', stream, K.disagreements_days * 86400)
  end
  redis.call('HSET', key, 'shadow', cjson.encode(compared))
  local day = math.floor(finished_ms / 86400000)
  count_compared(compared, day, agreed == '1' and 'agreed' or 'differed', 1)
  redis.call('HINCRBY', K.shadow_totals, name .. '@' .. shadow .. '|' .. (agreed == '1' and 'agreed' or 'differed'), 1)
  if right then
    count_compared_label(id, right, false, label, day)
  end
  return 1
end

for at = 2, #ARGV, 10 do
  counted[#counted + 1] = compare(unpack(ARGV, at, at + 9))
end
return counted
