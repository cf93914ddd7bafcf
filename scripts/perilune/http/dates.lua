-- SPDX-License-Identifier: MIT
--
-- dates.lua - HTTP's dates (RFC 9110, 5.6.7): the one form that is written, and the three that are
-- read. os.date is not used: its names of days follow the locale of the host.
--
-- Times are seconds since 1970, in UTC. What is no date is nil: a bad date of a client or an
-- upstream says nothing, and is never an error.

local dates = {}

local DAY = 86400
local day_names = { "Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed" } -- 1970 began on a Thursday
local month_names = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
  "Dec" }
local month_days = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local month_numbers, is_short_day, is_long_day = {}, {}, {}
for i, name in ipairs(month_names) do
  month_numbers[name] = i
end
for _, name in ipairs(day_names) do
  is_short_day[name] = true
end
for _, name in ipairs { "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
  "Sunday" } do
  is_long_day[name] = true
end

-- Days since 1970 of a date of the Gregorian calendar. Years are counted from March, so that the
-- odd day is a year's last; an era is 400 years.
local function days_of(year, month, day)
  local y = month <= 2 and year - 1 or year
  local era = y // 400
  local year_of_era = y - era * 400
  local day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
  local day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
  return era * 146097 + day_of_era - 719468
end

-- The same the other way.
local function date_of(days)
  local z = days + 719468
  local era = z // 146097
  local day_of_era = z - era * 146097
  local year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 -
    day_of_era // 146096) // 365
  local day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
  local shifted = (5 * day_of_year + 2) // 153
  local month = shifted < 10 and shifted + 3 or shifted - 9
  local year = year_of_era + era * 400 + (month <= 2 and 1 or 0)
  return year, month, day_of_year - (153 * shifted + 2) // 5 + 1
end

local function is_leap(year)
  return year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
end

-- Texts to a time; nil where there is no such moment. A leap second is the one after it.
local function time_of(year, month_name, day, hour, minute, second)
  local month = month_numbers[month_name]
  year, day = math.tointeger(tonumber(year)), math.tointeger(tonumber(day))
  hour, minute, second = math.tointeger(tonumber(hour)), math.tointeger(tonumber(minute)),
    math.tointeger(tonumber(second))
  if not (month and year and day and hour and minute and second) or hour > 23 or minute > 59 or
    second > 60 or day < 1 then
    return nil
  end
  if day > month_days[month] + (month == 2 and is_leap(year) and 1 or 0) then
    return nil
  end
  return days_of(year, month, day) * DAY + hour * 3600 + minute * 60 + second
end

-- A year of two digits is never more than 50 years ahead.
local function whole_year(digits, now)
  local this_year = date_of(math.floor(now) // DAY)
  local year = this_year - this_year % 100 + math.tointeger(tonumber(digits))
  return year > this_year + 50 and year - 100 or year
end

-- parse(text, [now]) -> seconds since 1970 | nil
function dates.parse(text, now)
  if type(text) ~= "string" or #text > 40 then
    return nil
  end
  local name, day, month, year, hour, minute, second = text:match(
    "^(%a%a%a), (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$")
  if name then
    return is_short_day[name] and time_of(year, month, day, hour, minute, second) or nil
  end
  name, day, month, year, hour, minute, second = text:match(
    "^(%a+), (%d%d)%-(%a%a%a)%-(%d%d) (%d%d):(%d%d):(%d%d) GMT$")
  if name then
    return is_long_day[name] and
      time_of(whole_year(year, now or os.time()), month, day, hour, minute, second) or nil
  end
  name, month, day, hour, minute, second, year = text:match(
    "^(%a%a%a) (%a%a%a) ([ %d]%d) (%d%d):(%d%d):(%d%d) (%d%d%d%d)$")
  return name and is_short_day[name] and time_of(year, month, day, hour, minute, second) or nil
end

-- format(seconds) -> "Sun, 06 Nov 1994 08:49:37 GMT". Raises for what has no year of four digits.
function dates.format(seconds)
  local whole = type(seconds) == "number" and seconds == seconds and math.abs(seconds) < 1e12 and
    math.tointeger(math.floor(seconds))
  local days = whole and whole // DAY
  local year, month, day = date_of(days or 0)
  if not whole or year < 0 or year > 9999 then
    error(("a time in seconds since 1970 was expected, got %s"):format(tostring(seconds)), 2)
  end
  local rest = whole % DAY
  return ("%s, %02d %s %04d %02d:%02d:%02d GMT"):format(day_names[days % 7 + 1], day,
    month_names[month], year, rest // 3600, rest % 3600 // 60, rest % 60)
end

return dates
