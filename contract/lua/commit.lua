-- End jobs whose claim is current, and wake whoever waits.
-- ARGV: job prefix, running prefix, totals, errors, counters, events, done channel, events kept, ttl_s, now_ms (0: own clock),
-- then a job: id, fence, status, label, error code, outcome as JSON. Returns 1 an ended job, 0 where the fence is not current.
local job_prefix, running_prefix, totals, errors = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local counters, events, done, kept = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local ttl, now = ARGV[9], clock(ARGV[10])
local committed, ended = {}, {}
for at = 11, #ARGV, 6 do
  local id, fence, status, label, code, outcome = unpack(ARGV, at, at + 5)
  local key = job_prefix .. id
  local found = redis.call('HMGET', key, 'status', 'fence', 'queue')
  if found[1] == 'running' and found[2] == fence then
    redis.call('HSET', key, 'status', status, 'outcome', outcome, 'finished_ms', text(now))
    redis.call('HDEL', key, 'image', 'begun')
    redis.call('EXPIRE', key, ttl)
    redis.call('ZREM', running_prefix .. found[3], id)
    redis.call('HINCRBY', totals, found[3] .. '|' .. status .. '|' .. label, 1)
    if code ~= '' then
      redis.call('HINCRBY', errors, code, 1)
    end
    redis.call('XADD', events, 'MAXLEN', '~', kept, '*', 'id', id)
    ended[#ended + 1] = id
    committed[#committed + 1] = 1
  else
    redis.call('HINCRBY', counters, 'late_commits', 1)
    committed[#committed + 1] = 0
  end
end
if #ended > 0 then
  redis.call('PUBLISH', done, table.concat(ended, ' '))
end
return committed
