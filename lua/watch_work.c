/* SPDX-License-Identifier: MIT
 * watch_work.c - a child of `perilune watch`: see watch.h. The source of truth is shared memory,
 * and reading it takes a while, so that a version may be replaced while it is on its way. */
#include "watch.h"

#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
    MAX_NAME = 40,  /* of a key, of a tag, of a value */
    PULSE_MS = 10,  /* how often the link is looked at */
    LOAD_US = 2000, /* a load takes up to so long, and one in LATE ten times that */
    LATE = 50,
};

struct worker {
    struct pln_watch *watch;
    struct pln_watch_process *process;
    struct pln_cache *cache;
    unsigned index; /* of the process */
    uint32_t life;
    uint64_t dice;
    pthread_t thread;
};

/* What a loader is given. */
struct source {
    struct worker *worker;
    unsigned key;
};

/* ---- small things ---- */

int pln_watch_lock(pthread_mutex_t *lock) {
    int result = pthread_mutex_lock(lock);
    if (result == EOWNERDEAD) {
        result = pthread_mutex_consistent(lock);
    }
    return result;
}

void pln_watch_unlock(pthread_mutex_t *lock) {
    pthread_mutex_unlock(lock);
}

static bool try_lock(pthread_mutex_t *lock) {
    int result = pthread_mutex_trylock(lock);
    return result == 0 || (result == EOWNERDEAD && pthread_mutex_consistent(lock) == 0);
}

enum pln_watch_kind pln_watch_kind_of(unsigned key) {
    static const enum pln_watch_kind kinds[8] = {
        PLN_WATCH_DELETE, PLN_WATCH_RECORD, PLN_WATCH_DELETE, PLN_WATCH_TAG,
        PLN_WATCH_DELETE, PLN_WATCH_RECORD, PLN_WATCH_DELETE, PLN_WATCH_EXPIRE};
    return kinds[key % 8];
}

const char *pln_watch_kind_name(enum pln_watch_kind kind) {
    static const char *const names[] = {"delete", "tag", "expire", "set"};
    return names[kind];
}

/* xorshift64: a thread's own dice. */
static uint64_t roll(struct worker *worker, uint64_t sides) {
    worker->dice ^= worker->dice << 13;
    worker->dice ^= worker->dice >> 7;
    worker->dice ^= worker->dice << 17;
    return worker->dice % sides;
}

static void nap(pln_ns length) {
    struct timespec time = pln_timespec(length);
    nanosleep(&time, NULL);
}

static struct pln_bytes name_of(const struct worker *worker, unsigned key, char name[MAX_NAME]) {
    int len = snprintf(name, MAX_NAME, "%08x:%u", worker->watch->settings.run, key);
    return pln_bytes_of(name, (size_t) len);
}

static struct pln_bytes tag_of(unsigned key, char name[MAX_NAME]) {
    return pln_bytes_of(name, (size_t) snprintf(name, MAX_NAME, "watch:%u", key));
}

static struct pln_bytes value_of(unsigned key, uint64_t version, char value[MAX_NAME]) {
    int len = snprintf(value, MAX_NAME, "%u=%llu", key, (unsigned long long) version);
    return pln_bytes_of(value, (size_t) len);
}

static uint64_t version_now(struct pln_watch_key *key) {
    pln_watch_lock(&key->lock);
    uint64_t version = key->version;
    pln_watch_unlock(&key->lock);
    return version;
}

/* ---- what the parent is told ---- */

static void tell(struct pln_watch_process *process, const struct pln_watch_note *note) {
    bool is_told = false;
    while (!is_told) {
        pln_watch_lock(&process->lock);
        if (process->n_written - process->n_taken < PLN_WATCH_NOTES) {
            process->notes[process->n_written % PLN_WATCH_NOTES] = *note;
            process->n_written++;
            is_told = true;
        }
        pln_watch_unlock(&process->lock);
        if (!is_told) {
            nap(PULSE_MS * 1000000LL); /* the parent comes for them, and none may be lost */
        }
    }
}

/* Adds to one count; false where the child is to end. */
static bool count(struct pln_watch_process *process, uint64_t *which) {
    pln_watch_lock(&process->lock);
    (*which)++;
    bool goes_on = !process->must_stop;
    pln_watch_unlock(&process->lock);
    return goes_on;
}

static bool goes_on(struct pln_watch_process *process) {
    uint64_t nothing = 0;
    return count(process, &nothing);
}

static void tell_wrong(struct worker *worker, unsigned key, struct pln_bytes value,
                       uint64_t newest) {
    struct pln_watch_process *process = worker->process;
    pln_watch_lock(&process->lock);
    if (process->counts.wrong++ == 0) {
        snprintf(process->wrong, sizeof process->wrong,
                 "key %u brought '%.*s', and its newest version is %llu", key,
                 (int) (value.len < 60 ? value.len : 60), (const char *) value.data,
                 (unsigned long long) newest);
    }
    pln_watch_unlock(&process->lock);
}

/* ---- reading ---- */

static int load(void *arg, struct pln_bytes name, struct pln_load *load) {
    struct source *source = arg;
    struct worker *worker = source->worker;
    char value[MAX_NAME];
    (void) name;
    uint64_t version = version_now(&worker->watch->keys[source->key]);
    pln_ns time = (pln_ns) roll(worker, LOAD_US) * 1000;
    nap(roll(worker, LATE) == 0 ? 10 * time : time);
    return pln_load_value(load, value_of(source->key, version, value), 0);
}

/* Compares what a read brought with what may be read. */
static void check(struct worker *worker, unsigned index, pln_ns began, struct pln_bytes value,
                  uint8_t from) {
    struct pln_watch_key *key = &worker->watch->keys[index];
    char text[MAX_NAME] = "", right[MAX_NAME];
    unsigned long long version = 0;
    struct pln_watch_note note = {.news = PLN_WATCH_OLD_READ, .at = began};
    pln_ns took = pln_clock_precise() - began;
    memcpy(text, value.data, value.len < sizeof text ? value.len : sizeof text - 1);
    const char *number = strchr(text, '=');
    version = number != NULL ? strtoull(number + 1, NULL, 10) : 0;
    pln_watch_lock(&key->lock);
    uint64_t newest = key->version;
    bool is_old = pln_truth_missed(&key->truth, version, began, worker->life, &note.read.missed) &&
                  (pln_watch_kind_of(index) != PLN_WATCH_RECORD ||
                   pln_truth_knows(&key->truth, version));
    pln_watch_unlock(&key->lock);
    if (!pln_bytes_equal(value_of(index, version, right), value) || version > newest) {
        tell_wrong(worker, index, value, newest);
    } else if (is_old) {
        note.read.began = began;
        note.read.took = took;
        note.read.version = version;
        note.read.newest = newest;
        note.read.key = index;
        note.read.reader = worker->life;
        note.read.process = (uint16_t) worker->index;
        note.read.source = from;
        tell(worker->process, &note);
    }
}

static void read_one(struct worker *worker, unsigned index) {
    struct pln_watch_process *process = worker->process;
    char name[MAX_NAME], tag[MAX_NAME];
    struct pln_result result;
    struct source source = {worker, index};
    struct pln_bytes tag_bytes = tag_of(index, tag);
    struct pln_get_options options = {.tags = &tag_bytes, .n_tags = 1};
    enum pln_watch_kind kind = pln_watch_kind_of(index);
    pln_ns began = pln_clock_precise();
    int status = pln_get_or_load(worker->cache, name_of(worker, index, name),
                                 kind == PLN_WATCH_TAG ? &options : NULL,
                                 kind == PLN_WATCH_RECORD ? NULL : load, &source, &result);
    if (status == PLN_OK) {
        check(worker, index, began, pln_bytes_of(pln_value_data(result.value), result.len),
              result.source);
        pln_release(worker->cache, result.value);
    }
    count(process, status == PLN_OK ? &process->counts.reads : &process->counts.unanswered);
}

/* ---- writing ---- */

static int make_known(struct worker *worker, unsigned index, uint64_t version) {
    char name[MAX_NAME], text[MAX_NAME];
    struct pln_bytes key = name_of(worker, index, name);
    switch (pln_watch_kind_of(index)) {
    case PLN_WATCH_TAG:
        return pln_invalidate_tag(worker->cache, tag_of(index, text));
    case PLN_WATCH_EXPIRE:
        return pln_expire(worker->cache, key);
    case PLN_WATCH_RECORD:
        return pln_set(worker->cache, key, value_of(index, version, text), NULL);
    default:
        return pln_delete(worker->cache, key);
    }
}

static void write_one(struct worker *worker, unsigned index) {
    struct pln_watch_key *key = &worker->watch->keys[index];
    struct pln_watch_process *process = worker->process;
    if (!try_lock(&key->writer)) {
        return; /* somebody else writes it */
    }
    pln_watch_lock(&key->lock);
    uint64_t version = ++key->version;
    pln_watch_unlock(&key->lock);
    int status = make_known(worker, index, version);
    pln_ns at = pln_clock_precise();
    if (status == PLN_OK) {
        pln_watch_lock(&key->lock);
        pln_truth_ack(&key->truth, version, at, worker->life);
        pln_watch_unlock(&key->lock);
    }
    pln_watch_unlock(&key->writer);
    count(process, status == PLN_OK ? &process->counts.writes : &process->counts.refused);
}

static void *work(void *arg) {
    struct worker *worker = arg;
    const struct pln_watch_settings *settings = &worker->watch->settings;
    while (goes_on(worker->process)) {
        unsigned key = (unsigned) roll(worker, settings->keys);
        if ((double) roll(worker, 1000000) < settings->writes * 1000000) {
            write_one(worker, key);
        } else {
            read_one(worker, key);
        }
        nap((pln_ns) roll(worker, 2 * (uint64_t) settings->pace * 1000 + 1) * 1000);
    }
    return NULL;
}

/* ---- the link ---- */

/* Whether it is up, and how often it was lost. */
static void look_at_link(struct pln_cache *cache, bool *is_up, uint64_t *losses) {
    enum { MAX_STATS = 256 };
    struct pln_stat stats[MAX_STATS];
    size_t n = pln_stats(cache, stats, MAX_STATS);
    for (size_t i = 0; i < n && i < MAX_STATS; i++) {
        if (strcmp(stats[i].name, "bus_ok") == 0) {
            *is_up = stats[i].value == 1;
        } else if (strcmp(stats[i].name, "bus_losses") == 0) {
            *losses = stats[i].value;
        }
    }
}

static void tell_link(struct worker *worker, bool is_up, pln_ns at) {
    struct pln_watch_note note = {.news = is_up ? PLN_WATCH_LINK_UP : PLN_WATCH_LINK_DOWN,
                                  .at = at};
    tell(worker->process, &note);
}

/* A look was so much later than it should have been. Where the machine does not let this thread
 * run for half the time that a message may take, nor may it have let the link's. */
static void note_lateness(struct worker *worker, pln_ns from, pln_ns late) {
    struct pln_watch_process *process = worker->process;
    pln_watch_lock(&process->lock);
    process->stalled = late > process->stalled ? late : process->stalled;
    pln_watch_unlock(&process->lock);
    if (late > worker->watch->settings.bounds.delivery / 2) {
        struct pln_watch_note note = {
            .news = PLN_WATCH_STALL, .at = from, .until = from + late + PULSE_MS * 1000000LL};
        tell(process, &note);
    }
}

/* Looks at the link until the child is to end. One that came back between two looks was down since
 * the first. How late the looks are says how busy the machine is. */
static void watch_link(struct worker *worker) {
    bool was_up = false;
    uint64_t losses_before = 0;
    pln_ns before = pln_clock_precise();
    while (goes_on(worker->process)) {
        bool is_up = false;
        uint64_t losses = 0;
        look_at_link(worker->cache, &is_up, &losses);
        pln_ns now = pln_clock_precise();
        if (was_up && (!is_up || losses != losses_before)) {
            tell_link(worker, false, before);
        }
        if (is_up && (!was_up || losses != losses_before)) {
            tell_link(worker, true, now);
        }
        note_lateness(worker, before, now - before - PULSE_MS * 1000000LL);
        was_up = is_up;
        losses_before = losses;
        before = now;
        nap(PULSE_MS * 1000000LL);
    }
}

/* ---- the child ---- */

/* Puts the number of the process where the URL says {process}. */
static const char *own_url(const char *url, unsigned process, char own[PLN_WATCH_URL]) {
    static const char mark[] = "{process}";
    const char *place = strstr(url, mark);
    if (place == NULL) {
        return url;
    }
    snprintf(own, PLN_WATCH_URL, "%.*s%u%s", (int) (place - url), url, process,
             place + sizeof mark - 1);
    return own;
}

static int run_threads(struct worker *workers, unsigned n) {
    unsigned n_started = 1; /* the first is this thread's */
    while (n_started <= n &&
           pthread_create(&workers[n_started].thread, NULL, work, &workers[n_started]) == 0) {
        n_started++;
    }
    if (n_started <= n) {
        fprintf(stderr, "perilune: watch: the system has no more threads\n");
        pln_watch_lock(&workers[0].process->lock);
        workers[0].process->must_stop = true;
        pln_watch_unlock(&workers[0].process->lock);
    } else {
        watch_link(&workers[0]);
    }
    for (unsigned i = 1; i < n_started; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    return n_started <= n ? EXIT_FAILURE : EXIT_SUCCESS;
}

int pln_watch_work(struct pln_watch *watch, unsigned process) {
    struct pln_options options = watch->settings.options;
    struct pln_cache *cache;
    char url[PLN_WATCH_URL], name[MAX_NAME];
    unsigned n = watch->settings.threads;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody would tell it to stop */
    signal(SIGINT, SIG_IGN);          /* Ctrl-C is the parent's */
    snprintf(name, sizeof name, "watch %u", process);
    options.name = name;
    options.redis = own_url(options.redis, process, url);
    struct worker *workers = calloc(n + 1, sizeof *workers);
    if (workers == NULL || pln_open(&options, &cache) < 0) {
        fprintf(stderr, "perilune: watch: %s\n", workers == NULL ? "no memory" : pln_error_text());
        free(workers);
        return 2;
    }
    for (unsigned i = 0; i <= n; i++) {
        uint32_t life = watch->processes[process].life;
        workers[i] = (struct worker){
            watch,
            &watch->processes[process],
            cache,
            process,
            life,
            (watch->settings.run + 1ULL) * 0x9e3779b97f4a7c15 ^ ((uint64_t) life << 32) ^ (i + 1),
            0};
    }
    int code = run_threads(workers, n);
    pln_close(cache);
    free(workers);
    return code;
}
