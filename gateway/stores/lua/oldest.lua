-- The job that waits for longest, by its id, of the thousand that are due first; nothing when none waits.
-- Behind more than a thousand it is a good guess: what is due first was mostly accepted first.
local oldest
for _, id in ipairs(call("ZRANGE", DUE, 0, 999)) do
  if not oldest or id < oldest then
    oldest = id
  end
end
return oldest and call("HGET", JOB, oldest)
