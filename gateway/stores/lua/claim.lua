-- Lease what is due, oldest first, and count the attempt before it is made.
-- ARGV: now, end of the lease, how many at most, how many bytes at most (but a single event always fits), and for the
-- newest first: among how many of the last due to look for events that were never tried.
-- Answers id, job (with the attempt) and body of each.
local now, lease, limit, max_bytes, newest = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local answers = {}
local size = 0

local function due()
  if newest ~= "" then
    return call("ZREVRANGEBYSCORE", DUE, now, "-inf", "LIMIT", 0, newest)
  end
  return call("ZRANGEBYSCORE", DUE, "-inf", now, "LIMIT", 0, limit)
end

local dropped = 0

-- Answers whether more may be due than was looked at, as something was dropped; but a server does nothing else meanwhile.
local function lease_due()
  local before = dropped
  for _, id in ipairs(due()) do
    local at, deadline, doubt, tries, key, side = read_job(id)
    local body = (newest == "" or tries == 0) and call("HGET", BODY, id)
    local lacks, note = "", ""
    if side ~= "" then
      lacks, note = select(5, read_line(id))
    end
    if lacks ~= "" then
      drop_lacking(tonumber(now), id, key)
      dropped = dropped + 1
    elseif body then
      size = size + #body + 1 -- and the comma that joins it to the next
      if #answers == 3 * limit or (#answers > 0 and size > max_bytes) then
        return false
      end
      if side ~= "" then
        if call("HGET", HELD, key) == id then -- not a later event's whose key is the same
          call("HDEL", HELD, key)
        end
        write_line(id, at, "pending", 0, tries, "", note)
      end
      write_job(id, at, deadline, doubt, tries + 1, key, "")
      call("ZADD", DUE, lease, id)
      answers[#answers + 1] = id
      answers[#answers + 1] = call("HGET", JOB, id)
      answers[#answers + 1] = body
    end
  end
  return before < dropped and dropped < BOUND
end

while lease_due() do
end
commit()
return answers
