-- SPDX-License-Identifier: MIT
--
-- perilune_simulate.lua - the command `perilune simulate`: what a policy would have done with
-- recorded requests, at several budgets, beside another policy if there is one.
--
-- It is part of the program: called with the table that perilune_program.lua is called with, it
-- returns the command, which is there as program.simulate. The replay itself is C (lua/simulate.c).

local program = ...
local arguments, curve = program.arguments, program.curve
local refuse, fail = arguments.refuse, arguments.fail

local LEAST_BUDGET = 65536 -- of a cache
local N_BUDGETS = 7        -- where none are given
local OVERHEAD = 80        -- bytes of an entry beside its key and value, on average
local MOST_VALUE_BYTES = 1 << 30

---------------------------------------------------------------------------------------------------
-- options

local function to_size(option, text)
  return program.size(text) or
    refuse("option '%s' must be a size such as \"64m\" or bytes, got '%s'", option, text)
end

local function to_value_size(text)
  local size = to_size("--value-size", text)
  if size < 1 or size > MOST_VALUE_BYTES then
    refuse("option '--value-size' must be from 1 byte to 1g, got '%s'", text)
  end
  return size
end

-- "64m,256m" -> { bytes, ... }, the smallest first, each once
local function to_budgets(text)
  local budgets, seen = {}, {}
  for part in (text .. ","):gmatch "(.-)," do
    local budget = to_size("--budget", part)
    if budget < LEAST_BUDGET then
      refuse("option '--budget': %s is less than 64k, the least that a cache has", part)
    end
    if not seen[budget] then
      seen[budget] = true
      budgets[#budgets + 1] = budget
    end
  end
  table.sort(budgets)
  return budgets
end

-- Powers of two, up to the first that holds all that the trace asks for.
local function usual_budgets(trace)
  local all, budget = (trace.bytes + trace.keys * OVERHEAD) * 5 // 4, LEAST_BUDGET
  while budget < all do
    budget = budget * 2
  end
  local budgets = {}
  for i = N_BUDGETS - 1, 0, -1 do
    if budget >> i >= LEAST_BUDGET then
      budgets[#budgets + 1] = budget >> i
    end
  end
  return budgets
end

local function check_given(given, rest)
  if #rest > 0 or not given["--policy"] or not given["--trace"] then
    refuse "simulate wants -p POLICY and --trace FILE"
  end
  for option, why in pairs {
    redis = "a simulation has no Redis; --l2 gives it one in memory",
    max_bytes = "budgets of a simulation are given by --budget",
  } do
    if given.open[option] then
      refuse("option '--%s': %s", option:gsub("_", "-"), why)
    end
  end
end

---------------------------------------------------------------------------------------------------
-- replays

local function name_of(path)
  return path:match "[^/]+$" or path
end

-- Plays the trace through a policy at each budget.
local function replay_all(trace, policy, budgets, settings)
  local series = { name = name_of(policy), policy = policy, points = {} }
  for i, budget in ipairs(budgets) do
    settings.policy, settings.max_bytes = policy, budget
    local report, message = program.replay(trace, settings)
    if not report then
      fail(message)
    end
    report.budget = budget
    report.ratio = (report.l1_hits + report.stale) / report.requests
    series.points[i] = report
  end
  return series
end

-- What the figures do not show, but one should know.
local function warn(series)
  local most, failures = 0, 0
  for _, report in ipairs(series.points) do
    most = math.max(most, report.policy_errors)
    failures = math.max(failures, report.failures)
  end
  if most > 0 then
    arguments.complain("%s: its functions failed up to %d times, maybe since values are zeros "
      .. "here; their rules' own values held", series.policy, most)
  end
  if failures > 0 then
    arguments.complain("%s: up to %d requests ended in an error", series.policy, failures)
  end
end

---------------------------------------------------------------------------------------------------
-- what is printed

local function span(seconds)
  for _, unit in ipairs { { "days", 86400 }, { "hours", 3600 }, { "minutes", 60 } } do
    if seconds >= 2 * unit[2] then
      return ("%.1f %s"):format(seconds / unit[2], unit[1])
    end
  end
  return ("%.1f seconds"):format(seconds)
end

local function head(given, info, settings)
  local lasts = settings.rate and (info.requests - 1) / settings.rate or info.seconds
  return ("%s: %d requests of %d keys within %s, %s\n"):format(name_of(given["--trace"]),
    info.requests, info.keys, span(lasts), info.sizes and
    ("%s of keys and values"):format(curve.size(info.bytes)) or
    ("values of %s"):format(curve.size(settings.value_bytes)))
end

local columns = {
  { "hit ratio", 10, function(r) return curve.percent(r.ratio) end },
  { "stale", 9, function(r) return r.stale end },
  { "l2 hits", 9, function(r) return r.l2_hits end, only_l2 = true },
  { "waited", 9, function(r) return r.waited end },
  { "loads", 9, function(r) return r.loads end },
  { "behind", 9, function(r) return r.refreshes end },
  { "loaded", 9, function(r) return curve.size(r.loaded_bytes) end },
  { "served", 9, function(r) return curve.size(r.served_bytes) end },
  { "evicted", 9, function(r) return r.evictions end },
}

local function table_of(series, has_l2)
  local lines = { series.name }
  local row = { ("%8s"):format "budget" }
  local function add(text, width)
    row[#row + 1] = ("%" .. width .. "s"):format(text)
  end
  for _, column in ipairs(columns) do
    if has_l2 or not column.only_l2 then
      add(column[1], column[2])
    end
  end
  lines[2] = table.concat(row, " ")
  for _, report in ipairs(series.points) do
    row = { ("%8s"):format(curve.size(report.budget)) }
    for _, column in ipairs(columns) do
      if has_l2 or not column.only_l2 then
        add(column[3](report), column[2])
      end
    end
    lines[#lines + 1] = table.concat(row, " ")
  end
  return table.concat(lines, "\n") .. "\n"
end

-- What the second has more than the first.
local function differences(first, second)
  local lines = { ("%s less %s"):format(second.name, first.name),
    ("%8s %10s %9s %9s %9s %10s"):format("budget", "hit ratio", "stale", "waited", "loads",
      "loaded") }
  for i, a in ipairs(first.points) do
    local b = second.points[i]
    local bytes = b.loaded_bytes - a.loaded_bytes
    lines[#lines + 1] = ("%8s %+8.2f %% %+9d %+9d %+9d %10s"):format(curve.size(a.budget),
      (b.ratio - a.ratio) * 100, b.stale - a.stale, b.waited - a.waited, b.loads - a.loads,
      (bytes < 0 and "-" or "+") .. curve.size(math.abs(bytes)))
  end
  return table.concat(lines, "\n") .. "\n"
end

local function print_text(given, info, settings, all)
  local parts = { head(given, info, settings) }
  for _, series in ipairs(all) do
    parts[#parts + 1] = table_of(series, settings.l2)
  end
  if all[2] then
    parts[#parts + 1] = differences(all[1], all[2])
  end
  parts[#parts + 1] = curve.text(all)
  io.write(table.concat(parts, "\n"))
end

local function print_json(given, info, settings, all)
  local policies = {}
  for i, series in ipairs(all) do
    policies[i] = { policy = series.policy, budgets = series.points }
    for _, report in ipairs(series.points) do
      report.hit_ratio, report.ratio = report.ratio, nil
    end
  end
  print(program.json { trace = given["--trace"], requests = info.requests, keys = info.keys,
    rate = settings.rate, l2 = settings.l2 or false, policies = policies })
end

local function write_file(path, text)
  local file, message = io.open(path, "w")
  if not file or not file:write(text) or not file:close() then
    fail(("cannot write %s: %s"):format(path, message or "the disk may be full"))
  end
end

return {
  options = { ["--policy"] = "value", ["--trace"] = "value", ["--budget"] = "value",
    ["--compare"] = "value", ["--rate"] = "value", ["--value-size"] = "value", ["--l2"] = "flag",
    ["--svg"] = "value", ["--json"] = "flag", ["--trusted"] = "flag" },
  run = function(given, rest)
    check_given(given, rest)
    local settings = {
      open = given.open, l2 = given["--l2"], trusted = given["--trusted"],
      value_bytes = to_value_size(given["--value-size"] or "1k"),
      rate = given["--rate"] and arguments.rate(given["--rate"], "requests", "1000/s"),
    }
    local budgets = given["--budget"] and to_budgets(given["--budget"])
    arguments.open(given):close() -- a wrong option of the cache is told before all else
    program.catch_interrupt()
    local trace, info = program.trace(given["--trace"], settings.value_bytes)
    if not trace then
      fail(info)
    end
    settings.rate = settings.rate or not info.times and 1000.0 or nil
    budgets = budgets or usual_budgets(info)
    local all = { replay_all(trace, given["--policy"], budgets, settings) }
    if given["--compare"] then
      all[2] = replay_all(trace, given["--compare"], budgets, settings)
    end
    for _, series in ipairs(all) do
      warn(series)
    end
    if given["--svg"] then
      write_file(given["--svg"], curve.svg("Hit ratio by budget: " .. name_of(given["--trace"]),
        all))
    end
    if given["--json"] then
      print_json(given, info, settings, all)
    else
      print_text(given, info, settings, all)
    end
    return 0
  end,
}
