#!lua flags=allow-oom
-- Writes down what has come up, and renews the lease; ends the batch where it is over.
-- ARGV from the fourteenth on: index, result, index, result, …
local epoch, token, batch_id, lease, allowed, trial, ends = unpack(ARGV, 1, 7)
local max_age, result_ttl, retry_ttl, heard, error_code, chunk = unpack(ARGV, 8, 13)
local ENTRIES = 14
local OUTCOMES = {s = 'succeeded', f = 'failed', k = 'skipped'}

local record = read(REC)
local hold = record and hold_of(record)
if not hold or hold.epoch ~= epoch then
    return 'lost'
end
-- The reply to this very call was lost.
if hold.saved_by == token then
    return hold.answer
end
if record.finished_at ~= '' or hold.has_ended == '1' then
    return 'lost'
end
local line, member = line_of(batch_id, chunk)

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

local function has_all()
    return record.succeeded + record.failed + record.skipped == tonumber(record.total)
end

-- Whether all results are there that its holder has promised.
local function is_whole()
    if not IS_DIVIDED then
        return has_all()
    end
    local first, last = bounds_of(record, chunk)
    return #with_result(first, last) == last - first + 1
end

local now = clock()
local has_results = record.succeeded + record.failed + record.skipped > 0
for first = ENTRIES, #ARGV, CALL do
    add(first, math.min(first + CALL - 1, #ARGV))
end
if #ARGV >= ENTRIES or ends == '1' then
    touch(record, now)
end
hold.allowed = text(math.max(hold.allowed, allowed))
if heard == '1' then
    hold.has_heard = '1'
end
if trial ~= '' then
    hold.trials = hold.trials .. trial .. ' '
end
hold.saved_by = token
hold.answer = record.status == 'cancelled' and 'cancelled' or 'held'
if ends == '1' and not is_whole() then
    -- Redis has lost results since: whoever takes the batch over finds out which.
    hold.answer = 'lost'
    redis.call('PEXPIRE', RES, max_age)
    redis.call('UNLINK', LEASE)
    redis.call('ZADD', line, text(now), member)
elseif ends == '1' and IS_DIVIDED and record.open_chunks ~= '1' then
    -- Others are not at their end.
    hold.answer, hold.has_ended = 'ended', '1'
    record.open_chunks = text(record.open_chunks - 1)
    redis.call('UNLINK', LEASE)
    redis.call('ZREM', line, member)
elseif ends == '1' and not has_all() then
    -- Redis has lost results of chunks that had ended: all of them are looked at again.
    hold.answer = 'ended'
    record.open_chunks = text(chunks_of(record))
    for i = 0, chunks_of(record) - 1 do
        redis.call('ZADD', line, text(now), batch_id .. ':' .. i)
        redis.call('HSET', KEYS[OTHERS + 2 * i], 'has_ended', '0')
        redis.call('PEXPIRE', KEYS[OTHERS + 2 * i], max_age)
    end
    redis.call('UNLINK', LEASE)
elseif ends == '1' then
    local usual = error_code == '' and 'completed' or 'failed'
    local status = hold.answer == 'held' and usual or 'cancelled'
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
write(record, hold)
return hold.answer
