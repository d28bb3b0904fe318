-- Takes one of an account's slots and the next place in each of its paces, all or nothing.
--
-- KEYS  slots: token -> end of its lease; queue: ticket -> until when it holds;
--       then for each pace: due: when the next call is due if all come evenly spaced;
--       begun: when the last calls began, the newest first, at most as many as the pace counts
-- ARGV  token; ticket ('' without one); 1 to wait for a turn, 0 to take it now or never; lease; term of a ticket;
--       calls under way; pictures under way (0 is no limit);
--       then for each pace: count; window; interval; burst; how many this call counts; 1 if pictures are counted
--
-- A token is PICTURES:NAME, and a ticket TIME-TOKEN with the time at which it was given. All times are microseconds,
-- of this server's clock. Returns {1, now, ''} with everything taken, or {0, wait, ticket} with nothing taken; a wait of
-- 0 is for somebody else's slot, so nobody knows how long.

local slots, queue = KEYS[1], KEYS[2]
local token, ticket, waits = ARGV[1], ARGV[2], ARGV[3] == '1'
local lease, term = tonumber(ARGV[4]), tonumber(ARGV[5])
local most_calls, most_pictures = tonumber(ARGV[6]), tonumber(ARGV[7])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function exact(number) return string.format('%.0f', number) end
local function pictures(of) return tonumber(string.match(of, '(%d+):')) or 1 end

-- Drops what is over, and what lasts longer than anything that is given now: it was written when the clock
-- was ahead, and must not lock anybody out until then.
local function sweep(key, longest)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', exact(now))
  redis.call('ZREMRANGEBYSCORE', key, '(' .. exact(now + longest), '+inf')
end
sweep(slots, lease)
sweep(queue, term)

local ahead, pictures_ahead = 0, 0
for _, other in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
  if ticket == '' or other < ticket then
    ahead, pictures_ahead = ahead + 1, pictures_ahead + pictures(other)
  end
end

local has_room = most_calls == 0 or redis.call('ZCARD', slots) + ahead < most_calls
if has_room and most_pictures > 0 then
  local taken = pictures_ahead + pictures(token)
  for _, other in ipairs(redis.call('ZRANGE', slots, 0, -1)) do taken = taken + pictures(other) end
  has_room = taken <= most_pictures
end

local wait, places = 0, {}
for pace = 1, (#KEYS - 2) / 2 do
  local due, begun, first = KEYS[2 * pace + 1], KEYS[2 * pace + 2], 6 * pace + 1
  local count, window, interval = tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2]), tonumber(ARGV[first + 3])
  local burst, units = tonumber(ARGV[first + 4]), tonumber(ARGV[first + 5])
  local before = ARGV[first + 6] == '1' and pictures_ahead or ahead
  -- `due` moves on only when a call comes that need not wait, and no call is for more than ten pictures, so it is
  -- never further ahead than this. What is comes from another clock or other limits (an old dump, a clock set back)
  -- and is brought back, once: left as it is, it would stay as far ahead for ever.
  local largest = ARGV[first + 6] == '1' and math.min(count, 10) or 1
  local furthest = now + burst + interval * largest
  local place = math.max(now, tonumber(redis.call('GET', due) or '') or now)
  if place > furthest then
    place = furthest
    redis.call('SET', due, exact(place), 'PX', math.ceil((place - now) / 1000))
  end
  wait = math.max(wait, place + before * interval - burst - now)
  -- With this call, and those before it, no more than `count` may have begun within a window.
  if (tonumber(redis.call('LINDEX', begun, 0) or '') or 0) > now + window then redis.call('DEL', begun) end
  local crowding = redis.call('LINDEX', begun, math.max(0, count - units - before))
  if crowding then wait = math.max(wait, (tonumber(crowding) or 0) + window - now) end
  if before > count - units then wait = math.max(wait, interval) end
  places[pace] = { due = due, place = place + units * interval, begun = begun, units = units, count = count, window = window }
end

if has_room and wait <= 0 then
  if most_calls > 0 or most_pictures > 0 then
    redis.call('ZADD', slots, exact(now + lease), token)
    redis.call('PEXPIRE', slots, math.ceil(lease / 1000))
  end
  for _, pace in ipairs(places) do
    redis.call('SET', pace.due, exact(pace.place), 'PX', math.ceil((pace.place - now) / 1000))
    for _ = 1, pace.units do redis.call('LPUSH', pace.begun, exact(now)) end
    redis.call('LTRIM', pace.begun, 0, pace.count - 1)
    redis.call('PEXPIRE', pace.begun, math.ceil(pace.window / 1000))
  end
  if ticket ~= '' then redis.call('ZREM', queue, ticket) end
  return { 1, now, '' }
end
if waits then
  if ticket == '' then ticket = exact(now) .. '-' .. token end
  redis.call('ZADD', queue, exact(now + term), ticket)
  redis.call('PEXPIRE', queue, math.ceil(term / 1000))
end
return { 0, has_room and wait or 0, ticket }
