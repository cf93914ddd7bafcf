/* SPDX-License-Identifier: MIT
 * faults_refusal.c - errors by name: what passes is tried again within the deadline, all are told
 * with what an operator can do; and servers that answer too late too often. */
#include "faults.h"

#include "fake.h"

static struct fake fake;
static struct client a;

static void set_up(void) {
    pln_test_fake_start(&fake);
    faults_open(&a, fake.url, 1);
    ck_assert_int_eq(faults_get(&a, "a", soon(), NULL), PLN_OK);
}

static void tear_down(void) {
    client_fini(&a);
    pln_test_fake_stop(&fake);
}

static int get(const char *key, pln_ns deadline) {
    return faults_get(&a, key, deadline, NULL);
}

static bool is_open(void) {
    struct pln_l2_health health;
    pln_l2_health(a.l2, &health);
    return health.breaker_open;
}

static const char *const passing[] = {
    "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n",
    "-LOADING Redis is loading the dataset in memory\r\n",
    "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
    "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
};

START_TEST(what_passes_is_tried_again) {
    struct pln_hashed keys[] = {key_of("a"), key_of("b")};
    struct pln_l2_value values[2];
    int statuses[2];
    pln_test_fake_rule(&fake, (struct fake_rule){"GET", 0, 2, passing[_i]});
    ck_assert_msg(get("a", faults_in(5000)) == PLN_OK, "%s", pln_error_text());
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_RETRIES), 2);
    pln_test_fake_rule(&fake, (struct fake_rule){"MGET", 0, 2, passing[_i]});
    ck_assert_int_eq(pln_l2_get_many(a.l2, keys, 2, faults_in(5000), values, statuses), PLN_OK);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(statuses[i], PLN_OK);
        pln_l2_value_fini(&values[i]);
    }
    pln_test_fake_rule(&fake, (struct fake_rule){"EVALSHA", 0, 1, passing[_i]});
    ck_assert_msg(faults_set(&a, "a", "one", faults_in(5000)) == PLN_OK, "%s", pln_error_text());
    ck_assert(!is_open());
}
END_TEST

START_TEST(what_does_not_pass_is_tried_a_few_times_only) {
    pln_test_fake_rule(&fake, (struct fake_rule){"GET", 0, 0, passing[0]});
    ck_assert_int_eq(get("a", faults_in(60000)), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "BUSY"));
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "SCRIPT KILL ends it"));
    unsigned n = pln_test_fake_met(&fake, 0);
    ck_assert_uint_ge(n, 2);
    ck_assert_uint_lt(n, 20);
    /* nor beyond the deadline: the first pause would be */
    ck_assert_int_lt(get("a", pln_clock_precise() + 900000), 0);
    ck_assert_uint_le(pln_test_fake_met(&fake, 0), n + 1);
}
END_TEST

START_TEST(words_out_of_a_script_are_not_tried_again) {
    pln_test_fake_rule(
        &fake, (struct fake_rule){"EVALSHA", 0, 1,
                                  "-MASTERDOWN Link is down script: 0a1b, on @user_script:3.\r\n"});
    ck_assert_int_eq(faults_set(&a, "a", "one", soon()), PLN_EL2);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_RETRIES), 0);
}
END_TEST

/* The new connection's login says the same, and nobody waits for the deadline. */
START_TEST(a_server_that_loads_for_long_refuses_at_once) {
    pln_test_fake_rule(&fake, (struct fake_rule){"PING", 0, 0, passing[1]});
    pln_test_fake_rule(&fake, (struct fake_rule){"GET", 0, 0, passing[1]});
    ck_assert_int_eq(get("a", faults_in(60000)), PLN_EL2DOWN); /* or the test's own time is over */
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "LOADING"));
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "reads its data from disk"));
    ck_assert(is_open());
    pln_test_fake_forget_rules(&fake);
    faults_recover(&a);
}
END_TEST

static const struct {
    const char *error, *hint;
} refused[] = {
    {"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "raise maxmemory"},
    {"-MISCONF Redis is configured to save RDB snapshots\r\n", "its log says why"},
    {"-NOREPLICAS Not enough good replicas to write.\r\n", "min-replicas-to-write"},
    {"-CLUSTERDOWN Hash slot not served\r\n", "CLUSTER INFO"},
    {"-READONLY You can't write against a read only replica.\r\n", "it is a replica"},
    {"-NOAUTH Authentication required.\r\n", "give a password"},
    {"-NOPERM User app has no permissions to run the 'get' command\r\n", "ACL SETUSER user +get)"},
    {"-NOPERM this user has no permissions to run the 'get' command or its subcommand\r\n",
     "ACL SETUSER user +get)"},
    {"-NOPERM No permissions to access a key\r\n", "~*NAMESPACE:*"},
    {"-NOPERM No permissions to access a channel\r\n", "&NAMESPACE:*"},
    {"-BUSYKEY Target key name already exists.\r\n", "BUSYKEY Target key name already exists."},
};

START_TEST(a_refusal_says_what_can_be_done) {
    pln_test_fake_rule(&fake, (struct fake_rule){"GET", 0, 1, refused[_i].error});
    ck_assert_int_eq(get("a", soon()), PLN_EL2);
    ck_assert_msg(strstr(pln_error_text(), refused[_i].hint) != NULL, "%s", pln_error_text());
    ck_assert_ptr_nonnull(strstr(pln_error_text(), fake.path));
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_RETRIES), 0);
    ck_assert_int_eq(get("a", soon()), PLN_OK);
}
END_TEST

/* Three reads are late to one that is not (two commands, without a link), so there are never five
 * in a row. */
START_TEST(a_server_that_is_late_most_of_the_time_is_left_alone) {
    int result = PLN_OK;
    pln_test_fake_rule(&fake, (struct fake_rule){"GET ns:v:slow", 0, 0, .delay_ms = 300});
    for (int i = 0; i < 90 && result != PLN_EL2DOWN; i++) {
        result = get("slow", faults_in(20));
        ck_assert(result == PLN_ETIMEOUT || result == PLN_EL2DOWN);
        if (result == PLN_ETIMEOUT && i % 3 == 2) {
            ck_assert_int_eq(get("fast", faults_in(5000)), PLN_OK);
        }
    }
    ck_assert_int_eq(result, PLN_EL2DOWN);
    ck_assert_msg(strstr(pln_error_text(), "commands not answered in time") != NULL, "%s",
                  pln_error_text());
    ck_assert_uint_eq(faults_logged(&a, "commands not answered in time"), 1);
    pln_test_fake_forget_rules(&fake);
    faults_recover(&a);
    ck_assert(!is_open());
}
END_TEST

/* It takes connections, and says nothing. */
static void open_to_a_mute(int connect_timeout_ms) {
    client_fini(&a);
    client_init(&a);
    struct pln_l2_options options = client_options(&a, fake.url);
    options.connect_timeout_ms = connect_timeout_ms;
    options.pool = 1;
    ck_assert_int_eq(pln_l2_redis_new(&options, &a.l2), PLN_OK);
    pln_test_fake_rule(&fake, (struct fake_rule){"", 0, 0, "", .end = FAKE_STALL});
}

START_TEST(a_connection_that_takes_too_long_is_as_good_as_refused) {
    open_to_a_mute(50);
    ck_assert_int_eq(get("a", faults_in(30000)), PLN_ETIMEOUT);
    ck_assert(is_open());
    ck_assert_int_eq(get("a", faults_in(30000)), PLN_EL2DOWN);
}
END_TEST

START_TEST(a_callers_own_haste_is_no_refusal) {
    open_to_a_mute(30000);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(get("a", faults_in(20)), PLN_ETIMEOUT);
        ck_assert(!is_open());
    }
    ck_assert_int_eq(get("a", faults_in(20)), PLN_ETIMEOUT);
    ck_assert(is_open()); /* five in a row */
}
END_TEST

int main(void) {
    Suite *suite = suite_create("refusal");
    TCase *tests = faults_case(suite, set_up, tear_down);
    tcase_add_loop_test(tests, what_passes_is_tried_again, 0, PLN_ARRAY_LEN(passing));
    tcase_add_test(tests, what_does_not_pass_is_tried_a_few_times_only);
    tcase_add_test(tests, words_out_of_a_script_are_not_tried_again);
    tcase_add_test(tests, a_server_that_loads_for_long_refuses_at_once);
    tcase_add_loop_test(tests, a_refusal_says_what_can_be_done, 0, PLN_ARRAY_LEN(refused));
    tcase_add_test(tests, a_server_that_is_late_most_of_the_time_is_left_alone);
    tcase_add_test(tests, a_connection_that_takes_too_long_is_as_good_as_refused);
    tcase_add_test(tests, a_callers_own_haste_is_no_refusal);
    return faults_run(suite);
}
