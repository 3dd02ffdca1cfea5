-- Read the heartbeats that have not expired. ARGV: now_ms (0: Redis clock). Returns them as JSON.
local ids = redis.call('ZRANGEBYSCORE', K.workers_alive, '(' .. text(clock(ARGV[1])), '+inf')
if #ids == 0 then
  return {}
end
return redis.call('HMGET', K.workers, unpack(ids))
