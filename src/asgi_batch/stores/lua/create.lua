#!lua
-- Keeps a batch, unless one of its name is there. Refused where Redis is full.
-- KEYS: those of the batch; its name and the record that is expected under it, where it has one.
-- All batches of an owner are in one shard. Those that are to be counted no longer come last, from
-- behind its operations in ARGV, and at the end of KEYS their records.
local token, batch_id, expected, share, room, max_age = unpack(ARGV, 1, 6)
local total, caller, stops_on_error, parent, fingerprint, name = unpack(ARGV, 7, 12)
local owner, owner_limit, chunk_size, delay, chunks = unpack(ARGV, 13, 17)
local OPERATIONS = 18
local GONE = OPERATIONS + chunks
-- Later than any clock shows: a batch that is divided is never claimed as a whole.
local NEVER = '9000000000000000'
-- Batches of an owner that are looked at when there are too many, the oldest first.
local MOST = 100

-- One for each key that this process has, and the first is kept: all that it is known by.
local fingerprints = ' ' .. fingerprint .. ' '

local function kept(record)
    local is_new = record.made_by == token and 1 or 0
    local is_same = string.find(fingerprints, ' ' .. record.fingerprint .. ' ', 1, true) and 1 or 0
    return {'kept', is_new, is_same, record.id or batch_id, snapshot(record)}
end

local own, is_foreign = read(REC)
if own then
    return kept(own)
end
local known_id = name ~= '' and redis.call('GET', NAME)
if known_id then
    if known_id ~= expected then
        return {'named', known_id}
    end
    local known, is_known_foreign = read(KEYS[10])
    if known then
        known.id = known_id
        return kept(known)
    end
    is_foreign = is_foreign or is_known_foreign
end
if is_foreign then
    return {'foreign'}
end
if owner ~= '' and owner_limit ~= '' then
    -- Whatever became of batches as old as that, they are gone.
    redis.call('ZREMRANGEBYSCORE', OWNER, '-inf', text(clock() - max_age * 1000))
    for i = GONE, #ARGV do
        local schema, finished_at = unpack(
            redis.call('HMGET', KEYS[#KEYS - #ARGV + i], 'schema', 'finished_at')
        )
        if not schema or finished_at ~= '' then
            redis.call('ZREM', OWNER, ARGV[i])
        end
    end
    if redis.call('ZCARD', OWNER) >= tonumber(owner_limit) then
        return {'many', redis.call('ZRANGE', OWNER, 0, MOST - 1)}
    end
end
-- Only where this shard has its share is it worth while to count the others.
local size = redis.call('ZCARD', QUEUE)
if room == '' and size >= tonumber(share) then
    return {'count'}
end
if room ~= '' and size >= tonumber(room) then
    return {'full'}
end

local now = clock()
local record = {}
for _, field in ipairs(FIELDS) do
    record[field] = ''
end
for _, field in ipairs({'succeeded', 'failed', 'skipped', 'epoch', 'allowed'}) do
    record[field] = '0'
end
record.schema, record.status, record.total = SCHEMA, 'processing', total
record.created_at, record.updated_at, record.kept_at = text(now), text(now), text(now)
record.version, record.has_heard = '1', '1'
record.parent, record.name, record.owner = parent, name, owner
record.fingerprint = string.match(fingerprint, '^%S*')
record.stops_on_error, record.made_by = stops_on_error, token
record.chunk_size, record.open_chunks = chunk_size, chunks
put(REC, FIELDS, record, 'caller', caller)
redis.call('PEXPIRE', REC, max_age)
for i = OPERATIONS, GONE - 1 do
    redis.call('RPUSH', OPS, ARGV[i])
end
redis.call('PEXPIRE', OPS, max_age)
if name ~= '' then
    redis.call('SET', NAME, batch_id, 'PX', max_age)
end
local due_at = text(now + delay * 1000)
local is_divided = chunk_size ~= '0'
redis.call('ZADD', QUEUE, is_divided and NEVER or due_at, batch_id)
redis.call('PEXPIRE', QUEUE, max_age)
if is_divided then
    for chunk = 0, chunks - 1 do
        redis.call('ZADD', CHUNKS, due_at, batch_id .. ':' .. chunk)
    end
    redis.call('PEXPIRE', CHUNKS, max_age)
end
if owner ~= '' then
    redis.call('ZADD', OWNER, text(now), batch_id)
    redis.call('PEXPIRE', OWNER, max_age)
end
return kept(record)
