#!lua flags=allow-oom
-- Gives back what is not finished, so that it can be claimed at once.
local epoch, batch_id, allowed, max_age, chunk = unpack(ARGV)

local record = read(REC)
local hold = record and hold_of(record)
if not hold or hold.epoch ~= epoch or record.finished_at ~= '' or hold.has_ended == '1' then
    return
end
local line, member = line_of(batch_id, chunk)
redis.call('UNLINK', LEASE)
redis.call('ZADD', line, record.created_at, member)
hold.allowed = allowed
keep(record, clock(), max_age)
write(record, hold)
