#!lua flags=allow-oom
-- Lets no further operation of a batch start. Without the keys of its chunks, a batch that is
-- divided is only asked how many it has.
local record = read(REC)
if not record then
    return false
end
if record.chunk_size ~= '0' and #KEYS < OTHERS then
    return chunks_of(record)
end
-- All that may be held: the batch, or else each of its chunks.
local held = {{REC, LEASE}}
if record.chunk_size ~= '0' then
    held = {}
    for i = OTHERS, #KEYS, 2 do
        table.insert(held, {KEYS[i], KEYS[i + 1]})
    end
end
local is_new = record.status == 'processing'
if is_new then
    record.status = 'cancelled'
    touch(record, clock())
    put(REC, FIELDS, record)
end
local unheard = 0
for _, keys in ipairs(held) do
    if record.finished_at == '' and redis.call('EXISTS', keys[2]) == 1 then
        if is_new then
            redis.call('HSET', keys[1], 'has_heard', '0')
        end
        if redis.call('HGET', keys[1], 'has_heard') == '0' then
            unheard = 1
        end
    end
end
return {unheard, snapshot(record)}
