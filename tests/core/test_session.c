/* SPDX-License-Identifier: MIT
 * test_session.c - sessions over a real redis-server: their life, and that "all of a user" misses
 * none, whatever was left half done. */
#include "rig.h"
#include "../l2/server.h"

#include <stdio.h>

static struct server server;
static struct pln_cache *cache;
static const struct pln_session_options minute = {.ttl_ms = 60000};

static void no_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

static void setup(void) {
    pln_test_redis_start(&server, NULL);
    struct pln_options options = {
        .ns = "t", .redis = server.url, .timeout_ms = 2000, .log = no_log};
    ck_assert_int_eq(pln_open(&options, &cache), PLN_OK);
}

static void teardown(void) {
    pln_close(cache);
    pln_test_redis_stop(&server);
}

/* A command's answer as a number. */
static long long number_of(const char *format, const char *id) {
    char words[200];
    snprintf(words, sizeof words, format, id);
    char *text = pln_test_redis_command(&server, "%s", words);
    long long number = atoll(text);
    free(text);
    return number;
}

struct id {
    char text[PLN_SESSION_ID];
};

static struct id create(const char *user, const struct pln_session_options *options) {
    struct id id = {""};
    int status = pln_session_create(cache, options, pln_key(user), pln_key("data"), 1, id.text);
    ck_assert_msg(status == PLN_OK, "%s", pln_error_text());
    return id;
}

static int get(const struct id *id, const struct pln_session_options *options, pln_ms *left) {
    struct pln_session session;
    int status = pln_session_get(cache, options, pln_key(id->text), &session);
    if (status == PLN_OK) {
        pln_release(cache, session.user);
        pln_release(cache, session.data);
        *left = session.left_ms;
    }
    return status;
}

static void expect_gone(const struct id *id) {
    pln_ms left;
    ck_assert_int_eq(get(id, &minute, &left), PLN_MISS);
}

static void expect_live(const struct id *id) {
    pln_ms left;
    ck_assert_int_eq(get(id, &minute, &left), PLN_OK);
}

static bool count(void *arg, const struct pln_session *session) {
    size_t *n = arg;
    (*n)++;
    return strlen(session->id) == PLN_SESSION_ID - 1 && session->left_ms > 0;
}

static size_t n_of(const char *user) {
    size_t n = 0;
    ck_assert_int_eq(pln_session_of(cache, pln_key(user), count, &n), PLN_OK);
    return n;
}

static size_t end_all(const char *user) {
    size_t n = 1000;
    ck_assert_int_eq(pln_session_destroy_all(cache, pln_key(user), &n), PLN_OK);
    return n;
}

START_TEST(a_session_is_what_was_put_in_until_it_is_ended) {
    char id[PLN_SESSION_ID];
    struct pln_session session;
    struct pln_bytes data = pln_bytes_of("a\0b", 3);
    ck_assert_int_eq(pln_session_create(cache, NULL, pln_key("ada"), data, 7, id), PLN_OK);
    ck_assert_int_eq(pln_session_get(cache, NULL, pln_key(id), &session), PLN_OK);
    ck_assert_str_eq(session.id, id);
    ck_assert_mem_eq(pln_value_data(session.user), "ada", 3);
    ck_assert_uint_eq(pln_value_len(session.data), 3);
    ck_assert_mem_eq(pln_value_data(session.data), "a\0b", 3);
    ck_assert_uint_eq(session.format, 7);
    ck_assert_int_gt(session.left_ms, 29 * 60 * 1000);
    pln_release(cache, session.user);
    pln_release(cache, session.data);
    ck_assert_int_eq(pln_session_update(cache, pln_key(id), pln_key("new"), 0), PLN_OK);
    ck_assert_int_eq(pln_session_get(cache, NULL, pln_key(id), &session), PLN_OK);
    ck_assert_mem_eq(pln_value_data(session.data), "new", 3);
    pln_release(cache, session.user);
    pln_release(cache, session.data);
    ck_assert_int_eq(pln_session_destroy(cache, pln_key(id)), PLN_OK);
    ck_assert_int_eq(pln_session_get(cache, NULL, pln_key(id), &session), PLN_MISS);
    ck_assert_int_eq(pln_session_destroy(cache, pln_key(id)), PLN_MISS);
    ck_assert_int_eq(pln_session_update(cache, pln_key(id), pln_key("x"), 0), PLN_MISS);
    ck_assert_int_eq(number_of("EXISTS t:s:%s t:su:ada", id), 0);
}
END_TEST

START_TEST(ids_are_long_and_never_the_same_and_others_are_none) {
    struct id ids[50];
    for (size_t i = 0; i < 50; i++) {
        ids[i] = create("ada", &minute);
        ck_assert_uint_eq(strlen(ids[i].text), 43);
        for (size_t k = 0; k < i; k++) {
            ck_assert_str_ne(ids[i].text, ids[k].text);
        }
    }
    pln_test_redis_kill(&server); /* what cannot be an id is not asked for */
    struct pln_session session;
    ck_assert_int_eq(pln_session_get(cache, NULL, pln_key("short"), &session), PLN_MISS);
    ids[0].text[9] = '*';
    ck_assert_int_eq(pln_session_get(cache, NULL, pln_key(ids[0].text), &session), PLN_MISS);
    ck_assert_int_eq(pln_session_get(cache, NULL, pln_key(ids[1].text), &session), PLN_EL2DOWN);
}
END_TEST

START_TEST(a_session_ends_by_itself) {
    struct pln_session_options brief = {.ttl_ms = 50, .is_fixed = true};
    struct id id = create("ada", &brief);
    pln_ns deadline = pln_deadline(20000);
    pln_ms left;
    while (get(&id, &brief, &left) == PLN_OK) {
        ck_assert(pln_clock_precise() < deadline);
    }
    ck_assert_uint_eq(n_of("ada"), 0);
}
END_TEST

/* Makes a session look as if it had not been used for most of its minute. */
static void let_age(const struct id *id) {
    number_of("HSET t:s:%s s 1000", id->text);
    ck_assert_int_eq(number_of("PEXPIRE t:s:%s 9000", id->text), 1);
}

START_TEST(use_prolongs_a_session_once_in_a_tenth_of_its_ttl) {
    struct id id = create("ada", &minute);
    pln_ms left;
    ck_assert_int_eq(number_of("PEXPIRE t:s:%s 9000", id.text), 1);
    ck_assert_int_eq(get(&id, &minute, &left), PLN_OK);
    ck_assert_int_le(left, 9000); /* it was seen just now, so nothing is written */
    let_age(&id);
    /* the set must not forget it before it ends: its time there is brought along first */
    ck_assert_int_eq(number_of("ZADD t:su:ada XX CH 1000 %s", id.text), 1);
    ck_assert_int_eq(get(&id, &minute, &left), PLN_OK);
    ck_assert_int_eq(left, 60000);
    ck_assert_int_gt(number_of("PTTL t:s:%s", id.text), 50000);
    ck_assert_uint_eq(end_all("ada"), 1);
}
END_TEST

START_TEST(a_fixed_session_is_not_prolonged) {
    struct pln_session_options fixed = {.ttl_ms = 60000, .is_fixed = true};
    struct id id = create("ada", &fixed);
    pln_ms left;
    let_age(&id);
    ck_assert_int_eq(get(&id, &fixed, &left), PLN_OK);
    ck_assert_int_le(left, 9000);
    ck_assert_int_le(number_of("PTTL t:s:%s", id.text), 9000);
    ck_assert_int_gt(number_of("HGET t:s:%s s", id.text), 1000); /* but it was seen */
}
END_TEST

START_TEST(all_of_a_user_end_at_once_and_nobody_elses) {
    struct id a = create("ada", &minute), b = create("ada", &minute), c = create("bob", &minute);
    struct id nobodys = create("", &minute);
    ck_assert_uint_eq(n_of("ada"), 2);
    ck_assert_uint_eq(n_of("bob"), 1);
    ck_assert_uint_eq(end_all("ada"), 2);
    expect_gone(&a);
    expect_gone(&b);
    expect_live(&c);
    expect_live(&nobodys);
    ck_assert_uint_eq(n_of("ada"), 0);
    ck_assert_uint_eq(end_all("ada"), 0);
    ck_assert_int_eq(pln_session_destroy(cache, pln_key(c.text)), PLN_OK);
    ck_assert_uint_eq(n_of("bob"), 0);
}
END_TEST

START_TEST(what_was_left_half_done_is_not_missed_later) {
    struct id half = create("ada", &minute);
    number_of("RENAME t:s:%s kept", half.text); /* its second half is still on its way */
    ck_assert_uint_eq(n_of("ada"), 0);
    ck_assert_uint_eq(end_all("ada"), 0);
    char words[200];
    snprintf(words, sizeof words, "RENAME kept t:s:%s", half.text);
    free(pln_test_redis_command(&server, "%s", words));
    expect_live(&half);
    ck_assert_uint_eq(end_all("ada"), 1);
    expect_gone(&half);
}
END_TEST

START_TEST(ids_whose_time_is_over_leave_the_set) {
    struct id id = create("ada", &minute);
    number_of("ZADD t:su:ada 1000 old%s", "");
    ck_assert_int_eq(number_of("ZCARD t:su:%s", "ada"), 2);
    ck_assert_uint_eq(n_of("ada"), 1);
    ck_assert_int_eq(number_of("ZCARD t:su:%s", "ada"), 1);
    ck_assert_int_gt(number_of("PTTL t:su:%s", "ada"), 60000); /* and the set ends after all */
    expect_live(&id);
}
END_TEST

START_TEST(what_cannot_be_a_session_is_refused) {
    struct pln_session_options never = {.ttl_ms = -1};
    char id[PLN_SESSION_ID], user[600];
    struct pln_bytes data = pln_key("data");
    memset(user, 'u', sizeof user);
    ck_assert_int_eq(pln_session_create(cache, &never, pln_key("ada"), data, 0, id), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "ttl: -1 ms"));
    ck_assert_int_eq(pln_session_create(cache, NULL, pln_bytes_of(user, 600), data, 0, id),
                     PLN_EINVAL);
    pln_test_redis_kill(&server);
    ck_assert_int_eq(pln_session_create(cache, NULL, pln_key("ada"), data, 0, id), PLN_EL2DOWN);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("session");
    TCase *tests = tcase_create("session");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_session_is_what_was_put_in_until_it_is_ended);
    tcase_add_test(tests, ids_are_long_and_never_the_same_and_others_are_none);
    tcase_add_test(tests, a_session_ends_by_itself);
    tcase_add_test(tests, use_prolongs_a_session_once_in_a_tenth_of_its_ttl);
    tcase_add_test(tests, a_fixed_session_is_not_prolonged);
    tcase_add_test(tests, all_of_a_user_end_at_once_and_nobody_elses);
    tcase_add_test(tests, what_was_left_half_done_is_not_missed_later);
    tcase_add_test(tests, ids_whose_time_is_over_leave_the_set);
    tcase_add_test(tests, what_cannot_be_a_session_is_refused);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
