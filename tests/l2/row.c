/* SPDX-License-Identifier: MIT
 * row.c - see row.h. */
#include "row.h"

#include "../../l2/internal.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>

/* All that were opened; those that are closed have no l2. */
static struct client *clients[8];
static size_t n_clients;

static void note_client(struct client *client) {
    for (size_t i = 0; i < n_clients; i++) {
        if (clients[i] == client) {
            return;
        }
    }
    ck_assert_uint_lt(n_clients, PLN_ARRAY_LEN(clients));
    clients[n_clients++] = client;
}

void row_open(struct client *client, const char *url, const struct row_options *options) {
    client_init(client);
    note_client(client);
    struct pln_l2_options l2_options = client_options(client, url);
    l2_options.log_length = options->has_no_log ? 0 : 1000;
    l2_options.tracking = options->tracking;
    l2_options.keeps_lost = options->keeps_lost;
    l2_options.ping_ms = options->ping_ms != 0 ? options->ping_ms : 60000;
    ck_assert_msg(pln_l2_redis_new(&l2_options, &client->l2) == PLN_OK, "%s", pln_error_text());
    ck_assert_int_eq(pln_l2_start(client->l2), PLN_OK);
    ck_assert_msg(client_hears(client, "+"), "%s", client->log);
    expect_story(client, "+");
}

void row_set(struct client *client, const char *key) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(key);
    ck_assert_msg(pln_l2_set(client->l2, &hashed, &item, 0, soon()) == PLN_OK, "%s",
                  pln_error_text());
}

void row_remove(struct client *client, const char *key) {
    struct pln_hashed hashed = key_of(key);
    ck_assert_msg(pln_l2_remove(client->l2, &hashed, soon()) == PLN_OK, "%s", pln_error_text());
}

void row_tell(struct client *from, struct client *to, const char *key) {
    char heard[64];
    snprintf(heard, sizeof heard, "k:%s", key);
    row_set(from, key);
    ck_assert_msg(client_hears(to, heard), "%s is not heard: %s (%s)", key, to->story, to->log);
}

void row_await_own(struct client *client) {
    struct pln_feed *feed = &pln_redis_of(client->l2)->nodes[0]->feed;
    pln_ns until = pln_clock_precise() + 20000000000;
    while (pln_feed_heard(feed) < atomic_load(&feed->acked)) {
        ck_assert(pln_clock_precise() < until);
        poll(NULL, 0, 1);
    }
}

void row_command(struct server *server, const char *line) {
    free(pln_test_redis_command(server, "%s", line));
}

uint64_t row_number(struct server *server, const char *line) {
    char *text = pln_test_redis_command(server, "%s", line);
    uint64_t number = strtoull(text, NULL, 10);
    free(text);
    return number;
}

static int compare(const void *a, const void *b) {
    return *(const long *) a < *(const long *) b ? -1 : 1;
}

/* The list says nothing of age: a server that looks after its clients in turn turns it. */
long row_link_id(struct server *server, int nth) {
    char *list = pln_test_redis_command(server, "CLIENT LIST TYPE pubsub");
    char *rest = NULL;
    long ids[16] = {0};
    int n = 0;
    for (char *line = strtok_r(list, "\n", &rest); line != NULL && n < (int) PLN_ARRAY_LEN(ids);
         line = strtok_r(NULL, "\n", &rest)) {
        if (strstr(line, "name=perilune:test") != NULL) {
            n += sscanf(line, "id=%ld", &ids[n]);
        }
    }
    free(list);
    qsort(ids, (size_t) n, sizeof *ids, compare);
    return nth < n ? ids[nth] : 0;
}

/* One that is being made anew is waited for. */
void row_kill_link(struct server *server, int nth) {
    pln_ns until = pln_clock_precise() + 10000 * 1000000LL;
    long id = 0;
    while ((id = row_link_id(server, nth)) == 0) {
        ck_assert_int_lt(pln_clock_precise(), until);
    }
    free(pln_test_redis_command(server, "CLIENT KILL ID %ld", id));
}

static void put_big(uint8_t *at, uint64_t number) {
    for (int i = 7; i >= 0; i--, number >>= 8) {
        at[i] = (uint8_t) number;
    }
}

size_t row_message(uint8_t bytes[64], const char *key, uint64_t number) {
    size_t len = (size_t) snprintf((char *) bytes, 56, "2k--------....%s", key);
    ck_assert_uint_lt(len, 56);
    put_big(bytes + len, number);
    return len + 8;
}

static void tell(struct server *server, const char *format, const char *name, const char *id,
                 const uint8_t *bytes, size_t len) {
    redisContext *context = redisConnectUnix(server->path);
    redisReply *reply = id == NULL ? redisCommand(context, format, name, bytes, len)
                                   : redisCommand(context, format, name, id, bytes, len);
    ck_assert_ptr_nonnull(reply);
    ck_assert_msg(reply->type != REDIS_REPLY_ERROR, "%s", reply->str);
    freeReplyObject(reply);
    redisFree(context);
}

void row_publish(struct server *server, const uint8_t *bytes, size_t len) {
    tell(server, "PUBLISH %s %b", "ns:inv:2", NULL, bytes, len);
}

void row_log(struct server *server, const char *id, const uint8_t *bytes, size_t len) {
    tell(server, "XADD %s %s m %b", "ns:log", id, bytes, len);
}

/* Whether no question of a heartbeat is without its answer. */
static bool is_quiet(void) {
    bool is_quiet = true;
    for (size_t i = 0; i < n_clients; i++) {
        struct pln_redis *redis = clients[i]->l2 == NULL ? NULL : pln_redis_of(clients[i]->l2);
        if (redis != NULL) {
            pthread_mutex_lock(&redis->pulser.lock);
            is_quiet = is_quiet && redis->nodes[0]->pulse.turn == PLN_PULSE_IDLE;
            pthread_mutex_unlock(&redis->pulser.lock);
        }
    }
    return is_quiet;
}

static bool is_settled(struct server *server) {
    char *list = pln_test_redis_command(server, "CLIENT LIST TYPE pubsub");
    char *rest = NULL;
    size_t n = 0, n_settled = 0;
    for (char *line = strtok_r(list, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        n++;
        n_settled += strstr(line, "cmd=ping") != NULL;
    }
    free(list);
    return n >= 2 && n_settled == n && is_quiet(); /* in this order: asked for, then answered */
}

void row_settle(struct server *server) {
    for (pln_ns until = pln_clock_precise() + 10 * 1000000000LL; !is_settled(server);) {
        ck_assert_msg(pln_clock_precise() < until, "the links are not up, or silent");
    }
}

uint64_t row_lose(struct server *server, const char *key, bool is_logged) {
    uint8_t bytes[64];
    char id[32];
    row_settle(server);
    uint64_t number = row_number(server, "HINCRBY ns:tags @ 1");
    if (is_logged) {
        snprintf(id, sizeof id, "%llu-0", (unsigned long long) number);
        row_log(server, id, bytes, row_message(bytes, key, number));
    }
    return number;
}

size_t row_logged(struct server *server, char kind) {
    redisContext *context = redisConnectUnix(server->path);
    redisReply *reply = redisCommand(context, "XRANGE ns:log - +");
    size_t n = 0;
    for (size_t i = 0; i < reply->elements; i++) {
        n += reply->element[i]->element[1]->element[1]->str[1] == kind;
    }
    freeReplyObject(reply);
    redisFree(context);
    return n;
}

void row_await(struct client *client, enum pln_count which, uint64_t at_least) {
    pln_ns until = pln_clock_precise() + 10 * 1000000000LL;
    while (client_count(client, which) < at_least) {
        ck_assert_msg(pln_clock_precise() < until, "count %d is %llu, not %llu; %s (%s)", which,
                      (unsigned long long) client_count(client, which),
                      (unsigned long long) at_least, client->story, client->log);
        struct timespec nap = {.tv_nsec = 1000000};
        nanosleep(&nap, NULL);
    }
}
