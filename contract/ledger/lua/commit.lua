-- Finish jobs whose claim is current, and notify waiting clients. A job on which a canary failed is returned to its queue
-- instead: the live version processes it. Counts what each version did.
-- ARGV: ttl_s, now_ms (0: Redis clock), ticket, then per job: id, fence, status, label, error code, result as JSON, model
-- ('': none processed it), version, whether the version is to blame for the error, confidence in millionths, range of its
-- predict time, range of the size of its batch ('': not the first of its batch).
-- Returns, per job: 1 if finished, 0 if the claim is not current, 2 if returned.
write_when_full()
local ttl_s, now, ticket = ARGV[1], clock(ARGV[2]), ARGV[3]
local committed, finished, filled = {}, {}, {}
-- Key -> field -> number.
local counted = {}

local function count(key, field, number)
  counted[key] = counted[key] or {}
  counted[key][field] = (counted[key][field] or 0) + number
end

-- Count a job of a version: in total, for its day, and if it takes part in a comparison, for its side.
local function count_job(side, name, version, label, failed, confidence, time, batch)
  local totals, day = name .. '@' .. version, K.model_counts .. name .. ':' .. text(math.floor(now / 86400000))
  count(K.model_totals, totals .. '|jobs', 1)
  count(day, 'jobs/' .. version, 1)
  if failed then
    count(K.model_totals, totals .. '|errors', 1)
    count(day, 'errors/' .. version, 1)
  else
    count(day, 'label/' .. version .. '/' .. label, 1)
    count(day, 'confidence/' .. version, tonumber(confidence))
    count(day, 'time/' .. version .. '/' .. time, 1)
  end
  if side then
    count(K.trial .. name, side .. '/jobs', 1)
    if failed then
      count(K.trial .. name, side .. '/errors', 1)
    elseif batch ~= '' then
      count(K.trial .. name, side .. '/time/' .. batch .. '/' .. time, 1)
    end
  end
end

-- Whether a job was routed to the version that processed it. A worker that does not hold the canary uses the live version.
local function was_routed_to(id, name, version)
  return redis.call('HGET', K.job .. id, 'routed') == name .. '@' .. version
end

-- The field for a label: beyond the limit, those that are new share one.
local function label_field(key, field)
  local version = string.match(field, '^label/([^/]*)/')
  if not version or redis.call('HEXISTS', key, field) == 1
      or redis.call('HINCRBY', key, 'labels/' .. version, 1) <= tonumber(K.labels_kept) then
    return field
  end
  return 'label/' .. version .. '/(other)'
end

local function write_counted()
  for key, fields in pairs(counted) do
    for field, number in pairs(fields) do
      redis.call('HINCRBY', key, label_field(key, field), text(number))
    end
    if string.find(key, K.model_counts, 1, true) == 1 then
      redis.call('EXPIRE', key, K.model_counts_days * 86400)
    end
  end
end

for at = 4, #ARGV, 12 do
  local id, fence, status, label, code, result, name, version, blame, confidence, time, batch =
    unpack(ARGV, at, at + 11)
  if is_current(id, fence) then
    local failed = blame == '1'
    if name ~= '' and (failed or code == '') then
      count_job(side_of(id, name, version), name, version, label, failed, confidence, time, batch)
    end
    if failed and was_routed_to(id, name, version) and leave_canary(id, fence) then
      local queue, created_ms, submission = unpack(redis.call('HMGET', K.job .. id, 'queue', 'created_ms', 'submission'))
      requeue(id, queue, created_ms, submission)
      filled[queue] = true
      committed[#committed + 1] = 2
    else
      count_attempt(id, fence) -- its model may have been loaded just now
      finish(id, now, ttl_s, status, label, code, result)
      finished[#finished + 1] = id
      committed[#committed + 1] = 1
    end
  else
    redis.call('HINCRBY', K.counters, 'late_commits', 1)
    committed[#committed + 1] = 0
  end
end
for queue in pairs(filled) do
  offer_ticket(queue, ticket)
end
notify(finished)
write_counts(now, ttl_s)
write_counted()
return committed
