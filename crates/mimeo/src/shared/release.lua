-- Gives a slot back, and tells those who wait for one.
--
-- KEYS  slots: token -> end of its lease; queue: those who wait
-- ARGV  token; channel; message

local had = redis.call('ZREM', KEYS[1], ARGV[1])
if had == 1 and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end
return had
