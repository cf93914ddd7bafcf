-- SPDX-License-Identifier: MIT
--
-- perilune_prompt.lua - what the prompt of the program perilune knows: how a line goes on, its own
-- commands, and where its history is kept. Reading and running lines is C: lua/prompt.c.
--
-- It is part of the program. Completion looks at tables as they are, and at those that they are
-- indexed by; it calls nothing, so that a tabulator changes nothing.

local WIDTH = 80 -- of a list of names
local MOST_SHOWN = 200

local helper = {}

---------------------------------------------------------------------------------------------------
-- help

local intro = [[
Lines are Lua: what an expression yields is printed, and a statement may take several lines.
perilune.open{...} gives a cache. A tabulator completes names, also of its methods; Ctrl-C stops
what runs, Ctrl-D leaves.

.help [NAME]        this, or what a function, a method of a cache or a command does
.open [URL] [OPTION=VALUE]...
                    opens a cache as 'cache', in the place of the one before
.stats [WORD]       the statistics of 'cache', or those with the word in their names
.quit               leaves
]]

local topics = {
  open = "perilune.open{redis=, policy=, ttl=, ...} -> cache | nil, message, code",
  clock = "perilune.clock() -> seconds of a clock that only goes forward",
  hash = "perilune.hash(bytes) -> a name for them, 32 hexadecimal digits",
  memory = "perilune.memory(name): a server in memory, for tests: redis = \"memory:NAME\"",
  nodes = "cache:nodes() -> the servers of Redis, and how they fare",
  get = "cache:get(key, [options], [loader, ...]) -> value, error, how\n" ..
    "how: l1, l2, loaded, stale, negative (known not to exist), miss, or what failed",
  peek = "cache:peek(key) -> value, error, how, age, left: what L1 has, without a trace",
  get_many = "cache:get_many(keys, [options]) -> values, hows, by the keys' places",
  set = "cache:set(key, value, [{ttl=, stale=, tags=, nx=, xx=}]) -> true, here and everywhere",
  delete = "cache:delete(key) -> true, here and everywhere",
  delete_many = "cache:delete_many(keys) -> true",
  expire = "cache:expire(key) -> true: stale from now on, so that the next read loads it",
  touch = "cache:touch(key, ttl) -> true: a new ttl, from now on",
  invalidate_tag = "cache:invalidate_tag(tag) -> true: all values with the tag are gone",
  invalidate_prefix = "cache:invalidate_prefix(prefix) -> true: likewise by their keys' beginning",
  invalidate_pattern = "cache:invalidate_pattern(pattern) -> true: '*' is any bytes",
  clear = "cache:clear() -> true: all values of the namespace are gone",
  wrap = "cache:wrap(f, {prefix=, ttl=, ...}) -> f with its results cached by its arguments",
  terms = "cache:terms(key) -> {ttl=, stale=, stale_if_error=, negative=} of the key's rule",
  explain = "cache:explain(key) -> a text: the key's rule, and where each value is from",
  query = "cache:query(db, sql, [args, {tags=, ttl=}]) -> rows, error, how: results are cached",
  execute = "cache:execute(db, sql, [args]) -> rows written; what was read of its tables is void",
  changed = "cache:changed(table, ...) -> true: what was read of these tables is void",
  flush = "cache:flush([timeout]) -> true: all that was written behind is stored",
  queue = "cache:queue() -> {depth=, lag=, dead=, ours=}: what waits to be stored",
  deadletters = "cache:deadletters([most]) -> what could not be stored, and why",
  retry_deadletter = "cache:retry_deadletter(id or \"all\") -> how many wait again",
  drop_deadletter = "cache:drop_deadletter(id or \"all\") -> how many were given up",
  load_policy = "cache:load_policy(path, [trusted]) -> true | nil, message, code",
  raise = "cache:raise(event, [fields]) -> true: what the policy has for the event is done",
  stats = "cache:stats() -> numbers by name; .stats prints them",
  keys = "cache:keys([prefix, [limit]]) -> the keys in L1",
  hottest = "cache:hottest([n]) -> the keys of L1 that are asked for most",
  close = "cache:close() -> true",
}

helper.topics = topics

local function is_cache(value)
  return type(value) == "userdata" and tostring(value):find "^perilune%.cache" ~= nil
end

local commands = {}

function commands.help(words)
  local name = words[1]
  if not name then
    io.write(intro)
    return
  end
  local topic = topics[name:match "([%w_]+)$"]
  if topic then
    print(topic)
  elseif commands[name:gsub("^%.", "")] then
    io.write(intro)
  else
    print(("there is no help on '%s'; a tabulator after 'cache:' shows what a cache has"):format(
      name))
  end
end

function commands.open(words)
  local options = { log = false } -- whose lines would come between those that are typed
  for i, word in ipairs(words) do
    local name, value = word:match "^([%l_%d]+)=(.*)$"
    if name then
      options[name] = value
    elseif i == 1 then
      options.redis = word
    else
      print(("'%s' is no option: NAME=VALUE"):format(word))
      return
    end
  end
  local good, cache, message = pcall(require("perilune").open, options)
  if not good or not cache then
    print(not good and cache or message)
    return
  end
  if is_cache(_G.cache) then
    pcall(_G.cache.close, _G.cache)
  end
  _G.cache = cache
  print(cache)
end

function commands.stats(words)
  local good, stats = pcall(function()
    return is_cache(_G.cache) and _G.cache:stats()
  end)
  if not good or not stats then
    print "there is no open cache in the global 'cache'; .open makes one"
    return
  end
  local names = {}
  for name in pairs(stats) do
    names[#names + 1] = name:find(words[1] or "", 1, true) and name or nil
  end
  table.sort(names)
  for _, name in ipairs(names) do
    print(("%-22s %s"):format(name, stats[name]))
  end
end

-- Carries out a line that begins with a dot; true where it is the last.
function helper.command(line)
  local name = line:match "^%.(%a*)"
  local words = {}
  for word in line:match "^%S*(.*)$":gmatch "%S+" do
    words[#words + 1] = word
  end
  if name == "quit" then
    return true
  elseif commands[name] then
    commands[name](words)
  else
    print(("there is no '.%s'; .help tells what there is"):format(name))
  end
  return false
end

---------------------------------------------------------------------------------------------------
-- completion

local keywords = { "and", "break", "do", "else", "elseif", "end", "false", "for", "function",
  "goto", "if", "in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until",
  "while" }

-- What a value is indexed by, where that is a table.
local function index_of(value)
  local metatable = debug.getmetatable(value)
  local index = type(metatable) == "table" and rawget(metatable, "__index")
  return type(index) == "table" and index or nil
end

-- The tables in which a field of a value is looked for, the first of them first.
local function tables_of(value)
  local tables, at = {}, type(value) == "table" and value or index_of(value)
  while at and #tables < 10 do
    tables[#tables + 1] = at
    at = index_of(at)
  end
  return tables
end

local function field(value, name)
  for _, at in ipairs(tables_of(value)) do
    local found = rawget(at, name)
    if found ~= nil then
      return found
    end
  end
  return nil
end

-- The names that a value has and that begin so; only those of functions where it is to be called.
local function names_of(value, prefix, is_method)
  local names, seen = {}, {}
  for _, at in ipairs(tables_of(value)) do
    for name, found in next, at do
      if type(name) == "string" and name:find "^[%a_][%w_]*$" and not seen[name] and
        name:sub(1, #prefix) == prefix and (not is_method or type(found) == "function") then
        seen[name] = true
        names[#names + 1] = name
      end
    end
  end
  return names
end

local function among(list, prefix, names)
  for _, name in ipairs(list) do
    if name:sub(1, #prefix) == prefix then
      names[#names + 1] = name
    end
  end
  return names
end

-- All names by which the text may go on, and what of it they begin with.
local function candidates(text)
  local command = text:match "^%.(%a*)$"
  if command then
    return among({ "help", "open", "quit", "stats" }, command, {}), command
  end
  local topic = text:match "^%.help +([%w_]*)$"
  if topic then
    local names = {}
    for name in pairs(topics) do
      names[#names + 1] = name
    end
    return among(names, topic, {}), topic
  elseif text:find "^%." then
    return {}, ""
  end
  text = text:gsub("%.%.", "  ") -- which joins two strings
  local path, prefix = text:match "([%a_][%w_.:]*[.:])([%w_]*)$"
  if not path then
    local before
    before, prefix = (" " .. text):match "([^%w_])([%a_][%w_]*)$"
    if not prefix or before == "." or before == ":" then
      return {}, "" -- of what is not known before it is run
    end
    return among(keywords, prefix, names_of(_G, prefix, false)), prefix
  end
  local value = _G
  for name in path:gmatch "[%w_]+" do
    value = field(value, name) -- nil has no fields either
  end
  return names_of(value, prefix, path:sub(-1) == ":"), prefix
end

local function common(names)
  local shortest = names[1]
  for _, name in ipairs(names) do
    while name:sub(1, #shortest) ~= shortest do
      shortest = shortest:sub(1, -2)
    end
  end
  return shortest
end

-- In columns, as many as fit.
local function listed(names)
  local widest = 0
  for i = 1, math.min(#names, MOST_SHOWN) do
    widest = math.max(widest, #names[i] + 2)
  end
  local n_columns = math.max(1, WIDTH // widest)
  local parts = {}
  for i = 1, math.min(#names, MOST_SHOWN) do
    local is_last = i % n_columns == 0 or i == #names
    parts[i] = names[i] .. (is_last and "\n" or (" "):rep(widest - #names[i]))
  end
  if #names > MOST_SHOWN then
    parts[#parts + 1] = ("... and %d more\n"):format(#names - MOST_SHOWN)
  end
  return table.concat(parts)
end

-- complete(text before the cursor) -> what to add, or nil; else what to show, or nil
function helper.complete(text)
  if not text:find "%S" then
    return "  " -- a tabulator at the beginning of a line
  end
  local names, prefix = candidates(text)
  if #names == 0 then
    return nil
  end
  local added = common(names):sub(#prefix + 1)
  if added ~= "" then
    return added
  end
  table.sort(names)
  return nil, #names > 1 and listed(names) or nil
end

---------------------------------------------------------------------------------------------------
-- beginning

-- Without a script before it: perilune is at hand.
function helper.begin()
  if _G.perilune == nil then
    _G.perilune = require "perilune"
  end
  print ".help for help"
end

local function history_path()
  local state, home = os.getenv "XDG_STATE_HOME", os.getenv "HOME"
  if state and state:find "^/" then
    return state .. "/perilune/history"
  end
  return home and home:find "^/" and home .. "/.local/state/perilune/history" or nil
end

helper.history = history_path()

return helper
