-- Put unions in the place of held copies: compare and set, since the merging itself was done by the caller.
-- ARGV, twelve for each copy: now, id of the held one, its key, the body it must still have; what it is to have (body,
-- side or empty when the hold is over, due, deadline, what it lacks, note); the copy's own note; what the copy is (merged, duplicate).
-- Answers what each copy is, or 'again' where the held one has changed: nothing of that copy is recorded.
local answers = {}
local changed = {}

local function unchanged(now, id, key, expected)
  return call("HGET", HELD, key) == id
    and tonumber(call("ZSCORE", DUE, id) or 0) > now
    and call("HGET", BODY, id) == expected
end

local function replace(id, key, body, side, due, deadline, lacks, note)
  local at, _, doubt, tries = read_job(id)
  write_job(id, at, tonumber(deadline), doubt, tries, key, side)
  call("HSET", BODY, id, body)
  call("ZADD", DUE, due, id)
  local outcome = "held"
  if side == "" then
    call("HDEL", HELD, key)
    outcome = "pending"
  end
  write_line(id, at, outcome, 0, tries, lacks, note)
end

for at = 1, #ARGV, 12 do
  local now, id, key, expected, body, side, due, deadline, lacks, note, own, outcome = unpack(ARGV, at, at + 11)
  now = tonumber(now)
  if outcome == "merged" and not changed[id] then
    if unchanged(now, id, key, expected) then
      replace(id, key, body, side, due, deadline, lacks, note)
    else
      changed[id] = true
    end
  end
  if changed[id] then
    outcome = "again"
  else
    write_copy(now, outcome, "", own)
  end
  answers[#answers + 1] = outcome
end
commit()
return answers
