-- Remove kept images that have expired, and those beyond the limits. ARGV: now_ms (0: Redis clock), ttl_ms, maximum number
-- of images, maximum bytes. Returns the number of removed images.
return trim_reviews(clock(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
