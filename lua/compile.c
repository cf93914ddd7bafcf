/* SPDX-License-Identifier: MIT
 *
 * compile.c - the frame in which a policy file is read, and what its statements have in common.
 *
 * `cache.rule "x" { ... }` is two calls: the first opens a statement, the second brings its body
 * and closes it. At most one is open, which is how a forgotten body is found. Everything is checked
 * when it is read. C memory hangs on the compiler, in the C frame below the protected call, so a
 * refusal may raise from anywhere. The first refusal counts, even where the file catches it.
 */
#include "script.h"

#include <malloc.h>
#include <stdio.h>

enum { TEMPLATE_BYTES = 256 }; /* about what one takes, beside its text, which it has twice */

static const char functions_key = 0; /* its address is the key in the registry */

/* ---- refusing ---- */

struct pln_compiler *pln_compile_of(lua_State *L) {
    struct pln_compiler *compiler = pln_script_of(L)->compiler;
    if (compiler == NULL) {
        luaL_error(L, "a statement of the policy stands in a function that is called later; "
                      "statements count only while the file is read");
    }
    return compiler;
}

static _Noreturn void raise_text(lua_State *L, struct pln_compiler *compiler, const char *text) {
    if (compiler->error[0] == 0) {
        pln_script_escape(compiler->error, sizeof compiler->error, text, strlen(text));
    }
    lua_pushstring(L, text);
    lua_error(L);
    abort(); /* lua_error() does not return, but is not declared so */
}

_Noreturn void pln_compile_refuse(lua_State *L, const char *format, ...) {
    struct pln_compiler *compiler = pln_compile_of(L);
    char what[PLN_SCRIPT_ERROR], text[2 * PLN_SCRIPT_ERROR];
    const char *name = compiler->statement.name;
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    snprintf(text, sizeof text, "%.100s:%d: %s%s%.100s%s: %s", compiler->statement.file,
             compiler->statement.line, compiler->statement.kind, name[0] == 0 ? "" : " '", name,
             name[0] == 0 ? "" : "'", what);
    raise_text(L, compiler, text);
}

/* ---- memory in C: what a policy states takes no more than its state may ---- */

/* Counts more bytes; where they are too many, frees what is fresh and refuses. */
static void charge(lua_State *L, size_t bytes, void *fresh) {
    const struct pln_script *script = pln_script_of(L);
    if (script->compiler == NULL || script->is_trusted) {
        return; /* the former: a test is asking, and little of that is kept */
    }
    script->compiler->used_bytes += bytes;
    if (script->compiler->used_bytes > PLN_SCRIPT_MEMORY) {
        free(fresh);
        pln_compile_refuse(L, "what the policy states takes over %d MB", PLN_SCRIPT_MEMORY >> 20);
    }
}

void *pln_compile_own(lua_State *L, void *memory) {
    if (memory == NULL) {
        luaL_error(L, "not enough memory");
    }
    charge(L, malloc_usable_size(memory), memory);
    return memory;
}

void *pln_compile_grow(lua_State *L, void *array, size_t n, size_t size) {
    size_t more = (n == 0 ? 1 : n) * size;
    if ((n & (n - 1)) != 0) { /* it holds a power of two, and is not full */
        return array;
    }
    charge(L, more, NULL);
    void *grown = realloc(array, n * size + more);
    if (grown == NULL) {
        luaL_error(L, "not enough memory");
    }
    return grown;
}

/* ---- places ---- */

/* Code from a text, as of load(), has lines but no file. */
static bool is_in_file(const lua_Debug *place) {
    return place->currentline > 0 && (place->source[0] == '@' || place->source[0] == '=');
}

void pln_compile_here(lua_State *L) {
    struct pln_compiler *compiler = pln_compile_of(L);
    lua_Debug place;
    bool is_known = false; /* C called C, or such a text was a tail call: there is no line */
    for (int level = 1; !is_known && lua_getstack(L, level, &place); level++) {
        lua_getinfo(L, "Sl", &place);
        is_known = is_in_file(&place);
    }
    compiler->statement.line = is_known ? place.currentline : 0;
    snprintf(compiler->statement.file, sizeof compiler->statement.file, "%s",
             is_known ? place.source + 1 : compiler->reading[compiler->n_reading - 1]);
}

const char *pln_compile_place(const struct pln_compiler *compiler, const char *file, int line,
                              char *text, size_t size) {
    bool is_here = strcmp(file, compiler->statement.file) == 0;
    snprintf(text, size, is_here ? "%sline %d" : "%.100s:%d", is_here ? "" : file, line);
    return text;
}

/* What a word of ours made goes by its name: "a warm source". */
static void got_object(lua_State *L, int index, char *text, size_t size) {
    static const char ours[] = "perilune.";
    const char *name = luaL_typename(L, index);
    if (lua_isuserdata(L, index) && luaL_getmetafield(L, index, "__name") == LUA_TSTRING) {
        const char *full = lua_tostring(L, -1); /* the metatable's: it outlives the pop */
        name = strncmp(full, ours, sizeof ours - 1) == 0 ? full + sizeof ours - 1 : name;
        lua_pop(L, 1);
    }
    snprintf(text, size, "a %s", name);
    for (char *at = text; (at = strchr(at, '_')) != NULL;) {
        *at = ' ';
    }
}

const char *pln_compile_got(lua_State *L, int index, char *text, size_t size) {
    switch (lua_type(L, index)) {
    case LUA_TNIL:
    case LUA_TNONE:
        snprintf(text, size, "nothing");
        break;
    case LUA_TSTRING:
        snprintf(text, size, strlen(lua_tostring(L, index)) > 60 ? "'%.57s...'" : "'%s'",
                 lua_tostring(L, index));
        break;
    case LUA_TBOOLEAN:
        snprintf(text, size, "%s", lua_toboolean(L, index) ? "true" : "false");
        break;
    case LUA_TNUMBER:
        if (lua_tonumber(L, index) != lua_tonumber(L, index)) {
            snprintf(text, size, "nan"); /* whatever its sign, which C would print */
        } else {
            snprintf(text, size, "%.14g", lua_tonumber(L, index));
        }
        break;
    default:
        got_object(L, index, text, size);
    }
    return text;
}

/* ---- fields of a body ---- */

int pln_compile_field(lua_State *L, int body, const char *name) {
    lua_pushstring(L, name);
    return lua_rawget(L, body);
}

const char *pln_compile_text(lua_State *L, int index) {
    size_t len;
    if (lua_type(L, index) != LUA_TSTRING) {
        return NULL;
    }
    const char *text = lua_tolstring(L, index, &len);
    return strlen(text) == len ? text : NULL;
}

size_t pln_compile_check_list(lua_State *L, int index, const char *field) {
    lua_Integer n = (lua_Integer) lua_rawlen(L, index);
    char got[80];
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        lua_pop(L, 1);
        lua_Integer i = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
        if (i < 1 || i > n) {
            pln_compile_refuse(L, "%s: a list, got a table with the field %s", field,
                               pln_compile_got(L, -1, got, sizeof got));
        }
    }
    return (size_t) n;
}

/* ", known are a, b", where they are few. */
static const char *list_names(const char *const *names, bool has_terms, char *text, size_t size) {
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; !has_terms && names[i] != NULL && at < size; i++) {
        at += (size_t) snprintf(text + at, size - at, "%s%s", i == 0 ? ", known are " : ", ",
                                names[i]);
    }
    return text;
}

static bool is_among(const char *const *names, const char *name) {
    for (; *names != NULL; names++) {
        if (strcmp(*names, name) == 0) {
            return true;
        }
    }
    return false;
}

void pln_compile_check_names(lua_State *L, int body, const char *const *names, bool has_terms,
                             bool has_list) {
    const char *known[PLN_MOST_POLICY_FIELDS + 8];
    const char *const *given = names;
    char got[80], list[160];
    size_t n = 0;
    for (size_t i = 0; has_terms && i < pln_n_policy_fields; i++) {
        known[n++] = pln_policy_fields[i].name;
    }
    for (; *names != NULL; names++) {
        assert(n < PLN_ARRAY_LEN(known) - 1);
        known[n++] = *names;
    }
    known[n] = NULL;
    lua_pushnil(L);
    while (lua_next(L, body) != 0) {
        lua_pop(L, 1);
        const char *name = pln_compile_text(L, -1);
        if ((has_list && lua_isinteger(L, -1)) || (name != NULL && is_among(known, name))) {
            continue;
        }
        const char *near = name == NULL ? NULL : pln_nearest(known, name);
        pln_compile_got(L, -1, got, sizeof got);
        if (near != NULL) {
            pln_compile_refuse(L, "unknown field %s, did you mean '%s'?", got, near);
        }
        pln_compile_refuse(L, "unknown field %s%s", got,
                           list_names(given, has_terms, list, sizeof list));
    }
}

static int make_template(const char *text, const struct pln_template *pattern,
                         struct pln_template **template) {
    return pattern == NULL ? pln_template_new_free(text, template)
                           : pln_template_new(text, pattern, template);
}

void pln_compile_templates(lua_State *L, int index, const char *field,
                           const struct pln_template *pattern, struct pln_template ***list,
                           size_t *n) {
    char got[80];
    if (!lua_istable(L, index)) {
        pln_compile_refuse(L, "%s: a list such as { \"users\", \"user:{id}\" }, got %s", field,
                           pln_compile_got(L, index, got, sizeof got));
    }
    size_t len = pln_compile_check_list(L, index, field);
    if (len > PLN_MAX_TAGS) {
        pln_compile_refuse(L, "%s: at most %d, got %zu", field, PLN_MAX_TAGS, len);
    }
    for (size_t i = 1; i <= len; i++) {
        lua_rawgeti(L, index, (lua_Integer) i);
        const char *text = pln_compile_text(L, -1);
        if (text == NULL) {
            pln_compile_refuse(L, "%s[%zu]: a text such as \"user:{id}\", got %s", field, i,
                               pln_compile_got(L, -1, got, sizeof got));
        }
        charge(L, TEMPLATE_BYTES + 2 * strlen(text), NULL);
        *list = pln_compile_grow(L, *list, *n, sizeof **list);
        if (make_template(text, pattern, &(*list)[*n]) < 0) {
            pln_compile_refuse(L, "%s[%zu]: %s", field, i, pln_error_text());
        }
        ++*n;
        lua_pop(L, 1);
    }
}

/* ---- functions ---- */

void pln_compile_keep_function(lua_State *L, unsigned rule, unsigned hook) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &functions_key);
    lua_insert(L, -2);
    lua_rawseti(L, -2, (lua_Integer) rule * 64 + hook);
    lua_pop(L, 1);
}

void pln_compile_push_function(lua_State *L, unsigned rule, unsigned hook) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &functions_key);
    lua_rawgeti(L, -1, (lua_Integer) rule * 64 + hook);
    lua_remove(L, -2);
}

/* ---- statements ---- */

static const struct {
    const char *kind;
    const char *example;
    void (*read)(lua_State *L, int body);
    bool takes_function; /* as its body */
} statements[] = {
    {"class", "cache.class \"page\" { ttl = \"15m\" }", pln_compile_class, false},
    {"rule", "cache.rule \"user:{id}\" { ttl = \"15m\" }", pln_compile_rule, false},
    {"on", "cache.on \"user.deleted\" { tags = { \"user:{id}\" } }", pln_compile_event, true},
    {"test", "cache.test \"user:1\" { ttl = \"15m\" }", pln_compile_test, false},
    {"alert", "cache.alert \"hit-ratio\" { below = 0.8 }", pln_compile_alert, false},
};

void pln_compile_begin(struct pln_compiler *compiler, const char *kind, const char *name) {
    compiler->statement.kind = kind;
    snprintf(compiler->statement.name, sizeof compiler->statement.name, "%s", name);
}

void pln_compile_word(lua_State *L, const char *word) {
    struct pln_compiler *compiler = pln_compile_of(L);
    if (!compiler->statement.is_open) {
        pln_compile_begin(compiler, word, "");
        pln_compile_here(L);
    }
}

/* The body's call; the upvalue is the statement's place in the table. */
static int read_body(lua_State *L) {
    struct pln_compiler *compiler = pln_compile_of(L);
    size_t which = (size_t) lua_tointeger(L, lua_upvalueindex(1));
    char got[80];
    if (!compiler->statement.is_open) {
        return luaL_error(L, "cache.%s: this statement has its body already",
                          statements[which].kind);
    }
    compiler->statement.is_open = false;
    if (!lua_istable(L, 1) && !(statements[which].takes_function && lua_isfunction(L, 1))) {
        pln_compile_refuse(L, "its body is a table%s, as in %s, got %s",
                           statements[which].takes_function ? " or a function" : "",
                           statements[which].example, pln_compile_got(L, 1, got, sizeof got));
    }
    lua_settop(L, 1);
    statements[which].read(L, 1);
    return 0;
}

void pln_compile_check_closed(lua_State *L) {
    struct pln_compiler *compiler = pln_compile_of(L);
    char text[PLN_SCRIPT_ERROR];
    if (!compiler->statement.is_open) {
        return;
    }
    snprintf(text, sizeof text, "%.100s:%d: %s '%.100s' at line %d has no body",
             compiler->statement.file, compiler->statement.line, compiler->statement.kind,
             compiler->statement.name, compiler->statement.line);
    raise_text(L, compiler, text);
}

static int open_statement(lua_State *L) {
    struct pln_compiler *compiler = pln_compile_of(L);
    size_t which = (size_t) lua_tointeger(L, lua_upvalueindex(1));
    char got[80];
    pln_compile_check_closed(L);
    const char *name = pln_compile_text(L, 1);
    pln_compile_begin(compiler, statements[which].kind, "");
    pln_compile_here(L);
    if (name == NULL || name[0] == 0) {
        pln_compile_refuse(L, "a name is wanted, as in %s, got %s", statements[which].example,
                           pln_compile_got(L, 1, got, sizeof got));
    }
    if (strlen(name) > PLN_SCRIPT_NAME) {
        pln_compile_refuse(L, "'%.40s...' is longer than %d bytes", name, PLN_SCRIPT_NAME);
    }
    pln_compile_begin(compiler, statements[which].kind, name);
    if (lua_gettop(L) > 1) {
        pln_compile_refuse(L, "its body stands behind, as in %s, got a second argument",
                           statements[which].example);
    }
    compiler->statement.is_open = true;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushcclosure(L, read_body, 1);
    return 1;
}

/* Those that have no name: one call brings the body. */
static const struct {
    const char *kind;
    const char *example;
    void (*read)(lua_State *L, int body);
} nameless[] = {
    {"warm", "cache.warm { keys { \"a\" } }", pln_compile_warm},
    {"events", "cache.events { stream = \"shop:events\" }", pln_compile_sources},
    {"rules", "cache.rules { rules = { { pattern = \"user:{id}\", ttl = \"15m\" } } }",
     pln_compile_tables},
};

static int read_nameless(lua_State *L) {
    struct pln_compiler *compiler = pln_compile_of(L);
    size_t which = (size_t) lua_tointeger(L, lua_upvalueindex(1));
    char got[80];
    pln_compile_check_closed(L);
    pln_compile_begin(compiler, nameless[which].kind, "");
    pln_compile_here(L);
    if (!lua_istable(L, 1)) {
        pln_compile_refuse(L, "a table is wanted, as in %s, got %s", nameless[which].example,
                           pln_compile_got(L, 1, got, sizeof got));
    }
    lua_settop(L, 1);
    nameless[which].read(L, 1);
    return 0;
}

static int refuse_statement(lua_State *L) {
    static const char *const names[] = {"class", "rule", "on",    "warm", "events",
                                        "rules", "test", "alert", NULL};
    const char *name = luaL_tolstring(L, 2, NULL);
    const char *near = pln_nearest(names, name);
    return near == NULL
               ? luaL_error(L, "unknown statement cache.%s", name)
               : luaL_error(L, "unknown statement cache.%s, did you mean cache.%s?", name, near);
}

void pln_compile_open(lua_State *L) {
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &functions_key);
    lua_createtable(L, 0, 5);
    for (size_t i = 0; i < PLN_ARRAY_LEN(statements); i++) {
        lua_pushinteger(L, (lua_Integer) i);
        lua_pushcclosure(L, open_statement, 1);
        lua_setfield(L, -2, statements[i].kind);
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(nameless); i++) {
        lua_pushinteger(L, (lua_Integer) i);
        lua_pushcclosure(L, read_nameless, 1);
        lua_setfield(L, -2, nameless[i].kind);
    }
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, refuse_statement);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_setfield(L, -2, "cache");
    pln_compile_open_include(L);
    pln_compile_open_rules(L);
    pln_compile_open_storing(L);
    pln_compile_open_sources(L);
    pln_shared_open(L);
    pln_same_push(L);
    lua_setfield(L, -2, "not_modified");
}

/* ---- the file ---- */

static int run_file(lua_State *L) {
    const struct pln_compiler *compiler = lua_touserdata(L, 1);
    pln_compile_run(L, compiler->source->file, &compiler->source->text);
    return 0;
}

/* Tells the ruleset what it was made of, so that a change is seen. */
static int add_files(struct pln_ruleset *ruleset, const struct pln_source_text *source) {
    int status = pln_ruleset_add_file(ruleset, source->path, source->text.stamp);
    for (const struct pln_included *one = source->includes; one != NULL && status == PLN_OK;
         one = one->next) {
        status = pln_ruleset_add_file(ruleset, one->path, one->text.stamp);
    }
    return status;
}

static void free_classes(struct pln_compiler *compiler) {
    for (size_t i = 0; i < compiler->n_classes; i++) {
        free(compiler->classes[i].name);
        free(compiler->classes[i].file);
        free(compiler->classes[i].writing.store);
    }
    free(compiler->classes);
}

int pln_compile(struct pln_script *script, struct pln_source_text *source,
                const struct pln_terms *base, struct pln_ruleset **ruleset) {
    struct pln_compiler compiler = {.ruleset = pln_ruleset_new(), .base = base, .source = source};
    int status = PLN_OK;
    if (compiler.ruleset == NULL) {
        return pln_fail(PLN_ENOMEM, "policy: no memory for a ruleset");
    }
    script->compiler = &compiler;
    if (pln_script_call(script, run_file, &compiler, PLN_SCRIPT_READ_MS) < 0 ||
        compiler.error[0] != 0) {
        const char *text = compiler.error[0] != 0 ? compiler.error : script->error;
        status = pln_fail(PLN_EPOLICY, "%s", text);
    }
    script->compiler = NULL;
    if (status == PLN_OK && !script->is_quiet) { /* else all that has been looked at */
        status = add_files(compiler.ruleset, source);
        status = status < 0 ? status : pln_compile_end_rules(compiler.ruleset);
        status = status < 0 ? status : pln_tests_run(&compiler, script);
    }
    pln_tests_free(&compiler);
    free_classes(&compiler);
    if (status < 0) {
        pln_ruleset_unref(compiler.ruleset);
        return status;
    }
    pln_source_complete(source);
    *ruleset = compiler.ruleset;
    return PLN_OK;
}
