/* SPDX-License-Identifier: MIT
 *
 * safe_strings.c - the functions of `string` (and os.date) that could run for long in C, as a
 * policy gets them: with the results of the library's own, but charged to the budget, and refused
 * where the result would be larger than a policy has a use for.
 */
#include "script.h"

enum {
    LONGEST_TEXT = 16 << 20, /* bytes, or rounds where the text is empty */
    LONGEST_DATE = 256,
    WINDOW = 64 << 10, /* bytes searched between two charges */
    BYTES_A_STEP = 16, /* of plain copying or comparing */
};

static int refuse_length(lua_State *L, const char *function) {
    return luaL_error(L, "string.%s: the result would be over %d MB", function, LONGEST_TEXT >> 20);
}

/* ---- find and match ---- */

/* Where a call begins in a text: from 0; past the length where there is nothing to begin at. */
static size_t first_of(lua_State *L, int index, size_t len) {
    lua_Integer from = luaL_optinteger(L, index, 1);
    if (from > 0) {
        return (size_t) from - 1;
    }
    return from == 0 || from < -(lua_Integer) len ? 0 : len + (size_t) from;
}

static bool is_plain(const char *pattern, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (pattern[i] != 0 && strchr("^$*+?.([%-", pattern[i]) != NULL) {
            return false;
        }
    }
    return true;
}

/* Window by window; they overlap by what a find across their border needs. */
static const char *find_plain(lua_State *L, const char *text, size_t len, const char *wanted,
                              size_t wanted_len) {
    size_t window = wanted_len > WINDOW ? wanted_len : WINDOW;
    for (size_t at = 0; len - at >= wanted_len; at += window) {
        size_t here = len - at > window + wanted_len ? window + wanted_len : len - at;
        const char *found = memmem(text + at, here, wanted, wanted_len);
        pln_script_charge(L, here / BYTES_A_STEP + 1);
        if (found != NULL || here == len - at) {
            return found;
        }
    }
    return NULL;
}

static void begin(struct pln_pattern *match, lua_State *L, const char *text, size_t len,
                  const char *pattern_end) {
    *match = (struct pln_pattern){
        .L = L, .subject = text, .end = text + len, .pattern_end = pattern_end};
}

static const char *match_at(struct pln_pattern *match, const char *at, const char *pattern) {
    match->n_captures = 0;
    return pln_pattern_match(match, at, pattern);
}

static int find_pattern(lua_State *L, struct pln_pattern *match, const char *at,
                        const char *pattern, bool is_find) {
    bool is_anchored = pattern < match->pattern_end && *pattern == '^';
    pattern += is_anchored;
    for (; at <= match->end; at++) {
        const char *end = match_at(match, at, pattern);
        if (end != NULL && is_find) {
            lua_pushinteger(L, at - match->subject + 1);
            lua_pushinteger(L, end - match->subject);
            return 2 + pln_pattern_push_all(match, NULL, NULL);
        }
        if (end != NULL) {
            return pln_pattern_push_all(match, at, end);
        }
        if (is_anchored) {
            break;
        }
    }
    lua_pushnil(L);
    return 1;
}

static int find_or_match(lua_State *L, bool is_find) {
    struct pln_pattern match;
    size_t len, pattern_len;
    const char *text = luaL_checklstring(L, 1, &len);
    const char *pattern = luaL_checklstring(L, 2, &pattern_len);
    size_t from = first_of(L, 3, len);
    if (from > len) {
        lua_pushnil(L);
        return 1;
    }
    if (is_find && (lua_toboolean(L, 4) || is_plain(pattern, pattern_len))) {
        const char *found = find_plain(L, text + from, len - from, pattern, pattern_len);
        if (found == NULL) {
            lua_pushnil(L);
            return 1;
        }
        lua_pushinteger(L, found - text + 1);
        lua_pushinteger(L, found - text + (ptrdiff_t) pattern_len);
        return 2;
    }
    begin(&match, L, text, len, pattern + pattern_len);
    return find_pattern(L, &match, text + from, pattern, is_find);
}

static int safe_find(lua_State *L) {
    return find_or_match(L, true);
}

static int safe_match(lua_State *L) {
    return find_or_match(L, false);
}

/* ---- gmatch ---- */

/* Upvalues: text, pattern, where to go on (from 0), where the last match ended, or -1. */
static int next_match(lua_State *L) {
    struct pln_pattern match;
    size_t len, pattern_len;
    const char *text = lua_tolstring(L, lua_upvalueindex(1), &len);
    const char *pattern = lua_tolstring(L, lua_upvalueindex(2), &pattern_len);
    const char *at = text + lua_tointeger(L, lua_upvalueindex(3));
    lua_Integer last = lua_tointeger(L, lua_upvalueindex(4));
    begin(&match, L, text, len, pattern + pattern_len);
    for (; at <= match.end; at++) {
        const char *end = match_at(&match, at, pattern);
        if (end != NULL && end - text != last) {
            lua_pushinteger(L, end - text);
            lua_copy(L, -1, lua_upvalueindex(3));
            lua_replace(L, lua_upvalueindex(4));
            return pln_pattern_push_all(&match, at, end);
        }
    }
    return 0;
}

static int safe_gmatch(lua_State *L) {
    size_t len;
    luaL_checklstring(L, 1, &len);
    luaL_checkstring(L, 2);
    size_t from = first_of(L, 3, len);
    lua_settop(L, 2);
    lua_pushinteger(L, (lua_Integer) (from > len ? len + 1 : from));
    lua_pushinteger(L, -1);
    lua_pushcclosure(L, next_match, 4);
    return 1;
}

/* ---- gsub ---- */

/* A replacement's text, with "%1" and its like filled in. */
static void add_template(struct pln_pattern *match, luaL_Buffer *result, const char *start,
                         const char *end) {
    struct pln_bytes text;
    size_t len;
    const char *from = lua_tolstring(match->L, 3, &len);
    const char *stop = from + len, *percent;
    while ((percent = memchr(from, '%', (size_t) (stop - from))) != NULL) {
        char what = percent[1]; /* a zero byte at the text's end */
        luaL_addlstring(result, from, (size_t) (percent - from));
        if (what == '%') {
            luaL_addchar(result, '%');
        } else if (what == '0') {
            luaL_addlstring(result, start, (size_t) (end - start));
        } else if (what < '0' || what > '9') {
            luaL_error(match->L, "invalid use of '%%' in replacement string");
        } else if (pln_pattern_capture(match, what - '1', start, end, &text)) {
            luaL_addlstring(result, text.data, text.len);
        } else {
            luaL_addvalue(result); /* a place: it was pushed */
        }
        from = percent + 2;
    }
    luaL_addlstring(result, from, (size_t) (stop - from));
}

/* Adds what stands for a match. */
static void add_replacement(struct pln_pattern *match, luaL_Buffer *result, const char *start,
                            const char *end) {
    lua_State *L = match->L;
    switch (lua_type(L, 3)) {
    case LUA_TFUNCTION:
        lua_pushvalue(L, 3);
        lua_call(L, pln_pattern_push_all(match, start, end), 1);
        break;
    case LUA_TTABLE:
        pln_pattern_push(match, 0, start, end);
        lua_gettable(L, 3);
        break;
    default:
        add_template(match, result, start, end);
        return;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(result, start, (size_t) (end - start));
    } else if (!lua_isstring(L, -1)) {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    } else {
        luaL_addvalue(result);
    }
}

static int safe_gsub(lua_State *L) {
    struct pln_pattern match;
    luaL_Buffer result;
    size_t len, pattern_len;
    const char *at = luaL_checklstring(L, 1, &len);
    const char *pattern = luaL_checklstring(L, 2, &pattern_len);
    int type = lua_type(L, 3);
    luaL_argexpected(L,
                     type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
                         type == LUA_TTABLE,
                     3, "string/function/table");
    lua_Integer most = luaL_optinteger(L, 4, (lua_Integer) len + 1), n = 0;
    const char *last = NULL; /* where the last match ended: no empty one right there */
    bool is_anchored = pattern_len > 0 && *pattern == '^';
    begin(&match, L, at, len, pattern + pattern_len);
    pattern += is_anchored;
    luaL_buffinit(L, &result);
    while (n < most) {
        size_t before = luaL_bufflen(&result);
        const char *end = match_at(&match, at, pattern);
        if (end != NULL && end != last) {
            n++;
            add_replacement(&match, &result, at, end);
            at = last = end;
        } else if (at < match.end) {
            luaL_addchar(&result, *at++);
        } else {
            break;
        }
        /* the round itself too: an empty pattern has no steps */
        pln_script_charge(L, 1 + (luaL_bufflen(&result) - before) / BYTES_A_STEP);
        if (is_anchored) {
            break;
        }
    }
    luaL_addlstring(&result, at, (size_t) (match.end - at));
    luaL_pushresult(&result);
    lua_pushinteger(L, n);
    return 2;
}

/* ---- what is as long as an argument says ---- */

static int safe_rep(lua_State *L) {
    size_t len, len_separator;
    luaL_checklstring(L, 1, &len);
    luaL_optlstring(L, 3, "", &len_separator);
    lua_Integer n = luaL_checkinteger(L, 2);
    size_t round = len + len_separator == 0 ? 1 : len + len_separator;
    if (n > 0 && (size_t) n > LONGEST_TEXT / round) {
        return refuse_length(L, "rep");
    }
    if (n > 0) {
        pln_script_charge(L, (size_t) n + (size_t) n * round / BYTES_A_STEP);
    }
    return pln_call_original(L);
}

/* Only texts can be long: a width or precision has two digits. */
static int safe_format(lua_State *L) {
    size_t sum = 0, len;
    for (int i = 1; i <= lua_gettop(L); i++) {
        if (lua_type(L, i) == LUA_TSTRING) {
            lua_tolstring(L, i, &len);
            sum += len;
        }
    }
    if (sum > LONGEST_TEXT) {
        return refuse_length(L, "format");
    }
    pln_script_charge(L, sum / BYTES_A_STEP + 1);
    return pln_call_original(L);
}

/* "c1000" is filled up with zeros; nothing else is longer than what is given. */
static int safe_pack(lua_State *L) {
    size_t len, sum = 0;
    const char *format = luaL_checklstring(L, 1, &len);
    for (size_t i = 0; i < len; i++) {
        bool is_text = format[i] == 'c';
        size_t size = 0;
        while (format[i + 1] >= '0' && format[i + 1] <= '9') {
            size = size > LONGEST_TEXT ? size : size * 10 + (size_t) (format[i + 1] - '0');
            i++;
        }
        sum += is_text ? size : 0;
        if (sum > LONGEST_TEXT) {
            return refuse_length(L, "pack");
        }
    }
    pln_script_charge(L, len + sum / BYTES_A_STEP);
    return pln_call_original(L);
}

/* unpack and packsize: the format is read once, item by item. */
static int safe_unpack(lua_State *L) {
    size_t len;
    luaL_checklstring(L, 1, &len);
    pln_script_charge(L, len);
    return pln_call_original(L);
}

int pln_safe_date(lua_State *L) {
    size_t len;
    luaL_optlstring(L, 1, "", &len);
    if (len > LONGEST_DATE) {
        return luaL_error(L, "os.date: a format has at most %d bytes", LONGEST_DATE);
    }
    return pln_call_original(L);
}

const struct pln_replacement pln_safe_strings[] = {
    {"find", safe_find}, {"match", safe_match},   {"gmatch", safe_gmatch},
    {"gsub", safe_gsub}, {"rep", safe_rep},       {"format", safe_format},
    {"pack", safe_pack}, {"unpack", safe_unpack}, {"packsize", safe_unpack},
    {NULL, NULL},
};
