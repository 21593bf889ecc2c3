-- What all scripts share, put in front of each: how a record is read, changed and ended.
-- It makes no decision of its own. Times are microseconds since 1970, by the server's clock.
local REC, OPS, RES, LEASE, QUEUE, OWNER, NAME = unpack(KEYS, 1, 7)
local SCHEMA = '1'
local HOUR = 3600 * 1000000
-- The first thirteen make a snapshot.
local SNAPSHOT = 13
local FIELDS = {
    'schema', 'status', 'total', 'succeeded', 'failed', 'skipped',
    'created_at', 'updated_at', 'finished_at', 'version', 'parent', 'error', 'owner',
    'epoch', 'allowed', 'has_heard', 'trials', 'stops_on_error', 'fingerprint', 'name',
    'made_by', 'claimed_by', 'saved_by', 'answer', 'kept_at',
}

-- The record at key, or nil; then whether another version of the library has written it.
local function read(key)
    local values = redis.call('HMGET', key, unpack(FIELDS))
    if values[1] ~= SCHEMA then
        return nil, values[1] ~= false
    end
    local record = {}
    for i, field in ipairs(FIELDS) do
        record[field] = values[i] or ''
    end
    return record, false
end

local function write(record, ...)
    local pairs_of_record = {...}
    for _, field in ipairs(FIELDS) do
        table.insert(pairs_of_record, field)
        table.insert(pairs_of_record, record[field])
    end
    redis.call('HSET', REC, unpack(pairs_of_record))
end

local function snapshot(record)
    local values = {}
    for i = 1, SNAPSHOT do
        values[i] = record[FIELDS[i]]
    end
    return values
end

-- Lua writes large numbers as 1.7e+15.
local function text(number)
    return string.format('%.0f', number)
end

local function clock()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

local function touch(record, now)
    record.updated_at = text(math.max(now, tonumber(record.updated_at)))
    record.version = text(record.version + 1)
end

-- Let all keys of an unfinished batch live for longer.
local function keep(record, now, max_age)
    record.kept_at = text(now)
    for _, key in ipairs({REC, OPS, RES, QUEUE}) do
        redis.call('PEXPIRE', key, max_age)
    end
end

-- What was needed to carry the batch out is needed no longer, but for trying again what has failed.
local function finish(record, status, batch_id, result_ttl, retry_ttl)
    record.status = status
    record.finished_at = record.updated_at
    redis.call('UNLINK', LEASE)
    if record.failed + record.skipped > 0 and retry_ttl > 0 then
        redis.call('PEXPIRE', OPS, retry_ttl)
    else
        redis.call('UNLINK', OPS)
    end
    redis.call('HDEL', REC, 'caller')
    redis.call('ZREM', QUEUE, batch_id)
    if record.owner ~= '' then
        redis.call('ZREM', OWNER, batch_id)
    end
    for _, key in ipairs({REC, RES, NAME}) do
        redis.call('PEXPIRE', key, result_ttl)
    end
end
