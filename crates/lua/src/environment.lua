-- What a snippet sees. Run once for a Lua state; returns a function that makes a fresh environment, so that nothing one
-- call changes is there for the next.
local native, names = ...

local error, pcall, type, tostring, select, pairs = error, pcall, type, tostring, select, pairs
local setmetatable, concat, table_sort, tonumber = setmetatable, table.concat, table.sort, tonumber
local sub, text_find, format = string.sub, string.find, string.format
local search, spent = native.search, native.spent

-- Strings -------------------------------------------------------------------------------------------------------------
-- Patterns are matched outside, in bounded time.

local function text(value, place, name)
  if type(value) == "number" then return tostring(value) end
  if type(value) ~= "string" then
    error(format("bad argument #%d to '%s' (string expected, got %s)", place, name,
      value == nil and "no value" or type(value)), 3)
  end
  return value
end

local function found(first, ...)
  if first == false then error((...), 3) end
  return first, ...
end

local strings = {}
for _, name in pairs({ "byte", "char", "format", "len", "lower", "reverse", "sub", "upper" }) do
  strings[name] = string[name]
end

function strings.find(s, pattern, init, plain)
  s, pattern = text(s, 1, "find"), text(pattern, 2, "find")
  return found(search(s, pattern, init or 1, plain and "plain" or "find"))
end

local function captures(first, ...)
  if first == false then error((...), 3) end
  if first == nil then return nil end
  return select(2, ...)
end

function strings.match(s, pattern, init)
  s, pattern = text(s, 1, "match"), text(pattern, 2, "match")
  return captures(search(s, pattern, init or 1, "match"))
end

function strings.gmatch(s, pattern)
  s, pattern = text(s, 1, "gmatch"), text(pattern, 2, "gmatch")
  local at = 1
  local function step(first, last, ...)
    if first == false then error(last, 3) end
    if first == nil then
      at = #s + 2
      return nil
    end
    at = last < first and first + 1 or last + 1
    return ...
  end
  return function()
    return step(search(s, pattern, at, "each"))
  end
end

-- `%1` and the like in a replacement.
local function expand(replacement, whole, ...)
  local parts, at = {}, 1
  while true do
    local percent = text_find(replacement, "%", at, true)
    if not percent then break end
    parts[#parts + 1] = sub(replacement, at, percent - 1)
    local digit = sub(replacement, percent + 1, percent + 1)
    local place = tonumber(digit)
    if not place then
      parts[#parts + 1] = digit
    elseif place == 0 then
      parts[#parts + 1] = whole
    elseif place <= select("#", ...) then
      parts[#parts + 1] = tostring((select(place, ...)))
    else
      error("invalid capture index", 4)
    end
    at = percent + 2
  end
  parts[#parts + 1] = sub(replacement, at)
  return concat(parts)
end

function strings.gsub(s, pattern, replacement, most)
  s, pattern = text(s, 1, "gsub"), text(pattern, 2, "gsub")
  local kind = type(replacement)
  if kind == "number" then
    replacement, kind = tostring(replacement), "string"
  elseif kind ~= "string" and kind ~= "table" and kind ~= "function" then
    error(format("bad argument #3 to 'gsub' (string/function/table expected, got %s)", kind), 2)
  end
  local anchored = sub(pattern, 1, 1) == "^"
  local parts, at, kept, count = {}, 1, 1, 0
  local function step(first, last, ...)
    if first == false then error(last, 3) end
    if first == nil then return false end
    count = count + 1
    local whole, value = sub(s, first, last), nil
    if kind == "string" then
      value = expand(replacement, whole, ...)
    elseif kind == "table" then
      value = replacement[(...)]
    else
      value = replacement(...)
    end
    if not value then
      value = whole
    elseif type(value) ~= "string" and type(value) ~= "number" then
      error(format("invalid replacement value (a %s)", type(value)), 3)
    end
    parts[#parts + 1] = sub(s, kept, first - 1)
    parts[#parts + 1] = value
    kept = last + 1
    at = last < first and first + 1 or last + 1
    return true
  end
  while (not most or count < most) and at <= #s + 1 do
    if not step(search(s, pattern, at, "match")) or anchored then break end
  end
  parts[#parts + 1] = sub(s, kept)
  return concat(parts), count
end

local function copy(from, wanted)
  local to = {}
  if wanted then
    for _, name in pairs(wanted) do to[name] = from[name] end
  else
    for name, value in pairs(from) do to[name] = value end
  end
  return to
end

-- Methods of strings are these functions too; the table they stand in cannot be reached.
local metatable = getmetatable("")
metatable.__index, metatable.__metatable = copy(strings), false

-- The rest of the standard library ------------------------------------------------------------------------------------

-- A call that may no longer run cannot catch that.
local function returned(...)
  if spent() then error("spent", 0) end
  return ...
end

-- Handlers run when the stack is unwound: while an error is raised no hook would end them.
local function handled(handler, ok, ...)
  if ok then return ok, ... end
  return ok, select(2, returned(pcall(handler, ...)))
end

local base = {
  _VERSION = _VERSION, assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs, select = select,
  tonumber = tonumber, tostring = tostring, type = type, unpack = unpack,
  pcall = function(...) return returned(pcall(...)) end,
  xpcall = function(f, handler) return handled(handler, returned(pcall(f))) end,
}
local numbers = copy(math)
numbers.randomseed = nil
local times = copy(os, { "clock", "date", "difftime", "time" })
local tables = copy(table, { "concat", "insert", "maxn", "remove" })

local function in_order(a, b) return a < b end

-- Comparisons are Lua's, so that they count.
function tables.sort(list, less) return table_sort(list, less or in_order) end

local function repeated(s, count)
  s = text(s, 1, "rep")
  return s == "" and s or string.rep(s, count)
end

-- Modules that may be required ----------------------------------------------------------------------------------------

local function passed(ok, ...)
  if not ok then error((...), 3) end
  return ...
end

local function told(ok, ...)
  if not ok then return nil, ... end
  return ...
end

local modules = {
  cjson = function()
    return {
      null = native.null,
      decode = function(s) return passed(native.decode(text(s, 1, "decode"))) end,
      encode = function(value) return passed(native.encode(value)) end,
    }
  end,
  ["cjson.safe"] = function()
    return {
      null = native.null,
      decode = function(s)
        if type(s) ~= "string" then return nil, "string expected" end
        return told(native.decode(s))
      end,
      encode = function(value) return told(native.encode(value)) end,
    }
  end,
  ["ngx.base64"] = function()
    return { encode_base64url = native.encode_base64url, decode_base64url = native.decode_base64url }
  end,
}

local function require(name)
  if not native.may_require(name) then error(format("require '%s' not allowed within sandbox", name), 2) end
  local module = modules[name]
  if not module then error(format("module '%s' not found", name), 2) end
  return module()
end

-- Kong's PDK ----------------------------------------------------------------------------------------------------------
-- `names` are the functions that the gateway answers, with dots; they are asked for by their number.

local functions, folders = {}, { "kong.ctx.plugin", "kong.ctx.shared", "ngx.ctx" }
for number, name in pairs(names) do
  local folder, last = name:match("^(.*)%.([^.]*)$")
  functions[number] = { folder = folder, name = last, logs = folder == "kong.log" and last ~= "serialize" }
end

local function folder(env, path)
  for name in path:gmatch("[^.]+") do
    env[name] = env[name] or {}
    env = env[name]
  end
  return env
end

local function said(...)
  local parts = { ... }
  for place = 1, select("#", ...) do parts[place] = tostring(parts[place]) end
  return concat(parts)
end

local levels = { "EMERG", "ALERT", "CRIT", "ERR", "WARN", "NOTICE", "INFO", "DEBUG" }

local function pdk(env, ask)
  for _, path in pairs(folders) do folder(env, path) end
  local cache = {}
  for number = 1, #functions do
    local f = functions[number]
    local into = cache[f.folder]
    if not into then
      into = folder(env, f.folder)
      cache[f.folder] = into
    end
    if f.logs then
      into[f.name] = function(...) return passed(ask(number, said(...))) end
    else
      into[f.name] = function(...) return passed(ask(number, ...)) end
    end
  end
  local log, ngx = env.kong.log, env.ngx
  setmetatable(log, { __call = function(_, ...) return log.notice(...) end, __metatable = false })
  ngx.null = native.null
  ngx.encode_base64, ngx.decode_base64 = native.encode_base64, native.decode_base64
  ngx.STDERR = 0
  for place, name in pairs(levels) do ngx[name] = place end
  function ngx.log(level, ...)
    local name = levels[level]
    return log[name and name:lower() or "notice"](...)
  end
  local variable = ngx.variable
  ngx.variable = nil
  ngx.var = setmetatable({}, { __index = function(_, name) return variable(name) end, __metatable = false })
end

return function(ask, everything)
  local env = copy(base)
  env._G, env.require = env, require
  env.string, env.table, env.math, env.os = copy(strings), copy(tables), copy(numbers), copy(times)
  pdk(env, ask)
  if everything then
    env.setmetatable, env.getmetatable = setmetatable, getmetatable
    env.rawequal, env.rawget, env.rawset = rawequal, rawget, rawset
    env.string.rep = repeated
  end
  return env
end
