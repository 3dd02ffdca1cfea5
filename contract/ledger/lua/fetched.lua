-- Store the reference of an image that was fetched, in place of its address. ARGV: id, fence, reference, size in bytes.
-- Returns 1, or 0 if the claim is not current.
write_when_full()
local id, fence, image, size = unpack(ARGV)
if not is_current(id, fence) then
  return 0
end
redis.call('HSET', K.job .. id, 'image', image, 'size_bytes', size)
return 1
