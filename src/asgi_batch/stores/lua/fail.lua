#!lua flags=allow-oom
-- Ends a batch that cannot be carried out.
local epoch, batch_id, error_code, result_ttl = unpack(ARGV)

local record = read(REC)
local hold = record and hold_of(record)
if not hold or hold.epoch ~= epoch or record.finished_at ~= '' or hold.has_ended == '1' then
    return
end
record.error = error_code
touch(record, clock())
finish(record, 'failed', batch_id, result_ttl, 0)
write(record, hold)
