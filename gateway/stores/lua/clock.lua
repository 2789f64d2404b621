-- The server's clock, in milliseconds: the one that all processes go by. KEYS: what picks the server in a cluster.
local time = redis.call("TIME")
return time[1] * 1000 + math.floor(time[2] / 1000)
