-- Count an attempt for postponed jobs whose claim is current. ARGV, per job: id, fence.
write_when_full()
for at = 1, #ARGV, 2 do
  if is_current(ARGV[at], ARGV[at + 1]) then
    count_attempt(ARGV[at], ARGV[at + 1])
  end
end
return 1
