#!lua flags=allow-oom
-- Takes a batch that nobody holds, or a chunk of one that is divided.
-- ARGV from the sixth on: how values begin that the caller has the keys of.
local token, batch_id, lease, max_age, chunk = unpack(ARGV, 1, 5)
local HEADS = 6
-- Two bytes that say that a value is sealed, four that say with which key.
local MARK, HEAD = '\193\1', 6

local function is_for_others(value)
    local head = string.sub(value, 1, HEAD)
    for i = HEADS, #ARGV do
        if ARGV[i] == head then
            return false
        end
    end
    return string.sub(head, 1, #MARK) == MARK
end

local record, is_foreign = read(REC)
local line, member = line_of(batch_id, chunk)
local now = clock()
if is_foreign then
    redis.call('ZADD', line, 'XX', text(now + 1000000), member)
    return false
end
local hold = record and hold_of(record)
if not record or record.finished_at ~= '' or hold and hold.has_ended == '1' then
    redis.call('ZREM', line, member)
    return false
end
if not hold or IS_DIVIDED and tonumber(chunk) >= chunks_of(record) then
    return false
end
local operations = redis.call('LINDEX', OPS, IS_DIVIDED and chunk or 0)
if not operations then
    -- Redis has thrown them away: nobody can carry the batch out any more.
    record.error = 'record_corrupt'
    touch(record, now)
    finish(record, 'failed', batch_id, max_age, 0)
    write(record, hold)
    return false
end
if is_for_others(operations) then
    -- Nothing of the batch changes, its time to live least of all; it goes behind those that wait.
    redis.call('ZADD', line, 'XX', text(now + 1000000), member)
    return string.sub(operations, 1, HEAD)
end
-- The reply to this very call was lost: nobody else has claimed the batch since.
if hold.claimed_by ~= token then
    local left = redis.call('PTTL', LEASE)
    if left ~= -2 then
        redis.call('ZADD', line, 'XX', text(now + math.max(left, 1) * 1000), member)
        return false
    end
    hold.epoch = text(hold.epoch + 1)
    hold.claimed_by, hold.has_heard = token, '1'
end
redis.call('SET', LEASE, hold.epoch, 'PX', lease)
redis.call('ZADD', line, text(now + lease * 1000), member)
write(record, hold)
if IS_DIVIDED or now - record.kept_at > HOUR then
    keep(record, now, max_age)
    put(REC, {'kept_at'}, record)
end
local finished = {}
if record.succeeded + record.failed + record.skipped > 0 then
    finished = IS_DIVIDED and with_result(bounds_of(record, chunk)) or redis.call('HKEYS', RES)
end
return {
    snapshot(record), tonumber(hold.epoch), operations, redis.call('HGET', REC, 'caller'),
    record.stops_on_error, tonumber(hold.allowed), hold.trials, finished,
    now - record.updated_at,
}
