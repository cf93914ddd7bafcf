/* SPDX-License-Identifier: MIT
 *
 * module.h - what the files of the module share: the class of caches that programs see, and the
 * tables of options.
 *
 * module.c   luaopen_perilune, and a cache's life
 * options.c  tables of options, checked for unknown names
 * reads.c    get, peek, get_many, and the call of a loader
 * bulk.c     loading many keys by one call
 * keying.c   keys made of parts
 * writes.c   set, and all that makes values void
 * terms.c    what a loader says of its value's life, and a rule of a key's
 * wrap.c     functions whose results are cached
 * async.c    reads that do not wait, and op.c what is known of them; async_calls.c writes;
 * put_off.c what else goes to Redis control.c  policies, statistics warming.c  warming, and whether
 * a cache is warm policies.c policies that change, and their tests memory.c   a server in memory,
 * for tests locks.c    locks shadow.c   a candidate policy beside the live one engine.c   what all
 * of the process shares, and who does its work limits.c   counters and limits of a rate swaps.c
 * cached values that change by what they are hearing.c  what is heard of other instances sessions.c
 * sessions given.c    what these three share answers.c  words of Redis commands out of Lua, and
 * answers into it data.c     any command; sets, lists and streams of Redis hashes.c   hashes
 * decoded.c  values read as Lua gets them, and tables that need not be decoded again
 * scans.c    iterators over what is too large to be fetched at once
 * boards.c   sorted sets as leaderboards
 * queries.c  results of SQL, by a library in Lua
 * queue.c    what waits to be stored, and what could not be
 *
 * Misuse raises; what happens in life is nil, message, code; an outcome such as a miss is nil, nil,
 * code. An error in Lua is a longjmp, so a borrowed value and a call of the core's are never left
 * by one: a protected call stands between.
 */
#ifndef PLN_LUA_MODULE_H
#define PLN_LUA_MODULE_H

#include "internal.h"

struct pln_lua_load;    /* of reads.c */
struct pln_lua_decoded; /* of decoded.c */

/* Its address marks our userdata. */
extern const char pln_lua_kind;

struct pln_lua_cache {
    const char *kind;           /* &pln_lua_kind */
    struct pln_cache *cache;    /* NULL: closed */
    struct pln_lua_load *loads; /* by loaders of this state, the innermost first */
    unsigned n_running;         /* calls under way that may run Lua, which may try to close it */
    bool has_loaders;           /* by name: a table that is the user value */
    struct pln_news *news;      /* of ops; NULL: there were none yet */
    struct pln_lua_decoded *decoded;  /* NULL: none yet */
    size_t decoded_bytes;             /* at most; 0: each read gives its table away */
    struct pln_lua_cache *stands_for; /* NULL; of a stand-in (put_off.h), whose cache is NULL: for
                                         whom. It has that one as its user value. */
    bool has_put_off;                 /* likewise: what it was used for is an op's by now */
    char name[64];
};

/* The upvalues of every method. The names of sources are kept there as strings so that a hit need
 * not look them up. */
enum {
    PLN_LUA_CLASS = 1,  /* the metatable, to know a cache by */
    PLN_LUA_SOURCE = 2, /* the first of the names, in the order of enum pln_source */
    PLN_LUA_N_UPVALUES = PLN_LUA_SOURCE + PLN_FROM_NEGATIVE,
};

/* The cache at `index`, open or closed; raises where the value is something else. */
static inline struct pln_lua_cache *pln_lua_handle(lua_State *L, int index) {
    struct pln_lua_cache *self = lua_touserdata(L, index);
    /* A look into the userdata itself: luaL_checkudata finds the metatable by name (15 ns), and
     * comparing metatables takes five calls into Lua (6 ns, of the 90 that a hit may cost). No
     * other library's userdata has this size and this address in it; light ones have no size. */
    if (self == NULL || lua_rawlen(L, index) != sizeof *self || self->kind != &pln_lua_kind) {
        luaL_typeerror(L, index, "perilune.cache");
    }
    return self;
}

/* The open cache at `index`, or that for which it stands; raises where it is closed. */
static inline struct pln_lua_cache *pln_lua_opened(lua_State *L, int index) {
    struct pln_lua_cache *self = pln_lua_handle(L, index);
    if (self->cache == NULL && self->stands_for != NULL) {
        self = self->stands_for;
    }
    if (self->cache == NULL) {
        luaL_error(L, "attempt to use a closed cache");
    }
    return self;
}

/* The key at `index`: a string, or an integer, which becomes one in its place. */
static inline struct pln_bytes pln_lua_check_key(lua_State *L, int index) {
    struct pln_bytes key;
    if (lua_type(L, index) != LUA_TSTRING && !lua_isinteger(L, index)) {
        luaL_typeerror(L, index, "string or integer");
    }
    key.data = lua_tolstring(L, index, &key.len);
    return key;
}

/* ---- module.c ---- */

/* The text of the string, integer or boolean on top of the stack, which is made a string in its
 * place and owns the text. False where it is something else. */
bool pln_lua_top_text(lua_State *L, struct pln_bytes *text);

/* Pushes what a status means to a program: true; or nil, nil, code; or nil, message, code. Raises
 * where an argument was unusable. Returns the number of results. */
int pln_lua_push_status(lua_State *L, int status);

/* Pushes nil, message, code for the failure that the last call in this thread met; returns 3. */
int pln_lua_push_failure(lua_State *L, int status);

/* ---- options.c ---- */

enum { PLN_LUA_MAX_TAGS = 64 };

/* Reads perilune.open's table at `index`. Texts point into a table that is pushed: it must stay on
 * the stack until pln_open() has returned. */
void pln_lua_open_options(lua_State *L, int index, struct pln_options *options);

/* Read the options of one call; nil or nothing at `index` means all defaults. Tags point into
 * strings that are pushed, so that they live as long as the caller's frame, whatever a loader does
 * to the table. */
void pln_lua_get_options(lua_State *L, int index, struct pln_get_options *options,
                         struct pln_bytes tags[PLN_LUA_MAX_TAGS]);
void pln_lua_set_options(lua_State *L, int index, struct pln_set_options *options,
                         struct pln_bytes tags[PLN_LUA_MAX_TAGS]);

/* Likewise ttl and timeout of a call on a data structure; `names` (ending in NULL) are all that the
 * table may have. */
void pln_lua_data_options(lua_State *L, int index, const char *const *names,
                          struct pln_data_options *options);

/* A positive integer of a table of options; 0 where it is not given. */
lua_Integer pln_lua_count_option(lua_State *L, int index, const char *name);

/* Raises where the table at `index` has a key that is not in `names` (ending in NULL). */
void pln_lua_check_names(lua_State *L, int index, const char *const *names);

/* A duration of an argument: a positive number of seconds, or a text. Raises, naming `name`. */
pln_ms pln_lua_check_duration(lua_State *L, int index, const char *name);

/* ---- terms.c ---- */

/* Takes what a loader returns beside its value: a ttl (negative: hand out, do not store), or a
 * table of ttl, stale and tags; nil says nothing. Raises for what is wrong. */
void pln_lua_take_terms(lua_State *L, int index, struct pln_load *load);
/* perilune.hash */
int pln_lua_hash(lua_State *L);

/* ---- reads.c ---- */

/* Beside enum pln_get_flags, and not the core's: the loader is given the old value. */
#define PLN_LUA_WITH_OLD (UINT32_C(1) << 31)

/* How a get loads: by the function at `loader` of the calling frame, given the key where it wants
 * it, and the `n_extra` values from `first_extra` on. */
struct pln_lua_loading {
    int key, loader, first_extra, n_extra;
    bool takes_key; /* as its first argument */
    bool gives_ttl; /* as its third result */
    bool takes_old; /* behind all other arguments */
    bool is_copy;   /* a table that is read is the caller's own */
};

/* Gets a key with a loader; pushes value, error, how and returns 3. The calling function needs the
 * methods' upvalues. */
int pln_lua_get_loading(lua_State *L, struct pln_lua_cache *self,
                        const struct pln_get_options *options,
                        const struct pln_lua_loading *loading);

/* ---- engine.c ---- */

/* perilune.shutdown(name) */
int pln_lua_shutdown(lua_State *L);
/* Likewise: tables are the caller's own. */
#define PLN_LUA_COPY (UINT32_C(1) << 30)

/* ---- decoded.c ---- */

/* Each pushes what a read has brought, and returns the number of results: value, nil, how. `key` is
 * the stack index of the key as a string, by which a table is known again; 0: none. The calling
 * function needs the methods' upvalues. */
int pln_lua_push_no_value(lua_State *L, int status);
/* nil, and where the value below it is from. */
static inline int pln_lua_push_how(lua_State *L, int source) {
    lua_pushnil(L);
    lua_pushvalue(L, lua_upvalueindex(PLN_LUA_SOURCE + source));
    return 3;
}
/* Bytes that are the caller's. */
int pln_lua_push_bytes(lua_State *L, struct pln_lua_cache *self, int key, bool is_copy,
                       struct pln_bytes bytes, const struct pln_result *result);
/* A borrowed value, if the status is PLN_OK; it is given back, whatever happens. */
int pln_lua_push_read(lua_State *L, struct pln_lua_cache *self, int key, bool is_copy, int status,
                      struct pln_result *result);
/* Pushes a borrowed value alone, and gives it back whatever happens. False where it cannot be read.
 * No upvalues are needed. */
bool pln_lua_push_borrowed(lua_State *L, struct pln_lua_cache *self, int key, bool is_copy,
                           struct pln_result *result);
/* Pushes a borrowed value alone, which stays borrowed, on top of what it may leave: in a protected
 * call. Returns as pln_lua_decode(). */
int pln_lua_push_value(lua_State *L, struct pln_lua_cache *self, int key, bool is_copy,
                       const struct pln_result *result);
void pln_lua_decoded_free(lua_State *L, struct pln_lua_cache *self);
/* perilune.copy */
int pln_lua_copy_function(lua_State *L);

/* Fills the keys from the list at `index`; integers become strings kept in a table of their own,
 * which is pushed. */
void pln_lua_take_keys(lua_State *L, int index, struct pln_bytes *keys, size_t n);
/* The same in a block that is pushed below them; raises where the list is too long. */
struct pln_bytes *pln_lua_push_keys(lua_State *L, int index, size_t *n);

/* Keys, results and statuses of a get_many. */
struct pln_lua_batch {
    struct pln_bytes *keys;
    struct pln_result *results;
    int *statuses;
    size_t n;
    struct pln_lua_cache *self;
    bool is_copy;
};

/* Pushes values and hows, and gives the borrowed values back whatever happens; returns 2. The keys,
 * as a table of strings, are on top of the stack. */
int pln_lua_push_answers(lua_State *L, struct pln_lua_cache *self, struct pln_lua_batch *batch);
/* The same of a call in this thread that has just ended, and why something failed, if it did. */
int pln_lua_push_told(lua_State *L, struct pln_lua_cache *self, struct pln_lua_batch *batch);

bool pln_lua_is_callable(lua_State *L, int index);

/* Makes the n results of a key's loader, on top of the stack, the load's, and pops them. Returns
 * what a loader returns; PLN_ELOADER: the message is in their place. */
int pln_lua_take_loaded(lua_State *L, int n, struct pln_cache *cache, struct pln_bytes key,
                        struct pln_load *load);

/* ---- keying.c ---- */

/* Adds the values from `first` to `last` to the text on top of the stack, as parts of a key. Raises
 * where one makes none; `help` says what to do then. */
void pln_lua_key_add(lua_State *L, int first, int last, const char *help);
/* Puts a hash into the key on top of the stack, where it is long. */
void pln_lua_key_shorten(lua_State *L);
/* perilune.key */
void pln_lua_push_key_maker(lua_State *L);

/* ---- bulk.c ---- */

/* Reads a batch, and loads what is missing by the function at 4; the keys are the list at 2. Pushes
 * values and hows, and why something failed; returns how many. */
int pln_lua_get_many_loading(lua_State *L, struct pln_lua_cache *self, struct pln_lua_batch *batch,
                             struct pln_get_options *options);

/* ---- async.c ---- */

struct pln_lua_call; /* of put_off.h */

/* What an op of Lua's owns. */
struct pln_lua_begun {
    struct pln_op *op;         /* NULL: its results are known, or it was cancelled */
    struct pln_lua_call *call; /* NULL: it is a get */
};

/* Pushes an op of the cache at index `cache`, for a call to be begun. */
struct pln_lua_begun *pln_lua_push_call(lua_State *L, int cache);
/* Makes an op of the cache at index `cache` of the n results on top of the stack, which are at most
 * five: it is ready, and in their place. */
void pln_lua_push_known(lua_State *L, int cache, int n);
/* Makes the cache's news, unless it has them. Raises where it is closed. */
int pln_lua_need_news(lua_State *L, struct pln_lua_cache *cache);

/* ---- async_calls.c ---- */

/* call_async(method, ...) -> op | nil, message, code */
int pln_lua_call_async(lua_State *L);

/* ---- put_off.c ---- */

/* Pushes the results of a call that ended with this status; returns how many. */
int pln_lua_call_push(lua_State *L, struct pln_lua_call *call, int status);
/* The op is done with it. NULL is allowed. */
void pln_lua_call_drop(struct pln_lua_call *call);

/* ---- arguments of methods, from `at` on; strings that they have are pushed, and stay ---- */

enum { PLN_LUA_MAX_FIELDS = 64 };

/* writes.c: set's key, value and options. The bytes of the value. */
struct pln_bytes pln_lua_take_set(lua_State *L, int at, struct pln_set_options *options,
                                  struct pln_bytes tags[PLN_LUA_MAX_TAGS]);
/* The value at `index` as the rule of the key at `key` wants it, or in the codec `wanted`, which
 * the argument after the value asks for, unless that is PLN_CODEC_RAW. */
void pln_lua_encode_for(lua_State *L, int key, int index, int wanted, struct pln_bytes *value,
                        uint8_t *format);
/* An event's fields; nil: none. Returns how many. */
size_t pln_lua_take_fields(lua_State *L, int at, struct pln_field fields[PLN_LUA_MAX_FIELDS]);

/* swaps.c: incr's key, delta and options. Returns delta. */
lua_Integer pln_lua_take_incr(lua_State *L, int at, struct pln_incr_options *options);

/* What cas is given beside the new value. */
struct pln_lua_cas {
    bool has_old;
    struct pln_bytes old;
    struct pln_swap_options options;
};
/* What it found in the old one's place. */
struct pln_lua_there {
    void *bytes; /* NULL: nothing */
    size_t len;
    uint8_t format;
};
/* cas's key, old value, new value and options. The bytes of the new value. */
struct pln_bytes pln_lua_take_cas(lua_State *L, int at, struct pln_lua_cas *cas);
/* Carries it out; calls nothing of the host's Lua. Owns: there->bytes is the caller's to free. */
int pln_lua_cas_run(struct pln_cache *cache, struct pln_bytes key, struct pln_bytes value,
                    const struct pln_lua_cas *cas, struct pln_lua_there *there);
/* Pushes its results; returns how many. */
int pln_lua_cas_push(lua_State *L, int status, const struct pln_lua_there *there);

/* limits.c: count's name, number and options; limit's name and options, and its results. */
lua_Integer pln_lua_take_count(lua_State *L, int at, pln_ms *ttl);
void pln_lua_take_limit(lua_State *L, int at, struct pln_limit_options *limit);
int pln_lua_push_limit(lua_State *L, int status, const struct pln_limit_result *result);

/* ---- policies.c ---- */

/* perilune.reload_policies */
int pln_lua_reload_policies(lua_State *L);

/* ---- memory.c ---- */

/* perilune.memory */
int pln_lua_memory(lua_State *L);
/* ---- given.c ---- */

/* Gives the userdata on top of the stack its class, which is made where there is none of the name.
 * Either list may be NULL. */
void pln_lua_set_class(lua_State *L, const char *name, const luaL_Reg *metamethods,
                       const luaL_Reg *methods);

/* An option of the table at `index`; where it is not given: 0, `otherwise`, or -1. */
pln_ms pln_lua_given_duration(lua_State *L, int index, const char *name);
lua_Integer pln_lua_given_integer(lua_State *L, int index, const char *name);
bool pln_lua_given_flag(lua_State *L, int index, const char *name, bool otherwise);
/* The place among `choices` (ending in NULL). */
int pln_lua_given_choice(lua_State *L, int index, const char *name, const char *const *choices);

/* ---- warming.c ---- */

/* perilune.notify(message): to the service manager. */
int pln_lua_notify(lua_State *L);

/* ---- locks.c ---- */

/* The module's function `nodes`. */
int pln_lua_open_nodes(lua_State *L);
/* ---- answers.c ---- */

/* A command that is being put together. Its words are strings in a table at `texts`, which stays
 * on the stack until the command has been answered. */
struct pln_lua_words {
    int texts;
    lua_Integer n;
};

/* Pushes the table. The command's name is the first word. */
void pln_lua_words_begin(lua_State *L, struct pln_lua_words *words, const char *command);
void pln_lua_words_text(lua_State *L, struct pln_lua_words *words, const char *text);
void pln_lua_words_integer(lua_State *L, struct pln_lua_words *words, lua_Integer number);
/* The argument at `index`: a string or a number; those of a list, or the one that is no table;
 * names and values in turn. They raise where it is something else, or an empty table. */
void pln_lua_words_value(lua_State *L, struct pln_lua_words *words, int index);
void pln_lua_words_list(lua_State *L, struct pln_lua_words *words, int index);
void pln_lua_words_pairs(lua_State *L, struct pln_lua_words *words, int index);
/* Pushes a block with the words' bytes. */
const struct pln_bytes *pln_lua_words_end(lua_State *L, const struct pln_lua_words *words);

/* Makes Lua values of an answer, and may raise. Returns how many. */
typedef int (*pln_lua_build)(lua_State *L, const struct pln_answer *answer);

/* As it is: nil at the top is nil, nil, "miss"; false within a list. */
int pln_lua_build_any(lua_State *L, const struct pln_answer *answer);
/* true, whatever it says; true where it says 1, else false. */
int pln_lua_build_done(lua_State *L, const struct pln_answer *answer);
int pln_lua_build_whether(lua_State *L, const struct pln_answer *answer);
/* A number that may have come as text. */
int pln_lua_build_number(lua_State *L, const struct pln_answer *answer);

/* Runs a command on the structure named at `name`, of the cache at `cache`; returns its results.
 * The second runs any, for the server that has `key`; an empty one: the command says it. */
int pln_lua_data_call(lua_State *L, int cache, int name, const struct pln_lua_words *words,
                      const struct pln_data_options *options, pln_lua_build build);
int pln_lua_command(lua_State *L, int cache, struct pln_bytes key,
                    const struct pln_lua_words *words, pln_ms timeout, pln_lua_build build);

/* Pushes the name that the structure has in Redis. */
void pln_lua_push_data_name(lua_State *L, int cache, int name);

/* All that the options of a call may have: of one that reads, of one that writes. */
extern const char *const pln_lua_read_names[], *const pln_lua_write_names[];

/* ---- methods, a list per file ---- */

extern const luaL_Reg pln_lua_reads[], pln_lua_writes[], pln_lua_wraps[], pln_lua_controls[],
    pln_lua_keys[], pln_lua_locks[], pln_lua_limits[], pln_lua_sessions[], pln_lua_data[],
    pln_lua_hashes[], pln_lua_scans[], pln_lua_boards[], pln_lua_policies[], pln_lua_warmings[],
    pln_lua_shadows[], pln_lua_engines[], pln_lua_asyncs[], pln_lua_copies[], pln_lua_terms[],
    pln_lua_swaps[], pln_lua_hearing[], pln_lua_queries[], pln_lua_queue[];

#endif
