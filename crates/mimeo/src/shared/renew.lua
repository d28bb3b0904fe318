-- Lengthens the leases of slots. One that is not there any more (this server was emptied, or its lease was
-- over) is taken again if there is room; if not, its call goes on all the same.
--
-- KEYS  slots: token -> end of its lease
-- ARGV  concurrent; lease in microseconds of this server's clock; tokens
-- Returns how many have no slot.

local slots, concurrent, lease = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local over = string.format('%.0f', now + lease)
redis.call('ZREMRANGEBYSCORE', slots, '-inf', string.format('%.0f', now))

local without = 0
for i = 3, #ARGV do
  if redis.call('ZSCORE', slots, ARGV[i]) or redis.call('ZCARD', slots) < concurrent then
    redis.call('ZADD', slots, over, ARGV[i])
  else
    without = without + 1
  end
end
redis.call('PEXPIRE', slots, math.ceil(lease / 1000))
return without
