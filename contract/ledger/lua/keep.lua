-- Keep the image of a job for review, unless it is kept, or the job was purged, or its id belongs to a new job, or to a
-- kept image of another owner.
-- ARGV: now_ms (0: Redis clock), id, fence of the claim under which it was processed, ttl_ms, maximum number of images,
-- maximum bytes, then names and values of the fields of the entry. Returns 1 if kept, else 0.
local now, id, fence = clock(ARGV[1]), ARGV[2], ARGV[3]
local job_fence, label, owner, finished_ms =
  unpack(redis.call('HMGET', K.job .. id, 'fence', 'feedback', 'owner', 'finished_ms'))
local key = K.review .. id
local kept_fence, kept_owner = unpack(redis.call('HMGET', key, 'fence', 'owner'))
if job_fence ~= fence or kept_fence == fence or kept_fence and (kept_owner or '') ~= (owner or '') then
  return 0
end
discard(drop_review(id)) -- of an earlier job with this id
redis.call('HSET', key, unpack(ARGV, 7))
redis.call('HSET', key, 'fence', fence, 'kept_ms', text(now), 'day', text(math.floor((finished_ms or now) / 86400000)))
local number = redis.call('HINCRBY', K.counters, 'reviews', 1)
in_review_sets(id, function(owner)
  redis.call('ZADD', K.review_kept .. owner, number, id)
end)
redis.call('HINCRBY', K.counters, 'review_bytes', redis.call('HGET', key, 'size_bytes'))
if label then
  mark_reviewed(id, label, '', now)
else
  await_review(id, now)
end
trim_reviews(now, tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
return redis.call('EXISTS', key)
