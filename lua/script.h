/* SPDX-License-Identifier: MIT
 *
 * script.h - what the files of the policy half share: the states in which policies run (state.c),
 * what they may use there (sandbox.c), and how their statements become a ruleset (compile.c,
 * rules.c, storing.c, events.c, lists.c, naming.c, tests.c, fields.c). vm.c ties these together,
 * and policy.c is what a program calls. How the core calls a policy's functions is in calling.h.
 *
 * A policy is read once to check it and once more in each worker that runs its functions, always
 * from the text of the first reading. A script belongs to one thread at a time.
 */
#ifndef PLN_LUA_SCRIPT_H
#define PLN_LUA_SCRIPT_H

#include "calling.h"

#include <stdio.h>

enum {
    PLN_SCRIPT_ERROR = 400,        /* bytes kept of an error's text */
    PLN_SCRIPT_NAME = 512,         /* bytes of a statement's name */
    PLN_SCRIPT_DEPTH = 16,         /* files that include each other */
    PLN_SCRIPT_FILES = 64,         /* files that a policy includes */
    PLN_SCRIPT_MEMORY = 64 << 20,  /* cap on one sandboxed state, and on its statements in C */
    PLN_SCRIPT_SOURCE = 256 << 10, /* cap on a sandboxed policy's text */
    PLN_SCRIPT_RESERVE = 64 << 10, /* more than that, for the text of an error */
    PLN_SCRIPT_READ_MS = 1000,     /* budget for reading a file */
    PLN_SCRIPT_LOAD_MS = 1000,     /* budget of a load function; of others the cache says it */
};

#define PLN_TEN_YEARS_MS (3653LL * 86400 * 1000)

struct pln_text {
    char *bytes;
    size_t len;
    uint64_t stamp; /* of the file when it was read */
};

/* The text of a policy, and where it came from; shared by all states that read it. */
struct pln_source_text {
    struct pln_text text;
    char *path;
    char *folder; /* with its slash; "" where the path has none */
    char *file;   /* the path's last part, as it stands in messages */
    bool is_trusted;
    bool is_complete; /* no more files are taken in */
    struct pln_included *includes;
    size_t n_includes;
};

/* A file that the policy includes. */
struct pln_included {
    struct pln_included *next;
    char *name; /* from the policy's folder */
    char *path;
    struct pln_text text;
};

/* ---- source.c ---- */

/* Reads a policy file. Returns: PLN_OK; PLN_EPOLICY with a text, PLN_ENOMEM. */
int pln_source_init(struct pln_source_text *source, const char *path, uint32_t flags);
void pln_source_fini(struct pln_source_text *source);
/* The text of a file that is included, which is read at most once; it is the source's. Returns:
 * PLN_OK; PLN_EPOLICY with why it cannot be had, PLN_ENOMEM. */
int pln_source_include(struct pln_source_text *source, const char *name,
                       const struct pln_included **included);
/* The policy has been read whole: from now on several threads may read it again, and what was not
 * included then cannot be. */
void pln_source_complete(struct pln_source_text *source);

struct pln_compiler;

/* ---- state.c ---- */

struct pln_script {
    lua_State *L;
    const struct pln_host *host;
    struct pln_cache *cache; /* whose functions it runs; NULL: it is only read */
    const char *file;
    bool is_trusted;
    bool is_quiet;      /* print and log say nothing: the file is read again */
    bool is_running;    /* a call is under way */
    bool is_armed;      /* a budget is being watched */
    bool is_over;       /* it is gone: every further instruction raises */
    bool is_describing; /* an error's text is being made, for which there is a reserve */
    bool is_out_of_memory;
    size_t used_bytes;
    size_t largest_bytes; /* of the blocks that may be there */
    unsigned hook_every;  /* instructions between two looks at the clock */
    size_t steps;         /* of work in C since the last look */
    unsigned budget_ms;   /* of the present call */
    pln_ns started;       /* likewise, by the wall's clock and in the thread's processor time */
    pln_ns started_processor;
    char over_at[80]; /* file:line where it went */
    struct {
        pln_ms since;
        unsigned n_lines; /* said or held back since then */
    } log;
    struct pln_compiler *compiler; /* while the file is being read */
    char error[PLN_SCRIPT_ERROR + 1];
};

/* A fresh state with its environment. Returns: PLN_OK, PLN_ENOMEM. */
int pln_script_new(const struct pln_source_text *source, const struct pln_host *host,
                   struct pln_script **script);
void pln_script_free(struct pln_script *script);
/* The script that a state belongs to. */
struct pln_script *pln_script_of(lua_State *L);
/* Calls a C function, protected and within a budget, with `arg` as a light userdata. Nothing is
 * left on the stack. Returns: PLN_OK; PLN_EPOLICY with the text in script->error. */
int pln_script_call(struct pln_script *script, lua_CFunction function, void *arg,
                    unsigned budget_ms);
/* The processor time that has gone since the last call began; of trusted scripts 0: they have no
 * budget. Threads: that of the call. */
pln_ns pln_script_spent(const struct pln_script *script);
/* Charges work in C to the budget, in steps of 1 to 10 ns, and raises where it is gone. Never in
 * trusted scripts. */
void pln_script_charge(lua_State *L, size_t steps);
/* Copies a text with control bytes escaped, cut to what the buffer takes. */
void pln_script_escape(char *to, size_t size, const char *from, size_t len);

/* ---- sandbox.c ---- */

/* Goes on in the library's function that is the first upvalue, in the same frame, so that its
 * errors name the script's line. None of those replaced has upvalues of its own. */
int pln_call_original(lua_State *L);

/* Makes the global table of a new state: the whitelist, or all of Lua where trusted. Raises. */
void pln_sandbox_open(lua_State *L, bool is_trusted);

/* A function put in the place of a library's, which becomes its upvalue. */
struct pln_replacement {
    const char *name;
    lua_CFunction function;
};

/* Each ends with a NULL. */
extern const struct pln_replacement pln_safe_strings[]; /* safe_strings.c */
extern const struct pln_replacement pln_safe_tables[];  /* safe_tables.c */
int pln_safe_date(lua_State *L);                        /* for os.date; safe_strings.c */
/* Adds `log`, and a print into the log, to the globals on top of the stack. safe_log.c */
void pln_safe_log_open(lua_State *L, bool is_trusted);

/* ---- shared.c ---- */

/* Adds shared to the table on top of the stack. Raises where memory is out. */
void pln_shared_open(lua_State *L);

/* ---- pattern.c: Lua's patterns, each step charged to the budget ---- */

enum { PLN_PATTERN_CAPTURES = 32 };

/* A pattern being matched against a text; zero but for the first four. */
struct pln_pattern {
    lua_State *L;
    const char *subject, *end, *pattern_end;
    size_t steps; /* not yet charged */
    int depth;
    int n_captures;
    struct {
        const char *start;
        ptrdiff_t len;
    } captures[PLN_PATTERN_CAPTURES];
};

/* Matches what is left of a pattern at a place in the text. Returns where the match ends, or NULL.
 * Raises for a bad pattern, and where the budget is gone; likewise below. */
const char *pln_pattern_match(struct pln_pattern *match, const char *at, const char *pattern);
/* The i-th capture (from 0) of a match; without captures the first is all of it. Returns false
 * where it is a place in the text, which is pushed. */
bool pln_pattern_capture(const struct pln_pattern *match, int i, const char *start, const char *end,
                         struct pln_bytes *text);
/* Pushes one capture, or all; with a NULL start a pattern without captures has none. */
void pln_pattern_push(const struct pln_pattern *match, int i, const char *start, const char *end);
int pln_pattern_push_all(const struct pln_pattern *match, const char *start, const char *end);

/* ---- fields.c ---- */

enum pln_field_kind {
    PLN_FIELD_DURATION,
    PLN_FIELD_SIZE,
    PLN_FIELD_SHARE,
    PLN_FIELD_BOOLEAN,
    PLN_FIELD_NUMBER,      /* whole, in one byte */
    PLN_FIELD_READ,        /* an enum pln_read by its name, in one byte */
    PLN_FIELD_FACTOR,      /* any number */
    PLN_FIELD_COMPRESSION, /* by their names, likewise */
    PLN_FIELD_CODEC,
    PLN_FIELD_WRITE,
};

/* A field with a plain value, of classes and rules alike. */
struct pln_policy_field {
    const char *name;
    enum pln_field_kind kind;
    size_t offset;                  /* in struct pln_terms */
    bool (*is_valid)(double value); /* of a duration in ms, or a share */
    const char *range;              /* what is_valid wants, for people */
};

enum { PLN_MOST_POLICY_FIELDS = 64 };
extern const struct pln_policy_field pln_policy_fields[];
extern const unsigned pln_n_policy_fields;

enum pln_read_result { PLN_READ_OK, PLN_READ_WRONG_KIND, PLN_READ_WRONG_RANGE };

/* Reads the value at `index` into its place among the terms. */
enum pln_read_result pln_policy_field_read(const struct pln_policy_field *field, lua_State *L,
                                           int index, struct pln_terms *terms);
/* What kind of value a field wants: "a duration such as \"15m\" or seconds". */
const char *pln_policy_field_wanted(const struct pln_policy_field *field);
void pln_policy_field_copy(const struct pln_policy_field *field, struct pln_terms *to,
                           const struct pln_terms *from);
/* Writes a field's value as a policy would: "15m", "64k", "0.1", "true". */
void pln_policy_field_format(const struct pln_policy_field *field, const struct pln_terms *terms,
                             char *text, size_t size);
void pln_policy_format_time(pln_ms time, char *text, size_t size);
/* Writes all fields so, a line each: "ttl 15m"; returns the length as snprintf does. */
size_t pln_policy_describe(const struct pln_terms *terms, char *buffer, size_t size);

/* ---- vm.c ---- */

/* Reads a file and makes a ruleset of it, with its states. Whether its tests held is told in it.
 * Returns: PLN_OK, PLN_EPOLICY, PLN_ENOMEM. */
int pln_vm_read(struct pln_cache *cache, const char *path, uint32_t flags,
                struct pln_ruleset **ruleset);

/* ---- policy.c ---- */

/* The same, ready to be put in force: its tests have held. */
int pln_policy_read(struct pln_cache *cache, const char *path, uint32_t flags,
                    struct pln_ruleset **ruleset);

/* ---- compile.c ---- */

/* What a class or a rule says of writing. */
struct pln_policy_writing {
    struct pln_write_options options; /* every field; of strategy 0: nothing is said */
    char *store;                      /* the name of one of the program's; owned */
    bool has_function;                /* which the state keeps */
};

struct pln_policy_class {
    char *name;
    char *file;
    int line;
    struct pln_terms terms;
    struct pln_policy_writing writing;
    uint64_t own; /* a bit per field that it sets */
};

/* A ruleset under construction, and the statement being read. Lives in the C frame that reads the
 * file, so that nothing is lost when a statement raises. */
struct pln_compiler {
    struct pln_ruleset *ruleset;
    const struct pln_terms *base;
    struct pln_source_text *source;
    const char *reading[PLN_SCRIPT_DEPTH]; /* the policy, then the files that include each other */
    unsigned n_reading;
    struct pln_policy_class *classes;
    size_t n_classes;
    struct pln_expectation *expectations; /* tests.c */
    size_t n_expectations;
    size_t used_bytes; /* of C memory, by what was stated so far */
    int warm_line;     /* 0: no cache.warm so far */
    char warm_file[PLN_SCRIPT_NAME + 1];
    char element[32]; /* of cache.rules: "rules[3]" */
    struct {
        const char *kind; /* "rule" */
        char name[PLN_SCRIPT_NAME + 1];
        char file[PLN_SCRIPT_NAME + 1];
        int line;
        bool is_open; /* named, its body still to come */
    } statement;
    char error[PLN_SCRIPT_ERROR + 1]; /* the first refusal: a pcall in the file does not undo it */
};

/* Adds `cache` and the words of its statements to the table on top of the stack. Raises. */
void pln_compile_open(lua_State *L);
/* Runs the file in the script and compiles what it states. Returns: PLN_OK with a new ruleset
 * without hooks; PLN_EPOLICY, PLN_ENOMEM. */
int pln_compile(struct pln_script *script, struct pln_source_text *source,
                const struct pln_terms *base, struct pln_ruleset **ruleset);
/* Keeps the function on top of the stack (and pops it), pushes it again. `hook` is one of enum
 * pln_rule_hooks; functions belong to the state that read the file. */
void pln_compile_keep_function(lua_State *L, unsigned rule, unsigned hook);
void pln_compile_push_function(lua_State *L, unsigned rule, unsigned hook);

/* For the statements. Each may raise. */

/* What follows is about this statement; the kind is kept by pointer. */
void pln_compile_begin(struct pln_compiler *compiler, const char *kind, const char *name);
/* Begins a word such as keys { ... }: it stands before the statement around it, so it counts as
 * one where that is not named yet. */
void pln_compile_word(lua_State *L, const char *word);

/* Refuses the statement being read: "policy.lua:14: rule 'x': " and the text. */
_Noreturn void pln_compile_refuse(lua_State *L, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
struct pln_compiler *pln_compile_of(lua_State *L);
/* Hands a fresh pointer of malloc's through. Raises where it is NULL, or is too much (then it is
 * freed) with what the policy has stated before. */
void *pln_compile_own(lua_State *L, void *memory);
/* Room for one more element in an array of n that has grown by this function alone. */
void *pln_compile_grow(lua_State *L, void *array, size_t n, size_t size);
/* Refuses a statement that is named and has no body yet. */
void pln_compile_check_closed(lua_State *L);
/* Says that the statement stands where the Lua code is that called. */
void pln_compile_here(lua_State *L);
/* How another place is told in a refusal: "line 3" of the same file, or "users.lua:3". Returns
 * text. */
const char *pln_compile_place(const struct pln_compiler *compiler, const char *file, int line,
                              char *text, size_t size);
/* What was found instead: "'15 parsecs'", "12", "a table". Returns text. */
const char *pln_compile_got(lua_State *L, int index, char *text, size_t size);
/* Raw access to a body's field: pushes it and returns its type. */
int pln_compile_field(lua_State *L, int body, const char *name);
/* Refuses a field of the body that is neither in `names` nor, with terms, a plain field. Numbered
 * fields pass where `has_list`. */
void pln_compile_check_names(lua_State *L, int body, const char *const *names, bool has_terms,
                             bool has_list);
/* The length of a list; refuses a table that has anything else in it. */
size_t pln_compile_check_list(lua_State *L, int index, const char *field);
/* A text without zero bytes at `index`, or NULL. */
const char *pln_compile_text(lua_State *L, int index);
/* Reads a list of texts as templates, over a pattern's captures or (NULL) an event's fields. They
 * land in *list as they are made. */
void pln_compile_templates(lua_State *L, int index, const char *field,
                           const struct pln_template *pattern, struct pln_template ***list,
                           size_t *n);

/* ---- raise.c: an event's function ---- */

enum { PLN_SPARE_SCRIPTS = 4 };

/* Scripts that wait for the next event. */
struct pln_spare_scripts {
    _Atomic(struct pln_script *) slots[PLN_SPARE_SCRIPTS];
};

/* NULL where there is none. */
struct pln_script *pln_spare_take(struct pln_spare_scripts *spares);
/* Frees it where it is of no more use, or there are enough. */
void pln_spare_give_take(struct pln_spare_scripts *spares, struct pln_script *script);
void pln_spare_fini(struct pln_spare_scripts *spares);
/* In a forked child: they are left alone. */
void pln_spare_forget(struct pln_spare_scripts *spares);
/* Keeps the function on top of the stack (and pops it) as that of the n-th event. */
void pln_raise_keep_function(lua_State *L, size_t n);
/* Calls the n-th event's function. Returns: as struct pln_hooks says of raise. */
int pln_raise_run(struct pln_script *script, size_t n, const struct pln_field *fields,
                  size_t n_fields, struct pln_raised *raised);

/* ---- rules.c: the bodies of cache.class and cache.rule ---- */

void pln_compile_class(lua_State *L, int body);
void pln_compile_rule(lua_State *L, int body);
/* Once all rules are there: makes the search for a key's rule, and refuses a rule that none can
 * reach. Returns: PLN_OK; PLN_EPOLICY with a text that names both, PLN_ENOMEM. */
int pln_compile_end_rules(struct pln_ruleset *ruleset);
/* Adds loader to the globals on top of the stack. */
void pln_compile_open_rules(lua_State *L);

/* Makes the object of a word that is called with a name, as loader "x"; its user value. */
int pln_compile_named(lua_State *L, const char *word, const char *class, const char *example,
                      int longest);

/* ---- storing.c: the field `write` ---- */

/* The i-th strategy's name, from 1 on; NULL past the last. */
const char *pln_write_name(int i);
/* The strategy of what a word such as through(f) has made, or of false; else returns false. */
bool pln_writing_strategy(lua_State *L, int index, uint8_t *strategy);
/* Reads a body's `write`; its function is kept as that of rule number `owner`: a class's is that of
 * PLN_MAX_RULES and its own. */
void pln_compile_writing(lua_State *L, int body, unsigned owner, struct pln_policy_writing *said);
/* The same for a rule, which may inherit it (class may be NULL). Returns whether it says it. */
bool pln_compile_rule_writing(lua_State *L, int body, struct pln_rule *rule, unsigned index,
                              const struct pln_policy_class *class);
/* Refuses what does not go with it, once all terms are there. */
void pln_compile_check_writing(lua_State *L, const struct pln_rule *rule, bool is_own);
/* Writes "behind, batch 500, every 1s, in order, store function". */
void pln_writing_tell(FILE *out, const struct pln_rule *rule);
/* Adds through, behind, around and store to the globals on top of the stack. */
void pln_compile_open_storing(lua_State *L);

/* ---- include.c: include "file.lua" ---- */

/* Reads a file's text as a part of the policy; pushes what it returns. Returns how many. */
int pln_compile_run(lua_State *L, const char *name, const struct pln_text *text);
/* Adds include to the globals on top of the stack. */
void pln_compile_open_include(lua_State *L);

/* ---- tables.c: cache.rules ---- */

void pln_compile_tables(lua_State *L, int body);
/* Reads what a body has of the plain fields; returns a bit for each. */
uint64_t pln_compile_terms(lua_State *L, int body, struct pln_terms *terms);

/* ---- events.c: the bodies of cache.on and cache.events ---- */

void pln_compile_event(lua_State *L, int body);
void pln_compile_sources(lua_State *L, int body);

/* ---- tests.c: the body of cache.test ---- */

void pln_compile_test(lua_State *L, int body);
/* Compares what was expected with what the rules say, once all are there; what comes of it is the
 * ruleset's. Returns: PLN_OK, whether they held or not; PLN_ENOMEM. */
int pln_tests_run(struct pln_compiler *compiler, struct pln_script *script);
void pln_tests_free(struct pln_compiler *compiler);
/* PLN_OK where all held; else PLN_EPOLICY with the first failure. */
int pln_tests_verdict(const struct pln_ruleset *ruleset);

/* ---- naming.c: the functions of cache.warm ---- */

/* Keeps the function on top of the stack (and pops it) as the n-th of the file. */
void pln_naming_keep(lua_State *L, unsigned function);
/* The hook name_keys. */
int pln_naming_run(void *arg, unsigned worker, unsigned function, pln_key_sink add, void *add_arg);

/* ---- alerts.c: the body of cache.alert ---- */

/* Of a function that is kept: it is an alert's, and no hook of a rule. */
enum { PLN_ALERT_CALL = 3 };

struct pln_alert_call {
    struct pln_call call; /* all that is used of it is is_overrun */
    const struct pln_alert *alert;
    unsigned index;
    const struct pln_alert_news *news;
};

void pln_compile_alert(lua_State *L, int body);
/* Calls an alert's function. stack: a struct pln_alert_call's call (light). Raises. */
int pln_alert_tell(lua_State *L);

/* ---- lists.c: cache.warm and the words in it ---- */

void pln_compile_warm(lua_State *L, int body);
/* Adds keys, file, zset and previous to the globals on top of the stack. */
void pln_compile_open_sources(lua_State *L);

#endif
