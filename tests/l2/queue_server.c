/* SPDX-License-Identifier: MIT
 * queue_server.c - see queue_server.h. */
#include "queue_server.h"

#include <check.h>

struct server server;
struct client a, b;

void open_client(struct client *client) {
    client_init(client);
    struct pln_l2_options options = client_options(client, server.url);
    options.log_length = 100;
    int result = pln_l2_redis_new(&options, &client->l2);
    ck_assert_msg(result == PLN_OK, "%s", pln_error_text());
    ck_assert_int_eq(pln_l2_start(client->l2), PLN_OK);
    ck_assert_msg(client_hears(client, "+"), "%s", client->log);
    expect_story(client, "+");
}

void set_up_with(const char *const *options) {
    pln_test_redis_start(&server, options);
    open_client(&a);
    open_client(&b);
}

void set_up(void) {
    set_up_with(NULL);
}

void tear_down(void) {
    client_fini(&a);
    client_fini(&b);
    pln_test_redis_stop(&server);
}

void command(const char *expected, const char *line) {
    char *reply = pln_test_redis_command(&server, "%s", line);
    if (expected != NULL) {
        ck_assert_str_eq(reply, expected);
    }
    free(reply);
}

void expect_nothing_taken(void) {
    char *reply = pln_test_redis_command(&server, "XPENDING ns:queue store");
    ck_assert_int_eq(strncmp(reply, "0\n", 2), 0); /* how many, and which */
    free(reply);
}
