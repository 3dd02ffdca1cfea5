-- Remove the kept image of a job from review, and mark it for deletion. ARGV: id. Returns 1 if it was kept, else 0.
local image = drop_review(ARGV[1])
discard(image)
return image and 1 or 0
