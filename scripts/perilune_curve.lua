-- SPDX-License-Identifier: MIT
--
-- perilune_curve.lua - hit ratios by budget as a picture: bars of text, and an SVG that is readable
-- in black and white.
--
-- It is part of the program: what it returns is there as program.curve. A series is { name =,
-- points = { { budget = bytes, ratio = 0..1 }, ... } }, its points by budget; all series have the
-- same budgets, and there are at most two.

local curve = {}

-- 65536 -> "64k": the largest unit, with a digit after the point where it is not whole.
function curve.size(bytes)
  for _, unit in ipairs { { "g", 2 ^ 30 }, { "m", 2 ^ 20 }, { "k", 2 ^ 10 } } do
    if bytes >= unit[2] then
      return (("%.1f"):format(bytes / unit[2]):gsub("%.0$", "")) .. unit[1]
    end
  end
  return ("%d"):format(bytes)
end

function curve.percent(ratio)
  return ("%.2f %%"):format(ratio * 100)
end

---------------------------------------------------------------------------------------------------
-- text

local marks = { "#", "=" }
local bar_width = 60 -- characters for 100 %

-- A bar for each series and budget, and what the marks mean.
function curve.text(series)
  local lines = {}
  for i, point in ipairs(series[1].points) do
    for s, one in ipairs(series) do
      local ratio = one.points[i].ratio
      lines[#lines + 1] = ("%8s |%s %s"):format(s == 1 and curve.size(point.budget) or "",
        marks[s]:rep(math.floor(ratio * bar_width + 0.5)), curve.percent(ratio))
    end
  end
  for s, one in ipairs(series) do
    lines[#lines + 1] = ("%8s  %s %s"):format("", marks[s], one.name)
  end
  return table.concat(lines, "\n") .. "\n"
end

---------------------------------------------------------------------------------------------------
-- SVG

local width, height = 760, 460
local left, right, top, bottom = 76, 30, 86, 66

local styles = {
  { line = 'stroke="#000" stroke-width="2"', is_round = true },
  { line = 'stroke="#000" stroke-width="2" stroke-dasharray="7 5"' },
}

-- A text in an SVG, cut to what there is room for.
local function escape(text, most)
  text = utf8.len(text) and text or text:gsub("[\x80-\xff]", "?")
  if utf8.len(text) > most then
    text = text:sub(1, utf8.offset(text, most) - 1) .. "…"
  end
  return (text:gsub("%c", " "):gsub("[<>&\"]", { ["<"] = "&lt;", [">"] = "&gt;", ["&"] = "&amp;",
    ['"'] = "&quot;" }))
end

-- Where a ratio is, from the top.
local function y_of(ratio)
  return height - bottom - ratio * (height - top - bottom)
end

-- Where each budget is: by its logarithm, as one doubles what one buys; one alone in the middle.
local function positions(points)
  local low, high = math.log(points[1].budget), math.log(points[#points].budget)
  local xs = {}
  for i, point in ipairs(points) do
    local share = high > low and (math.log(point.budget) - low) / (high - low) or 0.5
    xs[i] = left + 24 + share * (width - left - right - 48)
  end
  return xs
end

local function marker(style, x, y)
  if style.is_round then
    return ('<circle cx="%.1f" cy="%.1f" r="4.5" fill="#000"/>'):format(x, y)
  end
  return ('<rect x="%.1f" y="%.1f" width="12" height="12" fill="none" stroke="#000" '
    .. 'stroke-width="2"/>'):format(x - 6, y - 6) -- a circle in it stays to be seen
end

local function draw_axes(add, xs, points)
  for percent = 0, 100, 20 do
    local y = y_of(percent / 100)
    add('<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s"/>', left, y, width - right, y,
      percent == 0 and "#000" or "#ccc")
    add('<text x="%d" y="%.1f" text-anchor="end">%d %%</text>', left - 10, y + 4, percent)
  end
  add('<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#000"/>', left, top, left, height - bottom)
  local last = -math.huge
  for i, point in ipairs(points) do
    add('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#000"/>', xs[i], height - bottom, xs[i],
      height - bottom + 6)
    if xs[i] - last >= 40 then -- closer ones would run into each other
      add('<text x="%.1f" y="%d" text-anchor="middle">%s</text>', xs[i], height - bottom + 22,
        curve.size(point.budget))
      last = xs[i]
    end
  end
  add('<text x="%.1f" y="%d" text-anchor="middle">budget of L1, in bytes (logarithmic)</text>',
    (left + width - right) / 2, height - 16)
  add('<text transform="translate(22 %.1f) rotate(-90)" text-anchor="middle">hit ratio</text>',
    (top + height - bottom) / 2)
end

-- The figures beside the points, where there is room: the higher curve's above, the other's below
-- it, but for those that would cover the budgets.
local function draw_figures(add, series, xs)
  for i = 1, #xs do
    if #xs > 1 and (xs[math.min(i + 1, #xs)] - xs[math.max(i - 1, 1)]) /
      (math.min(i + 1, #xs) - math.max(i - 1, 1)) < 52 then
      return
    end
  end
  for i, x in ipairs(xs) do
    for s, one in ipairs(series) do
      local ratio, other = one.points[i].ratio, series[3 - s] and series[3 - s].points[i].ratio
      local is_above = not other or ratio > other or (ratio == other and s == 1) or
        (ratio < 0.05 and other > 0.1)
      if other ~= ratio or s == 1 then
        add('<text x="%.1f" y="%.1f" text-anchor="middle" font-size="12" stroke="#fff" '
          .. 'stroke-width="4" paint-order="stroke">%.1f</text>', x,
          y_of(ratio) + (is_above and -11 or 21), ratio * 100)
      end
    end
  end
end

local function draw_series(add, one, style, xs)
  local path = {}
  for i, point in ipairs(one.points) do
    path[i] = ("%s%.1f %.1f"):format(i == 1 and "M" or "L", xs[i], y_of(point.ratio))
  end
  add('<path d="%s" fill="none" %s/>', table.concat(path, " "), style.line)
  for i, point in ipairs(one.points) do
    add("%s", marker(style, xs[i], y_of(point.ratio)))
  end
end

local function draw_legend(add, series)
  for s, one in ipairs(series) do
    local x, y = left + (s - 1) * (width - left - right) / 2, top - 24
    add('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" %s/>', x, y, x + 44, y, styles[s].line)
    add("%s", marker(styles[s], x + 22, y))
    add('<text x="%.1f" y="%d">%s</text>', x + 54, y + 4, escape(one.name, 38))
  end
end

function curve.svg(title, series)
  local parts = {}
  local function add(format, ...)
    parts[#parts + 1] = format:format(...)
  end
  local xs = positions(series[1].points)
  add('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" '
    .. 'font-family="sans-serif" font-size="13">', width, height, width, height)
  add('<rect width="100%%" height="100%%" fill="#fff"/>')
  add('<text x="%d" y="32" font-size="17">%s</text>', left, escape(title, 70))
  draw_axes(add, xs, series[1].points)
  for s, one in ipairs(series) do
    draw_series(add, one, styles[s], xs)
  end
  draw_figures(add, series, xs)
  draw_legend(add, series)
  add "</svg>"
  return table.concat(parts, "\n") .. "\n"
end

return curve
