-- Takes one of an account's slots and the next place in its pace, both or neither.
--
-- KEYS  slots: token -> end of its lease; due: when the next call is due if all come evenly spaced;
--       queue: ticket -> until when it holds. A ticket begins with the time at which it was given.
-- ARGV  token; concurrent (0 is no limit); lease; interval (0 is no limit); burst; term of a ticket;
--       ticket ('' without one); 1 to wait for a turn, 0 to take it now or never
--
-- All times are microseconds, of this server's clock. Returns {1, 0, ''} with everything taken, or
-- {0, wait, ticket} with nothing taken; a wait of 0 is for somebody else's slot, so nobody knows how long.

local slots, due, queue = KEYS[1], KEYS[2], KEYS[3]
local token, ticket = ARGV[1], ARGV[7]
local concurrent, lease = tonumber(ARGV[2]), tonumber(ARGV[3])
local interval, burst = tonumber(ARGV[4]), tonumber(ARGV[5])
local term, waits = tonumber(ARGV[6]), ARGV[8] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function exact(number) return string.format('%.0f', number) end

-- Drops what is over, and what lasts longer than anything that is given now: it was written when the clock
-- was ahead, and must not lock anybody out until then.
local function sweep(key, longest)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', exact(now))
  redis.call('ZREMRANGEBYSCORE', key, '(' .. exact(now + longest), '+inf')
end
sweep(slots, lease)
sweep(queue, term)

local ahead = 0
for _, other in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
  if ticket == '' or other < ticket then ahead = ahead + 1 end
end

local has_room = concurrent == 0 or redis.call('ZCARD', slots) + ahead < concurrent
local wait, place = 0, now
if interval > 0 then
  -- `due` moves on only when a call comes that need not wait, so it is never further ahead than this. What is
  -- comes from another clock or other limits (an old dump, a clock set back) and is brought back, once: left
  -- as it is, it would stay as far ahead for ever.
  local furthest = now + burst + interval
  place = math.max(now, tonumber(redis.call('GET', due) or '') or now)
  if place > furthest then
    place = furthest
    redis.call('SET', due, exact(place), 'PX', math.ceil((place - now) / 1000))
  end
  wait = math.max(0, place + ahead * interval - burst - now)
end

if has_room and wait == 0 then
  if concurrent > 0 then
    redis.call('ZADD', slots, exact(now + lease), token)
    redis.call('PEXPIRE', slots, math.ceil(lease / 1000))
  end
  if interval > 0 then
    redis.call('SET', due, exact(place + interval), 'PX', math.ceil((place + interval - now) / 1000))
  end
  if ticket ~= '' then redis.call('ZREM', queue, ticket) end
  return { 1, 0, '' }
end
if waits then
  if ticket == '' then ticket = exact(now) .. '-' .. token end
  redis.call('ZADD', queue, exact(now + term), ticket)
  redis.call('PEXPIRE', queue, math.ceil(term / 1000))
end
return { 0, has_room and wait or 0, ticket }
