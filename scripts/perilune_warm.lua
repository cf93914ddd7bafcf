-- SPDX-License-Identifier: MIT
--
-- perilune_warm.lua - `perilune warm`: loads what a policy, or a list, names, and tells how far it
-- is: people by a line on a terminal, the service manager by messages, programs by an exit code.
--
-- It is part of the program: called with the table that perilune.lua is called with, it returns
-- the command, which is there as program.warm.

local program = ...
local refuse, open, check = program.arguments.refuse, program.arguments.open,
  program.arguments.check

local OK, FAILED, PARTLY, LATE = 0, 1, 3, 4
local LINE_EVERY = 5 -- seconds between two lines where there is no terminal

---------------------------------------------------------------------------------------------------
-- options

local seconds_of = { ms = 0.001, s = 1, m = 60, h = 3600 }

local function to_seconds(text)
  local number, unit = text:match "^([%d.]+)(%a*)$"
  local seconds = tonumber(number) and tonumber(number) * (seconds_of[unit == "" and "s" or unit]
    or -1)
  if not seconds or seconds <= 0 then
    refuse("option '--deadline' must be a duration such as \"20s\", got '%s'", text)
  end
  return seconds
end

local function to_rate(text)
  local rate = tonumber((text:gsub("/s$", "")))
  if not rate or rate <= 0 then
    refuse("option '--rate' must be keys per second, such as \"2000/s\", got '%s'", text)
  end
  return rate
end

local function to_count(name, text, most)
  local count = math.tointeger(tonumber(text))
  if not count or count < 1 or count > most then
    refuse("option '%s' must be a whole number from 1 to %d, got '%s'", name, most, text)
  end
  return count
end

-- The options of cache:warm() that the command line asks for.
local function wanted(given)
  if given["--l2-only"] and not given.open.redis then
    refuse "option '--l2-only' wants --redis URL: there is no L2 without it"
  end
  return {
    deadline = given["--deadline"] and to_seconds(given["--deadline"]),
    rate = given["--rate"] and to_rate(given["--rate"]),
    top = given["--top"] and to_count("--top", given["--top"], 10000000),
    concurrency = given["--concurrency"] and
      to_count("--concurrency", given["--concurrency"], 256),
    file = given["--list"],
    l2_only = given["--l2-only"],
    notify = true,
  }
end

---------------------------------------------------------------------------------------------------
-- telling

-- "4120/5000 82% 1.9k/s 12 failed 4 s left"
local function progress_line(report)
  local done = report.loaded + report.present + report.failed
  local rate = report.took > 0 and done / report.took or 0
  local left = rate > 0 and ("%d s left"):format(math.ceil((report.wanted - done) / rate)) or ""
  return ("%d/%d %d%% %s/s %d failed %s"):format(done, report.wanted,
    report.wanted > 0 and done * 100 // report.wanted or 100,
    rate >= 1000 and ("%.1fk"):format(rate / 1000) or ("%.0f"):format(rate), report.failed,
    report.following and "another instance loads" or left)
end

-- Returns a function that shows progress: one line drawn anew on a terminal, else one each 5 s.
local function make_display()
  local is_terminal = program.is_terminal()
  local last = 0
  return function(report)
    if is_terminal then
      io.stderr:write("\r\27[K", progress_line(report))
    elseif report.took - last >= LINE_EVERY then
      last = report.took
      io.stderr:write(progress_line(report), "\n")
    end
  end, function()
    if is_terminal then
      io.stderr:write "\r\27[K"
    end
  end
end

local function print_summary(report)
  local widest = #"source"
  for _, row in ipairs(report.sources) do
    widest = math.max(widest, #row.source)
  end
  local form = "%-" .. math.min(widest, 60) .. "s %9s %9s %9s %9s"
  print(form:format("source", "wanted", "loaded", "present", "failed"))
  for _, row in ipairs(report.sources) do
    print(form:format(row.source, row.wanted, row.loaded, row.present, row.failed))
  end
  print(("%d keys: %d loaded, %d were there, %d failed, in %.1f s%s"):format(report.wanted,
    report.loaded, report.present, report.failed, report.took,
    report.deadline_passed and ", stopped by the deadline" or
    report.interrupted and ", interrupted" or ""))
  if report.error then
    print("the first failure: " .. report.error)
  end
end

---------------------------------------------------------------------------------------------------
-- the command

-- Warms until all is done, the deadline comes, or Ctrl-C.
local function warm(cache, options)
  local show, wipe = make_display()
  program.catch_interrupt()
  function options.progress(report)
    show(report)
    return not program.interrupted()
  end
  local report, message, code = cache:warm(options)
  wipe()
  check(report, message, code)
  report.interrupted = program.interrupted()
  return report
end

local function exit_code(report)
  if report.deadline_passed then
    return LATE
  elseif report.interrupted then
    return PARTLY
  elseif report.failed == 0 then
    return OK
  end
  return report.ready and PARTLY or FAILED
end

return {
  options = { ["--policy"] = "value", ["--trusted"] = "flag", ["--list"] = "value",
    ["--top"] = "value", ["--deadline"] = "value", ["--rate"] = "value",
    ["--concurrency"] = "value", ["--l2-only"] = "flag", ["--json"] = "flag" },
  run = function(given, rest)
    if #rest > 0 or not given["--policy"] then
      refuse "warm wants -p POLICY"
    end
    local options = wanted(given)
    local cache <close> = open(given)
    check(cache:load_policy(given["--policy"], given["--trusted"]))
    local report = warm(cache, options)
    if given["--json"] then
      print(program.json(report))
    else
      print_summary(report)
    end
    return exit_code(report)
  end,
}
