-- Lengthens the leases of slots. One that is not there any more (this server was emptied, or its lease was
-- over) is taken again if there is room; if not, its call goes on all the same.
--
-- KEYS  slots: token -> end of its lease; a token is PICTURES:NAME
-- ARGV  calls under way; pictures under way (0 is no limit); lease in microseconds of this server's clock; tokens
-- Returns how many have no slot.

local slots, lease = KEYS[1], tonumber(ARGV[3])
local most_calls, most_pictures = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local over = string.format('%.0f', now + lease)
redis.call('ZREMRANGEBYSCORE', slots, '-inf', string.format('%.0f', now))

local function pictures(of) return tonumber(string.match(of, '(%d+):')) or 1 end
local calls, made = 0, 0
for _, token in ipairs(redis.call('ZRANGE', slots, 0, -1)) do
  calls, made = calls + 1, made + pictures(token)
end

local without = 0
for i = 4, #ARGV do
  local token = ARGV[i]
  if redis.call('ZSCORE', slots, token) then
    redis.call('ZADD', slots, over, token)
  elseif (most_calls == 0 or calls < most_calls) and (most_pictures == 0 or made + pictures(token) <= most_pictures) then
    calls, made = calls + 1, made + pictures(token)
    redis.call('ZADD', slots, over, token)
  else
    without = without + 1
  end
end
redis.call('PEXPIRE', slots, math.ceil(lease / 1000))
return without
