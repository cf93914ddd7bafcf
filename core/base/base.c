/* SPDX-License-Identifier: MIT
 *
 * base.c - statuses and the text of the last failure, the hash, clock and log, counted values.
 *
 * The failure's text is the library's one thread-local: like errno it belongs to the thread that
 * failed, so no function needs a parameter for it and no two threads can mix theirs up. A failure
 * that crosses threads (a load that others wait for) carries its text along.
 */
#include "base.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static const struct {
    int status;
    const char *name;
    const char *sentence;
} statuses[] = {
    {PLN_OK, "ok", "it worked"},
    {PLN_MISS, "miss", "no tier has the key"},
    {PLN_ABSENT, "negative", "it is known that there is no such thing"},
    {PLN_PENDING, "pending", "somebody else is at it"},
    {PLN_NOT_STORED, "not_stored", "a condition kept the value out"},
    {PLN_TRUNCATED, "truncated", "the buffer is shorter than the value"},
    {PLN_EINVAL, "invalid", "an argument is not usable"},
    {PLN_ENOMEM, "no_memory", "the system has no memory"},
    {PLN_ETIMEOUT, "timeout", "a deadline passed"},
    {PLN_EL2DOWN, "l2_down", "Redis is not reachable"},
    {PLN_EL2, "l2_error", "Redis answered with an error"},
    {PLN_ETOOBIG, "too_big", "a key or value is over its limit"},
    {PLN_ELOADER, "loader", "the loader failed"},
    {PLN_EPOLICY, "policy", "the policy script is wrong"},
    {PLN_ECLOSED, "closed", "the cache is closed"},
    {PLN_EBUSY, "busy", "a bound is reached"},
    {PLN_ESYSTEM, "system", "the operating system refused"},
    {PLN_ESTORE, "store", "the store of record did not take the write"},
    {PLN_ECODEC, "codec", "the value is compressed by what this build lacks"},
    {PLN_EDENIED, "denied", "the policy says that the key must never be cached"},
    {PLN_ETYPE, "wrong_type", "what is there is of another kind"},
};

static _Thread_local char error_text[PLN_ERROR_TEXT];

const char *pln_status_name(int status) {
    for (size_t i = 0; i < PLN_ARRAY_LEN(statuses); i++) {
        if (statuses[i].status == status) {
            return statuses[i].name;
        }
    }
    return "unknown";
}

const char *pln_strerror(int status) {
    for (size_t i = 0; i < PLN_ARRAY_LEN(statuses); i++) {
        if (statuses[i].status == status) {
            return statuses[i].sentence;
        }
    }
    return "no such status";
}

const char *pln_error_text(void) {
    return error_text;
}

#undef pln_fail /* base.h puts another in its place for the static analyzer */
int pln_fail(int status, const char *format, ...) {
    /* aside first: an argument may be the last failure's own text */
    char text[PLN_ERROR_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(error_text, text, sizeof text);
    return status;
}

const char *pln_source_name(int source) {
    static const char *const names[] = {"miss", "l1", "l2", "loaded", "stale", "negative"};
    return source >= 0 && (size_t) source < PLN_ARRAY_LEN(names) ? names[source] : "unknown";
}

const char *pln_read_name(int read) {
    static const char *const names[] = {NULL, "primary", "replica", "nearest"};
    return read >= 0 && (size_t) read < PLN_ARRAY_LEN(names) ? names[read] : NULL;
}

const char *pln_codec_name(int codec) {
    static const char *const names[] = {NULL, "msgpack", "json"};
    return codec >= 0 && (size_t) codec < PLN_ARRAY_LEN(names) ? names[codec] : NULL;
}

const char *pln_compression_name(int compression) {
    static const char *const names[] = {NULL, "lz4", "zstd"};
    return compression >= 0 && (size_t) compression < PLN_ARRAY_LEN(names) ? names[compression]
                                                                           : NULL;
}

bool pln_has_compression(int compression) {
#ifdef PLN_HAVE_LZ4
    if (compression == PLN_COMPRESSION_LZ4) {
        return true;
    }
#endif
#ifdef PLN_HAVE_ZSTD
    if (compression == PLN_COMPRESSION_ZSTD) {
        return true;
    }
#endif
    (void) compression;
    return false;
}

/* ---- hash and chance ---- */

uint64_t pln_hash(struct pln_bytes bytes, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes.data, bytes.len, seed);
}

struct pln_hash128 pln_hash128(struct pln_bytes bytes) {
    XXH128_hash_t hash = XXH3_128bits(bytes.data, bytes.len);
    return (struct pln_hash128){hash.high64, hash.low64};
}

uint64_t pln_random64(void) {
    uint64_t random = 0;
    size_t got = 0;
    while (got < sizeof random) {
        ssize_t n = getrandom((char *) &random + got, sizeof random - got, 0);
        if (n > 0) {
            got += (size_t) n;
        } else if (errno != EINTR) {
            abort(); /* tokens and seeds must not be guessable: no weaker source will do */
        }
    }
    return random;
}

static _Thread_local uint64_t chance; /* 0: none yet */

void pln_chance_anew(void) {
    chance = 0;
}

/* splitmix64; the system's randomness costs a call each time, more than all else that a set does */
double pln_chance(void) {
    if (chance == 0) {
        chance = pln_random64();
    }
    uint64_t x = chance += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (double) ((x ^ (x >> 31)) >> 11) * 0x1p-53;
}

/* ---- time ---- */

pln_ms pln_clock_coarse(void *arg) {
    (void) arg;
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    return (pln_ms) time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

pln_ns pln_clock_precise(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (pln_ns) time.tv_sec * 1000000000 + time.tv_nsec;
}

/* ---- log ---- */

void pln_log_stderr(void *arg, int level, const char *line) {
    static const char *const names[] = {"debug", "info", "warning", "error"};
    (void) arg;
    if (level >= PLN_LOG_WARN) {
        fprintf(stderr, "%s: %s\n", names[level & 3], line);
    }
}

void pln_logf(const struct pln_host *host, int level, const char *format, ...) {
    char line[PLN_ERROR_TEXT + 64];
    int at = snprintf(line, sizeof line, "perilune %s: ", host->name);
    if (at < 0 || (size_t) at >= sizeof line) {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(line + at, sizeof line - (size_t) at, format, args);
    va_end(args);
    for (char *c = line; *c != 0; c++) {
        if ((unsigned char) *c < ' ' || *c == 0x7f) {
            *c = '?'; /* a key or a server's text must not forge a line */
        }
    }
    host->log(host->log_arg, level, line);
}

/* ---- counted values ---- */

struct pln_value *pln_value_new(struct pln_bytes bytes, uint8_t format) {
    if (bytes.len > UINT32_MAX) {
        return NULL;
    }
    struct pln_value *value = malloc(sizeof *value + bytes.len);
    if (value == NULL) {
        return NULL;
    }
    atomic_init(&value->refs, 1);
    value->len = (uint32_t) bytes.len;
    value->offset = sizeof *value;
    value->format = format;
    value->home = PLN_HOME_HEAP;
    if (bytes.len > 0) {
        memcpy((char *) value + value->offset, bytes.data, bytes.len);
    }
    return value;
}

void pln_value_ref(struct pln_value *value) {
    /* relaxed: whoever copies a reference holds one, so the count cannot reach zero meanwhile */
    atomic_fetch_add_explicit(&value->refs, 1, memory_order_relaxed);
}

void pln_value_drop(struct pln_value *value) {
    assert(value->home == PLN_HOME_HEAP);
    /* B1 release and B1 acquire: the last reads of each holder come before the free */
    if (atomic_fetch_sub_explicit(&value->refs, 1, memory_order_acq_rel) == 1) {
        free(value);
    }
}

const void *pln_value_data(const struct pln_value *value) {
    return value == NULL ? NULL : (const char *) value + value->offset;
}

size_t pln_value_len(const struct pln_value *value) {
    return value == NULL ? 0 : value->len;
}
