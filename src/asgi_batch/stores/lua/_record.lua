-- What all scripts share, put in front of each: how a record is read, changed and ended.
-- It makes no decision of its own. Times are microseconds since 1970, by the server's clock.
local REC, OPS, RES, LEASE, QUEUE, OWNER, CHUNK, CHUNKS, NAME = unpack(KEYS, 1, 9)
-- What is in KEYS behind them where a batch that is divided comes to its end, or is cancelled: the
-- record and the lease of each chunk.
local OTHERS = 10
-- Of a batch that is divided each chunk is claimed by itself; LEASE and CHUNK are those of one.
local IS_DIVIDED = CHUNK ~= REC
local SCHEMA = '2'
local HOUR = 3600 * 1000000
local MINUTE = 60 * 1000
-- Lua cannot hand over more than some thousands of arguments at once.
local CALL = 1000
-- The first fourteen make a snapshot.
local SNAPSHOT = 14
local FIELDS = {
    'schema', 'status', 'total', 'succeeded', 'failed', 'skipped',
    'created_at', 'updated_at', 'finished_at', 'version', 'parent', 'error', 'owner',
    'chunk_size',
    'stops_on_error', 'fingerprint', 'name', 'made_by', 'kept_at', 'open_chunks',
    'epoch', 'allowed', 'has_heard', 'trials', 'claimed_by', 'saved_by', 'answer',
}
-- What is known of the one who holds something; of a chunk that nobody has held it is this.
local HOLD = {
    epoch = '0', allowed = '0', has_heard = '1', trials = '', claimed_by = '', saved_by = '',
    answer = '', has_ended = '0',
}
local HOLD_FIELDS = {}
for field in pairs(HOLD) do
    table.insert(HOLD_FIELDS, field)
end

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

-- What is known of the holder: a part of the record, or the record of the chunk. Nil where the
-- batch is divided and the keys are not those of a chunk, or the other way round.
local function hold_of(record)
    if (record.chunk_size ~= '0') ~= IS_DIVIDED then
        return nil
    end
    if not IS_DIVIDED then
        return record
    end
    local hold = {}
    local values = redis.call('HMGET', CHUNK, unpack(HOLD_FIELDS))
    for i, field in ipairs(HOLD_FIELDS) do
        hold[field] = values[i] or HOLD[field]
    end
    return hold
end

local function put(key, fields, values, ...)
    local members = {...}
    for _, field in ipairs(fields) do
        table.insert(members, field)
        table.insert(members, values[field])
    end
    redis.call('HSET', key, unpack(members))
end

local function write(record, hold, ...)
    put(REC, FIELDS, record, ...)
    if IS_DIVIDED then
        put(CHUNK, HOLD_FIELDS, hold)
    end
end

-- Where it waits to be claimed, and the name under which it does.
local function line_of(batch_id, chunk)
    if IS_DIVIDED then
        return CHUNKS, batch_id .. ':' .. chunk
    end
    return QUEUE, batch_id
end

-- The indexes that a chunk is of, from the first to the last.
local function bounds_of(record, chunk)
    local first = chunk * record.chunk_size
    return first, math.min(first + record.chunk_size, record.total) - 1
end

-- Those of the indexes from first to last that have their result.
local function with_result(first, last)
    local found = {}
    for start = first, last, CALL do
        local indexes = {}
        for index = start, math.min(start + CALL - 1, last) do
            table.insert(indexes, index)
        end
        for i, result in ipairs(redis.call('HMGET', RES, unpack(indexes))) do
            if result then
                table.insert(found, indexes[i])
            end
        end
    end
    return found
end

local function chunks_of(record)
    return math.ceil(record.total / record.chunk_size)
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
    for _, key in ipairs({REC, OPS, RES, QUEUE, CHUNK, CHUNKS}) do
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
    if IS_DIVIDED then
        for chunk = 0, chunks_of(record) - 1 do
            redis.call('ZREM', CHUNKS, batch_id .. ':' .. chunk)
        end
        -- Their holders may have to hear once more what they have been answered.
        for i = OTHERS, #KEYS, 2 do
            redis.call('PEXPIRE', KEYS[i], MINUTE)
            redis.call('UNLINK', KEYS[i + 1])
        end
    end
    if record.owner ~= '' then
        redis.call('ZREM', OWNER, batch_id)
    end
    for _, key in ipairs({REC, RES, NAME}) do
        redis.call('PEXPIRE', key, result_ttl)
    end
end
