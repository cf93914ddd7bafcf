/* SPDX-License-Identifier: MIT
 *
 * fuzz_courier.c - the courier's short way with plain strings reads what hiredis's reader reads:
 * the same replies, in the same order, however the network cuts them.
 *
 * The input's first byte is the size of the pieces, 0 for one; the rest is what a server says.
 */
#include "../../l2/courier.h"
#include "tree.h"

#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 64, LONGEST = 32 * 1024 };

static struct tree_sum got;
static size_t n_got;

static void take(struct pln_errand *errand, int status, const struct pln_reply *reply) {
    (void) errand;
    if (status == PLN_OK) {
        tree_read(reply, &got);
        n_got++;
    }
}

static void do_nothing(void *arg) {
    (void) arg;
}

static struct pln_async *open_courier(int fd, struct pln_errand *errands) {
    static struct pln_endpoint endpoint = {.label = (char *) "fuzz"};
    static const struct pln_host host = {.clock = pln_clock_coarse, .name = "fuzz"};
    struct pln_pool *pool = calloc(1, sizeof *pool);
    struct pln_counts *counts;
    assert(pool != NULL && pln_counts_new(&counts) == PLN_OK);
    *pool = (struct pln_pool){.endpoint = &endpoint,
                              .host = &host,
                              .counts = counts,
                              .on_other_server = do_nothing,
                              .on_doubt = do_nothing};
    assert(pln_pool_init(pool) == PLN_OK);
    struct pln_conn *conn = &pool->slots[0].conn;
    *conn = (struct pln_conn){
        .stream = {.fd = fd, .label = "fuzz"}, .label = "fuzz", .max_reply = LONGEST};
    conn->reader = pln_reader_new(&conn->state);
    assert(conn->reader != NULL);
    pool->async->is_taken = true;
    for (size_t i = 0; i < MOST; i++) {
        errands[i] = (struct pln_errand){.end = take};
        *in_flight(pool->async, pool->async->n_in_flight++) = (struct sent){.errand = &errands[i]};
    }
    return pool->async;
}

static void close_courier(struct pln_async *async) {
    struct pln_pool *pool = async->pool;
    struct pln_counts *counts = pool->counts;
    async->is_taken = false;
    pln_pool_fini(pool);
    pln_counts_free(counts);
    free(pool);
}

/* By the courier. Returns its last word. */
static int read_by_courier(const uint8_t *bytes, size_t n, size_t piece) {
    struct pln_errand errands[MOST];
    int ends[2], result = PLN_MISS;
    assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    struct pln_async *async = open_courier(ends[0], errands);
    got = (struct tree_sum){0};
    n_got = 0;
    for (size_t at = 0; at < n && result == PLN_MISS; at += piece) {
        size_t len = n - at < piece ? n - at : piece;
        assert(send(ends[1], bytes + at, len, MSG_NOSIGNAL) == (ssize_t) len);
        while ((result = pln_courier_receive(async)) == PLN_OK) {
        }
    }
    close_courier(async);
    close(ends[1]);
    return result;
}

/* By hiredis's reader alone; the first MOST replies. */
static int read_by_reader(const uint8_t *bytes, size_t n, struct tree_sum *sum, size_t *n_replies) {
    struct pln_conn conn = {.stream = {.fd = -1}, .label = "fuzz", .max_reply = LONGEST};
    struct pln_reply *reply;
    conn.reader = pln_reader_new(&conn.state);
    assert(conn.reader != NULL);
    int result = pln_conn_feed(&conn, (const char *) bytes, n);
    while (result == PLN_OK && *n_replies < MOST &&
           (result = pln_conn_next(&conn, &reply)) == PLN_OK) {
        tree_read(reply, sum);
        ++*n_replies;
        pln_reply_free(reply);
    }
    redisReaderFree(conn.reader);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct tree_sum sum = {0};
    size_t n_replies = 0;
    if (size < 2 || size > LONGEST) {
        return 0;
    }
    size_t piece = data[0] == 0 ? size : data[0];
    int read = read_by_reader(data + 1, size - 1, &sum, &n_replies);
    int ended = read_by_courier(data + 1, size - 1, piece);
    if (read == PLN_MISS) { /* all of it well, as far as it goes: then the courier has the same */
        assert(ended == PLN_MISS && n_got == n_replies);
        assert(memcmp(&got, &sum, sizeof sum) == 0);
    }
    assert(n_got <= MOST);
    return 0;
}
