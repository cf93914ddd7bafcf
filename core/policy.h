/* SPDX-License-Identifier: MIT
 *
 * policy.h - what a policy is, said without naming who wrote it: a list of rules with plain values,
 * and a table of functions for the fields that a script answers. The Lua room compiles a file into
 * a ruleset and hands it over; the core matches keys against it and never sees a Lua state.
 *
 * A ruleset is immutable once published. Whoever uses one holds a reference, so that a reload can
 * put another in its place at any time; the hooks' retire() runs when the last has been given back.
 *
 * Patterns: `{name}` takes the bytes up to the next byte of the pattern (at least one), `*` the
 * rest (perhaps nothing). The first rule that matches, in the order of the file, is the key's.
 */
#ifndef PLN_POLICY_H
#define PLN_POLICY_H

#include "base/base.h"
#include "base/stats.h"

enum {
    PLN_MAX_CAPTURES = 8, /* {names} of one pattern, `*` included */
    PLN_MAX_RULES = 4096,
};

/* The terms of a key: every field has a value, inherited or own. */
struct pln_terms {
    pln_ms ttl_ms, l1_ttl_ms, stale_ms, stale_if_error_ms, negative_ms, lease_ms, load_timeout_ms;
    pln_ms replica_ttl_ms;   /* bound on the life in L1 of what a replica said */
    pln_ms max_staleness_ms; /* of what L1 serves while messages may be missing */
    double jitter;           /* 0 to 0.9 */
    double refresh;          /* 0: off; else 0.1 to 0.99 of the ttl */
    size_t max_bytes; /* larger values are handed out but not stored; 0: the cache's limits */
    uint8_t weight;   /* against eviction from L1 */
    int8_t priority;
    uint8_t read; /* enum pln_read; 0 as PLN_READ_PRIMARY */
    bool use_l1, use_l2;
    bool local_writes;      /* with L2 away a set is kept in L1 alone, instead of failing */
    bool hash_l1;           /* a hash in Redis is read whole, and kept in L1 */
    bool is_denied;         /* must never be cached: every read and store is refused */
    uint8_t min_uses;       /* a value is stored from the key's so many-th miss in a ttl on */
    pln_ms soft_timeout_ms; /* who has a stale value waits so long for a load; 0: load_timeout */
    pln_ms l2_ttl_ms;       /* bound on the life in L2; 0: none, likewise below */
    pln_ms max_age_ms;      /* bound on the age of a value, whatever prolongs its life */
    pln_ms retry_ms;        /* after a failed load there is no other, while a value can be served */
    double early;           /* 0: off; else how early a hit may reload by chance (due.h) */
    bool sliding;           /* hits prolong the life */
    pln_ms keep_hot_ms;     /* popular keys are refreshed unasked until so long after a request */
    size_t compress_bytes;  /* values from so many bytes on are compressed in L2; 0: none */
    uint8_t compression;    /* enum pln_compression */
    uint8_t codec;          /* enum pln_codec, of what Lua stores; 0 as PLN_CODEC_MSGPACK */
    bool is_plain;          /* L2 has the value's bytes alone, for programs that know no others */
    uint8_t write;          /* enum pln_write_strategy; 0 as PLN_WRITE_ASIDE */
    /* What a load has taken of late, in us. The cache's, which sets it; NULL: nobody keeps it */
    _Atomic uint32_t *cost;
};

/* A text with captures in it: "user:{id}". */
struct pln_template; /* opaque; compiled by pln_template_new() */

enum pln_rule_hooks {
    PLN_RULE_LOAD = 1,
    PLN_RULE_TTL = 2,
    PLN_RULE_TAGS = 4,
    PLN_RULE_RELATED = 8,
    PLN_RULE_STORE = 16,
    PLN_RULE_LOAD_MANY = 32,
};

struct pln_rule {
    struct pln_template *pattern;
    struct pln_terms terms;
    struct pln_template **tags;
    size_t n_tags;
    uint32_t hooks;                   /* enum pln_rule_hooks: the fields that are functions */
    const char *loader;               /* where load names one of the program's; owned by the rule */
    const char *store;                /* likewise where write does */
    struct pln_write_options writing; /* how; but for the store and its arg, which are above */
    const char *class_name;           /* "" where none; owned likewise, as the next three */
    const char *file;
    int line;
    atomic_bool has_told; /* that a denied key came */
    const char *origins;  /* "ttl 15m (class page, policy.lua:3)", a line per field, for explain */
};

struct pln_match {
    const struct pln_rule *rule; /* NULL: none matched, the cache's own terms hold */
    unsigned index;              /* of the rule in its ruleset */
    unsigned n_captures;
    struct pln_bytes captures[PLN_MAX_CAPTURES]; /* point into the key */
};

enum pln_warm_kind {
    PLN_WARM_KEYS,
    PLN_WARM_FILE,
    PLN_WARM_ZSET,
    PLN_WARM_PREVIOUS, /* the fleet's hottest keys, as running instances have saved them */
    PLN_WARM_FUNCTION, /* of the policy */
};

enum {
    PLN_WARM_THREADS = 256, /* that may warm at once; each has a number as a worker has */
    PLN_WARM_SOURCES = 64,
};

/* Takes one key after the other. PLN_OK: go on; PLN_MISS: it wants no more; or negative. */
typedef int (*pln_key_sink)(void *arg, struct pln_bytes key);

struct pln_warm_source {
    enum pln_warm_kind kind;
    struct pln_bytes *keys; /* of KEYS; owned */
    size_t n_keys;
    char *name;        /* of FILE, ZSET; owned */
    size_t top;        /* at most so many keys; 0: all, of ZSET and PREVIOUS 10000 */
    int8_t priority;   /* higher ones are read first, and those of one in their order */
    unsigned function; /* of FUNCTION: which of them, in the order of the file */
};

struct pln_warm_plan {
    struct pln_warm_source *sources;
    size_t n_sources;
    unsigned concurrency; /* default 8 */
    double rate;          /* keys per second, at least 1e-6; 0: no limit */
    pln_ms deadline_ms;   /* 0: none */
    double ready_at;      /* share of the keys that makes the cache ready; default 1 */
};

/* cache.on: what an event makes void. */
struct pln_event_rule {
    char *name;
    bool is_function;                   /* which answers what is void, in the place of: */
    struct pln_template **keys, **tags; /* over the event's fields */
    size_t n_keys, n_tags;
    char *file;
    int line;
};

enum pln_event_kind { PLN_EVENT_CHANNEL, PLN_EVENT_STREAM };

/* cache.events: where events come from. */
struct pln_event_source {
    enum pln_event_kind kind;
    char *name;    /* owned, as the next two */
    char *group;   /* of a stream; NULL: the cache's namespace */
    pln_ms idle;   /* of a stream: entries of a consumer silent for so long are taken over */
    unsigned most; /* of a stream: entries read at a time */
    size_t dead;   /* of a stream: entries kept of those that cannot be carried out */
    char *file;
    int line;
};

struct pln_raised; /* opaque: what an event's function answers */

/* cache.alert: what is measured over a window, and when somebody is to be told. */
enum pln_metric {
    PLN_METRIC_HIT_RATIO,    /* answered by L1, by L2 or with a stale value, of all gets */
    PLN_METRIC_L1_HIT_RATIO, /* answered fresh by L1, of all gets */
    PLN_METRIC_LOAD_ERRORS,  /* loads that failed, of all */
    PLN_METRIC_LOAD_LATENCY,
    PLN_METRIC_L2_LATENCY, /* of reads for gets that L1 did not answer */
    PLN_METRIC_MEMORY,     /* in use, of L1's budget; the mean */
};

enum pln_alert_bound { PLN_ALERT_BELOW, PLN_ALERT_ABOVE, PLN_ALERT_P99_ABOVE };

struct pln_alert {
    char *name; /* of the metric; owned, as file */
    enum pln_metric metric;
    enum pln_alert_bound bound;
    double limit; /* a share, or milliseconds */
    pln_ms over;  /* the window */
    uint64_t min_requests;
    bool has_call; /* else it is logged */
    char *file;
    int line;
};

struct pln_alert_news {
    double value; /* as the limit */
    uint64_t requests;
};

/* cache.test: what the file itself says of one key. It has been run when the file has been read. */
struct pln_policy_test {
    char *key;        /* owned, as failure */
    const char *file; /* in the memory of the key, behind it */
    int line;
    char *failure; /* NULL: it held; else "policy.lua:40: test 'user:1': ttl: expected ..." */
};

struct pln_ruleset;

/* What a script answers. Calls come from worker threads; `worker` tells them apart, so that each
 * can have a state of its own. Both fill `load` by the pln_load_...() functions. */
struct pln_hooks {
    /* Runs the rule's load function, then, on its value, the ttl, tags and related functions.
     * Returns: PLN_OK, PLN_ABSENT, PLN_ELOADER, with a text naming file and line. */
    int (*load)(void *arg, unsigned worker, const struct pln_match *match, struct pln_bytes key,
                struct pln_load *load);
    /* For a value that came another way (a set, the caller's own loader): only the ttl, tags and
     * related functions. A function that fails leaves the rule's values in place, with a log. */
    int (*shape)(void *arg, unsigned worker, const struct pln_match *match, struct pln_bytes key,
                 struct pln_bytes value, uint8_t format, struct pln_load *load);
    /* Runs the rule's store function on items of that rule: as pln_store. */
    int (*store)(void *arg, unsigned worker, const struct pln_rule *rule,
                 struct pln_store_item *items, size_t n);
    /* Runs the rule's load_many function on keys of that rule; then shapes each as load does. */
    int (*load_many)(void *arg, unsigned worker, const struct pln_rule *rule,
                     const struct pln_bulk *bulk);
    /* Frees arg; the ruleset's last user has gone. */
    void (*retire)(void *arg);
    /* Asks an event's function; it fills `raised` by the pln_raised_...() functions, by all that it
     * answers or by nothing. Comes from any thread, several at once. Returns: PLN_OK; PLN_EPOLICY
     * with a text naming file and line, PLN_ENOMEM. */
    int (*raise)(void *arg, const struct pln_event_rule *event, const struct pln_field *fields,
                 size_t n_fields, struct pln_raised *raised);
    /* Makes another ruleset of the same file, as it is now. Returns: as pln_load_policy(). Threads:
     * any, beside the calls above. */
    int (*again)(void *arg, struct pln_ruleset **ruleset);
    /* Calls a function of cache.warm for its keys, and gives each to `add`, which may end it.
     * Returns: PLN_OK; PLN_EPOLICY, or what `add` failed with. */
    int (*name_keys)(void *arg, unsigned worker, unsigned function, pln_key_sink add,
                     void *add_arg);
    /* Nobody calls under this number for now: what was kept for it may go. NULL is allowed. */
    void (*leave)(void *arg, unsigned worker);
    /* Writes "NAME VALUE" for every field that a policy can set, a line each, always in the same
     * order; returns the length of the whole, as snprintf does. NULL: cannot. */
    size_t (*describe)(const struct pln_terms *terms, char *buffer, size_t size);
    /* This is a forked child: who called under any number did not come along. NULL is allowed. */
    void (*after_fork)(void *arg);
    /* Tells of an alert that has a function for it; a failure is counted and logged. */
    void (*alert)(void *arg, unsigned worker, unsigned index, const struct pln_alert_news *news);
};

struct pln_matcher; /* opaque: finds a key's rule among many */

struct pln_ruleset {
    _Atomic uint32_t refs;
    struct pln_rule *rules;
    size_t n_rules;
    struct pln_matcher *matcher; /* NULL: the rules are tried in turn */
    bool has_denied;             /* one of them is; set when it is put in force */
    bool loads_many;             /* one of them has a loader of many keys; likewise */
    struct pln_warm_plan warm;
    struct pln_event_rule *events;
    size_t n_events;
    struct pln_event_source *sources;
    size_t n_sources;
    struct pln_policy_test *tests;
    size_t n_tests;
    struct pln_alert *alerts;
    size_t n_alerts;
    struct pln_hooks hooks;
    void *hooks_arg;
    char **files; /* that it was read from */
    size_t n_files;
    uint64_t stamp;           /* of all of them, as they were then */
    struct pln_ruleset *next; /* of those that were replaced: reload.c */
    _Atomic uint32_t *costs;  /* of the rules' loads, once the ruleset is in force */
};

/* An empty ruleset with one reference; its arrays are grown by whoever builds it, with malloc. */
struct pln_ruleset *pln_ruleset_new(void);
/* Makes the search for a key's rule fast, once all rules are there. Returns: PLN_OK, PLN_ENOMEM. */
int pln_ruleset_finish(struct pln_ruleset *ruleset);
void pln_ruleset_ref(struct pln_ruleset *ruleset);
/* Gives a reference back; the last frees everything, templates and names included. */
void pln_ruleset_unref(struct pln_ruleset *ruleset);

/* What tells a file from the same one after a change; and as it was when it was read, among the
 * files of a ruleset. Returns: PLN_OK, PLN_ENOMEM. */
struct stat;
uint64_t pln_file_stamp(const struct stat *info);
int pln_ruleset_add_file(struct pln_ruleset *ruleset, const char *path, uint64_t stamp);
/* What the ruleset's stamp would be, were its files read now. */
uint64_t pln_ruleset_stamp_now(const struct pln_ruleset *ruleset);

/* Compiles a pattern or a template. Names are those that may occur: for a pattern NULL, for a
 * template the pattern it is filled from. Returns: PLN_OK; PLN_EINVAL with a text that points at
 * the fault (unclosed brace, name unknown to the pattern, two captures side by side, ...). */
int pln_template_new(const char *text, const struct pln_template *names,
                     struct pln_template **template);
/* A template over an event's fields: any name may occur. */
int pln_template_new_free(const char *text, struct pln_template **template);
void pln_template_free(struct pln_template *template);
const char *pln_template_text(const struct pln_template *template);
/* The i-th capture's name ("id", or "*"), NULL past the last. */
const char *pln_template_name(const struct pln_template *template, size_t i);
/* The i-th name that a template is filled from, without a zero behind it; NULL past the last. One
 * that occurs twice is told twice. */
struct pln_bytes pln_template_field(const struct pln_template *template, size_t i);
/* A pattern as a row of steps, each what a key must have next: a byte, a capture, its end. */
enum pln_step {
    PLN_STEP_FIELD = 256, /* plus a byte: a capture up to that byte, which is the next step */
    PLN_STEP_LAST = 512,  /* a capture of all that is left, at least one byte */
    PLN_STEP_REST,        /* all that is left, perhaps nothing */
    PLN_STEP_END,         /* nothing is left */
    PLN_MAX_STEPS = 512 + 1,
};
/* Writes a pattern's steps, at most PLN_MAX_STEPS, and returns how many; the last is one of LAST,
 * REST and END, and no other is. */
size_t pln_template_steps(const struct pln_template *pattern, uint16_t *steps);
/* A key that the pattern matches. */
struct pln_bytes pln_template_sample(const struct pln_template *pattern);
/* True where every key that `later` matches is matched by `earlier` already. */
bool pln_template_covers(const struct pln_template *earlier, const struct pln_template *later);
/* Matches a key; captures point into it. */
bool pln_template_match(const struct pln_template *pattern, struct pln_bytes key,
                        struct pln_bytes *captures, unsigned *n_captures);
/* Fills a template from the captures of its pattern. Returns the length, or SIZE_MAX where it is
 * over `size`. */
size_t pln_template_fill(const struct pln_template *template, const struct pln_bytes *captures,
                         char *buffer, size_t size);
/* Fills one from an event's fields. Returns likewise; SIZE_MAX also where a field is missing. */
size_t pln_template_fill_fields(const struct pln_template *template, const struct pln_field *fields,
                                size_t n_fields, char *buffer, size_t size);

/* A search among the patterns of n rules, 1 to PLN_MAX_RULES, that need not live as long. Returns:
 * PLN_OK, PLN_ENOMEM. */
int pln_matcher_new(const struct pln_rule *rules, size_t n, struct pln_matcher **matcher);
void pln_matcher_free(struct pln_matcher *matcher);
/* The number of the first rule that matches, with its captures; SIZE_MAX where none does. */
size_t pln_matcher_find(const struct pln_matcher *matcher, struct pln_bytes key,
                        struct pln_bytes *captures, unsigned *n_captures);
/* The first of the rules before number `later` that takes all its keys; SIZE_MAX where none does.
 * They are those that the matcher was made of. */
size_t pln_matcher_find_cover(const struct pln_matcher *matcher, const struct pln_rule *rules,
                              size_t later);

/* Finds a key's rule. */
void pln_ruleset_match(const struct pln_ruleset *ruleset, struct pln_bytes key,
                       struct pln_match *match);

/* The present ruleset of a cache, with a reference for the caller; never NULL. Threads: any. */
struct pln_ruleset *pln_cache_policy(struct pln_cache *cache);
/* Puts a ruleset in force and takes over the caller's reference. */
void pln_cache_set_policy_take(struct pln_cache *cache, struct pln_ruleset *ruleset);
/* The terms that hold where no rule says otherwise: what classes and rules inherit from. */
const struct pln_terms *pln_cache_terms(const struct pln_cache *cache);
const struct pln_host *pln_cache_host(const struct pln_cache *cache);
unsigned pln_cache_workers(const struct pln_cache *cache);
/* Below this are the numbers under which hooks are called: workers', then those of threads that
 * warm. */
unsigned pln_cache_numbers(const struct pln_cache *cache);
/* One more key, tag or pattern that is void, copied. Return: PLN_OK; PLN_EINVAL (its length),
 * PLN_ENOMEM. */
int pln_raised_key(struct pln_raised *raised, struct pln_bytes key);
int pln_raised_tag(struct pln_raised *raised, struct pln_bytes tag);
int pln_raised_match(struct pln_raised *raised, struct pln_bytes pattern);
/* Runs the loader that the program registered under a name; *has_ttl: it said one. Returns: as it
 * does; PLN_ELOADER where there is none. */
int pln_cache_load_by_name(struct pln_cache *cache, const char *name, struct pln_bytes key,
                           struct pln_load *load, bool *has_ttl);
/* Whether the cache's Redis can do what the rules say; without one they may be tried out all the
 * same. Returns: PLN_OK; PLN_EPOLICY with a text that names file and line. */
int pln_cache_check_policy(struct pln_cache *cache, const struct pln_ruleset *ruleset);
/* How long a ttl, tags or related function may run: 1 ms to 10 s. */
pln_ms pln_cache_policy_budget(const struct pln_cache *cache);
/* Count for the stats: a failed policy function, what else became of one, a file that was refused.
 */
void pln_cache_policy_failed(struct pln_cache *cache);
void pln_cache_policy_count(struct pln_cache *cache, enum pln_count which);
void pln_cache_policy_refused(struct pln_cache *cache);
/* A shadow: a candidate, for a policy to be loaded into it, which is then put beside a cache. The
 * sample is the share of the keys; 0: the default. Owns: freed, or handed over. */
struct pln_shadow;
int pln_shadow_new(struct pln_cache *live, double sample, struct pln_shadow **shadow);
void pln_shadow_free(struct pln_shadow *shadow);
struct pln_cache *pln_shadow_candidate(struct pln_shadow *shadow);
void pln_shadow_start_take(struct pln_cache *live, struct pln_shadow *shadow);
/* What has been put into a load so far. */
struct pln_bytes pln_load_peek(const struct pln_load *load, uint8_t *format);

#endif
