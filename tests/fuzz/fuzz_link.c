/* SPDX-License-Identifier: MIT
 *
 * fuzz_link.c - whatever comes over the link's connection, it is heard without harm or ends the
 * link: as messages, as invalidations by tracking, and as the answers to a login.
 */
#include "../../l2/internal.h"
#include "said.h"
#include "tree.h"

#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The row's last number: the next is the text "12345678" */
#define BEFORE 0x3132333435363737

static uint64_t seen; /* so that reading is not taken for needless */

static void see_bytes(void *arg, struct pln_bytes bytes) {
    const uint8_t *at = bytes.data;
    (void) arg;
    assert(bytes.len <= PLN_L2_MAX_VALUE);
    for (size_t i = 0; i < bytes.len; i++) {
        seen += at[i];
    }
}

static void see_extension(void *arg, struct pln_bytes key, pln_ms fresh, pln_ms life) {
    assert(fresh >= 0 && life >= 0);
    see_bytes(arg, key);
}

static void see_nothing(void *arg) {
    (void) arg;
    seen++;
}

static void log_nothing(void *arg, int level, const char *line) {
    (void) arg, (void) level, (void) line;
}

/* A client whose link is taken for up, and has no thread. */
static struct pln_redis *open_client(void) {
    static const struct pln_host host = {
        .clock = pln_clock_coarse, .log = log_nothing, .name = "fuzz"};
    struct pln_l2_options options = {.url = "redis://127.0.0.1:1",
                                     .ns = "t",
                                     .tracking = true,
                                     .host = &host,
                                     .events = {.on_key = see_bytes,
                                                .on_expire = see_bytes,
                                                .on_extend = see_extension,
                                                .on_tag = see_bytes,
                                                .on_clear = see_nothing,
                                                .on_filled = see_bytes}};
    struct pln_l2 *l2 = NULL;
    int status = pln_counts_new(&options.counts);
    status = status == PLN_OK ? pln_l2_redis_new(&options, &l2) : status;
    assert(status == PLN_OK);
    return pln_redis_of(l2);
}

static void fuzz_hearing(struct pln_node *node, const uint8_t *data, size_t size) {
    struct said *said = said_new(data, size, true);
    struct pln_reply *reply;
    int status = PLN_OK;
    struct pln_feed_state row = {.run_id = "r", .base = 1, .number = BEFORE};
    pln_feed_begin(&node->feed, &row);
    row.number = BEFORE + 1;
    row.known = BEFORE;
    (void) pln_feed_beat(&node->feed, &row);
    node->link.n_subscribed = 0;
    node->link.n_unanswered = 1;
    node->link.has_pinged = false;
    node->link.ping = 0x3132333435363738; /* "12345678" */
    /* relaxed: there is one thread */
    atomic_store_explicit(&node->link.is_up, true, memory_order_relaxed);
    atomic_store_explicit(&node->floor, 1, memory_order_relaxed); /* relaxed: as above */
    while (status == PLN_OK && (reply = said_next(said)) != NULL) {
        status = pln_link_take(node, reply);
        assert(status == PLN_OK || status == PLN_EL2DOWN);
        assert(status != PLN_OK || !pln_feed_is_broken(&node->feed));
        assert(node->feed.last >= BEFORE);
        pln_reply_free(reply);
    }
    said_free(said);
}

/* All that the server will ever say is in the socket before it is asked. */
static void fuzz_login(const uint8_t *data, size_t size) {
    struct pln_login login = {.password = "secret"};
    struct pln_conn conn = {.label = "fuzz", .max_reply = 1 << 20};
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) {
        return;
    }
    ssize_t n = write(ends[1], data, size);
    (void) n; /* what does not fit was cut off */
    shutdown(ends[1], SHUT_WR);
    conn.stream = (struct pln_stream){.fd = ends[0], .label = "fuzz"};
    conn.reader = pln_reader_new(&conn.state);
    assert(conn.reader != NULL);
    int status = pln_conn_login(&conn, &login, "fuzz", PLN_RESP_BEST,
                                pln_clock_precise() + 1000000000);
    bool is_secret = memmem(data, size, "secret", 6) == NULL; /* and the server does not say it */
    assert(status == PLN_OK || !is_secret || strstr(pln_error_text(), "secret") == NULL);
    assert(strnlen(conn.run_id, sizeof conn.run_id) <= PLN_RUN_ID);
    pln_conn_close(&conn);
    close(ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct pln_redis *redis;
    if (tree_is_dear(data, size)) {
        return 0;
    }
    if (redis == NULL) {
        redis = open_client();
    }
    fuzz_hearing(redis->nodes[0], data, size);
    fuzz_login(data, size);
    return 0;
}
