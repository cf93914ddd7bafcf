/* SPDX-License-Identifier: MIT
 * test_hash.c - hashes of a real redis-server that two instances hold in L1: what ends a copy, what
 * is never kept, and what becomes of it all when the server is away. */
#include "data_rig.h"

#include <stdio.h>

/* Reads a field; checks it (NULL: not there), and, where wanted, what it came from. */
static bool has_field(struct pln_cache *cache, const char *name, const char *field,
                      const char *wanted, const char *source) {
    struct pln_bytes fields[] = {pln_key(field)}, text;
    struct pln_result result;
    ck_assert_msg(pln_hash_get(cache, pln_key(name), fields, 1, NULL, &result) == PLN_OK, "%s",
                  pln_error_text());
    bool is_there = pln_hash_field(result.value, fields[0], &text);
    bool is_right = wanted == NULL ? !is_there : is_there && pln_bytes_equal(text, pln_key(wanted));
    is_right = is_right && (source == NULL || strcmp(source, pln_source_name(result.source)) == 0);
    pln_release(cache, result.value);
    return is_right;
}

static void await_field(struct pln_cache *cache, const char *name, const char *field,
                        const char *wanted, const char *source) {
    pln_ns deadline = pln_deadline(10000);
    while (!has_field(cache, name, field, wanted, source)) {
        ck_assert_msg(pln_clock_precise() < deadline, "%s of %s does not become %s from %s", field,
                      name, wanted == NULL ? "nothing" : wanted, source == NULL ? "any" : source);
    }
}

/* ---- hashes in L1 ---- */

START_TEST(without_a_rule_a_hash_is_read_from_redis) {
    data_expect(a, "h", "HSET f v", 0, 1);
    ck_assert(has_field(b, "h", "f", "v", "l2"));
    ck_assert(has_field(b, "h", "f", "v", "l2"));
    ck_assert(has_field(b, "h", "g", NULL, "l2"));
    ck_assert_uint_eq(rig_stat(b, "hash_l1_hits"), 0);
}
END_TEST

START_TEST(what_another_writes_ends_the_copy_of_a_hash) {
    data_keep_hashes(a);
    data_keep_hashes(b);
    data_expect(a, "cart:1", "HSET apples 1 pears 2", 0, 2);
    await_field(b, "cart:1", "apples", "1", "l1");
    ck_assert(has_field(b, "cart:1", "pears", "2", "l1"));
    ck_assert(has_field(b, "cart:1", "plums", NULL, "l1"));
    data_expect(a, "cart:1", "HSET apples 5", 0, 0);
    await_field(b, "cart:1", "apples", "5", NULL);
    await_field(b, "cart:1", "apples", "5", "l1");
    data_expect(a, "cart:1", "HDEL apples", 0, 1);
    await_field(b, "cart:1", "apples", NULL, NULL);
    await_field(b, "cart:1", "pears", "2", "l1");
    data_expect(a, "cart:1", "DEL", 0, 1);
    await_field(b, "cart:1", "pears", NULL, NULL);
    await_field(b, "cart:1", "pears", NULL, "l1"); /* that there is none is known too */
    data_expect(a, "cart:1", "HINCRBY pears 3", 0, 3);
    await_field(b, "cart:1", "pears", "3", NULL);
}
END_TEST

START_TEST(the_writer_itself_reads_what_it_wrote_at_once) {
    data_keep_hashes(a);
    char text[32];
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof text, "HSET f %d", i);
        data_expect(a, "cart:2", text, 0, i == 0);
        snprintf(text, sizeof text, "%d", i);
        ck_assert(has_field(a, "cart:2", "f", text, NULL));
        ck_assert(has_field(a, "cart:2", "f", text, NULL));
    }
    ck_assert_uint_ge(rig_stat(a, "hash_l1_hits"), 1);
}
END_TEST

START_TEST(a_copy_lives_no_longer_than_the_hash) {
    struct pln_result result;
    data_keep_hashes(a);
    data_expect(a, "cart:3", "HSET f v", 30000, 1);
    await_field(a, "cart:3", "f", "v", "l1");
    ck_assert_int_eq(pln_hash_get(a, pln_key("cart:3"), NULL, 0, NULL, &result), PLN_OK);
    ck_assert_int_gt(result.left_ms, 0);
    ck_assert_int_le(result.left_ms, 30000);
    pln_release(a, result.value);
    data_expect(a, "cart:3", "HSET f w", 1, 0);
    await_field(a, "cart:3", "f", NULL, NULL);
}
END_TEST

START_TEST(a_whole_hash_is_its_fields_and_no_more) {
    struct pln_result result;
    struct pln_bytes field, text;
    for (int is_kept = 0; is_kept < 2; is_kept++) {
        size_t at = 0, n = 0;
        data_expect(a, "cart:4", "HSET a 1 b 2 c 3", 0, is_kept == 0 ? 3 : 0);
        ck_assert_int_eq(pln_hash_get(a, pln_key("cart:4"), NULL, 0, NULL, &result), PLN_OK);
        while (pln_hash_next(result.value, &at, &field, &text)) {
            ck_assert_uint_eq(field.len, 1);
            ck_assert_int_eq(*(const char *) text.data - '0', *(const char *) field.data - 'a' + 1);
            n++;
        }
        ck_assert_uint_eq(n, 3);
        pln_release(a, result.value);
        data_keep_hashes(a);
    }
}
END_TEST

START_TEST(a_key_that_is_no_hash_is_told_either_way) {
    struct pln_result result;
    data_expect(a, "cart:5", "SADD x", 0, 1);
    ck_assert_int_eq(pln_hash_get(a, pln_key("cart:5"), NULL, 0, NULL, &result), PLN_EL2);
    data_keep_hashes(a);
    ck_assert_int_eq(pln_hash_get(a, pln_key("cart:5"), NULL, 0, NULL, &result), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "WRONGTYPE"));
    ck_assert_ptr_null(result.value);
}
END_TEST

START_TEST(with_redis_killed_a_copy_serves_and_a_write_fails) {
    struct pln_answer *answer;
    data_keep_hashes(a);
    data_expect(a, "cart:6", "HSET f v", 0, 1);
    data_expect(a, "cart:7", "HSET f v", 0, 1);
    await_field(a, "cart:6", "f", "v", "l1");
    pln_test_redis_kill(&server);
    rig_await(a, "bus_losses", 1);
    await_field(a, "cart:6", "f", "v", "stale"); /* once it is in doubt */
    ck_assert_int_lt(data_call(a, "cart:7", "HSET f v", 0, &answer), 0);
    struct pln_result result;
    ck_assert_int_lt(pln_hash_get(a, pln_key("cart:7"), NULL, 0, NULL, &result), 0);
}
END_TEST

static void *read_patiently(void *arg) {
    struct pln_data_options options = {.timeout_ms = 20000};
    struct pln_bytes field = pln_key("f"), text;
    struct pln_result result;
    bool is_right = pln_hash_get(arg, pln_key("cart:9"), &field, 1, &options, &result) == PLN_OK &&
                    pln_hash_field(result.value, field, &text) &&
                    pln_bytes_equal(text, pln_key("v"));
    pln_release(arg, result.value);
    return is_right ? NULL : arg;
}

START_TEST(of_many_who_miss_a_hash_at_once_one_asks) {
    enum { N = 8 };
    pthread_t threads[N];
    void *wrong;
    data_keep_hashes(a);
    data_expect(b, "cart:9", "HSET f v", 0, 1);
    ck_assert(has_field(b, "cart:9", "f", "v", "l2")); /* without a rule: no HGETALL yet */
    pln_test_redis_pause(&server);
    for (int i = 0; i < N; i++) {
        pthread_create(&threads[i], NULL, read_patiently, a);
    }
    rig_await(a, "load_waits", N - 1);
    pln_test_redis_resume(&server);
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
    char *counts = pln_test_redis_command(&server, "INFO commandstats");
    ck_assert_ptr_nonnull(strstr(counts, "cmdstat_hgetall:calls=1,"));
    free(counts);
}
END_TEST

/* What happens while a question is with the server: by a cache whose link takes a pause for nothing
 * unusual. */
static struct pln_cache *open_patient(void) {
    struct pln_cache *patient = data_open(20000);
    data_keep_hashes(patient);
    return patient;
}

START_TEST(a_copy_that_is_void_before_it_arrives_is_not_kept) {
    pthread_t reader;
    void *wrong;
    struct pln_cache *patient = open_patient();
    data_expect(a, "cart:9", "HSET f v", 0, 1);
    data_expect(patient, "cart:9", "HLEN", 0, 1); /* it is connected */
    uint64_t n_sent = rig_stat(patient, "l2_commands");
    pln_test_redis_pause(&server);
    pthread_create(&reader, NULL, read_patiently, patient);
    rig_await(patient, "l2_commands", n_sent + 1);
    pln_hash_forget(patient, pln_key("cart:9")); /* as a message would */
    pln_test_redis_resume(&server);
    pthread_join(reader, &wrong);
    ck_assert_ptr_null(wrong);
    ck_assert(has_field(patient, "cart:9", "f", "v", "l2"));
    ck_assert(has_field(patient, "cart:9", "f", "v", "l1"));
    pln_close(patient);
}
END_TEST

static void *write_patiently(void *arg) {
    data_expect(arg, "cart:9", "HSET f new", 0, 0);
    return NULL;
}

START_TEST(a_copy_taken_before_the_own_write_does_not_outlive_it) {
    pthread_t writer;
    struct pln_stamp stamp;
    struct pln_l1_life life;
    struct pln_cache *patient = open_patient();
    data_expect(patient, "cart:9", "HSET f v", 0, 1);
    uint64_t n_sent = rig_stat(patient, "l2_commands");
    pln_test_redis_pause(&server);
    pthread_create(&writer, NULL, write_patiently, patient);
    rig_await(patient, "l2_commands", n_sent + 1);
    struct pln_bytes bytes = pln_bytes_of("\0h:cart:9", 9);
    struct pln_hashed key = {bytes, pln_hash(bytes, patient->seed)};
    struct pln_l2_item old = {
        .value = pln_bytes_of("\1\0\0\0f\1\0\0\0v", 10), .fresh_left = 60000, .life_left = 60000};
    struct pln_terms terms = *pln_cache_terms(patient);
    pln_stamp_take(patient->inval, key.hash, &stamp);
    pln_life_keep(patient, &key, &terms, &stamp, &old, &life);
    ck_assert(has_field(patient, "cart:9", "f", "v", "l1"));
    pln_test_redis_resume(&server);
    pthread_join(writer, NULL);
    ck_assert(has_field(patient, "cart:9", "f", "new", "l2"));
    pln_close(patient);
}
END_TEST

static _Atomic bool is_over;

/* Reads a counter of a hash without pause; it must never go back. */
static void *watch_counter(void *arg) {
    const struct pln_bytes field = pln_key("n");
    void *wrong = NULL;
    int last = 0;
    while (!atomic_load(&is_over)) {
        struct pln_result result;
        struct pln_bytes text;
        if (pln_hash_get(arg, pln_key("cart:8"), &field, 1, NULL, &result) == PLN_OK &&
            pln_hash_field(result.value, field, &text)) {
            char number[16] = "";
            memcpy(number, text.data, text.len < 15 ? text.len : 15);
            wrong = atoi(number) < last ? arg : wrong;
            last = atoi(number);
        }
        pln_release(arg, result.value);
    }
    return wrong;
}

START_TEST(under_a_writer_a_hash_never_goes_back_and_ends_at_the_truth) {
    enum { N = 2000 };
    pthread_t reader;
    void *wrong;
    char text[16];
    data_keep_hashes(a);
    data_keep_hashes(b);
    pthread_create(&reader, NULL, watch_counter, b);
    for (int i = 1; i <= N; i++) {
        data_expect(a, "cart:8", "HINCRBY n 1", 0, i);
    }
    snprintf(text, sizeof text, "%d", N);
    await_field(b, "cart:8", "n", text, "l1");
    atomic_store(&is_over, true);
    pthread_join(reader, &wrong);
    ck_assert_ptr_null(wrong);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hash");
    TCase *tests = tcase_create("hash");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, data_setup, data_teardown);
    tcase_add_test(tests, without_a_rule_a_hash_is_read_from_redis);
    tcase_add_test(tests, what_another_writes_ends_the_copy_of_a_hash);
    tcase_add_test(tests, the_writer_itself_reads_what_it_wrote_at_once);
    tcase_add_test(tests, a_copy_lives_no_longer_than_the_hash);
    tcase_add_test(tests, a_whole_hash_is_its_fields_and_no_more);
    tcase_add_test(tests, a_key_that_is_no_hash_is_told_either_way);
    tcase_add_test(tests, with_redis_killed_a_copy_serves_and_a_write_fails);
    tcase_add_test(tests, of_many_who_miss_a_hash_at_once_one_asks);
    tcase_add_test(tests, a_copy_that_is_void_before_it_arrives_is_not_kept);
    tcase_add_test(tests, a_copy_taken_before_the_own_write_does_not_outlive_it);
    tcase_add_test(tests, under_a_writer_a_hash_never_goes_back_and_ends_at_the_truth);
    return rig_run(suite);
}
