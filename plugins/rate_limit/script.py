"""The program that counts in Redis or Valkey: all rules of a request in one atomic step, by the clock of the server."""

from typing import Final

CLOCK: Final = """\
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
"""

PROGRAM: Final = """\
-- ARGV: what to do; the id of the request; how long its place in work is held, in microseconds; then for each key
-- algorithm, amount, period, depth, whether it is enforced, and what more the action needs.
--
-- A key holds one string, whatever the algorithm, so that a change of it finds no value of another type:
--   a algorithm, n amount, p period, d depth, z time of the last call,
--   q part of the period, m spent in it, e parts before it and what was spent in them,
-- and of a bucket D what is missing, times the period, at t; h held, s spilled, w when that was looked at;
-- of windows i index, u used, b used in the one before; of a log l times and amounts, u their sum;
-- of requests in work c the ids, and until when each is held.
local PARTS, NEVER = 16, -1
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local FAMILY = {['token-bucket'] = 'bucket', gcra = 'bucket', ['leaky-bucket'] = 'bucket', ['fixed-window'] = 'fixed',
  ['sliding-window'] = 'sliding', ['sliding-log'] = 'log', concurrent = 'work'}

local function note(s, amount, at)
  local part = floor(at / max(floor(s.p / PARTS), 1))
  if part ~= s.q then
    if s.m > 0 then
      table.insert(s.e, s.q)
      table.insert(s.e, s.m)
      while #s.e > 0 and s.e[1] < part - PARTS - 1 do
        table.remove(s.e, 1)
        table.remove(s.e, 1)
      end
    end
    s.q, s.m = part, 0
  end
  s.m = s.m + amount
end

local function correct(s, delta, taken, at)
  if delta >= 0 then return note(s, delta, at) end
  local part = floor(taken / max(floor(s.p / PARTS), 1))
  if part == s.q then
    s.m = max(s.m + delta, 0)
  else
    for k = 1, #s.e, 2 do
      if s.e[k] == part then s.e[k + 1] = max(s.e[k + 1] + delta, 0) end
    end
  end
end

local B = {}  -- buckets
function B.init(s, at) s.D, s.t, s.h, s.s, s.w = 0, 0, 0, 0, at end
function B.debt(s, at) return max(s.D - (at - s.t) * s.n, 0) end
function B.wait(s, amount, at)
  local over = amount * s.p + B.debt(s, at) - s.d * s.p
  if over <= 0 then return 0 end
  if amount > s.d then return NEVER end
  return ceil(over / s.n)
end
function B.add(s, amount, at)
  s.D, s.t = B.debt(s, at) + amount * s.p, at
  note(s, amount, at)
end
function B.watch(s, at)
  local gained = (at - s.w) * s.n
  local level = s.d * s.p - max(s.D - (s.w - s.t) * s.n, 0) + s.h
  s.s, s.w = s.s + max(min(gained, level + gained - s.d * s.p), 0), at
end
function B.reserve(s, amount, at)
  B.watch(s, at)
  B.add(s, amount, at)
  s.h = s.h + amount * s.p
  return s.s
end
function B.settle(s, delta, reserved, taken, mark, at)
  B.watch(s, at)
  s.h = max(s.h - reserved * s.p, 0)
  local change = delta * s.p
  if delta < 0 then change = min(change + max(s.s - mark, 0), 0) end
  s.D, s.t = max(B.debt(s, at) + change, 0), at
  correct(s, delta, taken, at)
end
function B.left(s, at) return max(floor((s.d * s.p - B.debt(s, at)) / s.p), 0) end
function B.reset(s, at) return ceil(B.debt(s, at) / s.n) end
function B.queue(s, at) return s.a == 'leaky-bucket' and ceil(B.debt(s, at) / s.n) or 0 end

local F = {}  -- fixed windows
function F.init(s) s.i, s.u = 0, 0 end
function F.used(s, at) return floor(at / s.p) == s.i and s.u or 0 end
function F.wait(s, amount, at)
  if amount > s.n then return NEVER end
  if F.used(s, at) + amount <= s.n then return 0 end
  return s.p - at % s.p
end
function F.add(s, amount, at)
  s.u, s.i = F.used(s, at) + amount, floor(at / s.p)
  note(s, amount, at)
end
function F.settle(s, delta, reserved, taken, mark, at)
  if delta >= 0 then return F.add(s, delta, at) end
  if floor(taken / s.p) == s.i then s.u = max(s.u + delta, 0) end
  correct(s, delta, taken, at)
end
function F.left(s, at) return max(s.n - F.used(s, at), 0) end
function F.reset(s, at) return F.used(s, at) > 0 and s.p - at % s.p or 0 end

local S = {}  -- sliding windows
function S.init(s) s.i, s.u, s.b = 0, 0, 0 end
function S.both(s, at)
  local age = floor(at / s.p) - s.i
  if age == 0 then return s.u, s.b end
  return 0, age == 1 and s.u or 0
end
function S.passed(before, room, period)
  return before <= room and 0 or ceil((before - room) * period / before)
end
function S.wait(s, amount, at)
  if amount > s.n then return NEVER end
  local used, before = S.both(s, at)
  local passed, room = at % s.p, s.n - used - amount
  if before * (s.p - passed) <= room * s.p then return 0 end
  if room >= 0 then return S.passed(before, room, s.p) - passed end
  return s.p - passed + S.passed(used, s.n - amount, s.p)
end
function S.add(s, amount, at)
  s.u, s.b = S.both(s, at)
  s.i, s.u = floor(at / s.p), s.u + amount
  note(s, amount, at)
end
function S.settle(s, delta, reserved, taken, mark, at)
  if delta >= 0 then return S.add(s, delta, at) end
  local age = s.i - floor(taken / s.p)
  if age == 0 then s.u = max(s.u + delta, 0) elseif age == 1 then s.b = max(s.b + delta, 0) end
  correct(s, delta, taken, at)
end
function S.left(s, at)
  local used, before = S.both(s, at)
  return max(s.n - used - ceil(before * (s.p - at % s.p) / s.p), 0)
end
function S.reset(s, at)
  local used, before = S.both(s, at)
  local rest = s.p - at % s.p
  return used > 0 and rest + s.p or before > 0 and rest or 0
end

local L = {}  -- logs
function L.init(s) s.l, s.u = {}, 0 end
function L.forget(s, at)
  local count, gone = #s.l, 0
  while gone < count and s.l[gone + 1] <= at - s.p do
    s.u = s.u - s.l[gone + 2]
    gone = gone + 2
  end
  if gone == 0 then return end
  local kept = {}  -- to remove them one by one took 1.2 s of the server for 10,000
  for k = gone + 1, count do kept[k - gone] = s.l[k] end
  s.l = kept
end
function L.wait(s, amount, at)
  if amount > s.n then return NEVER end
  L.forget(s, at)
  local missing = s.u + amount - s.n
  if missing <= 0 then return 0 end
  for k = 1, #s.l, 2 do
    missing = missing - s.l[k + 1]
    if missing <= 0 then return s.l[k] + s.p - at end
  end
  return NEVER
end
function L.add(s, amount, at)
  if amount > 0 then
    table.insert(s.l, at)
    table.insert(s.l, amount)
    s.u = s.u + amount
  end
end
function L.settle(s, delta, reserved, taken, mark, at)
  if delta >= 0 then return L.add(s, delta, at) end
  for k = #s.l - 1, 1, -2 do
    if s.l[k] == taken and s.l[k + 1] >= -delta then
      s.l[k + 1], s.u = s.l[k + 1] + delta, s.u + delta
      return
    end
  end
end
function L.left(s, at)
  L.forget(s, at)
  return max(s.n - s.u, 0)
end
function L.reset(s, at)
  L.forget(s, at)
  return #s.l > 0 and s.l[#s.l - 1] + s.p - at or 0
end

local W = {}  -- requests in work
function W.init(s) s.c = {} end
function W.count(s, at)
  local count = 0
  for id, til in pairs(s.c) do
    if til <= at then s.c[id] = nil else count = count + 1 end
  end
  return count
end
function W.wait(s, amount, at) return W.count(s, at) + amount <= s.n and 0 or 1000000 end
function W.reserve(s, amount, at)
  s.c[ARGV[2]] = at + tonumber(ARGV[3])
  return 0
end
W.add = W.reserve
function W.settle(s) s.c[ARGV[2]] = nil end
function W.left(s, at) return max(s.n - W.count(s, at), 0) end
function W.reset(s, at) return W.count(s, at) > 0 and 1000000 or 0 end

local KINDS = {bucket = B, fixed = F, sliding = S, log = L, work = W}
local function kind(s) return KINDS[FAMILY[s.a]] end

local function fresh(algorithm, amount, period, depth, at)
  local s = {a = algorithm, n = amount, p = period, d = depth, z = at, q = 0, m = 0, e = {}}
  kind(s).init(s, at)
  return s
end

local function spent(s, at)
  if s.l then
    L.forget(s, at)
    return s.l
  end
  local found, length = {}, max(floor(s.p / PARTS), 1)
  local parts = {unpack(s.e)}
  table.insert(parts, s.q)
  table.insert(parts, s.m)
  for k = 1, #parts, 2 do
    local ends = (parts[k] + 1) * length
    if parts[k + 1] > 0 and ends > at - s.p then
      table.insert(found, min(ends - 1, at))
      table.insert(found, parts[k + 1])
    end
  end
  return found
end

local function replay(list, s)
  for k = 1, #list, 2 do kind(s).add(s, list[k + 1], list[k]) end
  return s
end

local function cap(s) if s.D then s.D = min(s.D, (s.d + s.n) * s.p) end end

local function adopt(s, algorithm, amount, period, depth, at)
  if s.a == algorithm and s.n == amount and s.p == period and s.d == depth then return s end
  if FAMILY[s.a] == 'work' or FAMILY[algorithm] == 'work' then
    if s.a ~= algorithm then return fresh(algorithm, amount, period, depth, at) end
    s.n = amount
    return s
  end
  if s.p ~= period or FAMILY[s.a] ~= FAMILY[algorithm] then
    local new = replay(spent(s, at), fresh(algorithm, amount, period, depth, at))
    cap(new)
    return new
  end
  if s.D then
    local debt = B.debt(s, at)
    if amount < s.n then
      debt = max(debt, B.debt(replay(spent(s, at), fresh(algorithm, amount, period, depth, at)), at))
    end
    s.D, s.t = debt, at
  end
  s.a, s.n, s.d = algorithm, amount, depth
  cap(s)
  return s
end

local action, width = ARGV[1], tonumber(ARGV[4])
local states, args, nows = {}, {}, {}
for k, key in ipairs(KEYS) do
  local from = 4 + (k - 1) * width
  local a = {ARGV[from + 1]}
  for place = 2, width do a[place] = tonumber(ARGV[from + place]) end
  local packed, at, s = redis.call('GET', key), clock, nil
  if packed then
    s = cmsgpack.unpack(packed)
    at = max(at, s.z)
    s = adopt(s, a[1], a[2], a[3], a[4], at)
  else
    s = fresh(a[1], a[2], a[3], a[4], at)
  end
  s.z = at
  states[k], args[k], nows[k] = s, a, at
end

local function save(k)
  local s, at = states[k], nows[k]
  local live = FAMILY[s.a] == 'work' and tonumber(ARGV[3]) or max(kind(s).reset(s, at), s.p) + s.p
  redis.call('SET', KEYS[k], cmsgpack.pack(s), 'PX', ceil(live / 1000) + 1000)
end

local function tell(k, wait, mark, queue)
  local s, at = states[k], nows[k]
  return {wait, kind(s).left(s, at), kind(s).reset(s, at), mark, queue, at}
end

local answers, refused = {}, 0
if action == 'settle' then
  for k, s in ipairs(states) do
    kind(s).settle(s, args[k][6], args[k][7], args[k][8], args[k][9], nows[k])
    save(k)
  end
elseif action == 'renew' then
  for k, s in ipairs(states) do
    W.reserve(s, 1, nows[k])
    save(k)
  end
else
  local waits, queues = {}, {}
  for k, s in ipairs(states) do
    local a, wait = args[k], kind(s).wait(s, args[k][6], nows[k])
    queues[k] = s.D and B.queue(s, nows[k]) or 0
    if wait == 0 and a[8] >= 0 and queues[k] > a[8] then wait = queues[k] - a[8] end
    waits[k] = wait
    if wait ~= 0 and a[5] == 1 then refused = 1 end
  end
  for k, s in ipairs(states) do
    local mark = 0
    if action == 'take' and refused == 0 and waits[k] == 0 then
      if args[k][7] == 1 and kind(s).reserve then
        mark = kind(s).reserve(s, args[k][6], nows[k])
      else
        kind(s).add(s, args[k][6], nows[k])
      end
      save(k)
    end
    answers[k] = tell(k, waits[k], mark, queues[k])
  end
end
return {refused, answers}
"""
