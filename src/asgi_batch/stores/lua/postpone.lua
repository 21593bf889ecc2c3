#!lua flags=allow-oom
-- Asks whether somebody has to be told of what nobody holds, and lets nobody else ask for a while.
local batch_id, chunk, delay = unpack(ARGV)

local record, is_foreign = read(REC)
local line, member = line_of(batch_id, chunk)
local now = clock()
local due_at = tonumber(redis.call('ZSCORE', line, member) or now + 1)
if is_foreign or due_at > now then
    return 0
end
local hold = record and hold_of(record)
if not hold or record.finished_at ~= '' or hold.has_ended == '1' then
    redis.call('ZREM', line, member)
    return 0
end
local left = redis.call('PTTL', LEASE)
if left ~= -2 then
    redis.call('ZADD', line, text(now + math.max(left, 1) * 1000), member)
    return 0
end
-- What has waited for long is told of ever less often: there may be more of it than workers.
local age = now - record.updated_at
redis.call('ZADD', line, text(now + math.max(delay * 1000, age)), member)
return 1
