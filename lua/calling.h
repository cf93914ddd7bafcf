/* SPDX-License-Identifier: MIT
 *
 * calling.h - a part of script.h: a policy's functions being called by the core. vm.c finds the
 * state and keeps count of failures, calls.c and stores.c carry values in and out, fuse.c says when
 * a function is not called any more.
 */
#ifndef PLN_LUA_CALLING_H
#define PLN_LUA_CALLING_H

#include "../core/policy.h"
#include "internal.h"

struct pln_script;

/* ---- calls.c: a policy's functions being called ---- */

/* One call, as its C frame sees it. */
struct pln_call {
    const struct pln_match *match;
    struct pln_bytes key;
    struct pln_bytes value; /* not for load */
    uint8_t format;
    unsigned hook; /* one of enum pln_rule_hooks */
    struct pln_load *load;
    int status;          /* of load: PLN_OK, PLN_ABSENT, or a failure of the core's */
    bool has_ttl;        /* load gave one */
    bool is_answer;      /* load returned nil and an error: its word, not a fault of the script */
    bool is_overrun;     /* stopped for want of time or memory */
    bool is_out_of_time; /* of is_overrun: in the midst of it */
    char complaint[160]; /* about a ttl that load gave; "" for none */
};

/* "ttl" */
const char *pln_call_name(unsigned hook);
/* For pln_script_call(), with a struct pln_call: call the function and put what it says into the
 * load. The second is for tags and related. */
int pln_call_ttl(lua_State *L);
int pln_call_list(lua_State *L);
int pln_call_load(lua_State *L);
/* What functions are given, and what is believed of their results. Each may raise. */
void pln_call_push_captures(lua_State *L, const struct pln_match *match);
/* Sets the captures as fields of the table on top of the stack. */
void pln_call_set_captures(lua_State *L, const struct pln_match *match);
/* A ttl; 0 or less means that the value is not stored, which the core takes as a negative one. */
bool pln_call_to_ttl(lua_State *L, int index, pln_ms *ttl);
extern const char pln_call_ttl_wanted[];
/* The length of a list that was returned, 0 for nil; raises where something is wrong with it. */
size_t pln_call_check_list(lua_State *L, int list, size_t longest);
/* Pushes its i-th text; raises where it is none of 1 to `longest` bytes. */
struct pln_bytes pln_call_push_item(lua_State *L, int list, size_t i, size_t longest);

/* ---- stores.c: the functions that write, and those that load many ---- */

/* The hooks store and load_many. */
int pln_stores_run(void *arg, unsigned worker, const struct pln_rule *rule,
                   struct pln_store_item *items, size_t n);
int pln_stores_load_many(void *arg, unsigned worker, const struct pln_rule *rule,
                         const struct pln_bulk *bulk);
/* Asks load_many for the one key of a load; pushes three results, as of load. */
void pln_stores_load_one(lua_State *L, const struct pln_call *call);

/* ---- fuse.c: functions that fail again and again are not called for a while ---- */

/* Of one function, shared by all workers. */
struct pln_fuse {
    _Atomic pln_ms logged_at;
    _Atomic pln_ms off_until;
    _Atomic unsigned n_in_row; /* failures since the last success */
};

enum { PLN_FUSE_FAILURES = 5, PLN_FUSE_OFF_MS = 10000 };

void pln_fuse_init(struct pln_fuse *fuse);
/* Whether the function may be called; where its time off has just ended, true for one caller. */
bool pln_fuse_lets(struct pln_fuse *fuse, pln_ms now);
void pln_fuse_succeed(struct pln_fuse *fuse);
/* Returns true where this failure turned the function off. */
bool pln_fuse_fail(struct pln_fuse *fuse, pln_ms now);
/* True once a second: a failure is to be logged. */
bool pln_fuse_may_log(struct pln_fuse *fuse, pln_ms now);

/* ---- vm.c ---- */

/* The script of a number under which hooks are called, made when it is first needed. `arg` is that
 * of the hooks. Returns: PLN_OK; PLN_EPOLICY, PLN_ENOMEM. */
int pln_vm_script(void *arg, unsigned worker, struct pln_script **script);
/* Frees it. */
void pln_vm_leave(void *arg, unsigned worker);
/* Runs one of calls.c's functions in a worker's script. Returns: PLN_OK; negative with a text. */
int pln_vm_run(void *arg, unsigned worker, lua_CFunction function, struct pln_call *call,
               unsigned budget_ms);
/* A key of a rule of ours, matched. */
void pln_vm_match(void *arg, const struct pln_rule *rule, struct pln_bytes key,
                  struct pln_match *match);
/* Whether the function's fuse lets it be called; then how that went: well; not, in these words,
 * where the fuse and the counters are told; or well but for something in its answer, which is
 * counted and logged. */
bool pln_vm_may_call(void *arg, const struct pln_call *call);
void pln_vm_succeeded(void *arg, const struct pln_call *call);
void pln_vm_failed(void *arg, const struct pln_call *call, const char *what);
void pln_vm_complain(void *arg, const struct pln_call *call, const char *what);
/* Fails with a text that names file, line, rule and field. */
int pln_vm_fail(const struct pln_call *call, int status, const char *what);
extern const char pln_vm_turned_off[]; /* what a call that the fuse does not let fails with */
/* Asks the rule's ttl, tags and related functions about a value. */
void pln_vm_shape(void *arg, unsigned worker, struct pln_call *call);

#endif
