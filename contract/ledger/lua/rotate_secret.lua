-- Store a new secret for the webhooks of an owner. ARGV: now_ms (0: Redis clock), owner, secret, how long the one before
-- it stays valid in ms (-1: keep the secret that the owner has). Returns the fields.
local now, key, keep_ms = clock(ARGV[1]), K.webhook_secret .. ARGV[2], tonumber(ARGV[4])
local current = redis.call('HGET', key, 'current')
if not current then
  redis.call('HSET', key, 'current', ARGV[3], 'created_ms', text(now))
elseif keep_ms >= 0 then
  redis.call('HSET', key, 'previous', current, 'previous_until_ms', text(now + keep_ms), 'current', ARGV[3],
    'created_ms', text(now))
end
return redis.call('HGETALL', key)
