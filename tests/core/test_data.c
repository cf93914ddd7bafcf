/* SPDX-License-Identifier: MIT
 * test_data.c - any command, and data structures with their lives, over a real redis-server. */
#include "data_rig.h"

#include <hiredis/hiredis.h>
#include <stdio.h>

static struct rig rig; /* for its rules */

/* Commands are given as text, words parted by blanks. */
static int command(const char *text, struct pln_answer **answer) {
    char copy[512];
    struct pln_bytes words[DATA_WORDS];
    size_t n = data_words(text, copy, words);
    return pln_command(a, NULL, words, n, 0, answer);
}

/* Milliseconds, as Redis has them: -1 forever, -2 not there. */
static int64_t life_of(const char *name) {
    struct pln_answer *answer;
    ck_assert_int_eq(data_call(a, name, "PTTL", 0, &answer), PLN_OK);
    int64_t left = pln_answer_integer(answer);
    pln_answer_free(answer);
    return left;
}

/* ---- any command ---- */

START_TEST(an_answer_is_a_tree_of_what_redis_said) {
    struct pln_answer *answer;
    struct pln_bytes words[] = {
        pln_key("EVAL"), pln_key("return {1, 'two', {false, {err = 'E no'}}, {ok = 'fine'}}"),
        pln_key("0")};
    ck_assert_int_eq(pln_command(a, NULL, words, 3, 0, &answer), PLN_OK);
    ck_assert_int_eq(pln_answer_kind(answer), PLN_ANSWER_ARRAY);
    ck_assert_uint_eq(pln_answer_len(answer), 4);
    ck_assert_int_eq(pln_answer_integer(pln_answer_at(answer, 0)), 1);
    ck_assert_str_eq(pln_answer_bytes(pln_answer_at(answer, 1)).data, "two");
    const struct pln_answer *inner = pln_answer_at(answer, 2);
    ck_assert_int_eq(pln_answer_kind(pln_answer_at(inner, 0)), PLN_ANSWER_NIL);
    ck_assert_int_eq(pln_answer_kind(pln_answer_at(inner, 1)), PLN_ANSWER_ERROR);
    ck_assert_int_eq(pln_answer_kind(pln_answer_at(answer, 3)), PLN_ANSWER_STRING);
    ck_assert_ptr_null(pln_answer_at(answer, 4));
    ck_assert_int_eq(pln_answer_kind(NULL), PLN_ANSWER_NIL);
    pln_answer_free(answer);
    pln_answer_free(NULL);
}
END_TEST

/* What differs between the protocols is the kind of a number alone, not its text. */
START_TEST(numbers_and_booleans_are_what_the_protocol_makes_of_them) {
    struct pln_answer *answer;
    struct pln_bytes truth[] = {pln_key("EVAL"), pln_key("redis.setresp(3) return true"),
                                pln_key("0")};
    data_expect(a, "z", "ZADD 1.5 m", 0, 1);
    ck_assert_int_eq(data_call(a, "z", "ZSCORE m", 0, &answer), PLN_OK);
    bool has_resp3 = HIREDIS_MAJOR >= 1;
    ck_assert_int_eq(pln_answer_kind(answer), has_resp3 ? PLN_ANSWER_NUMBER : PLN_ANSWER_STRING);
    ck_assert_str_eq(pln_answer_bytes(answer).data, "1.5");
    ck_assert(!has_resp3 || (pln_answer_number(answer) > 1.49 && pln_answer_number(answer) < 1.51));
    pln_answer_free(answer);
    ck_assert_int_eq(pln_command(a, NULL, truth, 3, 0, &answer), PLN_OK);
    ck_assert_int_eq(pln_answer_kind(answer), has_resp3 ? PLN_ANSWER_BOOLEAN : PLN_ANSWER_INTEGER);
    ck_assert_int_eq(pln_answer_integer(answer), 1);
    pln_answer_free(answer);
    ck_assert_int_eq(data_call(a, "z", "ZRANGE 0 -1 WITHSCORES", 0, &answer), PLN_OK);
    ck_assert_int_eq(pln_answer_kind(answer), PLN_ANSWER_ARRAY);
    ck_assert_uint_eq(pln_answer_len(answer), 2);
    ck_assert_str_eq(pln_answer_bytes(pln_answer_at(answer, 1)).data, "1.5");
    pln_answer_free(answer);
}
END_TEST

START_TEST(names_of_commands_are_taken_as_they_are) {
    struct pln_answer *answer;
    ck_assert_int_eq(command("set plain 7", &answer), PLN_OK);
    pln_answer_free(answer);
    char *text = pln_test_redis_command(&server, "GET plain");
    ck_assert_ptr_nonnull(strstr(text, "7"));
    free(text);
    ck_assert_int_eq(command("LPUSH plain x", &answer), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "WRONGTYPE"));
    ck_assert_int_eq(command("NOSUCH plain", &answer), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "unknown command"));
}
END_TEST

START_TEST(what_blocks_or_changes_a_connection_is_refused) {
    const char *const bad[] = {"subscribe x",
                               "PSUBSCRIBE x",
                               "SSUBSCRIBE x",
                               "MONITOR",
                               "Multi",
                               "EXEC",
                               "WATCH k",
                               "SELECT 1",
                               "AUTH x",
                               "HELLO 3",
                               "RESET",
                               "QUIT",
                               "CLIENT REPLY OFF",
                               "CLIENT",
                               "CLIENT TRACKING on",
                               "BLPOP k 0",
                               "BRPOP k 0",
                               "BLMOVE a b LEFT LEFT 0",
                               "BZPOPMIN k 0",
                               "XREAD BLOCK 0 STREAMS k $",
                               "XREADGROUP GROUP g c BLOCK 0 STREAMS k >",
                               "XREADGROUP GROUP streams c BLOCK 0 STREAMS k >",
                               "WAIT 1 0",
                               "PSYNC ? -1",
                               "SHUTDOWN",
                               "DEBUG SLEEP 1",
                               "ASKING",
                               "READONLY",
                               "SCRIPT DEBUG YES"};
    struct pln_answer *answer = NULL;
    for (size_t i = 0; i < PLN_ARRAY_LEN(bad); i++) {
        ck_assert_msg(command(bad[i], &answer) == PLN_EINVAL, "%s was sent", bad[i]);
        ck_assert_ptr_nonnull(strstr(pln_error_text(), "is not for a cache: "));
    }
    ck_assert_int_eq(pln_command(a, NULL, NULL, 0, 0, &answer), PLN_EINVAL);
    const char *const good[] = {"CLIENT ID",       "PING",          "XREAD STREAMS block 0",
                                "SCRIPT EXISTS x", "MEMORY DOCTOR", "MEMORY USAGE k",
                                "OBJECT HELP",     "DBSIZE"};
    for (size_t i = 0; i < PLN_ARRAY_LEN(good); i++) {
        ck_assert_msg(command(good[i], &answer) == PLN_OK, "%s: %s", good[i], pln_error_text());
        pln_answer_free(answer);
    }
}
END_TEST

START_TEST(without_redis_the_failure_says_so) {
    struct pln_cache *alone;
    struct pln_answer *answer;
    struct pln_result result;
    struct pln_bytes ping = pln_key("PING");
    ck_assert_int_eq(pln_open(NULL, &alone), PLN_OK);
    ck_assert_int_eq(pln_command(alone, NULL, &ping, 1, 0, &answer), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "this cache has no Redis"));
    ck_assert_int_eq(data_call(alone, "h", "HSET f v", 0, &answer), PLN_EL2DOWN);
    data_keep_hashes(alone);
    ck_assert_int_eq(data_call(alone, "cart:1", "HSET f v", 0, &answer), PLN_EL2DOWN);
    ck_assert_int_eq(pln_hash_get(alone, pln_key("cart:1"), NULL, 0, NULL, &result), PLN_EL2DOWN);
    pln_close(alone);
}
END_TEST

/* ---- structures ---- */

START_TEST(a_structure_lies_under_the_namespace) {
    char name[16];
    size_t len;
    ck_assert_int_eq(pln_data_name(a, pln_key("q"), name, sizeof name, &len), PLN_OK);
    ck_assert_uint_eq(len, 5);
    ck_assert_int_eq(memcmp(name, "t:d:q", 5), 0);
    ck_assert_int_eq(pln_data_name(a, pln_key("q"), name, 2, &len), PLN_TRUNCATED);
    data_expect(a, "q", "RPUSH x y", 0, 2);
    char *text = pln_test_redis_command(&server, "LLEN t:d:q");
    ck_assert_ptr_nonnull(strstr(text, "2"));
    free(text);
}
END_TEST

START_TEST(the_rules_ttl_counts_from_the_write_that_makes_a_structure) {
    struct pln_terms terms = *pln_cache_terms(a);
    terms.ttl_ms = 50000;
    rig_policy(&rig, a, rig_rule("set:{x}", &terms, 0));
    data_expect(a, "set:1", "SADD x", 0, 1);
    ck_assert_int_gt(life_of("set:1"), 0);
    ck_assert_int_le(life_of("set:1"), 50000);
    data_expect(a, "other", "SADD x", 0, 1); /* the cache's */
    ck_assert_int_gt(life_of("other"), 50000);
    data_expect(a, "set:1", "PEXPIRE 9000", 0, 1);
    data_expect(a, "set:1", "SADD y", 0, 1);
    ck_assert_int_le(life_of("set:1"), 9000);
}
END_TEST

START_TEST(a_calls_own_ttl_counts_from_that_call) {
    data_expect(a, "l", "RPUSH x", 0, 1);
    data_expect(a, "l", "RPUSH x", 5000, 2);
    ck_assert_int_le(life_of("l"), 5000);
    ck_assert_int_gt(life_of("l"), 0);
    data_expect(a, "l", "RPUSH x", PLN_FOREVER, 3);
    ck_assert_int_eq(life_of("l"), -1);
    data_expect(a, "l", "RPUSH x", 0, 4);
    ck_assert_int_eq(life_of("l"), -1);
    data_expect(a, "l", "DEL", 0, 1);
    ck_assert_int_eq(life_of("l"), -2);
}
END_TEST

START_TEST(a_write_that_fails_leaves_nothing_behind) {
    struct pln_answer *answer;
    ck_assert_int_eq(data_call(a, "z", "ZADD notanumber m", 0, &answer), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "ZADD"));
    ck_assert_int_eq(life_of("z"), -2);
    data_expect(a, "z", "ZADD 1 m", 7000, 1);
    ck_assert_int_eq(data_call(a, "z", "HSET f v", 3000000, &answer), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "WRONGTYPE"));
    ck_assert_int_le(life_of("z"), 7000);
}
END_TEST

START_TEST(more_members_than_lua_can_unpack_are_written_in_one_step) {
    enum { N = 9001 };
    static char texts[N][8];
    static struct pln_bytes words[N + 1];
    struct pln_answer *answer;
    words[0] = pln_key("SADD");
    for (int i = 0; i < N; i++) {
        snprintf(texts[i], sizeof texts[i], "%d", i);
        words[i + 1] = pln_key(texts[i]);
    }
    ck_assert_msg(pln_data(a, pln_key("many"), words, N + 1, NULL, &answer) == PLN_OK, "%s",
                  pln_error_text());
    ck_assert_int_eq(pln_answer_integer(answer), N);
    pln_answer_free(answer);
    data_expect(a, "many", "SCARD", 0, N);
    words[0] = pln_key("RPUSH");
    ck_assert_int_eq(pln_data(a, pln_key("list"), words, N + 1, NULL, &answer), PLN_OK);
    ck_assert_int_eq(pln_answer_integer(answer), N); /* the list's length, not a sum */
    pln_answer_free(answer);
    words[0] = pln_key("ZADD");
    ck_assert_int_eq(pln_data(a, pln_key("z"), words, N, NULL, &answer), PLN_EINVAL);
}
END_TEST

START_TEST(misuse_of_a_structure_is_named) {
    struct pln_answer *answer;
    struct pln_result result;
    char long_name[PLN_MAX_KEY + 1];
    memset(long_name, 'x', PLN_MAX_KEY);
    long_name[PLN_MAX_KEY] = 0;
    ck_assert_int_eq(data_call(a, "n", "GET", 0, &answer), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "'GET' is no command on one data structure"));
    ck_assert_int_eq(data_call(a, "n", "HGET f", 1000, &answer), PLN_EINVAL);
    ck_assert_int_eq(data_call(a, "n", "HSET f", 0, &answer), PLN_EINVAL);
    ck_assert_int_eq(data_call(a, "n", "HSET f v", -1, &answer), PLN_EINVAL);
    ck_assert_int_eq(data_call(a, "", "HLEN", 0, &answer), PLN_EINVAL);
    ck_assert_int_eq(data_call(a, long_name, "HLEN", 0, &answer), PLN_EINVAL);
    ck_assert_int_eq(pln_hash_get(a, pln_key(long_name), NULL, 0, NULL, &result), PLN_EINVAL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("data");
    TCase *tests = tcase_create("data");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, data_setup, data_teardown);
    tcase_add_test(tests, an_answer_is_a_tree_of_what_redis_said);
    tcase_add_test(tests, numbers_and_booleans_are_what_the_protocol_makes_of_them);
    tcase_add_test(tests, names_of_commands_are_taken_as_they_are);
    tcase_add_test(tests, what_blocks_or_changes_a_connection_is_refused);
    tcase_add_test(tests, without_redis_the_failure_says_so);
    tcase_add_test(tests, a_structure_lies_under_the_namespace);
    tcase_add_test(tests, the_rules_ttl_counts_from_the_write_that_makes_a_structure);
    tcase_add_test(tests, a_calls_own_ttl_counts_from_that_call);
    tcase_add_test(tests, a_write_that_fails_leaves_nothing_behind);
    tcase_add_test(tests, more_members_than_lua_can_unpack_are_written_in_one_step);
    tcase_add_test(tests, misuse_of_a_structure_is_named);
    return rig_run(suite);
}
