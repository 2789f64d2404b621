-- Book the next request of a pixel, evenly spaced over every process, by the server's own clock.
-- KEYS: when the next may start. ARGV: the gap in microseconds. Answers the microseconds to wait.
local time = redis.call("TIME")
local now = time[1] * 1000000 + time[2]
local start = math.max(now, tonumber(redis.call("GET", KEYS[1]) or 0))
-- Nobody has a thousand workers for one pixel: this was booked before the clock was set back.
if start > now + 1000 * tonumber(ARGV[1]) then
  start = now
end
local free = string.format("%d", start + tonumber(ARGV[1]))
redis.call("SET", KEYS[1], free, "PX", 60000 + math.ceil((free - now) / 1000))
return start - now
