/* SPDX-License-Identifier: MIT
 *
 * base.h - the ground everybody stands on: statuses with a text, byte strings, the keyed hash,
 * the injected clock and log, and the points at which a test may stop a thread.
 */
#ifndef PLN_BASE_H
#define PLN_BASE_H

#include <assert.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "../perilune.h"

enum {
    PLN_CACHE_LINE = 64,
    PLN_MAX_KEY = 4096,   /* bytes; a longer key is refused */
    PLN_MAX_TAGS = 64,    /* tags of one value */
    PLN_MAX_TAG = 250,    /* bytes of one tag */
    PLN_ERROR_TEXT = 512, /* bytes kept of a failure's text */
};

#define PLN_ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define PLN_CONTAINER_OF(pointer, type, member)                                                    \
    ((type *) (void *) ((char *) (pointer) -offsetof(type, member)))

/* A place inside a lock-free operation where a test may park the thread. */
#ifdef PLN_TEST_POINTS
void pln_point(const char *name);
#define PLN_POINT(name) pln_point(#name)
#else
#define PLN_POINT(name) ((void) 0)
#endif

/* Remembers a failure's text for this thread and returns the status, so that a failing function
 * ends with `return pln_fail(PLN_EINVAL, "ttl: ...")`. Threads: any. */
int pln_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#ifdef __clang_analyzer__
/* It sees one file at a time, and must know that a failure's status is handed through. */
#define pln_fail(status, ...) (status)
#endif

static inline struct pln_bytes pln_bytes_of(const void *data, size_t len) {
    return (struct pln_bytes){data, len};
}

static inline bool pln_bytes_equal(struct pln_bytes a, struct pln_bytes b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Which keys an invalidation is for. */
enum pln_mask_kind {
    PLN_MASK_PREFIX = 'p',  /* those that begin with the text, whatever bytes it has */
    PLN_MASK_PATTERN = '*', /* each '*' of the text stands for any bytes, also none */
};

struct pln_mask {
    enum pln_mask_kind kind;
    struct pln_bytes text;
};

bool pln_mask_is_kind(uint8_t kind);
/* Whether a key is among them, by a struct pln_mask; in the form pln_l1_remove_each() takes it. */
bool pln_mask_fits(const void *mask, struct pln_bytes key);

/* A key with its hash, so that it is hashed once on its way through the tiers. */
struct pln_hashed {
    struct pln_bytes key;
    uint64_t hash;
    bool is_plain; /* shared with programs that know no envelope */
};

/* XXH3, keyed: the seed is random per cache, so nobody outside can choose colliding keys. */
uint64_t pln_hash(struct pln_bytes bytes, uint64_t seed);
/* 128 bits, without a key: for names that are to be the same in all processes. */
struct pln_hash128 {
    uint64_t high, low;
};
struct pln_hash128 pln_hash128(struct pln_bytes bytes);
/* Random bytes from the system. Aborts where the system has none. */
uint64_t pln_random64(void);
/* Evenly from 0 to less than 1, to spread what would come together. No secret: who knows some can
 * tell the next. Threads: any, each has its own row. */
double pln_chance(void);
void pln_chance_anew(void); /* in a forked child, that it may not be its parent's */

/* Clock and log as given at open. Copied by value into whoever needs them. */
struct pln_host {
    pln_clock clock;
    void *clock_arg;
    pln_log log;
    void *log_arg;
    const char *name; /* of the cache, for log lines */
};

/* Milliseconds of the host's clock; CLOCK_MONOTONIC_COARSE (3 to 6 ns) by default. */
static inline pln_ms pln_now(const struct pln_host *host) {
    return host->clock(host->clock_arg);
}
pln_ms pln_clock_coarse(void *arg);
/* A precise monotonic reading for deadlines of system calls, which no virtual clock rules. */
pln_ns pln_clock_precise(void);
/* A point of that clock, or a duration, as system calls take it. */
static inline struct timespec pln_timespec(pln_ns time) {
    return (struct timespec){.tv_sec = time / 1000000000, .tv_nsec = time % 1000000000};
}

void pln_logf(const struct pln_host *host, int level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void pln_log_stderr(void *arg, int level, const char *line);

/* A point in time `duration` after `now`, PLN_FOREVER where either has no end. */
static inline pln_ms pln_after(pln_ms now, pln_ms duration) {
    return duration >= PLN_FOREVER - now ? PLN_FOREVER : now + duration;
}

/* Text to units: "250ms" "15m" "1.5h" "30d" "forever" or plain seconds; "64k" "1g"; "10%" or 0.1.
 * Return false where the text is none. */
bool pln_parse_duration(const char *text, pln_ms *duration);
bool pln_parse_size(const char *text, size_t *size);
bool pln_parse_share(const char *text, double *share);
/* The name of `names` (ending in NULL) nearest to a misspelt one, or NULL where none is near. */
const char *pln_nearest(const char *const *names, const char *name);

/* A counted, immutable byte string. An L1 entry begins with one, so that a value can be lent
 * without a copy; `home` tells who gets it back. */
struct pln_value {
    _Atomic uint32_t refs;
    uint32_t len;
    uint16_t offset; /* of the bytes, from the start of this struct */
    uint8_t format;
    uint8_t home; /* enum pln_home */
};

enum pln_home { PLN_HOME_HEAP, PLN_HOME_L1 };

/* A value on the heap holding a copy of the bytes, with one reference; NULL
 * where memory is out. Freed by pln_value_drop() with the last reference. */
struct pln_value *pln_value_new(struct pln_bytes bytes, uint8_t format);
void pln_value_ref(struct pln_value *value);
void pln_value_drop(struct pln_value *value);

#endif
