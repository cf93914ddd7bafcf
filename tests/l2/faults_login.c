/* SPDX-License-Identifier: MIT
 * faults_login.c - logins that are refused, at first or later, rights that are missing, and servers
 * that are not what we take them for. Each is said plainly, never with a secret, and ends when the
 * operator has mended it. */
#include "faults.h"

#include <stdio.h>

#include "fake.h"
#include "server.h"

static struct server server;
static struct fake fake;
static struct client a;
static struct load load;

static void set_up(void) {
    pln_test_redis_start(&server, NULL);
    pln_test_fake_start(&fake);
}

static void tear_down(void) {
    pln_test_fake_stop(&fake);
    pln_test_redis_stop(&server);
}

static void command(const char *line) {
    free(pln_test_redis_command(&server, "%s", line));
}

static void open_as(const char *username, const char *password, bool tracking) {
    client_init(&a);
    struct pln_l2_options options = client_options(&a, server.url);
    options.username = username;
    options.password = password;
    options.tracking = tracking;
    ck_assert_int_eq(pln_l2_redis_new(&options, &a.l2), PLN_OK);
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
}

START_TEST(a_user_that_is_deleted_under_load_is_said_and_comes_back) {
    command("ACL SETUSER app on >swordfish ~* &* +@all");
    open_as("app", "swordfish", false);
    ck_assert(client_hears(&a, "+"));
    load = (struct load){.l2 = a.l2, .patience_ms = 250, .n_threads = 4};
    load_start(&load);
    load_await_ok(&load, 200);
    command("ACL DELUSER app"); /* which ends its connections */
    load_await(&load, PLN_EL2DOWN, 100);
    faults_await_downs(&a, 1);
    ck_assert(client_logs(&a, "refused AUTH: WRONGPASS"));
    /* no storm: a login per backoff and connection */
    char *log = pln_test_redis_command(&server, "ACL LOG 100");
    ck_assert_ptr_null(strstr(log, "swordfish"));
    free(log);
    command("ACL SETUSER app on >swordfish ~* &* +@all");
    load_await_ok(&load, 500);
    faults_await_ups(&a, 2);
    load_stop(&load);
    load_check(&load);
    ck_assert_uint_eq(faults_logged(&a, "swordfish"), 0);
    ck_assert_ptr_null(strstr(load.failure, "swordfish"));
    client_fini(&a);
}
END_TEST

START_TEST(a_server_back_with_another_password_is_said_and_not_shown) {
    command("CONFIG SET requirepass swordfish");
    open_as(NULL, "swordfish", false);
    ck_assert(client_hears(&a, "+"));
    ck_assert_int_eq(faults_set(&a, "a", "one", soon()), PLN_OK);
    pln_test_redis_kill(&server);
    server.options[0] = "--requirepass";
    server.options[1] = "hunter2";
    pln_test_redis_restart(&server);
    pln_ns until = faults_in(10000);
    do { /* at first it is the one that died */
        ck_assert_int_eq(faults_get(&a, "a", soon(), NULL), PLN_EL2DOWN);
        ck_assert_ptr_null(strstr(pln_error_text(), "swordfish"));
    } while (strstr(pln_error_text(), "WRONGPASS") == NULL && pln_clock_precise() < until);
    ck_assert_msg(strstr(pln_error_text(), "WRONGPASS") != NULL, "%s", pln_error_text());
    ck_assert_uint_eq(faults_logged(&a, "swordfish") + faults_logged(&a, "hunter2"), 0);
    client_fini(&a);
}
END_TEST

/* A proxy may forget who we are. */
START_TEST(a_server_that_wants_a_login_again_gets_one) {
    faults_open(&a, fake.url, 1);
    ck_assert_int_eq(faults_get(&a, "a", soon(), NULL), PLN_OK);
    pln_test_fake_rule(&fake,
                       (struct fake_rule){"GET", 0, 1, "-NOAUTH Authentication required.\r\n"});
    size_t n = pln_test_fake_accepted(&fake);
    ck_assert_int_eq(faults_get(&a, "a", soon(), NULL), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "NOAUTH"));
    ck_assert_int_eq(faults_get(&a, "a", soon(), NULL), PLN_OK);
    ck_assert_uint_eq(pln_test_fake_accepted(&fake), n + 1);
    client_fini(&a);
}
END_TEST

/* Reads and writes work; the scripts' messages are part of a write, so a write that cannot tell
 * the others is refused. */
START_TEST(without_the_channel_there_is_no_link_and_it_says_so) {
    struct pln_l2_health health;
    command("ACL SETUSER app on >secret ~* resetchannels +@all");
    open_as("app", "secret", false);
    ck_assert(client_logs(&a, "NOPERM"));
    ck_assert_ptr_nonnull(strstr(a.log, "link is down"));
    ck_assert_int_eq(faults_get(&a, "a", soon(), NULL), PLN_MISS);
    int result = faults_set(&a, "a", "one", soon());
    ck_assert_int_eq(result, PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "channel"));
    pln_l2_health(a.l2, &health);
    ck_assert(!health.bus_ok);
    ck_assert_uint_eq(faults_logged(&a, "secret"), 0);
    command("ACL SETUSER app allchannels");
    ck_assert(client_hears(&a, "+"));
    faults_recover(&a);
    client_fini(&a);
}
END_TEST

START_TEST(without_tracking_a_link_that_must_track_is_down) {
    command("ACL SETUSER app on >secret ~* &* +@all -client|tracking");
    open_as("app", "secret", true);
    ck_assert(client_logs(&a, "refused CLIENT TRACKING"));
    ck_assert_str_eq(a.story, "");
    command("ACL SETUSER app +client|tracking");
    ck_assert(client_hears(&a, "+"));
    client_fini(&a);
}
END_TEST

START_TEST(without_scripts_reads_go_on_and_writes_say_why) {
    command("ACL SETUSER app on >secret ~* &* +@all -eval -evalsha -script");
    command("SET other x");
    open_as("app", "secret", false);
    ck_assert_int_eq(faults_get(&a, "a", soon(), NULL), PLN_MISS);
    ck_assert_int_eq(faults_set(&a, "a", "one", soon()), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "NOPERM"));
    /* the link reads the floor by a script */
    ck_assert(client_logs(&a, "NOPERM"));
    command("ACL SETUSER app +@all");
    ck_assert(client_hears(&a, "+"));
    faults_recover(&a);
    client_fini(&a);
}
END_TEST

START_TEST(keys_that_are_forbidden_are_an_error_and_no_miss) {
    command("ACL SETUSER app on >secret ~mine:* &* +@all");
    open_as("app", "secret", false);
    ck_assert_int_eq(faults_get(&a, "a", soon(), NULL), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "NOPERM"));
    ck_assert_ptr_nonnull(strstr(pln_error_text(), server.path));
    client_fini(&a);
}
END_TEST

/* ---- what we take for a server ---- */

/* Commands of the login that a proxy, or a server that is old, new or another, does not know. */
static const struct {
    const char *command;
    bool is_needed; /* else we do without */
} steps[] = {
    {"CLIENT SETNAME", false}, {"CLIENT ID", false}, {"INFO", false}, {"ROLE", false},
    {"SCRIPT", false},         {"SELECT", true},     {"TIME", true},
};

START_TEST(a_command_that_is_unknown_is_done_without_or_named) {
    pln_test_fake_rule(&fake,
                       (struct fake_rule){steps[_i].command, 0, 0, "-ERR unknown command\r\n"});
    faults_open(&a, fake.url, 1);
    int result = faults_get(&a, "a", soon(), NULL);
    ck_assert_int_eq(result, steps[_i].is_needed ? PLN_EL2DOWN : PLN_OK);
    if (steps[_i].is_needed) {
        ck_assert_ptr_nonnull(strstr(pln_error_text(), steps[_i].command));
        ck_assert_ptr_nonnull(strstr(pln_error_text(), "unknown command"));
    }
    client_fini(&a);
}
END_TEST

static const char *const odd_answers[] = {
    "+OK\r\n",
    ":7\r\n",
    "$-1\r\n",
    "*-1\r\n",
    "*0\r\n",
    "*1\r\n$-1\r\n",
    "*2\r\n:1\r\n:2\r\n",
    "$0\r\n\r\n",
    "*2\r\n$1\r\nx\r\n$1\r\n-\r\n",
    "*2\r\n$20\r\n99999999999999999999\r\n$1\r\n1\r\n",
};

/* Each of them in the place of each answer of the login: the client is there, or it says why not;
 * it is never taken in. */
START_TEST(a_login_answered_oddly_leads_nowhere_or_works) {
    for (size_t i = 0; i < PLN_ARRAY_LEN(odd_answers); i++) {
        char text[FAULTS_TEXT] = "";
        pln_test_fake_rule(&fake, (struct fake_rule){steps[_i].command, 0, 1, odd_answers[i]});
        faults_open(&a, fake.url, 1);
        int result = faults_get(&a, "a", soon(), text);
        ck_assert_msg(result == PLN_EL2DOWN || result == PLN_OK || result == PLN_MISS,
                      "%s answered with '%s' gives %d", steps[_i].command, odd_answers[i], result);
        ck_assert(result != PLN_OK || strcmp(text, "a=1;") == 0);
        pln_test_fake_forget_rules(&fake);
        client_fini(&a);
    }
}
END_TEST

START_TEST(a_proxy_without_subscriptions_gives_no_link_and_says_so) {
    pln_test_fake_rule(&fake, (struct fake_rule){"SUBSCRIBE", 0, 0, "-ERR unknown command\r\n"});
    faults_open(&a, fake.url, 1);
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert(client_logs(&a, "unknown command"));
    ck_assert_int_eq(faults_get(&a, "a", soon(), NULL), PLN_OK);
    ck_assert_str_eq(a.story, "");
    ck_assert_uint_eq(faults_logged(&a, "link is down"), 1); /* not once a try */
    client_fini(&a);
}
END_TEST

/* Confirmed, but no message ever comes: the link's test of itself finds that. */
START_TEST(a_server_that_tells_no_messages_gives_no_link) {
    pln_test_fake_rule(&fake, (struct fake_rule){"PUBLISH", 0, 0, ":0\r\n"});
    faults_open(&a, fake.url, 1);
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert(client_logs(&a, "link is down"));
    ck_assert_str_eq(a.story, "");
    pln_test_fake_forget_rules(&fake);
    ck_assert(client_hears(&a, "+"));
    client_fini(&a);
}
END_TEST

/* Another run id at the same place: an upgrade, a failover behind a proxy. */
START_TEST(another_server_in_the_same_place_is_noticed) {
    faults_open(&a, fake.url, 1);
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert(client_hears(&a, "+"));
    ck_assert_int_eq(faults_get(&a, "a", soon(), NULL), PLN_OK);
    pln_test_fake_rule(
        &fake,
        (struct fake_rule){"INFO", 0, 0,
                           "$52\r\nrv:8\r\nrun_id:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n"});
    pln_test_fake_hang_up(&fake);
    faults_await_downs(&a, 1);
    faults_await_ups(&a, 2);
    pln_ns until = faults_in(5000);
    while (faults_get(&a, "a", soon(), NULL) != PLN_OK) {
        ck_assert(pln_clock_precise() < until);
    }
    client_fini(&a);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("login");
    TCase *tests = faults_case(suite, set_up, tear_down);
    tcase_add_test(tests, a_user_that_is_deleted_under_load_is_said_and_comes_back);
    tcase_add_test(tests, a_server_back_with_another_password_is_said_and_not_shown);
    tcase_add_test(tests, a_server_that_wants_a_login_again_gets_one);
    tcase_add_test(tests, without_the_channel_there_is_no_link_and_it_says_so);
    tcase_add_test(tests, without_tracking_a_link_that_must_track_is_down);
    tcase_add_test(tests, without_scripts_reads_go_on_and_writes_say_why);
    tcase_add_test(tests, keys_that_are_forbidden_are_an_error_and_no_miss);
    tcase_add_loop_test(tests, a_command_that_is_unknown_is_done_without_or_named, 0,
                        PLN_ARRAY_LEN(steps));
    tcase_add_loop_test(tests, a_login_answered_oddly_leads_nowhere_or_works, 0,
                        PLN_ARRAY_LEN(steps));
    tcase_add_test(tests, a_proxy_without_subscriptions_gives_no_link_and_says_so);
    tcase_add_test(tests, a_server_that_tells_no_messages_gives_no_link);
    tcase_add_test(tests, another_server_in_the_same_place_is_noticed);
    return faults_run(suite);
}
