-- Forget a bounded share of what is past its time.
-- ARGV: now; log lines accepted before this, or more than so many; letters dead before this, or more than so many; the
-- hour before which counters are folded, or empty; where the last sweep of HELD stopped.
-- Answers where this one stopped.
local now = ARGV[1]

local function forget(zset, before, most)
  local old = call("ZRANGEBYSCORE", zset, "-inf", "(" .. before, "LIMIT", 0, BOUND)
  local surplus = call("ZCARD", zset) - tonumber(most)
  if surplus > #old then
    old = call("ZRANGE", zset, 0, math.min(surplus, BOUND) - 1)
  end
  return old
end

local old = call("ZRANGEBYSCORE", SEEN, "-inf", "(" .. now, "LIMIT", 0, BOUND)
if #old > 0 then
  call("ZREM", SEEN, unpack(old))
  call("ZREM", SUPPRESSED, unpack(old))
end

-- Claims and merges go by due, so a hold that is over only has to be said in the log; what lacks something is dropped.
local cursor, held = unpack(call("HSCAN", HELD, ARGV[7], "COUNT", 500))
for i = 1, #held, 2 do
  local key, id = held[i], held[i + 1]
  if tonumber(call("ZSCORE", DUE, id) or 0) <= tonumber(now) then
    local at, _, _, tries, lacks, note = read_line(id)
    if lacks ~= "" then
      drop_lacking(tonumber(now), id, key)
    else
      write_line(id, at, "pending", 0, tries, "", note)
      call("HDEL", HELD, key)
    end
  end
end

old = forget(LOGGED, ARGV[2], ARGV[3])
if #old > 0 then
  call("HDEL", LOG, unpack(old))
  call("ZREM", LOGGED, unpack(old))
end

old = forget(DIED, ARGV[4], ARGV[5])
if #old > 0 then
  call("HDEL", DEAD, unpack(old))
  call("HDEL", JOB, unpack(old))
  call("HDEL", BODY, unpack(old))
  call("ZREM", DIED, unpack(old))
end

-- Deleting old hours would unbalance the account of what of them still waits; folded into hour 0 it stays whole.
if ARGV[6] ~= "" then
  local fields = call("HGETALL", TALLY)
  for i = 1, #fields, 2 do
    local hour, outcome = string.match(fields[i], "^(%d+):(.+)$")
    hour = tonumber(hour)
    if hour > 0 and hour < tonumber(ARGV[6]) then
      call("HINCRBY", TALLY, "0:" .. outcome, fields[i + 1])
      call("HDEL", TALLY, fields[i])
    end
  end
end
commit()
return cursor
