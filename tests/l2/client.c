/* SPDX-License-Identifier: MIT
 * client.c - see client.h. */
#include "client.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <time.h>

static void append(struct client *client, char **to, const char *kind, struct pln_bytes bytes) {
    pthread_mutex_lock(&client->lock);
    char *longer = NULL;
    int len = asprintf(&longer, "%s%s%s%.*s", *to, **to == 0 ? "" : " ", kind, (int) bytes.len,
                       bytes.len == 0 ? "" : (const char *) bytes.data);
    ck_assert_int_ge(len, 0);
    free(*to);
    *to = longer;
    pthread_cond_broadcast(&client->heard);
    pthread_mutex_unlock(&client->lock);
}

static void hear(void *arg, const char *kind, struct pln_bytes bytes) {
    struct client *client = arg;
    append(client, &client->story, kind, bytes);
}

static void on_key(void *arg, struct pln_bytes key) {
    hear(arg, "k:", key);
}
static void on_expire(void *arg, struct pln_bytes key) {
    hear(arg, "x:", key);
}
static void on_tag(void *arg, struct pln_bytes tag) {
    hear(arg, "t:", tag);
}
static void on_match(void *arg, const struct pln_mask *mask) {
    hear(arg, mask->kind == PLN_MASK_PREFIX ? "p:" : "*:", mask->text);
}
static void on_filled(void *arg, struct pln_bytes key) {
    hear(arg, "f:", key);
}
static void on_clear(void *arg) {
    hear(arg, "clear", pln_bytes_of(NULL, 0));
}
static void on_down(void *arg) {
    hear(arg, "-", pln_bytes_of(NULL, 0));
}
static void on_up(void *arg, bool is_whole) {
    hear(arg, is_whole ? "=" : "+", pln_bytes_of(NULL, 0));
}

static pln_ms read_clock(void *arg) {
    return ((struct client *) arg)->now;
}

static void keep_log(void *arg, int level, const char *line) {
    struct client *client = arg;
    (void) level;
    append(client, &client->log, "", pln_bytes_of(line, strlen(line)));
}

void client_init(struct client *client) {
    pthread_condattr_t attributes;
    *client = (struct client){.now = 1000, .story = strdup(""), .log = strdup("")};
    client->host = (struct pln_host){.clock = read_clock,
                                     .clock_arg = client,
                                     .log = keep_log,
                                     .log_arg = client,
                                     .name = "test"};
    pthread_mutex_init(&client->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&client->heard, &attributes);
    pthread_condattr_destroy(&attributes);
    ck_assert_int_eq(pln_counts_new(&client->counts), PLN_OK);
}

struct pln_l2_options client_options(struct client *client, const char *url) {
    return (struct pln_l2_options){.url = url,
                                   .ns = "ns",
                                   .connect_timeout_ms = 5000,
                                   .timeout_ms = 1000,
                                   .ping_ms = 250,
                                   .pool = 2,
                                   .counts = client->counts,
                                   .host = &client->host,
                                   .events = {.arg = client,
                                              .on_key = on_key,
                                              .on_expire = on_expire,
                                              .on_tag = on_tag,
                                              .on_match = on_match,
                                              .on_clear = on_clear,
                                              .on_filled = on_filled,
                                              .on_down = on_down,
                                              .on_up = on_up}};
}

void client_fini(struct client *client) {
    pln_l2_close(client->l2);
    client->l2 = NULL;
    pln_counts_free(client->counts);
    pthread_cond_destroy(&client->heard);
    pthread_mutex_destroy(&client->lock);
    free(client->story);
    free(client->log);
}

static bool has(const char *text, const char *part, size_t n) {
    while (n > 0 && (text = strstr(text, part)) != NULL) {
        text += strlen(part);
        n--;
    }
    return n == 0;
}

static bool wait_for(struct client *client, char **text, const char *part, size_t n) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 60;
    pthread_mutex_lock(&client->lock);
    bool is_there = has(*text, part, n);
    while (!is_there &&
           pthread_cond_timedwait(&client->heard, &client->lock, &until) != ETIMEDOUT) {
        is_there = has(*text, part, n);
    }
    pthread_mutex_unlock(&client->lock);
    return is_there;
}

bool client_hears(struct client *client, const char *part) {
    return wait_for(client, &client->story, part, 1);
}

bool client_hears_all(struct client *client, const char *part) {
    return wait_for(client, &client->story, part, client->n_servers > 0 ? client->n_servers : 1);
}

bool client_logs(struct client *client, const char *part) {
    return wait_for(client, &client->log, part, 1);
}

uint64_t client_count(struct client *client, enum pln_count which) {
    uint64_t totals[PLN_N_COUNTS];
    pln_counts_sum(client->counts, totals);
    return totals[which];
}

struct pln_hashed key_of(const char *text) {
    return (struct pln_hashed){pln_key(text), pln_hash(pln_key(text), 0)};
}

struct pln_l2_item item_of(const char *text) {
    return (struct pln_l2_item){
        .value = pln_bytes_of(text, strlen(text)), .fresh_left = 60000, .life_left = 120000};
}

pln_ns soon(void) {
    return pln_clock_precise() + 5000000000;
}

void expect_text(struct client *client, const char *key, const char *expected) {
    struct pln_l2_value value;
    struct pln_hashed hashed = key_of(key);
    int result = pln_l2_get(client->l2, &hashed, soon(), &value);
    ck_assert_msg(result == (expected == NULL ? PLN_MISS : PLN_OK), "get of %s gives %d (%s)", key,
                  result, result < 0 ? pln_error_text() : "");
    if (result == PLN_OK) {
        struct pln_bytes text = value.item.value;
        ck_assert_msg(pln_bytes_equal(text, pln_key(expected)), "%s is %.*s, not %s", key,
                      (int) text.len, (const char *) text.data, expected);
        pln_l2_value_fini(&value);
    }
}

char *client_story(struct client *client) {
    pthread_mutex_lock(&client->lock);
    char *story = strdup(client->story);
    pthread_mutex_unlock(&client->lock);
    return story;
}

bool client_heard(struct client *client, const char *part) {
    char *story = client_story(client);
    bool is_there = strstr(story, part) != NULL;
    free(story);
    return is_there;
}

void expect_story(struct client *client, const char *expected) {
    pthread_mutex_lock(&client->lock);
    char *story = client->story;
    client->story = strdup("");
    pthread_mutex_unlock(&client->lock);
    ck_assert_str_eq(story, expected);
    free(story);
}
