-- Make due earlier what is due late. ARGV: later than this; when instead. Answers how many, of which there may be more.
local late = call("ZRANGEBYSCORE", DUE, "(" .. ARGV[1], "+inf", "LIMIT", 0, BOUND)
for _, id in ipairs(late) do
  call("ZADD", DUE, ARGV[2], id)
end
return #late
