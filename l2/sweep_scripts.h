/* SPDX-License-Identifier: MIT
 *
 * sweep_scripts.h - what runs inside Redis for a sweep; a part of sweep.c, put together from
 * parts.h.
 */
#ifndef PLN_L2_SWEEP_SCRIPTS_H
#define PLN_L2_SWEEP_SCRIPTS_H

#include "parts.h"

/* KEYS: values; ARGV: for each the time before which it is void. */
static const char remove_script[] =
    "local n = 0\n"
    "for i, name in ipairs(KEYS) do\n"
    "  local h = redis.pcall('GETRANGE', name, 0, 43)\n"
    "  if type(h) == 'string' and #h == 44 and string.sub(h, 1, 2) == 'P\\1' and\n"
    "    struct.unpack('>I8', h, 33) < tonumber(ARGV[i]) then\n"
    "    n = n + redis.call('UNLINK', name)\n"
    "  end\n"
    "end\n"
    "return n\n";

/* KEYS: the tags' hash; ARGV: what was swept of its list. */
static const char delist_script[] = DROPS
    "local swept, kept = {}, {}\n"
    "for _, drop in ipairs(drops(ARGV[1])) do swept[drop] = true end\n"
    "for _, drop in ipairs(drops(redis.call('HGET', KEYS[1], '~') or '')) do\n"
    "  if not swept[drop] then kept[#kept + 1] = drop end\n"
    "end\n"
    "if #kept == 0 then return redis.call('HDEL', KEYS[1], '~') end\n"
    "redis.call('HSET', KEYS[1], '~', table.concat(kept))\n"
    "return #kept\n";

#endif
