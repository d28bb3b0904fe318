-- Notes that a call which was let through goes out only now: windows count from then on.
--
-- KEYS  for each pace: begun, as in acquire.lua
-- ARGV  when it was let through; then for each pace: how many this call counts; window
--
-- What is not remembered any more is not noted again. The list stays in order: nothing in it is newer than now.

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
for pace = 1, #KEYS do
  local units, window = tonumber(ARGV[2 * pace]), tonumber(ARGV[2 * pace + 1])
  local found = redis.call('LREM', KEYS[pace], units, ARGV[1])
  for _ = 1, found do redis.call('LPUSH', KEYS[pace], now) end
  if found > 0 then redis.call('PEXPIRE', KEYS[pace], math.ceil(window / 1000)) end
end
return 1
