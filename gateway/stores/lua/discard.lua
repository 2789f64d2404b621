-- Remove dead letters for good. ARGV: ids. Answers how many there were.
local discarded = 0
for _, id in ipairs(ARGV) do
  if call("HDEL", DEAD, id) == 1 then
    call("ZREM", DIED, id)
    call("HDEL", JOB, id)
    call("HDEL", BODY, id)
    discarded = discarded + 1
  end
end
return discarded
