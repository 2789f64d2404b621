-- The number of a pixel, given to it for good: it makes the ids of all pixels differ.
-- Answers it, and 1 when the pixel had it already.
-- KEYS: the numbers by pixel. ARGV: the pixel, and the number it had when an emptied server is met again, or empty.
local known = redis.call("HGET", KEYS[1], ARGV[1])
if known then
  return {tonumber(known), 1}
end
local taken = {}
for _, number in ipairs(redis.call("HVALS", KEYS[1])) do
  taken[tonumber(number)] = true
end
local number = tonumber(ARGV[2]) or 0
while taken[number] do
  number = number + 1
end
redis.call("HSET", KEYS[1], ARGV[1], number)
return {number, 0}
