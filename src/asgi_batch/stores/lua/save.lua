#!lua flags=allow-oom
-- Writes down what has come up, and renews the lease; ends the batch where it is over.
-- ARGV from the thirteenth on: index, result, index, result, …
local epoch, token, batch_id, lease, allowed, trial, ends = unpack(ARGV, 1, 7)
local max_age, result_ttl, retry_ttl, heard, error_code = unpack(ARGV, 8, 12)
local ENTRIES = 13
-- Lua cannot hand over more than some thousands of arguments at once.
local CHUNK = 1000
local OUTCOMES = {s = 'succeeded', f = 'failed', k = 'skipped'}

local record = read(REC)
if not record or record.epoch ~= epoch then
    return 'lost'
end
-- The reply to this very call was lost.
if record.saved_by == token then
    return record.answer
end
if record.finished_at ~= '' then
    return 'lost'
end

local function add(first, last)
    local indexes = {}
    for i = first, last, 2 do
        table.insert(indexes, ARGV[i])
    end
    local known = redis.call('HMGET', RES, unpack(indexes))
    local fresh, seen = {}, {}
    for i, index in ipairs(indexes) do
        if not known[i] and not seen[index] then
            local result = ARGV[first + 2 * i - 1]
            local outcome = OUTCOMES[string.sub(result, 1, 1)]
            seen[index] = true
            record[outcome] = text(record[outcome] + 1)
            table.insert(fresh, index)
            table.insert(fresh, result)
        end
    end
    if #fresh > 0 then
        redis.call('HSET', RES, unpack(fresh))
    end
end

local now = clock()
local has_results = record.succeeded + record.failed + record.skipped > 0
for first = ENTRIES, #ARGV, CHUNK do
    add(first, math.min(first + CHUNK - 1, #ARGV))
end
if #ARGV >= ENTRIES or ends == '1' then
    touch(record, now)
end
record.allowed = text(math.max(record.allowed, allowed))
if heard == '1' then
    record.has_heard = '1'
end
if trial ~= '' then
    record.trials = record.trials .. trial .. ' '
end
record.saved_by = token
record.answer = record.status == 'cancelled' and 'cancelled' or 'held'
local is_whole = record.succeeded + record.failed + record.skipped == tonumber(record.total)
if ends == '1' and not is_whole then
    -- Redis has lost results since: whoever takes the batch over finds out which.
    record.answer = 'lost'
    redis.call('PEXPIRE', RES, max_age)
    redis.call('UNLINK', LEASE)
    redis.call('ZADD', QUEUE, text(now), batch_id)
elseif ends == '1' then
    local usual = error_code == '' and 'completed' or 'failed'
    local status = record.answer == 'held' and usual or 'cancelled'
    record.error = error_code
    finish(record, status, batch_id, result_ttl, tonumber(retry_ttl))
else
    if redis.call('PEXPIRE', LEASE, lease) == 0 then
        redis.call('SET', LEASE, epoch, 'PX', lease)
    end
    if now - record.kept_at > HOUR then
        keep(record, now, max_age)
    elseif not has_results and #ARGV >= ENTRIES then
        redis.call('PEXPIRE', RES, max_age)
    end
end
write(record)
return record.answer
