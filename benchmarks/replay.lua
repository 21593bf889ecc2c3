-- For wrk: sends the requests of a file in turn, over and over.
--
-- In the file every request comes after a line with its length. What came out is printed as the
-- last line, as one JSON object.

local requests = {}
local sent = 0

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  local length = file:read("*n")
  while length do
    file:read(1)
    requests[#requests + 1] = file:read(length)
    length = file:read("*n")
  end
  file:close()
end

function request()
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end

function done(summary, latency, rates)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local line = '{"requests": %d, "microseconds": %d, "failed": %d}\n'
  io.write(line:format(summary.requests, summary.duration, failed))
end
