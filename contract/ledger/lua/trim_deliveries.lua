-- Remove dead deliveries that are older than `ttl_ms`. ARGV: now_ms (0: Redis clock), ttl_ms. Returns how many.
write_when_full()
local oldest = redis.call('ZRANGEBYSCORE', K.dead_deliveries, '-inf', text(clock(ARGV[1]) - ARGV[2]), 'LIMIT', 0, 1000)
for _, id in ipairs(oldest) do
  drop_delivery(id)
end
return #oldest
