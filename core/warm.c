/* SPDX-License-Identifier: MIT
 *
 * warm.c - warming: reads every key that the policy's lists name, through the tiers like any other
 * read, so that single flight, leases and terms hold for it too.
 *
 * The keys are gathered first (so that there is a total to report against), then read by as many
 * threads as the plan says, started no faster than its rate, until all are done, the deadline
 * passes, or the caller's progress function says stop.
 *
 * The lists come over the connections of commands, which no value waits for. The values themselves
 * come the way of every other read: what is kept in L1 has to be read in order with the key's
 * writes (R10), so another connection is no place for it. What bounds the delay that warming costs
 * others is its concurrency: each of its threads has one small command under way, so a read never
 * finds more than that many before it.
 */
#include "engine.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

enum {
    DEFAULT_CONCURRENCY = 8,
    MAX_CONCURRENCY = 256,
    DEFAULT_TOP = 10000,
    MAX_KEYS = 10 * 1000 * 1000,
    PROGRESS_EVERY_MS = 100,
};

struct key_list {
    struct pln_bytes *keys; /* owned, bytes too */
    size_t n, room;
};

struct warming {
    struct pln_cache *cache;
    const struct pln_warm_plan *plan;
    struct key_list list;
    pln_ns began, deadline;
    pthread_mutex_t lock; /* over: */
    pthread_cond_t changed;
    size_t next;
    pln_ns next_at; /* when the rate allows the next key */
    unsigned n_running;
    bool is_stopped;
    struct pln_warm_report report;
};

/* ---- gathering ---- */

static int list_add(struct key_list *list, struct pln_bytes key) {
    if (list->n == list->room) {
        size_t room = list->room == 0 ? 256 : list->room * 2;
        struct pln_bytes *grown = realloc(list->keys, room * sizeof *grown);
        if (grown == NULL || room > MAX_KEYS) {
            list->keys = grown != NULL ? grown : list->keys;
            return pln_fail(PLN_ENOMEM, "warm: no room for more than %zu keys", list->n);
        }
        list->keys = grown;
        list->room = room;
    }
    char *copy = malloc(key.len + 1);
    if (copy == NULL) {
        return pln_fail(PLN_ENOMEM, "warm: no memory for a key");
    }
    memcpy(copy, key.data, key.len);
    list->keys[list->n++] = pln_bytes_of(copy, key.len);
    return PLN_OK;
}

static void list_fini(struct key_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        free((void *) list->keys[i].data);
    }
    free(list->keys);
}

/* One key a line; blank lines and lines that begin with '#' are passed over. */
static int add_file(struct key_list *list, const char *name) {
    char *line = NULL;
    size_t room = 0;
    ssize_t len;
    int status = PLN_OK;
    FILE *file = fopen(name, "re");
    if (file == NULL) {
        return pln_fail(PLN_ESYSTEM, "warm: %s: %s", name, strerror(errno));
    }
    while (status == PLN_OK && (len = getline(&line, &room, file)) >= 0) {
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) {
            len--;
        }
        if (len > 0 && line[0] != '#') {
            status = list_add(list, pln_bytes_of(line, (size_t) len));
        }
    }
    if (status == PLN_OK && ferror(file)) {
        status = pln_fail(PLN_ESYSTEM, "warm: %s: %s", name, strerror(errno));
    }
    free(line);
    fclose(file);
    return status;
}

static int add_zset(struct pln_cache *cache, struct key_list *list,
                    const struct pln_warm_source *source) {
    if (!cache->has_l2) {
        return pln_fail(PLN_EL2DOWN, "warm: zset '%s': the cache has no Redis", source->name);
    }
    char last[24];
    struct pln_bytes name = pln_key(source->name);
    struct pln_reply *reply;
    snprintf(last, sizeof last, "%zu", (source->top != 0 ? source->top : DEFAULT_TOP) - 1);
    struct pln_bytes args[] = {pln_key("ZREVRANGE"), name, pln_key("0"), pln_key(last)};
    int status = pln_l2_command(cache->l2, &name, args, PLN_ARRAY_LEN(args),
                                pln_cache_l2_deadline(cache, PLN_FOREVER), &reply);
    if (status != PLN_OK) {
        return status;
    }
    for (size_t i = 0; status == PLN_OK && i < reply->n_elements; i++) {
        status = list_add(list, reply->elements[i].bytes);
    }
    pln_reply_free(reply);
    return status;
}

static int gather(struct pln_cache *cache, const struct pln_warm_plan *plan,
                  struct key_list *list) {
    int status = PLN_OK;
    for (size_t i = 0; status == PLN_OK && i < plan->n_sources; i++) {
        const struct pln_warm_source *source = &plan->sources[i];
        switch (source->kind) {
        case PLN_WARM_KEYS:
            for (size_t k = 0; status == PLN_OK && k < source->n_keys; k++) {
                status = list_add(list, source->keys[k]);
            }
            break;
        case PLN_WARM_FILE:
            status = add_file(list, source->name);
            break;
        case PLN_WARM_ZSET:
            status = add_zset(cache, list, source);
            break;
        }
    }
    return status;
}

/* ---- reading ---- */

static void sleep_until(pln_ns time) {
    struct timespec until = pln_timespec(time);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

/* Takes the next key and the moment at which it may be read; false when there is none left. */
static bool take_key(struct warming *warming, struct pln_bytes *key, pln_ns *at) {
    pthread_mutex_lock(&warming->lock);
    pln_ns now = pln_clock_precise();
    *at = now;
    if (warming->plan->rate > 0) {
        *at = warming->next_at > now ? warming->next_at : now;
    }
    bool is_late = *at >= warming->deadline;
    bool has_key = warming->next < warming->list.n && !warming->is_stopped && !is_late;
    if (has_key) {
        *key = warming->list.keys[warming->next++];
        if (warming->plan->rate > 0) {
            warming->next_at = *at + (pln_ns) (1e9 / warming->plan->rate);
        }
    } else if (is_late && warming->next < warming->list.n) {
        warming->report.deadline_passed = true;
    }
    pthread_mutex_unlock(&warming->lock);
    return has_key;
}

static void read_key(struct warming *warming, struct pln_bytes key) {
    static const struct pln_get_options keep = {.flags = PLN_GET_KEEP};
    struct pln_result result;
    int status = pln_get(warming->cache, key, &keep, &result);
    bool is_loaded = result.source == PLN_FROM_LOADER;
    pln_release(warming->cache, result.value);
    pthread_mutex_lock(&warming->lock);
    if (status != PLN_OK && status != PLN_ABSENT) {
        warming->report.failed++;
    } else if (is_loaded) {
        warming->report.loaded++;
    } else {
        warming->report.present++;
    }
    pthread_mutex_unlock(&warming->lock);
}

static void *warm_thread(void *arg) {
    struct warming *warming = arg;
    struct pln_bytes key;
    pln_ns at;
    while (take_key(warming, &key, &at)) {
        if (at > pln_clock_precise()) {
            sleep_until(at);
        }
        read_key(warming, key);
    }
    pthread_mutex_lock(&warming->lock);
    warming->n_running--;
    pthread_cond_signal(&warming->changed);
    pthread_mutex_unlock(&warming->lock);
    return NULL;
}

static struct pln_warm_report snapshot_locked(const struct warming *warming) {
    struct pln_warm_report report = warming->report;
    double wanted_share = warming->plan->ready_at > 0 ? warming->plan->ready_at : 1;
    report.took_ms = (pln_clock_precise() - warming->began) / 1000000;
    report.is_ready = (double) (report.loaded + report.present) >=
                      wanted_share * (double) report.wanted;
    return report;
}

/* Watches until the threads are through, telling how far they are. */
static void watch(struct warming *warming, pln_warm_progress progress, void *arg) {
    pthread_mutex_lock(&warming->lock);
    while (warming->n_running > 0) {
        pln_ns wake = pln_clock_precise() + (pln_ns) PROGRESS_EVERY_MS * 1000000;
        struct timespec until = pln_timespec(wake);
        pthread_cond_clockwait(&warming->changed, &warming->lock, CLOCK_MONOTONIC, &until);
        if (progress != NULL) {
            struct pln_warm_report report = snapshot_locked(warming);
            pthread_mutex_unlock(&warming->lock);
            bool goes_on = progress(arg, &report);
            pthread_mutex_lock(&warming->lock);
            warming->is_stopped = warming->is_stopped || !goes_on;
        }
    }
    pthread_mutex_unlock(&warming->lock);
}

static int run(struct warming *warming, pln_warm_progress progress, void *arg) {
    pthread_t threads[MAX_CONCURRENCY];
    size_t wanted = warming->plan->concurrency != 0 ? warming->plan->concurrency
                                                    : DEFAULT_CONCURRENCY;
    wanted = wanted < MAX_CONCURRENCY ? wanted : MAX_CONCURRENCY;
    wanted = wanted < warming->list.n ? wanted : warming->list.n;
    size_t started = 0;
    pthread_mutex_lock(&warming->lock);
    while (started < wanted && pthread_create(&threads[started], NULL, warm_thread, warming) == 0) {
        started++;
    }
    warming->n_running = (unsigned) started;
    pthread_mutex_unlock(&warming->lock);
    watch(warming, progress, arg);
    for (size_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    return started > 0 || wanted == 0 ? PLN_OK
                                      : pln_fail(PLN_ESYSTEM, "warm: the system starts no thread");
}

int pln_warm(struct pln_cache *cache, pln_warm_progress progress, void *arg,
             struct pln_warm_report *report) {
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    struct warming warming = {.cache = cache, .plan = &ruleset->warm};
    warming.began = pln_clock_precise();
    warming.deadline = pln_deadline(ruleset->warm.deadline_ms > 0 ? ruleset->warm.deadline_ms
                                                                  : PLN_FOREVER);
    pthread_mutex_init(&warming.lock, NULL);
    pthread_cond_init(&warming.changed, NULL);
    int status = gather(cache, &ruleset->warm, &warming.list);
    warming.report.wanted = warming.list.n;
    if (status == PLN_OK) {
        status = run(&warming, progress, arg);
    }
    if (status == PLN_OK) {
        *report = snapshot_locked(&warming);
    }
    list_fini(&warming.list);
    pthread_cond_destroy(&warming.changed);
    pthread_mutex_destroy(&warming.lock);
    pln_ruleset_unref(ruleset);
    return status;
}
