/* SPDX-License-Identifier: MIT
 *
 * bench_bus.c - what it takes until an instance has heard what another one did: how soon, how many
 * a second, how many bytes, and how much of Redis's processor.
 *
 * The writer is a process of its own. `bus.latency` is the time from the beginning of a delete
 * there to the end of the entry here, since the message and the writer's own answer leave the
 * server in the same turn, and either may come first; `bus.redis.latency` is the time from the
 * beginning of a bare PUBLISH of as many bytes to the return of the subscriber's blocking read. One
 * after the other, round by round. `bus.latency.after_ack` counts from the answer; negative is
 * before it.
 */
#include <hiredis/hiredis.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../core/engine.h"
#include "../l2/server.h"
#include "bench.h"

enum {
    ROUNDS = 7,
    WRITES = 2000, /* of a round */
    PAUSE_US = 100,
    MOST_SUBSCRIBERS = 100,
    CPU_WRITES = 20000,
    MESSAGE_BYTES = 14 + BENCH_KEY_BYTES + 8, /* of one of ours about one key */
    BATCHES = 500,
    KEYS_A_BATCH = 1000,
    APPLIED = BATCHES * KEYS_A_BATCH,
};

/* What the two processes share. */
struct board {
    _Atomic uint32_t turn; /* the writer begins with each number */
    _Atomic uint32_t n_done;
    int64_t begun[WRITES], acked[WRITES], seen[WRITES];
    _Atomic uint32_t n_seen;
};

static struct server server;
static struct board *board;

static void need(bool is_well, const char *what) {
    if (!is_well) {
        fprintf(stderr, "bench_bus: %s failed: %s\n", what, pln_error_text());
        pln_test_redis_stop(&server);
        exit(1);
    }
}

static void key_of(uint32_t i, char key[BENCH_KEY_BYTES + 1]) {
    snprintf(key, BENCH_KEY_BYTES + 1, "key:%012u", i);
}

/* ---- the writer's process ---- */

static void nap(void) {
    usleep(PAUSE_US);
}

static struct pln_cache *open_cache(pln_l2_maker make) {
    struct pln_options options = {
        .redis = server.url, .ns = "bench", .timeout_ms = 5000, .max_bytes = (size_t) 512 << 20};
    struct pln_cache *cache = NULL;
    need(pln_open_over(&options, make, NULL, &cache) == PLN_OK, "open");
    return cache;
}

static int make_plain(void *arg, const struct pln_l2_options *options, struct pln_l2 **l2) {
    (void) arg;
    return pln_l2_redis_new(options, l2);
}

static void write_ours(struct pln_cache *cache) {
    char key[BENCH_KEY_BYTES + 1];
    for (uint32_t i = 0; i < WRITES; i++) {
        key_of(i, key);
        board->begun[i] = pln_clock_precise();
        need(pln_delete(cache, pln_key(key)) == PLN_OK, "delete");
        board->acked[i] = pln_clock_precise();
        nap();
    }
}

static void write_bare(redisContext *context) {
    char bytes[MESSAGE_BYTES] = {0};
    for (uint32_t i = 0; i < WRITES; i++) {
        memcpy(bytes, &i, sizeof i);
        board->begun[i] = pln_clock_precise();
        redisReply *reply = redisCommand(context, "PUBLISH bare %b", bytes, sizeof bytes);
        need(reply != NULL, "PUBLISH");
        board->acked[i] = pln_clock_precise();
        freeReplyObject(reply);
        nap();
    }
}

/* Odd turns are ours, even ones bare, and 0 the end. */
static void write_in_turn(void) {
    struct pln_cache *cache = open_cache(make_plain);
    redisContext *context = redisConnectUnix(server.path);
    uint32_t done = 0, turn;
    while ((turn = atomic_load(&board->turn)) != UINT32_MAX) {
        if (turn == done) {
            usleep(200);
            continue;
        }
        if (turn % 2 == 1) {
            write_ours(cache);
        } else {
            write_bare(context);
        }
        done = turn;
        atomic_store(&board->n_done, done);
    }
    redisFree(context);
    pln_close(cache);
    _exit(0);
}

static void run_turn(uint32_t turn) {
    atomic_store(&board->n_seen, 0);
    atomic_store(&board->turn, turn);
}

static void await_turn(uint32_t turn) {
    while (atomic_load(&board->n_done) != turn || atomic_load(&board->n_seen) < WRITES) {
        usleep(200);
    }
}

/* ---- who listens ---- */

static void (*forget)(void *arg, struct pln_bytes key);
static void (*note)(void *arg, struct pln_bytes key);

/* The cache's own way to hear of a key, and the time after it. */
static void on_key(void *arg, struct pln_bytes key) {
    forget(arg, key);
    if (note != NULL) {
        note(arg, key);
    }
}

static void note_time(void *arg, struct pln_bytes key) {
    (void) arg;
    uint32_t i = (uint32_t) strtoul((const char *) key.data + key.len - 12, NULL, 10);
    board->seen[i % WRITES] = pln_clock_precise();
    atomic_fetch_add(&board->n_seen, 1);
}

static int make_listening(void *arg, const struct pln_l2_options *options, struct pln_l2 **l2) {
    struct pln_l2_options own = *options;
    (void) arg;
    forget = own.events.on_key;
    own.events.on_key = on_key;
    return pln_l2_redis_new(&own, l2);
}

static void *listen_bare(void *arg) {
    redisContext *context = arg;
    void *reply;
    while (redisGetReply(context, &reply) == REDIS_OK) {
        const redisReply *message = reply;
        if (message->elements == 3 && message->element[2]->type == REDIS_REPLY_STRING) {
            uint32_t i;
            memcpy(&i, message->element[2]->str, sizeof i);
            board->seen[i % WRITES] = pln_clock_precise();
            atomic_fetch_add(&board->n_seen, 1);
        }
        freeReplyObject(reply);
    }
    return NULL;
}

/* ---- latency ---- */

static int compare(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void add_times(const int64_t *from, struct bench_series *medians,
                      struct bench_series *tails) {
    static double us[WRITES];
    for (size_t i = 0; i < WRITES; i++) {
        us[i] = (double) (board->seen[i] - from[i]) / 1000;
    }
    qsort(us, WRITES, sizeof *us, compare);
    medians->values[medians->n++] = us[WRITES / 2];
    tails->values[tails->n++] = us[WRITES * 99 / 100];
}

static void keep_keys(struct pln_cache *cache) {
    char key[BENCH_KEY_BYTES + 1];
    for (uint32_t i = 0; i < WRITES; i++) {
        key_of(i, key);
        need(pln_set(cache, pln_key(key), pln_key("value"), NULL) == PLN_OK, "set");
    }
    usleep(100000); /* its own echoes */
}

static void print_latency(const char *name, struct bench_series *medians,
                          struct bench_series *tails) {
    printf("%s us=%.1f p99=%.1f runs=%zu\n", name, bench_median(medians), bench_median(tails),
           medians->n);
}

static void bench_latency(struct pln_cache *cache) {
    struct bench_series ours = {0}, our_tails = {0}, acks = {0}, ack_tails = {0};
    struct bench_series bare = {0}, bare_tails = {0}, ratios = {0}, ack_ratios = {0};
    redisContext *context = redisConnectUnix(server.path);
    pthread_t listener;
    need(context != NULL && redisAppendCommand(context, "SUBSCRIBE bare") == REDIS_OK, "SUBSCRIBE");
    pthread_create(&listener, NULL, listen_bare, context);
    pthread_detach(listener); /* it ends with the process */
    for (uint32_t round = 0; round <= ROUNDS; round++) {
        note = NULL;
        keep_keys(cache);
        note = note_time;
        run_turn(2 * round + 1);
        await_turn(2 * round + 1);
        if (round > 0) { /* the first one is the warm-up */
            add_times(board->begun, &ours, &our_tails);
            add_times(board->acked, &acks, &ack_tails);
        }
        run_turn(2 * round + 2);
        await_turn(2 * round + 2);
        if (round > 0) {
            add_times(board->begun, &bare, &bare_tails);
            ratios.values[ratios.n] = ours.values[ratios.n] / bare.values[ratios.n];
            ack_ratios.values[ratios.n] = acks.values[ratios.n] / bare.values[ratios.n];
            ack_ratios.n = ++ratios.n;
        }
    }
    print_latency("bus.latency", &ours, &our_tails);
    print_latency("bus.latency.after_ack", &acks, &ack_tails);
    print_latency("bus.redis.latency", &bare, &bare_tails);
    bench_print("bus.latency.vs.redis", "ratio", &ratios);
    bench_print("bus.latency.after_ack.vs.redis", "ratio", &ack_ratios);
}

/* ---- what it costs Redis ---- */

static double number_of(const char *section, const char *name) {
    char *info = pln_test_redis_command(&server, "INFO %s", section);
    const char *at = strstr(info, name);
    double number = at == NULL ? 0 : strtod(at + strlen(name) + 1, NULL);
    free(info);
    return number;
}

static double server_us(void) {
    return (number_of("cpu", "used_cpu_user") + number_of("cpu", "used_cpu_sys")) * 1e6;
}

/* Reads and drops whatever comes over all connections, in a process of its own. */
static pid_t start_sinks(unsigned n) {
    pid_t pid = fork();
    if (pid != 0) {
        return pid;
    }
    struct pollfd polls[MOST_SUBSCRIBERS];
    static char bytes[1 << 16];
    for (unsigned i = 0; i < n; i++) {
        redisContext *context = redisConnectUnix(server.path);
        redisAppendCommand(context, "SUBSCRIBE bench:inv:2");
        int done = 0;
        redisBufferWrite(context, &done);
        polls[i] = (struct pollfd){.fd = context->fd, .events = POLLIN};
    }
    while (poll(polls, n, -1) > 0) {
        for (unsigned i = 0; i < n; i++) {
            if (polls[i].revents != 0 && read(polls[i].fd, bytes, sizeof bytes) <= 0) {
                _exit(0);
            }
        }
    }
    _exit(0);
}

static double us_a_delete(struct pln_cache *cache, double *bytes) {
    char key[BENCH_KEY_BYTES + 1];
    double before = server_us(), out = number_of("stats", "total_net_output_bytes");
    for (uint32_t i = 0; i < CPU_WRITES; i++) {
        key_of(i % WRITES, key);
        need(pln_delete(cache, pln_key(key)) == PLN_OK, "delete");
    }
    *bytes = (number_of("stats", "total_net_output_bytes") - out) / CPU_WRITES;
    return (server_us() - before) / CPU_WRITES;
}

static void bench_server(struct pln_cache *cache) {
    static const unsigned counts[] = {1, 10, 100};
    double few = 0, many = 0;
    note = NULL;
    for (size_t i = 0; i < PLN_ARRAY_LEN(counts); i++) {
        struct bench_series us = {0};
        char name[64];
        double bytes = 0;
        pid_t sinks = counts[i] > 1 ? start_sinks(counts[i] - 1) : 0; /* the cache is one */
        while (number_of("clients", "pubsub_clients") < 0 ||
               (int) number_of("stats", "pubsub_channels") < 1) {
            usleep(1000);
        }
        usleep(200000);
        for (int run = 0; run < BENCH_RUNS; run++) {
            us.values[us.n++] = us_a_delete(cache, &bytes);
        }
        if (sinks > 0) {
            kill(sinks, SIGKILL);
            waitpid(sinks, NULL, 0);
        }
        snprintf(name, sizeof name, "bus.redis.cpu.%u", counts[i]);
        bench_print(name, "us", &us);
        few = i == 0 ? bytes : few;
        many = bytes;
    }
    /* what one subscriber more gets: the answers to us cancel out */
    bench_print_one("bus.message", "bytes", (many - few) / (MOST_SUBSCRIBERS - 1));
}

/* ---- how many a second ---- */

/* Messages of many keys, as pln_delete_many() has Redis send them, but for their number: these are
 * of no row. */
static size_t make_batch(uint32_t batch, uint8_t *bytes) {
    size_t len = 14;
    memset(bytes, 0, len);
    memcpy(bytes, "2K", 2);
    for (uint32_t i = 0; i < KEYS_A_BATCH; i++) {
        char key[BENCH_KEY_BYTES + 1];
        key_of(batch * KEYS_A_BATCH + i, key);
        bytes[len] = 0;
        bytes[len + 1] = BENCH_KEY_BYTES;
        memcpy(bytes + len + 2, key, BENCH_KEY_BYTES);
        len += 2 + BENCH_KEY_BYTES;
    }
    memset(bytes + len, 0, 8);
    return len + 8;
}

/* Publishes all that in a process of its own. */
static pid_t publish(void) {
    static uint8_t bytes[32 * 1024];
    pid_t pid = fork();
    if (pid != 0) {
        return pid;
    }
    redisContext *context = redisConnectUnix(server.path);
    int done = 0;
    for (uint32_t i = 0; i < BATCHES; i++) {
        size_t len = make_batch(i, bytes);
        redisAppendCommand(context, "PUBLISH bench:inv:2 %b", bytes, len);
    }
    while (done == 0 && redisBufferWrite(context, &done) == REDIS_OK) {
    }
    for (uint32_t i = 0; i < BATCHES; i++) {
        void *reply;
        if (redisGetReply(context, &reply) == REDIS_OK) {
            freeReplyObject(reply);
        }
    }
    _exit(0);
}

static pln_ns first_at, last_at;
static _Atomic size_t n_applied;

static void note_applied(void *arg, struct pln_bytes key) {
    (void) arg, (void) key;
    size_t n = atomic_fetch_add(&n_applied, 1) + 1;
    if (n == 1) {
        first_at = pln_clock_precise();
    } else if (n == APPLIED) {
        last_at = pln_clock_precise();
    }
}

/* All of the keys are in L1. */
static void fill_l1(struct pln_cache *cache) {
    char text[BENCH_KEY_BYTES + 1];
    for (uint32_t i = 0; i < APPLIED; i++) {
        key_of(i, text);
        struct pln_hashed key;
        struct pln_l1_item item = {.value = pln_key("value"),
                                   .life = {0, PLN_FOREVER, PLN_FOREVER, PLN_FOREVER},
                                   .generation = pln_l1_generation(cache->l1)};
        need(pln_cache_key(cache, pln_key(text), &key) == PLN_OK &&
                 pln_l1_put(cache->l1, &key, &item, pln_now(&cache->host), NULL, NULL) == PLN_OK,
             "put");
    }
}

static void bench_apply(struct pln_cache *cache) {
    struct bench_series keys = {0};
    for (int run = 0; run <= BENCH_RUNS; run++) {
        note = NULL;
        fill_l1(cache);
        atomic_store(&n_applied, 0);
        note = note_applied;
        pid_t publisher = publish();
        while (atomic_load(&n_applied) < APPLIED) {
            usleep(1000);
        }
        waitpid(publisher, NULL, 0);
        if (run > 0) {
            keys.values[keys.n++] = APPLIED / ((double) (last_at - first_at) / 1e9);
        }
    }
    note = NULL;
    bench_print("bus.apply", "ops", &keys);
}

int main(void) {
    bench_print_machine();
    pln_test_redis_start(&server, NULL);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    need(board != MAP_FAILED, "mmap");
    pid_t writer = fork(); /* before there are threads */
    if (writer == 0) {
        write_in_turn();
    }
    struct pln_cache *cache = open_cache(make_listening);
    bench_latency(cache);
    atomic_store(&board->turn, UINT32_MAX);
    waitpid(writer, NULL, 0);
    bench_apply(cache);
    bench_server(cache);
    pln_close(cache);
    pln_test_redis_stop(&server);
    return 0;
}
