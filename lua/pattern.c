/* SPDX-License-Identifier: MIT
 *
 * pattern.c - Lua's patterns, matched so that a script's budget can end it.
 *
 * The library's own matcher goes back and forth for as long as a pattern makes it, which for a few
 * '-' on a long text is for ever, and no hook is called inside. This one does the same, and says
 * the same of a bad pattern, but counts each look at a byte and hands the counts to the budget.
 *
 * A pattern is read while it is matched. Where more than one continuation is possible the matcher
 * calls itself for each; the depth of that is bounded, as in the library.
 */
#include "script.h"

#include <ctype.h>

enum {
    OPEN = -1,     /* a capture whose end is not reached yet */
    POSITION = -2, /* a capture of a place, not of a text */
    DEEPEST = 200,
    CHARGE_EVERY = 256, /* steps: some 1 us */
};

/* One class of bytes in a pattern ("a", "%d", "[^x-z]"), and how often it may stand there. */
struct item {
    const char *class, *end;
    char repeat; /* '*', '+', '-', '?', or another byte for once */
};

static void step(struct pln_pattern *match, size_t n) {
    match->steps += n;
    if (match->steps >= CHARGE_EVERY) {
        pln_script_charge(match->L, match->steps);
        match->steps = 0;
    }
}

/* ---- classes ---- */

static bool is_of_kind(int byte, int kind, bool *is_known) {
    *is_known = true;
    switch (tolower(kind)) {
    case 'a':
        return isalpha(byte) != 0;
    case 'c':
        return iscntrl(byte) != 0;
    case 'd':
        return isdigit(byte) != 0;
    case 'g':
        return isgraph(byte) != 0;
    case 'l':
        return islower(byte) != 0;
    case 'p':
        return ispunct(byte) != 0;
    case 's':
        return isspace(byte) != 0;
    case 'u':
        return isupper(byte) != 0;
    case 'w':
        return isalnum(byte) != 0;
    case 'x':
        return isxdigit(byte) != 0;
    case 'z': /* of old: in no manual, but in the library */
        return byte == 0;
    default:
        *is_known = false;
        return false;
    }
}

/* What stands behind a '%': a kind of bytes, its opposite (a capital), or the byte itself. */
static bool is_of_escape(int byte, int escape) {
    bool is_known;
    bool is_in = is_of_kind(byte, escape, &is_known);
    return is_known ? is_in == (islower(escape) != 0) : byte == escape;
}

/* A set from its '[' to its ']'. */
static bool is_of_set(struct pln_pattern *match, int byte, const char *set, const char *close) {
    const char *at = set + 1;
    bool is_member = false;
    bool is_negated = *at == '^';
    at += is_negated;
    while (at < close && !is_member) {
        int first = (unsigned char) *at;
        step(match, 1);
        if (first == '%') {
            is_member = is_of_escape(byte, (unsigned char) at[1]);
            at += 2;
        } else if (at[1] == '-' && at + 2 < close) {
            is_member = first <= byte && byte <= (unsigned char) at[2];
            at += 3;
        } else {
            is_member = first == byte;
            at++;
        }
    }
    return is_member != is_negated;
}

static bool is_of_item(struct pln_pattern *match, const char *at, const struct item *item) {
    step(match, 1);
    if (at >= match->end) {
        return false;
    }
    int byte = (unsigned char) *at;
    switch (*item->class) {
    case '.':
        return true;
    case '%':
        return is_of_escape(byte, (unsigned char) item->class[1]);
    case '[':
        return is_of_set(match, byte, item->class, item->end - 1);
    default:
        return byte == (unsigned char) *item->class;
    }
}

/* The byte behind a set's ']'. One right at the start is a member, not the end. */
static const char *end_of_set(struct pln_pattern *match, const char *at) {
    at += *at == '^';
    bool is_first = true;
    while (is_first || *at != ']') {
        step(match, 1);
        if (at == match->pattern_end) {
            luaL_error(match->L, "malformed pattern (missing ']')");
        }
        at += *at == '%' && at + 1 < match->pattern_end ? 2 : 1;
        is_first = false;
    }
    return at + 1;
}

static struct item read_item(struct pln_pattern *match, const char *pattern) {
    struct item item = {.class = pattern, .end = pattern + 1};
    if (*pattern == '%') {
        if (item.end == match->pattern_end) {
            luaL_error(match->L, "malformed pattern (ends with '%%')");
        }
        item.end++;
    } else if (*pattern == '[') {
        item.end = end_of_set(match, item.end);
    }
    item.repeat = item.end < match->pattern_end ? *item.end : 0;
    return item;
}

/* ---- what more than one byte may stand for ---- */

static const char *match_most(struct pln_pattern *match, const char *at, const struct item *item) {
    ptrdiff_t n = 0;
    while (is_of_item(match, at + n, item)) {
        n++;
    }
    for (; n >= 0; n--) {
        const char *end = pln_pattern_match(match, at + n, item->end + 1);
        if (end != NULL) {
            return end;
        }
    }
    return NULL;
}

static const char *match_least(struct pln_pattern *match, const char *at, const struct item *item) {
    for (;; at++) {
        const char *end = pln_pattern_match(match, at, item->end + 1);
        if (end != NULL) {
            return end;
        }
        if (!is_of_item(match, at, item)) {
            return NULL;
        }
    }
}

/* "%bxy": from an x to the y that balances it. */
static const char *skip_balanced(struct pln_pattern *match, const char *at, const char *pair) {
    size_t depth = 1;
    if (pair + 1 >= match->pattern_end) {
        luaL_error(match->L, "malformed pattern (missing arguments to '%%b')");
    }
    if (at >= match->end || *at != pair[0]) {
        return NULL;
    }
    while (++at < match->end) {
        step(match, 1);
        if (*at == pair[1]) {
            if (--depth == 0) {
                return at + 1;
            }
        } else if (*at == pair[0]) {
            depth++;
        }
    }
    return NULL;
}

/* "%f[set]": a place between a byte outside of the set and one inside; the text's two ends count
 * as zero bytes. Returns the pattern's rest, or NULL. */
static const char *pass_frontier(struct pln_pattern *match, const char *at, const char *set) {
    if (*set != '[') {
        luaL_error(match->L, "missing '[' after '%%f' in pattern");
    }
    const char *rest = end_of_set(match, set + 1);
    int before = at == match->subject ? 0 : (unsigned char) at[-1];
    int here = at == match->end ? 0 : (unsigned char) *at;
    return !is_of_set(match, before, set, rest - 1) && is_of_set(match, here, set, rest - 1) ? rest
                                                                                             : NULL;
}

/* ---- captures ---- */

static const char *open_capture(struct pln_pattern *match, const char *at, const char *pattern,
                                ptrdiff_t len) {
    if (match->n_captures == PLN_PATTERN_CAPTURES) {
        luaL_error(match->L, "too many captures");
    }
    match->captures[match->n_captures].start = at;
    match->captures[match->n_captures++].len = len;
    const char *end = pln_pattern_match(match, at, pattern);
    if (end == NULL) {
        match->n_captures--;
    }
    return end;
}

static const char *close_capture(struct pln_pattern *match, const char *at, const char *pattern) {
    int i = match->n_captures - 1;
    while (i >= 0 && match->captures[i].len != OPEN) {
        i--;
    }
    if (i < 0) {
        luaL_error(match->L, "invalid pattern capture");
    }
    match->captures[i].len = at - match->captures[i].start;
    const char *end = pln_pattern_match(match, at, pattern);
    if (end == NULL) {
        match->captures[i].len = OPEN;
    }
    return end;
}

/* "%1": the same text again. */
static const char *skip_again(struct pln_pattern *match, const char *at, char digit) {
    int i = digit - '1';
    if (i < 0 || i >= match->n_captures || match->captures[i].len == OPEN) {
        luaL_error(match->L, "invalid capture index %%%d", i + 1);
    }
    ptrdiff_t len = match->captures[i].len;
    if (len == POSITION || match->end - at < len) {
        return NULL;
    }
    step(match, (size_t) len / 16 + 1);
    return memcmp(match->captures[i].start, at, (size_t) len) == 0 ? at + len : NULL;
}

/* ---- matching ---- */

/* One item with its repetition. Returns true where it is done and the loop goes on behind it;
 * false with the end in *at. */
static bool match_item(struct pln_pattern *match, const char **at, const char **pattern) {
    struct item item = read_item(match, *pattern);
    const char *end;
    switch (item.repeat) {
    case '*':
        *at = match_most(match, *at, &item);
        return false;
    case '-':
        *at = match_least(match, *at, &item);
        return false;
    case '+':
        *at = is_of_item(match, *at, &item) ? match_most(match, *at + 1, &item) : NULL;
        return false;
    case '?':
        if (is_of_item(match, *at, &item) &&
            (end = pln_pattern_match(match, *at + 1, item.end + 1)) != NULL) {
            *at = end;
            return false;
        }
        *pattern = item.end + 1;
        return true;
    default:
        *at = is_of_item(match, *at, &item) ? *at + 1 : NULL;
        *pattern = item.end;
        return *at != NULL;
    }
}

/* What begins with a '%' and is no class. Returns true where there was such a thing; *at is then
 * NULL where it does not match. */
static bool match_special(struct pln_pattern *match, const char **at, const char **pattern) {
    const char *rest;
    char kind = *pattern + 1 < match->pattern_end ? (*pattern)[1] : 0;
    if (kind == 'b') {
        *at = skip_balanced(match, *at, *pattern + 2);
        *pattern += 4;
    } else if (kind == 'f') {
        rest = pass_frontier(match, *at, *pattern + 2);
        *at = rest == NULL ? NULL : *at;
        *pattern = rest;
    } else if (isdigit((unsigned char) kind)) {
        *at = skip_again(match, *at, kind);
        *pattern += 2;
    } else {
        return false;
    }
    return true;
}

static const char *match_on(struct pln_pattern *match, const char *at, const char *pattern) {
    while (at != NULL && pattern < match->pattern_end) {
        step(match, 1);
        if (*pattern == '(') {
            bool is_position = pattern + 1 < match->pattern_end && pattern[1] == ')';
            return is_position ? open_capture(match, at, pattern + 2, POSITION)
                               : open_capture(match, at, pattern + 1, OPEN);
        }
        if (*pattern == ')') {
            return close_capture(match, at, pattern + 1);
        }
        if (*pattern == '$' && pattern + 1 == match->pattern_end) {
            return at == match->end ? at : NULL;
        }
        if (*pattern == '%' && match_special(match, &at, &pattern)) {
            continue;
        }
        if (!match_item(match, &at, &pattern)) {
            return at;
        }
    }
    return at;
}

const char *pln_pattern_match(struct pln_pattern *match, const char *at, const char *pattern) {
    if (match->depth == DEEPEST) {
        luaL_error(match->L, "pattern too complex");
    }
    match->depth++;
    const char *end = match_on(match, at, pattern);
    match->depth--;
    return end;
}

/* ---- what it brings ---- */

bool pln_pattern_capture(const struct pln_pattern *match, int i, const char *start, const char *end,
                         struct pln_bytes *text) {
    if (i >= match->n_captures) {
        if (i != 0) {
            luaL_error(match->L, "invalid capture index %%%d", i + 1);
        }
        *text = pln_bytes_of(start, (size_t) (end - start));
        return true;
    }
    ptrdiff_t len = match->captures[i].len;
    const char *at = match->captures[i].start;
    if (len == OPEN) {
        luaL_error(match->L, "unfinished capture");
    }
    if (len == POSITION) {
        lua_pushinteger(match->L, at - match->subject + 1);
        return false;
    }
    *text = pln_bytes_of(at, (size_t) len);
    return true;
}

void pln_pattern_push(const struct pln_pattern *match, int i, const char *start, const char *end) {
    struct pln_bytes text;
    if (pln_pattern_capture(match, i, start, end, &text)) {
        lua_pushlstring(match->L, text.data, text.len);
    }
}

int pln_pattern_push_all(const struct pln_pattern *match, const char *start, const char *end) {
    int n = match->n_captures == 0 && start != NULL ? 1 : match->n_captures;
    luaL_checkstack(match->L, n, "too many captures");
    for (int i = 0; i < n; i++) {
        pln_pattern_push(match, i, start, end);
    }
    return n;
}
