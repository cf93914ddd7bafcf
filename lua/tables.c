/* SPDX-License-Identifier: MIT
 *
 * tables.c - cache.rules: classes and rules as data, such as a program makes or reads from a file.
 *
 * What stands in the table is read by the same code as cache.class and cache.rule, so both mean
 * the same. A data's element has no line of its own: a refusal names the line of cache.rules, and
 * the element's place in the table.
 */
#include "script.h"

#include <stdio.h>

/* Pushes a copy of the rule at `element` without its pattern: the body that a cache.rule would
 * have. */
static int push_body(lua_State *L, int element) {
    lua_newtable(L);
    int body = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, element) != 0) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, body);
    }
    lua_pushliteral(L, "pattern");
    lua_pushnil(L);
    lua_rawset(L, body);
    return body;
}

static void read_rule(lua_State *L, size_t i) {
    struct pln_compiler *compiler = pln_compile_of(L);
    int element = lua_gettop(L);
    char got[80];
    snprintf(compiler->element, sizeof compiler->element, "rules[%zu]", i);
    pln_compile_begin(compiler, compiler->element, "");
    if (!lua_istable(L, element)) {
        pln_compile_refuse(L, "a table such as { pattern = \"user:{id}\", ttl = \"15m\" }, got %s",
                           pln_compile_got(L, element, got, sizeof got));
    }
    pln_compile_field(L, element, "pattern");
    const char *pattern = pln_compile_text(L, -1);
    if (pattern == NULL || pattern[0] == 0 || strlen(pattern) > PLN_SCRIPT_NAME) {
        pln_compile_refuse(L, "pattern: a text of 1 to %d bytes such as \"user:{id}\", got %s",
                           PLN_SCRIPT_NAME, pln_compile_got(L, -1, got, sizeof got));
    }
    pln_compile_begin(compiler, compiler->element, pattern);
    lua_pop(L, 1);
    pln_compile_rule(L, push_body(L, element));
}

static void read_rules(lua_State *L, int list) {
    size_t n = pln_compile_check_list(L, list, "rules");
    for (size_t i = 1; i <= n; i++) {
        int top = lua_gettop(L);
        lua_rawgeti(L, list, (lua_Integer) i);
        read_rule(L, i);
        lua_settop(L, top);
    }
}

static void read_classes(lua_State *L, int classes) {
    struct pln_compiler *compiler = pln_compile_of(L);
    char got[80];
    lua_pushnil(L);
    while (lua_next(L, classes) != 0) {
        int top = lua_gettop(L);
        const char *name = pln_compile_text(L, top - 1);
        pln_compile_begin(compiler, "rules", "");
        if (name == NULL || name[0] == 0 || strlen(name) > PLN_SCRIPT_NAME) {
            pln_compile_refuse(L, "classes: names of 1 to %d bytes, got %s", PLN_SCRIPT_NAME,
                               pln_compile_got(L, top - 1, got, sizeof got));
        }
        if (!lua_istable(L, top)) {
            pln_compile_refuse(L, "classes.%.100s: a table such as { ttl = \"15m\" }, got %s", name,
                               pln_compile_got(L, top, got, sizeof got));
        }
        pln_compile_begin(compiler, "rules, class", name);
        pln_compile_class(L, top);
        lua_settop(L, top - 1);
    }
}

/* Pushes a table's part, or returns false where it is not there. */
static bool push_part(lua_State *L, int body, const char *name, const char *wanted) {
    char got[80];
    int type = pln_compile_field(L, body, name);
    if (type != LUA_TNIL && type != LUA_TTABLE) {
        pln_compile_refuse(L, "%s: %s, got %s", name, wanted,
                           pln_compile_got(L, -1, got, sizeof got));
    }
    return type == LUA_TTABLE;
}

void pln_compile_tables(lua_State *L, int body) {
    static const char *const names[] = {"classes", "rules", NULL};
    luaL_checkstack(L, LUA_MINSTACK, "cache.rules");
    pln_compile_check_names(L, body, names, false, false);
    bool has_classes = push_part(L, body, "classes", "a table of classes by name");
    int classes = lua_gettop(L);
    bool has_rules = push_part(L, body, "rules", "a list of rules");
    int rules = lua_gettop(L);
    if (has_classes) {
        read_classes(L, classes);
    }
    if (has_rules) {
        read_rules(L, rules);
    }
}
