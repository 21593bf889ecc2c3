#!lua flags=allow-oom
-- Ends a batch that cannot be carried out.
local epoch, batch_id, error_code, result_ttl = unpack(ARGV)

local record = read(REC)
if not record or record.epoch ~= epoch or record.finished_at ~= '' then
    return
end
record.error = error_code
touch(record, clock())
finish(record, 'failed', batch_id, result_ttl, 0)
write(record)
