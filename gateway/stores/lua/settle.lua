-- Record what became of deliveries.
-- ARGV: now, then eight for each: id, outcome, end of its lease, attempt, reason, next due, whether the attempt counts,
-- whether Meta may have counted it. Answers how many were still the caller's to settle.
local now = tonumber(ARGV[1])
local settled = 0

local function settle(id, outcome, lease, attempt, reason, due, counts, ambiguous)
  local current = call("ZSCORE", DUE, id)
  if not current then
    return false
  end
  local at, deadline, doubt, tries, key = read_job(id)
  -- The attempt proves the lease even if a retry or a revival fell on its very millisecond. What was delivered is
  -- gone, whoever holds the lease by now: Meta has it.
  if outcome ~= "delivered" and (tonumber(current) ~= lease or tries ~= attempt) then
    return false
  end
  local _, _, _, _, _, note = read_line(id)
  if outcome == "pending" then
    tries = counts and attempt or attempt - 1
    if ambiguous and doubt == 0 then
      doubt = now
    end
    write_job(id, at, deadline, doubt, tries, key, "")
    call("ZADD", DUE, due, id)
    write_line(id, at, "pending", 0, tries, reason, note)
    return true
  end
  if outcome == "dead" then
    call("ZREM", DUE, id) -- its job and body stay for a retry
    call("HSET", DEAD, id, cmsgpack.pack({now, reason, note}))
    call("ZADD", DIED, now, id)
  else
    remove_job(id)
  end
  write_line(id, at, outcome, now, attempt, reason, note)
  count(at, outcome, 1)
  return true
end

for i = 2, #ARGV, 8 do
  local id, outcome, lease, attempt, reason, due, counts, ambiguous = unpack(ARGV, i, i + 7)
  if settle(id, outcome, tonumber(lease), tonumber(attempt), reason, due, counts == "1", ambiguous == "1") then
    settled = settled + 1
  end
end
commit()
return settled
