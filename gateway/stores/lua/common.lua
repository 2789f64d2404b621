-- What every script begins with: the keys of one pixel, and how its jobs, log lines and counters are written.
--
--   SEEN        zset  dedup key -> when it may be forgotten
--   SUPPRESSED  zset  the keys among them whose copies are to be suppressed
--   HELD        hash  dedup key -> id of the copy that is held
--   DUE         zset  id -> due: now (new), end of the hold (held), end of the lease (claimed), next try (retry)
--   JOB         hash  id -> acceptance, deadline, doubt, tries, dedup key, side while held; of what waits or is dead
--   BODY        hash  id -> the event as Meta gets it; of what waits or is dead
--   LOG         hash  id -> a line of the event log; the reason of a held one is what it lacks
--   LOGGED      zset  id -> acceptance, of the lines that are final
--   DEAD        hash  id -> death, reason, note
--   DIED        zset  id -> death
--   TALLY       hash  hour:outcome -> how many; 'accepted' counts them all
--   SEQ         the last id; an id never returns
--
-- Times are milliseconds and come as arguments. A script is all or nothing in the append-only file.
local SEEN, SUPPRESSED, HELD, DUE, JOB, BODY, LOG, LOGGED, DEAD, DIED, TALLY, SEQ = unpack(KEYS)
local call = redis.call
local BOUND = 2000 -- what one sweep forgets of each kind at most
local DEDUP = 172800000 -- how long a key is remembered at least
local WAITING = {held = true, pending = true}

local tally = {}

local function count(at, outcome, n)
  local field = string.format("%d:%s", math.floor(at / 3600000), outcome)
  tally[field] = (tally[field] or 0) + n
end

local function commit()
  for field, n in pairs(tally) do
    call("HINCRBY", TALLY, field, n)
  end
end

local JOB_FORMAT = ">dddHc16"
local SIDE_AT = 43

local function write_job(id, at, deadline, doubt, tries, key, side)
  call("HSET", JOB, id, struct.pack(JOB_FORMAT, at, deadline, doubt, tries, key) .. side)
end

local function read_job(id)
  local packed = call("HGET", JOB, id)
  local at, deadline, doubt, tries, key = struct.unpack(JOB_FORMAT, packed)
  return at, deadline, doubt, tries, key, string.sub(packed, SIDE_AT)
end

local function remove_job(id)
  call("ZREM", DUE, id)
  call("HDEL", JOB, id)
  call("HDEL", BODY, id)
end

local function write_line(id, at, outcome, settled, tries, reason, note)
  call("HSET", LOG, id, cmsgpack.pack({at, outcome, settled, tries, reason, note}))
  if not WAITING[outcome] then
    call("ZADD", LOGGED, at, id)
  end
end

local function read_line(id)
  return unpack(cmsgpack.unpack(call("HGET", LOG, id)))
end

-- Drop what is held and lacks something, and forget its key, so that a copy which comes later is new.
local function drop_lacking(now, id, key)
  local at, _, _, _, reason, note = read_line(id)
  if call("HGET", HELD, key) == id then -- not a later event's whose key is the same
    call("HDEL", HELD, key)
  end
  if now <= at + DEDUP then -- an older one's key may have run out, and be a later event's
    call("ZREM", SEEN, key)
  end
  remove_job(id)
  write_line(id, at, "invalid", now, 0, reason, note)
  count(at, "invalid", 1)
end

local function new_id()
  return string.format("%012d", call("INCR", SEQ))
end

-- An event that goes nowhere, or no further: its line and its place in the account.
local function write_copy(now, outcome, reason, note)
  count(now, "accepted", 1)
  count(now, outcome, 1)
  write_line(new_id(), now, outcome, now, 0, reason, note)
end

