#!lua flags=allow-oom
-- Lets no further operation of a batch start.
local record = read(REC)
if not record then
    return false
end
if record.status == 'processing' then
    record.status, record.has_heard = 'cancelled', '0'
    touch(record, clock())
    write(record)
end
local is_unheard = record.finished_at == '' and record.has_heard == '0'
if is_unheard and redis.call('EXISTS', LEASE) == 1 then
    return {1, snapshot(record)}
end
return {0, snapshot(record)}
