/* SPDX-License-Identifier: MIT
 *
 * given.c - for the methods that give objects of their own: those objects' classes, and options
 * read one by one. A nil in the place of the table means none. All raise, naming the option, where
 * its value is of no use.
 */
#include "module.h"

void pln_lua_set_class(lua_State *L, const char *name, const luaL_Reg *metamethods,
                       const luaL_Reg *methods) {
    if (luaL_getmetatable(L, name) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_newtable(L);
        if (metamethods != NULL) {
            luaL_setfuncs(L, metamethods, 0);
        }
        if (methods != NULL) {
            lua_newtable(L);
            luaL_setfuncs(L, methods, 0);
            lua_setfield(L, -2, "__index");
        }
        lua_pushstring(L, name);
        lua_setfield(L, -2, "__name");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
        lua_pushvalue(L, -1); /* known only once it is whole, for each of these may raise */
        lua_setfield(L, LUA_REGISTRYINDEX, name);
    }
    lua_setmetatable(L, -2);
}

/* Pushes the option; false, and nothing is left, where it is not given. */
static bool push_given(lua_State *L, int index, const char *name) {
    if (lua_isnoneornil(L, index) || lua_getfield(L, index, name) != LUA_TNIL) {
        return !lua_isnoneornil(L, index);
    }
    lua_pop(L, 1);
    return false;
}

static void refuse(lua_State *L, int index, const char *name, const char *wanted) {
    const char *got = luaL_tolstring(L, -1, NULL);
    lua_pushfstring(L, "option '%s' must be %s, got %s '%s'", name, wanted, luaL_typename(L, -2),
                    got);
    luaL_argerror(L, index, lua_tostring(L, -1));
}

pln_ms pln_lua_given_duration(lua_State *L, int index, const char *name) {
    pln_ms duration = 0;
    if (!push_given(L, index, name)) {
        return 0;
    }
    if (!pln_lua_to_duration(L, -1, &duration) || duration == PLN_FOREVER) {
        refuse(L, index, name, "a duration, such as 30 or \"15m\"");
    }
    lua_pop(L, 1);
    return duration;
}

lua_Integer pln_lua_given_integer(lua_State *L, int index, const char *name) {
    int is_integer = 0;
    if (!push_given(L, index, name)) {
        return 0;
    }
    lua_Integer value = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer || value < 1) {
        refuse(L, index, name, "a positive whole number");
    }
    lua_pop(L, 1);
    return value;
}

bool pln_lua_given_flag(lua_State *L, int index, const char *name, bool otherwise) {
    if (!push_given(L, index, name)) {
        return otherwise;
    }
    if (!lua_isboolean(L, -1)) {
        refuse(L, index, name, "true or false");
    }
    bool flag = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return flag;
}

int pln_lua_given_choice(lua_State *L, int index, const char *name, const char *const *choices) {
    luaL_Buffer all;
    if (!push_given(L, index, name)) {
        return -1;
    }
    const char *value = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    for (int i = 0; choices[i] != NULL; i++) {
        if (strcmp(choices[i], value) == 0) {
            lua_pop(L, 1);
            return i;
        }
    }
    luaL_buffinit(L, &all);
    for (int i = 0; choices[i] != NULL; i++) {
        luaL_addstring(&all, i == 0 ? "one of " : ", ");
        luaL_addstring(&all, choices[i]);
    }
    luaL_pushresult(&all);
    lua_insert(L, -2);
    refuse(L, index, name, lua_tostring(L, -2));
    return -1;
}
