-- Begins every other script: the time to go by.
local function clock(given_ms)
  local now_ms = tonumber(given_ms)
  if now_ms > 0 then
    return now_ms
  end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Redis takes numbers as text; Lua would shorten large ones.
local function text(number)
  return string.format('%.0f', number)
end
