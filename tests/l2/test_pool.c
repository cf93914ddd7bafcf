/* SPDX-License-Identifier: MIT
 * test_pool.c - l2/pool.c and conn.c: what a server or the network may do to a connection. Every
 * command ends at its deadline, no answer is given to the wrong one, no lost write comes back. */
#include <check.h>
#include <hiredis/hiredis.h>
#include <stdio.h>

#include "client.h"
#include "proxy.h"
#include "server.h"

static struct server server;
static struct proxy proxy;
static struct client a;

/* One connection, so that every key shares it. */
static void open_client(struct client *client, const char *url, const char *password) {
    client_init(client);
    struct pln_l2_options options = client_options(client, url);
    options.pool = 1;
    options.timeout_ms = 100;
    options.password = password;
    ck_assert_msg(pln_l2_redis_new(&options, &client->l2) == PLN_OK, "%s", pln_error_text());
}

static void set_up(void) {
    pln_test_redis_start(&server, NULL);
    pln_test_proxy_start(&proxy, server.path);
    open_client(&a, proxy.url, NULL);
}

static void tear_down(void) {
    client_fini(&a);
    pln_test_proxy_stop(&proxy);
    pln_test_redis_stop(&server);
}

static void command(const char *line) {
    free(pln_test_redis_command(&server, "%s", line));
}

static pln_ns in_ms(int ms) {
    return pln_clock_precise() + ms * 1000000LL;
}

static int set_until(const char *key, const char *text, pln_ns deadline) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text);
    return pln_l2_set(a.l2, &hashed, &item, 0, deadline);
}

static int get_until(const char *key, pln_ns deadline) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_value value;
    int result = pln_l2_get(a.l2, &hashed, deadline, &value);
    if (result == PLN_OK) {
        pln_l2_value_fini(&value);
    }
    return result;
}

/* Tries until a set is taken: the breaker lets one caller try now and then. */
static void recover(void) {
    pln_ns until = in_ms(5000);
    int result = PLN_EL2DOWN;
    while (result != PLN_OK && pln_clock_precise() < until) {
        result = set_until("recovered", "yes", in_ms(500));
    }
    ck_assert_msg(result == PLN_OK, "%s", pln_error_text());
}

static size_t occurrences(const char *text, const char *part) {
    size_t n = 0;
    while ((text = strstr(text, part)) != NULL) {
        text += strlen(part);
        n++;
    }
    return n;
}

START_TEST(a_silent_server_costs_the_deadline_and_then_nothing) {
    struct pln_l2_health health;
    ck_assert_int_eq(set_until("a", "one", soon()), PLN_OK);
    pln_test_redis_pause(&server);
    pln_ns before = pln_clock_precise();
    ck_assert_int_eq(get_until("a", in_ms(50)), PLN_ETIMEOUT);
    /* a hang would be endless, a busy machine is not */
    ck_assert_int_lt(pln_clock_precise() - before, 2000000000);
    int result = PLN_ETIMEOUT;
    for (int i = 0; i < 10 && result == PLN_ETIMEOUT; i++) {
        result = get_until("a", in_ms(20));
    }
    ck_assert_int_eq(result, PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "not tried again before"));
    pln_l2_health(a.l2, &health);
    ck_assert(health.breaker_open);
    pln_test_redis_resume(&server);
    recover();
    pln_l2_health(a.l2, &health);
    ck_assert(!health.breaker_open);
    ck_assert_uint_eq(health.connections, 1);
    ck_assert_uint_eq(occurrences(a.log, "commands fail at once"), 1);
    ck_assert_uint_eq(occurrences(a.log, "answers again"), 1);
    ck_assert_uint_ge(client_count(&a, PLN_COUNT_L2_TIMEOUTS), 1);
}
END_TEST

START_TEST(a_late_answer_is_given_to_nobody) {
    ck_assert_int_eq(set_until("a", "one", soon()), PLN_OK);
    ck_assert_int_eq(set_until("b", "two", soon()), PLN_OK);
    for (int i = 0; i < 3; i++) {
        pln_test_redis_pause(&server);
        ck_assert_int_eq(get_until("a", in_ms(20)), PLN_ETIMEOUT);
        pln_test_redis_resume(&server);
        expect_text(&a, "b", "two");
    }
}
END_TEST

START_TEST(a_server_that_drips_is_given_up_at_the_deadline) {
    char big[1000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    ck_assert_int_eq(set_until("a", big, soon()), PLN_OK);
    pln_test_proxy_drip(&proxy, true);
    /* each byte comes in time for a timeout per read; all of them would take seconds */
    pln_ns before = pln_clock_precise();
    ck_assert_int_eq(get_until("a", in_ms(100)), PLN_ETIMEOUT);
    ck_assert_int_lt(pln_clock_precise() - before, 1500000000);
    pln_test_proxy_drip(&proxy, false);
    expect_text(&a, "a", big);
}
END_TEST

START_TEST(a_deadline_that_has_passed_sends_nothing_and_blames_nobody) {
    struct pln_l2_health health;
    ck_assert_int_eq(set_until("a", "one", soon()), PLN_OK);
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(set_until("a", "two", in_ms(0)), PLN_ETIMEOUT);
    }
    pln_l2_health(a.l2, &health);
    ck_assert(!health.breaker_open && health.connections == 1);
    expect_text(&a, "a", "one");
}
END_TEST

/* The write sits in the network, its caller has given up, a newer one is done; then the network
 * delivers. Without the fence the old value would be back. */
START_TEST(a_write_that_comes_late_does_not_undo_a_newer_one) {
    ck_assert_int_eq(set_until("a", "first", soon()), PLN_OK);
    pln_test_proxy_hold(&proxy);
    ck_assert_int_eq(set_until("a", "old", in_ms(50)), PLN_ETIMEOUT);
    ck_assert_int_eq(set_until("a", "new", soon()), PLN_OK);
    char *stats = pln_test_redis_command(&server, "INFO commandstats");
    ck_assert_ptr_nonnull(strstr(stats, "client|kill:calls=1"));
    free(stats);
    pln_test_proxy_release(&proxy);
    expect_text(&a, "a", "new");
    recover();
    expect_text(&a, "a", "new");
}
END_TEST

START_TEST(a_killed_connection_is_replaced_before_it_is_used) {
    ck_assert_int_eq(set_until("a", "one", soon()), PLN_OK);
    command("CLIENT KILL TYPE normal SKIPME yes");
    pln_test_proxy_await_closed(&proxy); /* the server closes it in its own time */
    expect_text(&a, "a", "one");
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_CONNECTS), 2);
}
END_TEST

START_TEST(a_refused_connection_opens_the_breaker_at_once) {
    ck_assert_int_eq(set_until("a", "one", soon()), PLN_OK);
    pln_test_redis_kill(&server);
    int result = PLN_OK;
    for (int i = 0; i < 3; i++) {
        result = get_until("a", soon());
        ck_assert_int_eq(result, PLN_EL2DOWN);
    }
    ck_assert_ptr_nonnull(strstr(pln_error_text(), proxy.path));
    size_t n = pln_test_proxy_accepted(&proxy);
    for (int i = 0; i < 1000; i++) {
        get_until("a", soon());
    }
    /* no storm: a try per backoff, not one per call */
    ck_assert_uint_lt(pln_test_proxy_accepted(&proxy) - n, 100);
    pln_test_redis_restart(&server);
    recover();
    ck_assert_uint_eq(occurrences(a.log, "commands fail at once"), 1);
    ck_assert_uint_eq(occurrences(a.log, "answers again"), 1);
}
END_TEST

START_TEST(a_wrong_password_is_said_and_not_shown) {
    struct client c;
    command("CONFIG SET requirepass swordfish");
    open_client(&c, server.url, "hunter2");
    struct pln_hashed key = key_of("a");
    struct pln_l2_value value;
    ck_assert_int_eq(pln_l2_get(c.l2, &key, soon(), &value), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "refused AUTH: WRONGPASS"));
    ck_assert_ptr_nonnull(strstr(pln_error_text(), server.path));
    ck_assert_ptr_null(strstr(pln_error_text(), "hunter2"));
    ck_assert_ptr_nonnull(strstr(c.log, "WRONGPASS"));
    ck_assert_ptr_null(strstr(c.log, "hunter2"));
    client_fini(&c);
    open_client(&c, server.url, NULL);
    ck_assert_int_eq(pln_l2_get(c.l2, &key, soon(), &value), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "NOAUTH"));
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "give a password"));
    client_fini(&c);
    open_client(&c, server.url, "swordfish");
    ck_assert_int_eq(pln_l2_get(c.l2, &key, soon(), &value), PLN_MISS);
    client_fini(&c);
}
END_TEST

START_TEST(a_user_of_an_acl_logs_in_by_name) {
    struct client c;
    char url[200];
    snprintf(url, sizeof url, "%s", server.url);
    command("ACL SETUSER app on >secret ~* &* +@all -client|kill -info");
    client_init(&c);
    struct pln_l2_options options = client_options(&c, url);
    options.username = "app";
    options.password = "secret";
    ck_assert_int_eq(pln_l2_redis_new(&options, &c.l2), PLN_OK);
    ck_assert_int_eq(pln_l2_start(c.l2), PLN_OK);
    ck_assert_msg(client_hears(&c, "+"), "%s", c.log);
    struct pln_hashed key = key_of("a");
    struct pln_l2_item item = item_of("one");
    ck_assert_int_eq(pln_l2_set(c.l2, &key, &item, 0, soon()), PLN_OK);
    command("ACL SETUSER app -evalsha -eval");
    ck_assert_int_eq(pln_l2_set(c.l2, &key, &item, 0, soon()), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "NOPERM"));
    ck_assert_msg(strstr(pln_error_text(), "ACL SETUSER user +evalsha)") != NULL, "%s",
                  pln_error_text());
    expect_text(&c, "a", "one");
    client_fini(&c);
}
END_TEST

START_TEST(a_full_server_is_said_to_be_full) {
    redisContext *operator_ = redisConnectUnix(server.path);
    freeReplyObject(redisCommand(operator_, "CONFIG SET maxclients 1"));
    ck_assert_int_eq(get_until("a", soon()), PLN_EL2DOWN);
    ck_assert_msg(strstr(pln_error_text(), "max number of clients") != NULL, "%s",
                  pln_error_text());
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "raise its maxclients"));
    freeReplyObject(redisCommand(operator_, "CONFIG SET maxclients 100"));
    redisFree(operator_);
    recover();
}
END_TEST

START_TEST(a_replica_is_not_written_to) {
    ck_assert_int_eq(set_until("a", "one", soon()), PLN_OK);
    command("REPLICAOF 127.0.0.1 1");
    ck_assert_int_eq(set_until("a", "two", soon()), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "READONLY"));
    ck_assert_int_eq(get_until("a", soon()), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "is a slave, not the master"));
    command("REPLICAOF NO ONE");
    recover();
}
END_TEST

/* The data connection is lost and finds another server in the place of the old one, whose link is
 * still up: it must be down before the first command reaches the new server. */
START_TEST(a_link_to_another_server_goes_down_before_data_is_sent) {
    struct server other;
    struct pln_hashed key = key_of("a");
    pln_test_redis_start(&other, NULL);
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert(client_hears(&a, "+"));
    ck_assert_int_eq(set_until("a", "one", soon()), PLN_OK);
    pln_test_proxy_lead_to(&proxy, other.path);
    command("CLIENT KILL TYPE normal SKIPME yes");
    pln_test_proxy_await_closed(&proxy);
    /* the set's own message would be ignored, the link was told first */
    int result = pln_l2_remove(a.l2, &key, soon());
    ck_assert(client_heard(&a, "-") || result == PLN_EL2DOWN);
    ck_assert_msg(client_hears(&a, "+ - +"), "%s | %s", a.story, a.log);
    recover();
    free(pln_test_redis_command(&other, "SET ns:v:x y"));
    char *size = pln_test_redis_command(&other, "EXISTS ns:v:recovered");
    ck_assert_str_eq(size, "1");
    free(size);
    client_fini(&a);
    pln_test_redis_stop(&other);
    open_client(&a, proxy.url, NULL);
}
END_TEST

/* The heartbeat's question is the first to find the other server, and it may be the only one. */
START_TEST(a_link_to_another_server_goes_down_where_nobody_sends_data) {
    struct server other;
    pln_test_redis_start(&other, NULL);
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert(client_hears(&a, "+"));
    pln_test_proxy_lead_to(&proxy, other.path);
    command("CLIENT KILL TYPE normal SKIPME yes");
    ck_assert_msg(client_hears(&a, "+ - +"), "%s | %s", a.story, a.log);
    client_fini(&a);
    pln_test_redis_stop(&other);
    open_client(&a, proxy.url, NULL);
}
END_TEST

static const char *const nonsense[] = {
    "HTTP/1.1 400 Bad Request\r\n\r\n",
    "*2147483647\r\n",
    "*-7\r\n$5\r\n",
    "$-5\r\n",
    ":\r\n:x\r\n",
    "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
    "+OK\r\n+OK\r\n+OK\r\n:1\r\n$3\r\nabc\r\n*1\r\n$6\r\nmaster\r\n*2\r\n$1\r\nx\r\n$1\r\n-\r\n",
    "-ERR max number of clients reached\r\n",
    "$99999999999\r\n",
    "",
};

START_TEST(nonsense_is_an_error_at_once_or_at_the_deadline) {
    pln_test_proxy_answer(&proxy, nonsense[_i]);
    int result = get_until("a", in_ms(200));
    ck_assert_msg(result == PLN_EL2DOWN || result == PLN_ETIMEOUT || result == PLN_EL2,
                  "'%s' gave %d", nonsense[_i], result);
    pln_test_proxy_answer(&proxy, NULL);
    recover();
}
END_TEST

static void *get_often(void *arg) {
    (void) arg;
    for (int i = 0; i < 20; i++) {
        get_until("a", in_ms(20));
    }
    return NULL;
}

START_TEST(many_callers_of_a_silent_server_all_come_back) {
    pthread_t threads[16];
    ck_assert_int_eq(set_until("a", "one", soon()), PLN_OK);
    pln_test_redis_pause(&server);
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, get_often, NULL), 0);
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    pln_test_redis_resume(&server);
    recover();
    expect_text(&a, "a", "one");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pool");
    TCase *tests = tcase_create("pool");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, a_silent_server_costs_the_deadline_and_then_nothing);
    tcase_add_test(tests, a_late_answer_is_given_to_nobody);
    tcase_add_test(tests, a_server_that_drips_is_given_up_at_the_deadline);
    tcase_add_test(tests, a_deadline_that_has_passed_sends_nothing_and_blames_nobody);
    tcase_add_test(tests, a_write_that_comes_late_does_not_undo_a_newer_one);
    tcase_add_test(tests, a_killed_connection_is_replaced_before_it_is_used);
    tcase_add_test(tests, a_refused_connection_opens_the_breaker_at_once);
    tcase_add_test(tests, a_wrong_password_is_said_and_not_shown);
    tcase_add_test(tests, a_user_of_an_acl_logs_in_by_name);
    tcase_add_test(tests, a_full_server_is_said_to_be_full);
    tcase_add_test(tests, a_replica_is_not_written_to);
    tcase_add_test(tests, a_link_to_another_server_goes_down_before_data_is_sent);
    tcase_add_test(tests, a_link_to_another_server_goes_down_where_nobody_sends_data);
    tcase_add_loop_test(tests, nonsense_is_an_error_at_once_or_at_the_deadline, 0,
                        PLN_ARRAY_LEN(nonsense));
    tcase_add_test(tests, many_callers_of_a_silent_server_all_come_back);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
