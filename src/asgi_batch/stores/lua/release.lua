#!lua flags=allow-oom
-- Gives an unfinished batch back, so that it can be claimed at once.
local epoch, batch_id, allowed, max_age = unpack(ARGV)

local record = read(REC)
if not record or record.epoch ~= epoch or record.finished_at ~= '' then
    return
end
redis.call('UNLINK', LEASE)
redis.call('ZADD', QUEUE, record.created_at, batch_id)
record.allowed = allowed
keep(record, clock(), max_age)
write(record)
