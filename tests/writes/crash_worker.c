/* SPDX-License-Identifier: MIT
 *
 * crash_worker.c - the processes of crash.c that use the cache: threads that write, and one that
 * reads what others have just written, from Redis or, where it has lost the value, by a loader.
 */
#include "crash.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

enum {
    PAUSE_US = 5000, /* after a write, up to */
    POISON_EVERY = 150,
    EVICT_EVERY = 8,
    FLUSH_MS = 60000,
};

struct worker {
    const struct crash *crash;
    struct pln_cache *cache;
    int number;
};

struct thread {
    pthread_t thread;
    struct worker *worker;
    unsigned number; /* of all writers */
    uint64_t dice;
    struct crash_store source; /* that it loads from */
};

static void no_log(void *arg, int level, const char *line) {
    (void) arg, (void) level;
    if (getenv("PLN_CRASH_LOG") != NULL) {
        fprintf(stderr, "[%d] %s\n", (int) getpid(), line);
    }
}

static struct pln_cache *open_cache(const struct crash *crash, struct crash_store *store) {
    struct pln_write_options writing = {
        .strategy = PLN_WRITE_BEHIND,
        .in_order = crash->in_order,
        .store = crash_store,
        .arg = store,
        .timeout_ms = CRASH_TIMEOUT_MS,
        .batch = 200,
        .every_ms = 10,
        .attempts = 100000, /* only poison is given up */
        .backoff_ms = 5,
    };
    struct pln_options options = {
        .redis = crash->server.url,
        .ns = "t",
        .max_bytes = 8 << 20,
        .timeout_ms = 500,
        .ping_ms = 200,
        .ttl_ms = PLN_FOREVER,
        .lease_ms = 300,
        .writing = &writing,
        .log = no_log,
    };
    struct pln_cache *cache;
    if (pln_open(&options, &cache) != PLN_OK) {
        crash_fault(crash, "a worker cannot open its cache: %s", pln_error_text());
        _exit(1);
    }
    return cache;
}

/* ---- what Redis does not have ---- */

static int load(void *arg, struct pln_bytes key, struct pln_load *loaded) {
    struct crash_store *store = arg;
    char name[CRASH_KEY], value[DATABASE_TEXT];
    snprintf(name, sizeof name, "%.*s", (int) key.len, (const char *) key.data);
    if (store->database == NULL) {
        store->database = database_open(store->crash->where, false);
    }
    int found = store->database == NULL ? -1 : database_read(store->database, name, value);
    if (found < 0) {
        return pln_load_error(loaded, "no database");
    }
    return found == 0 ? PLN_ABSENT : pln_load_value(loaded, pln_key(value), 0);
}

/* Failures of Redis so far, as this process has seen them; odd while it does not even ask. */
static uint64_t count_failures(struct pln_cache *cache) {
    struct pln_stat stats[256];
    uint64_t n = 0;
    size_t n_stats = pln_stats(cache, stats, 256);
    for (size_t i = 0; i < n_stats && i < 256; i++) {
        if (strcmp(stats[i].name, "l2_errors") == 0 || strcmp(stats[i].name, "l2_timeouts") == 0 ||
            strcmp(stats[i].name, "l2_breaks") == 0) {
            n += 2 * stats[i].value;
        } else if (strcmp(stats[i].name, "l2_breaker_open") == 0) {
            n += stats[i].value;
        }
    }
    return n;
}

/* ---- writing ---- */

static void write_poison(struct thread *thread) {
    struct crash_poison *poison = &thread->worker->crash->board->poisons[thread->number];
    unsigned number = atomic_load(&poison->tried) + 1;
    char name[CRASH_KEY];
    if (number == CRASH_POISONS) {
        return;
    }
    atomic_store(&poison->tried, number);
    crash_poison_name(thread->number, number, name);
    if (pln_set(thread->worker->cache, pln_key(name), pln_key("bitter"), NULL) == PLN_OK) {
        atomic_store(&poison->is_acked[number], 1);
    }
}

/* Where Redis has dropped a counter it goes on from what waits or is stored, and begins anew only
 * where there is certainly no such thing. Returns the sum, or 0. */
static uint32_t add_one(struct thread *thread, const char *name) {
    struct pln_cache *cache = thread->worker->cache;
    struct pln_get_options reading = {.flags = PLN_GET_NO_L1};
    struct pln_incr_options adding = {.has_initial = false};
    struct pln_result result = {.value = NULL};
    int64_t sum = 0;
    int status = pln_incr(cache, pln_key(name), 1, &adding, &sum);
    if (status == PLN_MISS) {
        uint64_t n_failures = count_failures(cache);
        int loaded = pln_get_or_load(cache, pln_key(name), &reading, load, &thread->source,
                                     &result);
        if (loaded >= 0) {
            pln_release(cache, result.value);
        }
        adding.has_initial = loaded == PLN_ABSENT && n_failures % 2 == 0 &&
                             n_failures == count_failures(cache);
        status = pln_incr(cache, pln_key(name), 1, &adding, &sum);
    }
    return status == PLN_OK ? (uint32_t) sum : 0;
}

/* Writes the key anew. Returns its number where that is acknowledged, else 0. */
static uint32_t write_key(struct thread *thread, unsigned key, uint32_t number) {
    struct pln_cache *cache = thread->worker->cache;
    char name[CRASH_KEY], value[DATABASE_TEXT];
    crash_key_name(key, name);
    if (crash_is_counter(key)) {
        return add_one(thread, name);
    }
    if (number % CRASH_DELETES == 0) {
        return pln_delete(cache, pln_key(name)) == PLN_OK ? number : 0;
    }
    snprintf(value, sizeof value, "%" PRIu32 " %.*s", number, (int) crash_roll(&thread->dice, 60),
             "as long as the dice say, so that not all writes are alike");
    return pln_set(cache, pln_key(name), pln_key(value), NULL) == PLN_OK ? number : 0;
}

static void *write_on(void *arg) {
    struct thread *thread = arg;
    const struct crash *crash = thread->worker->crash;
    struct crash_board *board = crash->board;
    while (!atomic_load(&board->is_over)) {
        unsigned key = thread->number * CRASH_KEYS + crash_roll(&thread->dice, CRASH_KEYS);
        struct crash_key *known = &board->keys[key];
        uint32_t number = atomic_load(&known->tried) + 1;
        if (number == CRASH_NUMBERS) {
            break;
        }
        atomic_store(&known->tried, number);
        number = write_key(thread, key, number);
        if (number >= CRASH_NUMBERS || (number != 0 && number <= atomic_load(&known->acked))) {
            crash_fault(crash, "key:%u: a write is acknowledged as number %" PRIu32, key, number);
        } else if (number != 0) {
            atomic_fetch_or(&known->is_acked[number / 8], (uint8_t) (1 << number % 8));
            atomic_store(&known->acked, number);
            atomic_fetch_add(&board->n_acked, 1);
        } else {
            atomic_fetch_add(&board->n_refused, 1);
        }
        if (crash_roll(&thread->dice, POISON_EVERY) == 0) {
            write_poison(thread);
        }
        crash_nap_us(crash_roll(&thread->dice, PAUSE_US));
    }
    return NULL;
}

/* ---- reading ---- */

/* Redis loses the value, as it does when its memory is full; not of a counter, which is nowhere
 * else. */
static void evict(const struct crash *crash, redisContext **context, const char *name) {
    if (*context == NULL || (*context)->err != 0) {
        if (*context != NULL) {
            redisFree(*context);
        }
        *context = redisConnectUnix(crash->server.path);
    }
    void *reply = *context == NULL || (*context)->err != 0
                      ? NULL
                      : redisCommand(*context, "DEL t:v:%s", name);
    if (reply != NULL) {
        freeReplyObject(reply);
    }
}

/* What was acknowledged before the read began must be there, or something newer. Where a process
 * cannot ask Redis it is served what the database has, which may be behind. */
static void read_key(struct worker *worker, struct crash_store *store, unsigned key,
                     redisContext **context) {
    struct crash_board *board = worker->crash->board;
    struct pln_get_options options = {.flags = PLN_GET_NO_L1, .negative_ms = PLN_FOREVER};
    struct pln_result result = {.value = NULL};
    char name[CRASH_KEY];
    crash_key_name(key, name);
    uint64_t n_failures = count_failures(worker->cache);
    if (!crash_is_counter(key) && crash_roll(&store->dice, EVICT_EVERY) == 0) {
        evict(worker->crash, context, name);
    }
    uint32_t acked = atomic_load(&board->keys[key].acked);
    int status = pln_get_or_load(worker->cache, pln_key(name), &options, load, store, &result);
    uint32_t tried = atomic_load(&board->keys[key].tried), number = 0;
    if (status == PLN_OK) {
        char text[DATABASE_TEXT];
        snprintf(text, sizeof text, "%.*s", (int) result.len,
                 (const char *) pln_value_data(result.value));
        number = (uint32_t) strtoul(text, NULL, 10);
    } else if (!crash_is_counter(key)) {
        number = tried - tried % CRASH_DELETES; /* it was deleted, if it is so */
    }
    if (status >= 0) {
        pln_release(worker->cache, result.value);
    }
    bool is_loaded = result.source != PLN_FROM_L2;
    bool is_well = n_failures % 2 == 0 && n_failures == count_failures(worker->cache);
    if (status >= 0 && (is_well || !is_loaded)) {
        atomic_fetch_add(&board->n_reads, 1);
        atomic_fetch_add(&board->n_loads, is_loaded);
        if (number < acked) {
            crash_fault(worker->crash,
                        "%s: number %" PRIu32 " had been acknowledged, and %" PRIu32
                        " was read then, from %s (status %d, %" PRIu32 " tried)",
                        name, acked, number, pln_source_name(result.source), status, tried);
        }
    }
}

static void *read_on(void *arg) {
    struct thread *thread = arg;
    struct crash_store store = {.crash = thread->worker->crash, .worker = -1, .dice = thread->dice};
    redisContext *context = NULL;
    while (!atomic_load(&store.crash->board->is_over)) {
        read_key(thread->worker, &store, crash_roll(&store.dice, CRASH_ALL_KEYS), &context);
        crash_nap_us(crash_roll(&store.dice, 2 * PAUSE_US));
    }
    database_close(store.database);
    if (context != NULL) {
        redisFree(context);
    }
    return NULL;
}

/* ---- the processes ---- */

_Noreturn void crash_work(const struct crash *crash, int number, uint64_t dice) {
    signal(SIGPIPE, SIG_IGN); /* hiredis, of which only evict() makes use */
    struct crash_store store = {.crash = crash, .worker = number, .dice = dice};
    struct worker worker = {crash, open_cache(crash, &store), number};
    struct thread threads[CRASH_WRITERS + 1];
    for (unsigned i = 0; i <= CRASH_WRITERS; i++) {
        threads[i] = (struct thread){.worker = &worker,
                                     .number = (unsigned) number * CRASH_WRITERS + i,
                                     .dice = dice + 1 + i,
                                     .source = {.crash = crash, .worker = -1}};
        if (pthread_create(&threads[i].thread, NULL, i < CRASH_WRITERS ? write_on : read_on,
                           &threads[i]) != 0) {
            _exit(1);
        }
    }
    for (unsigned i = 0; i <= CRASH_WRITERS; i++) {
        pthread_join(threads[i].thread, NULL);
        database_close(threads[i].source.database);
    }
    pln_close(worker.cache);
    database_close(store.database);
    _exit(0);
}

static bool take_down(void *arg, const struct pln_dead_letter *letter) {
    const struct crash *crash = arg;
    char name[CRASH_KEY];
    unsigned writer, number;
    snprintf(name, sizeof name, "%.*s", (int) letter->key.len, (const char *) letter->key.data);
    if (sscanf(name, "poison:%u:%u", &writer, &number) != 2 ||
        writer >= CRASH_WORKERS * CRASH_WRITERS || number >= CRASH_POISONS) {
        crash_fault(crash, "%s is a dead letter: %s", name, letter->error);
        return true;
    }
    if (strcmp(letter->error, "it is poison") != 0) {
        crash_fault(crash, "%s became a dead letter for: %s", name, letter->error);
    }
    crash->board->poisons[writer].n_letters[number]++;
    return true;
}

_Noreturn void crash_flush(const struct crash *crash) {
    struct crash_store store = {.crash = crash, .worker = -1, .dice = 1};
    struct pln_cache *cache = open_cache(crash, &store);
    struct pln_queue_state state = {0};
    if (pln_flush(cache, FLUSH_MS) != PLN_OK) {
        crash_fault(crash, "the flush failed: %s", pln_error_text());
    }
    if (pln_queue_state(cache, &state) != PLN_OK || state.depth != 0) {
        crash_fault(crash, "%" PRIu64 " writes wait after the flush", state.depth);
    }
    if (pln_dead_letters(cache, 0, take_down, (void *) crash) != PLN_OK) {
        crash_fault(crash, "the dead letters cannot be read: %s", pln_error_text());
    }
    pln_close(cache);
    database_close(store.database);
    _exit(0);
}
