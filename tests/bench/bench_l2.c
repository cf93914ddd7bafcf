/* SPDX-License-Identifier: MIT
 *
 * bench_l2.c - what a value out of Redis costs, beside hiredis alone on the same server, in turn:
 * bench_l2 [PREFIX] [--pool N], only lines whose name begins so.
 *
 * Both read 100 bytes by keys of 16 and copy them out. hiredis reads a plain value by a formatted
 * command; the tier reads an envelope, decodes it and checks that it is not void. The server is
 * the benchmark's own, on a unix socket; its processor time counts as ours, not as noise. Ratios
 * are of times: below one, the tier is the faster. With 64 threads hiredis has a connection for
 * each, and the tier its pool (4, unless --pool says otherwise).
 */
#include "bench_l2.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum {
    OPS_ALONE = 20000,
    OPS_TOGETHER = 1500, /* of each of the threads */
    MANY = 100,
    OPS_MANY = 400,
};

void bed_need(bool is_well, const char *what) {
    if (!is_well) {
        fprintf(stderr, "bench_l2: %s: %s\n", what, pln_error_text());
        exit(1);
    }
}

static pln_ns soon(void) {
    return pln_clock_precise() + 5000000000;
}

static struct pln_hashed hashed_of(uint32_t number, char key[BENCH_KEY_BYTES]) {
    bench_key(number, key);
    struct pln_bytes bytes = {key, BENCH_KEY_BYTES};
    return (struct pln_hashed){bytes, pln_hash(bytes, 1)};
}

/* ---- what is measured ---- */

static size_t get_by_tier(void *arg, unsigned thread) {
    struct bed *bed = arg;
    char key[BENCH_KEY_BYTES], copy[BENCH_VALUE_BYTES];
    for (size_t i = 0; i < bed->n_ops; i++) {
        struct pln_hashed hashed = hashed_of(bed_draw(bed, thread, i), key);
        struct pln_l2_value value;
        bed_need(pln_l2_get(bed->l2, &hashed, soon(), &value) == PLN_OK, "get");
        memcpy(copy, value.item.value.data, sizeof copy);
        bench_use(copy);
        pln_l2_value_fini(&value);
    }
    return bed->n_ops;
}

static size_t get_by_hiredis(void *arg, unsigned thread) {
    struct bed *bed = arg;
    char key[BENCH_KEY_BYTES], copy[BENCH_VALUE_BYTES];
    for (size_t i = 0; i < bed->n_ops; i++) {
        bench_key(bed_draw(bed, thread, i), key);
        redisReply *reply = redisCommand(bed->contexts[thread], "GET %b", key,
                                         (size_t) BENCH_KEY_BYTES);
        bed_need(reply != NULL && reply->type == REDIS_REPLY_STRING, "hiredis get");
        memcpy(copy, reply->str, sizeof copy);
        bench_use(copy);
        freeReplyObject(reply);
    }
    return bed->n_ops;
}

static size_t get_many_by_tier(void *arg, unsigned thread) {
    struct bed *bed = arg;
    char names[MANY][BENCH_KEY_BYTES], copy[BENCH_VALUE_BYTES];
    struct pln_hashed keys[MANY];
    struct pln_l2_value values[MANY];
    int statuses[MANY];
    for (size_t i = 0; i < bed->n_ops; i++) {
        for (size_t j = 0; j < MANY; j++) {
            keys[j] = hashed_of(bed_draw(bed, thread, i * MANY + j), names[j]);
        }
        bed_need(pln_l2_get_many(bed->l2, keys, MANY, soon(), values, statuses) == PLN_OK,
                 "get_many");
        for (size_t j = 0; j < MANY; j++) {
            bed_need(statuses[j] == PLN_OK, "get_many");
            memcpy(copy, values[j].item.value.data, sizeof copy);
            bench_use(copy);
            pln_l2_value_fini(&values[j]);
        }
    }
    return bed->n_ops * MANY;
}

static size_t get_many_by_hiredis(void *arg, unsigned thread) {
    struct bed *bed = arg;
    char names[MANY][BENCH_KEY_BYTES], copy[BENCH_VALUE_BYTES];
    const char *argv[1 + MANY] = {"MGET"};
    size_t lens[1 + MANY] = {4};
    for (size_t i = 0; i < bed->n_ops; i++) {
        for (size_t j = 0; j < MANY; j++) {
            bench_key(bed_draw(bed, thread, i * MANY + j), names[j]);
            argv[1 + j] = names[j];
            lens[1 + j] = BENCH_KEY_BYTES;
        }
        redisReply *reply = redisCommandArgv(bed->contexts[thread], 1 + MANY, argv, lens);
        bed_need(reply != NULL && reply->type == REDIS_REPLY_ARRAY, "hiredis mget");
        for (size_t j = 0; j < MANY; j++) {
            memcpy(copy, reply->element[j]->str, sizeof copy);
            bench_use(copy);
        }
        freeReplyObject(reply);
    }
    return bed->n_ops * MANY;
}

/* ---- running ---- */

double bed_server_seconds(const struct bed *bed) {
    char path[64], line[1024] = "";
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int) bed->server.pid);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fgets(line, sizeof line, file) != NULL) {
            const char *after_name = strrchr(line, ')');
            bed_need(after_name != NULL && sscanf(after_name,
                                                  ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
                                                  "%lu %lu",
                                                  &user, &system) == 2,
                     "the server's time");
        }
        fclose(file);
    }
    return (double) (user + system) / (double) sysconf(_SC_CLK_TCK);
}

static void run_once(struct bed *bed, struct bench_series *series, unsigned n_threads,
                     bench_body body) {
    double before = bed_server_seconds(bed);
    bench_run(series, n_threads, body, bed);
    series->own += bed_server_seconds(bed) - before;
}

/* Both in turn, the first round left out. */
static void compare(struct bed *bed, const char *name, const char *peer, const char *ratio,
                    unsigned n_threads, size_t n_ops, bench_body ours, bench_body theirs) {
    struct bench_series warm = {.n = 0}, tier = {.n = 0}, hiredis = {.n = 0};
    if (!bench_is_wanted(name) && !bench_is_wanted(peer) && !bench_is_wanted(ratio)) {
        return;
    }
    bed->n_ops = n_ops;
    run_once(bed, &warm, n_threads, ours);
    run_once(bed, &warm, n_threads, theirs);
    for (int i = 0; i < ROUNDS; i++) {
        run_once(bed, &tier, n_threads, ours);
        run_once(bed, &hiredis, n_threads, theirs);
    }
    bench_print(name, "ns", &tier);
    bench_print(peer, "ns", &hiredis);
    bench_print_one(ratio, "ratio", bench_median(&tier) / bench_median(&hiredis));
}

static void fill(struct bed *bed) {
    char key[BENCH_KEY_BYTES], value[BENCH_VALUE_BYTES];
    for (uint32_t i = 0; i < N_KEYS; i++) {
        struct pln_hashed hashed = hashed_of(i, key);
        memset(value, (int) i & 0xff, sizeof value);
        struct pln_l2_item item = {
            .value = {value, sizeof value}, .fresh_left = PLN_FOREVER, .life_left = PLN_FOREVER};
        bed_need(pln_l2_set(bed->l2, &hashed, &item, 0, soon()) == PLN_OK, "set");
        redisReply *reply = redisCommand(bed->contexts[0], "SET %b %b", key, sizeof key, value,
                                         sizeof value);
        bed_need(reply != NULL && reply->type == REDIS_REPLY_STATUS, "hiredis set");
        freeReplyObject(reply);
    }
}

static void wait_for_link(struct bed *bed) {
    struct pln_l2_health health = {0};
    for (int i = 0; i < 500 && !health.bus_ok; i++) {
        pln_l2_health(bed->l2, &health);
        poll(NULL, 0, 10);
    }
    bed_need(health.bus_ok, "the link does not come up");
}

static void open_bed(struct bed *bed, const struct pln_host *host, unsigned pool) {
    pln_test_redis_start(&bed->server, NULL);
    bed_need(pln_counts_new(&bed->counts) == PLN_OK, "counts");
    struct pln_l2_options options = {.url = bed->server.url,
                                     .ns = "bench",
                                     .timeout_ms = 5000,
                                     .pool = pool,
                                     .counts = bed->counts,
                                     .host = host};
    bed_need(pln_l2_redis_new(&options, &bed->l2) == PLN_OK, "open");
    bed_need(pln_l2_start(bed->l2) == PLN_OK, "start");
    for (size_t i = 0; i < THREADS; i++) {
        bed->contexts[i] = redisConnectUnix(bed->server.path);
        bed_need(bed->contexts[i] != NULL && bed->contexts[i]->err == 0, "hiredis connect");
    }
    wait_for_link(bed);
    bed->draws = bench_zipf(N_KEYS, N_DRAWS, 0.99, 1);
    fill(bed);
}

static void close_bed(struct bed *bed) {
    for (size_t i = 0; i < THREADS; i++) {
        redisFree(bed->contexts[i]);
    }
    pln_l2_close(bed->l2);
    pln_counts_free(bed->counts);
    pln_test_redis_stop(&bed->server);
    free(bed->draws);
}

int main(int argc, char **argv) {
    static struct bed bed;
    struct pln_host host = {pln_clock_coarse, NULL, pln_log_stderr, NULL, "bench"};
    unsigned pool = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--pool") == 0 && i + 1 < argc) {
            pool = (unsigned) strtoul(argv[++i], NULL, 10);
        } else {
            bench_choose(argv[i]);
        }
    }
    bench_print_machine();
    open_bed(&bed, &host, pool);
    compare(&bed, "l2.get.1t", "l2.hiredis.get.1t", "l2.get.1t.vs.hiredis", 1, OPS_ALONE,
            get_by_tier, get_by_hiredis);
    compare(&bed, "l2.get.64t", "l2.hiredis.get.64t", "l2.get.64t.vs.hiredis", THREADS,
            OPS_TOGETHER, get_by_tier, get_by_hiredis);
    compare(&bed, "l2.get_many100", "l2.hiredis.mget100", "l2.get_many100.vs.mget", 1, OPS_MANY,
            get_many_by_tier, get_many_by_hiredis);
    bench_async(&bed);
    close_bed(&bed);
    return 0;
}
