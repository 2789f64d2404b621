-- Make dead letters pending again, with fresh attempts. ARGV: now, then ids. Answers how many there were.
local revived = 0
for i = 2, #ARGV do
  local id = ARGV[i]
  local letter = call("HGET", DEAD, id)
  if letter then
    local _, _, note = unpack(cmsgpack.unpack(letter))
    local at, deadline, _, _, key = read_job(id)
    write_job(id, at, deadline, 0, 0, key, "")
    call("ZADD", DUE, ARGV[1], id)
    call("HDEL", DEAD, id)
    call("ZREM", DIED, id)
    call("ZREM", LOGGED, id)
    write_line(id, at, "pending", 0, 0, "", note)
    count(at, "dead", -1)
    revived = revived + 1
  end
end
commit()
return revived
