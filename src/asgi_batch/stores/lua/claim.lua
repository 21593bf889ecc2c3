#!lua flags=allow-oom
-- Takes a batch that nobody holds.
-- ARGV from the fifth on: how values begin that the caller has the keys of.
local token, batch_id, lease, max_age = unpack(ARGV, 1, 4)
local HEADS = 5
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
local now = clock()
if is_foreign then
    redis.call('ZADD', QUEUE, 'XX', text(now + 1000000), batch_id)
    return false
end
if not record or record.finished_at ~= '' then
    redis.call('ZREM', QUEUE, batch_id)
    return false
end
local operations = redis.call('GET', OPS)
if not operations then
    -- Redis has thrown them away: nobody can carry the batch out any more.
    record.error = 'record_corrupt'
    touch(record, now)
    finish(record, 'failed', batch_id, max_age, 0)
    write(record)
    return false
end
if is_for_others(operations) then
    -- Nothing of the batch changes, its time to live least of all; it goes behind those that wait.
    redis.call('ZADD', QUEUE, 'XX', text(now + 1000000), batch_id)
    return string.sub(operations, 1, HEAD)
end
-- The reply to this very call was lost: nobody else has claimed the batch since.
if record.claimed_by ~= token then
    local left = redis.call('PTTL', LEASE)
    if left ~= -2 then
        redis.call('ZADD', QUEUE, 'XX', text(now + math.max(left, 1) * 1000), batch_id)
        return false
    end
    record.epoch = text(record.epoch + 1)
    record.claimed_by, record.has_heard = token, '1'
end
redis.call('SET', LEASE, record.epoch, 'PX', lease)
redis.call('ZADD', QUEUE, text(now + lease * 1000), batch_id)
if now - record.kept_at > HOUR then
    keep(record, now, max_age)
end
write(record)
local finished = {}
if record.succeeded + record.failed + record.skipped > 0 then
    finished = redis.call('HKEYS', RES)
end
return {
    snapshot(record), tonumber(record.epoch), operations, redis.call('HGET', REC, 'caller'),
    record.stops_on_error, tonumber(record.allowed), record.trials, finished,
    now - record.updated_at,
}
