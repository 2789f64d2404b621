-- Keep a group of entries, count a group of drops.
-- ARGV: how many entries; ten values for each; four for each drop, whose note is empty when there is none.
-- Answers an outcome for each entry, or what is held of its event, for the caller to merge (see merge.lua), or 'again'
-- for what has to wait until that is done: nothing of such an entry is recorded yet.
local entries = tonumber(ARGV[1])
local answers = {}
local merging = {} -- keys with an entry that the caller is to merge
local waiting = {} -- keys of which everything that follows has to wait for that
local suppressing = call("EXISTS", SUPPRESSED) == 1

-- What becomes of a copy of a known event, and with it of the one that is held; nil: it is new after all.
local function copy_of(key, now, exp, side, suppress)
  if suppressing and call("ZSCORE", SUPPRESSED, key) then
    return "suppressed"
  end
  local held = call("HGET", HELD, key)
  local due = held and call("ZSCORE", DUE, held)
  if not due then
    return "duplicate"
  end
  local at, _, _, _, lacks, note = read_line(held)
  if tonumber(due) <= now then
    if lacks == "" or at + DEDUP < now then
      return "duplicate"
    end
    drop_lacking(now, held, key)
    return nil
  end
  if side == "" and not suppress then
    return "duplicate"
  end
  if suppress and merging[key] then
    waiting[key] = true
    return "again"
  end
  if not suppress then
    merging[key] = true
    return {held, call("HGET", JOB, held), due, call("HGET", BODY, held), note, lacks}
  end
  call("ZADD", SUPPRESSED, exp, key)
  call("HDEL", HELD, key)
  remove_job(held)
  write_line(held, at, "suppressed", now, 0, "", note)
  count(at, "suppressed", 1)
  suppressing = true
  return "suppressed"
end

local function put(now, key, remembered, due, deadline, side, lacks, suppress, note, body)
  if waiting[key] then
    return "again"
  end
  local exp = call("ZSCORE", SEEN, key)
  if exp and tonumber(exp) >= now then
    local outcome = copy_of(key, now, exp, side, suppress)
    if type(outcome) == "string" and outcome ~= "again" then
      write_copy(now, outcome, "", note)
    end
    if outcome then
      return outcome
    end
  end
  call("ZADD", SEEN, remembered, key)
  if suppress then
    call("ZADD", SUPPRESSED, remembered, key)
    suppressing = true
    write_copy(now, "suppressed", "", note)
    return "suppressed"
  end
  if suppressing then
    call("ZREM", SUPPRESSED, key)
  end
  local id = new_id()
  local outcome = "pending"
  if side ~= "" and due > now then
    outcome = "held"
    call("HSET", HELD, key, id)
  else
    side, lacks = "", ""
  end
  call("ZADD", DUE, due, id)
  call("HSET", BODY, id, body)
  write_job(id, now, deadline, 0, 0, key, side)
  write_line(id, now, outcome, 0, 0, lacks, note)
  count(now, "accepted", 1)
  return outcome
end

for i = 1, entries do
  local at = 2 + (i - 1) * 10
  local now, key, remembered, due, deadline, side, lacks, suppress, note, body = unpack(ARGV, at, at + 9)
  answers[i] = put(
    tonumber(now), key, remembered, tonumber(due), tonumber(deadline), side, lacks, suppress == "1", note, body
  )
end
for at = 2 + entries * 10, #ARGV, 4 do
  local now, outcome, reason, note = unpack(ARGV, at, at + 3)
  now = tonumber(now)
  if note ~= "" then
    write_copy(now, outcome, reason, note)
  else
    count(now, "accepted", 1)
    count(now, outcome, 1)
  end
end

-- Keys go as fast as they come, so that SEEN stays as small as the window.
if entries > 0 then
  local old = call("ZRANGEBYSCORE", SEEN, "-inf", "(" .. ARGV[2], "LIMIT", 0, 2 * entries)
  if #old > 0 then
    call("ZREM", SEEN, unpack(old))
    if suppressing then
      call("ZREM", SUPPRESSED, unpack(old))
    end
  end
end
commit()
return answers
