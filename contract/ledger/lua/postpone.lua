-- Take back the attempts of jobs whose claim is current: they wait in the worker. ARGV, per job: id, fence.
write_when_full()
for at = 1, #ARGV, 2 do
  if is_current(ARGV[at], ARGV[at + 1]) then
    take_back_attempt(ARGV[at], ARGV[at + 1])
  end
end
return 1
