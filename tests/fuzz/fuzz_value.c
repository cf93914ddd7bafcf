/* SPDX-License-Identifier: MIT
 *
 * fuzz_value.c - whatever bytes lie in a value, they are refused or become a value of Lua; and that
 * goes to bytes which become the same bytes again.
 *
 * The input's first byte is the format.
 */
#include "../../lua/internal.h"

#include <lualib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A key of another order in its map, or an integer that came as a float, changes the bytes of the
 * first round; their number stays the same from then on. */
static void check_return(lua_State *L, int index) {
    struct pln_bytes first, again;
    uint8_t format;
    int status = pln_lua_encode(L, index, &first, &format);
    if (status != PLN_OK) { /* others may write it, Lua has little use for it */
        assert(strstr(pln_error_text(), "a table cannot be a key") != NULL);
        return;
    }
    status = pln_lua_decode(L, first, format);
    assert(status == PLN_OK && lua_type(L, -1) == lua_type(L, index));
    status = pln_lua_encode(L, -1, &again, &format);
    assert(status == PLN_OK && again.len == first.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lua_State *L;
    if (L == NULL) {
        L = luaL_newstate();
        assert(L != NULL);
    }
    if (size == 0) {
        return 0;
    }
    int status = pln_lua_decode(L, pln_bytes_of(data + 1, size - 1), data[0]);
    assert(lua_gettop(L) == (status == PLN_OK));
    if (status == PLN_OK) {
        check_return(L, 1);
    }
    pln_ms duration;
    size_t bytes;
    double share;
    lua_pushlstring(L, (const char *) data + 1, size - 1);
    pln_lua_to_duration(L, -1, &duration);
    pln_lua_to_size(L, -1, &bytes);
    pln_lua_to_share(L, -1, &share);
    lua_settop(L, 0);
    return 0;
}
