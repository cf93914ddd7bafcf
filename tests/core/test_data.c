/* SPDX-License-Identifier: MIT
 * test_data.c - any command, data structures with their lives, and hashes held in L1 by two
 * instances, over a real redis-server. */
#include "rig.h"
#include "../l2/server.h"

#include <stdarg.h>
#include <stdio.h>

enum { MOST_WORDS = 16 };

static struct server server;
static struct rig rig; /* for its rules; the caches here have the system's clock */
static struct pln_cache *a, *b;

static void no_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

static struct pln_cache *open_cache(pln_ms ping_ms) {
    struct pln_cache *cache;
    struct pln_options options = {.ns = "t",
                                  .redis = server.url,
                                  .timeout_ms = 20000,
                                  .ping_ms = ping_ms,
                                  .ttl_ms = 600000,
                                  .log = no_log};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    rig_await(cache, "generation", 2);
    return cache;
}

static void setup(void) {
    pln_test_redis_start(&server, NULL);
    memset(&rig, 0, sizeof rig);
    pthread_mutex_init(&rig.gate, NULL);
    a = open_cache(100);
    b = open_cache(100);
}

static void teardown(void) {
    pln_close(a);
    pln_close(b);
    pln_test_redis_stop(&server);
}

static size_t words_of(const char *text, char *copy, struct pln_bytes *words) {
    size_t n = 0;
    char *rest = copy;
    strcpy(copy, text);
    for (char *word; (word = strsep(&rest, " ")) != NULL;) {
        ck_assert_uint_lt(n, MOST_WORDS);
        words[n++] = pln_key(word);
    }
    return n;
}

/* Commands are given as text, words parted by blanks. */
static int command(const char *text, struct pln_answer **answer) {
    char copy[512];
    struct pln_bytes words[MOST_WORDS];
    size_t n = words_of(text, copy, words);
    return pln_command(a, NULL, words, n, 0, answer);
}

static int data(struct pln_cache *cache, const char *name, const char *text, pln_ms ttl,
                struct pln_answer **answer) {
    char copy[512];
    struct pln_bytes words[MOST_WORDS];
    struct pln_data_options options = {.ttl_ms = ttl};
    size_t n = words_of(text, copy, words);
    return pln_data(cache, pln_key(name), words, n, &options, answer);
}

static void expect_integer(struct pln_cache *cache, const char *name, const char *text, pln_ms ttl,
                           int64_t wanted) {
    struct pln_answer *answer;
    ck_assert_msg(data(cache, name, text, ttl, &answer) == PLN_OK, "%s: %s", text,
                  pln_error_text());
    ck_assert_int_eq(pln_answer_kind(answer), PLN_ANSWER_INTEGER);
    ck_assert_int_eq(pln_answer_integer(answer), wanted);
    pln_answer_free(answer);
}

/* Milliseconds, as Redis has them: -1 forever, -2 not there. */
static int64_t life_of(const char *name) {
    struct pln_answer *answer;
    ck_assert_int_eq(data(a, name, "PTTL", 0, &answer), PLN_OK);
    int64_t left = pln_answer_integer(answer);
    pln_answer_free(answer);
    return left;
}

static void keep_hashes_in_l1(struct pln_cache *cache) {
    struct pln_terms terms = *pln_cache_terms(cache);
    terms.hash_l1 = true;
    terms.ttl_ms = 60000;
    rig_policy(&rig, cache, rig_rule("cart:{id}", &terms, 0));
}

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
    struct pln_options options = {.log = no_log};
    struct pln_bytes ping = pln_key("PING");
    ck_assert_int_eq(pln_open(&options, &alone), PLN_OK);
    ck_assert_int_eq(pln_command(alone, NULL, &ping, 1, 0, &answer), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "this cache has no Redis"));
    ck_assert_int_eq(data(alone, "h", "HSET f v", 0, &answer), PLN_EL2DOWN);
    keep_hashes_in_l1(alone);
    ck_assert_int_eq(data(alone, "cart:1", "HSET f v", 0, &answer), PLN_EL2DOWN);
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
    expect_integer(a, "q", "RPUSH x y", 0, 2);
    char *text = pln_test_redis_command(&server, "LLEN t:d:q");
    ck_assert_ptr_nonnull(strstr(text, "2"));
    free(text);
}
END_TEST

START_TEST(the_rules_ttl_counts_from_the_write_that_makes_a_structure) {
    struct pln_terms terms = *pln_cache_terms(a);
    terms.ttl_ms = 50000;
    rig_policy(&rig, a, rig_rule("set:{x}", &terms, 0));
    expect_integer(a, "set:1", "SADD x", 0, 1);
    ck_assert_int_gt(life_of("set:1"), 0);
    ck_assert_int_le(life_of("set:1"), 50000);
    expect_integer(a, "other", "SADD x", 0, 1); /* the cache's */
    ck_assert_int_gt(life_of("other"), 50000);
    expect_integer(a, "set:1", "PEXPIRE 9000", 0, 1);
    expect_integer(a, "set:1", "SADD y", 0, 1);
    ck_assert_int_le(life_of("set:1"), 9000);
}
END_TEST

START_TEST(a_calls_own_ttl_counts_from_that_call) {
    expect_integer(a, "l", "RPUSH x", 0, 1);
    expect_integer(a, "l", "RPUSH x", 5000, 2);
    ck_assert_int_le(life_of("l"), 5000);
    ck_assert_int_gt(life_of("l"), 0);
    expect_integer(a, "l", "RPUSH x", PLN_FOREVER, 3);
    ck_assert_int_eq(life_of("l"), -1);
    expect_integer(a, "l", "RPUSH x", 0, 4);
    ck_assert_int_eq(life_of("l"), -1);
    expect_integer(a, "l", "DEL", 0, 1);
    ck_assert_int_eq(life_of("l"), -2);
}
END_TEST

START_TEST(a_write_that_fails_leaves_nothing_behind) {
    struct pln_answer *answer;
    ck_assert_int_eq(data(a, "z", "ZADD notanumber m", 0, &answer), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "ZADD"));
    ck_assert_int_eq(life_of("z"), -2);
    expect_integer(a, "z", "ZADD 1 m", 7000, 1);
    ck_assert_int_eq(data(a, "z", "HSET f v", 3000000, &answer), PLN_EL2);
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
    expect_integer(a, "many", "SCARD", 0, N);
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
    ck_assert_int_eq(data(a, "n", "GET", 0, &answer), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "'GET' is no command on one data structure"));
    ck_assert_int_eq(data(a, "n", "HGET f", 1000, &answer), PLN_EINVAL);
    ck_assert_int_eq(data(a, "n", "HSET f", 0, &answer), PLN_EINVAL);
    ck_assert_int_eq(data(a, "n", "HSET f v", -1, &answer), PLN_EINVAL);
    ck_assert_int_eq(data(a, "", "HLEN", 0, &answer), PLN_EINVAL);
    ck_assert_int_eq(data(a, long_name, "HLEN", 0, &answer), PLN_EINVAL);
    ck_assert_int_eq(pln_hash_get(a, pln_key(long_name), NULL, 0, NULL, &result), PLN_EINVAL);
}
END_TEST

/* ---- hashes in L1 ---- */

START_TEST(without_a_rule_a_hash_is_read_from_redis) {
    expect_integer(a, "h", "HSET f v", 0, 1);
    ck_assert(has_field(b, "h", "f", "v", "l2"));
    ck_assert(has_field(b, "h", "f", "v", "l2"));
    ck_assert(has_field(b, "h", "g", NULL, "l2"));
    ck_assert_uint_eq(rig_stat(b, "hash_l1_hits"), 0);
}
END_TEST

START_TEST(what_another_writes_ends_the_copy_of_a_hash) {
    keep_hashes_in_l1(a);
    keep_hashes_in_l1(b);
    expect_integer(a, "cart:1", "HSET apples 1 pears 2", 0, 2);
    await_field(b, "cart:1", "apples", "1", "l1");
    ck_assert(has_field(b, "cart:1", "pears", "2", "l1"));
    ck_assert(has_field(b, "cart:1", "plums", NULL, "l1"));
    expect_integer(a, "cart:1", "HSET apples 5", 0, 0);
    await_field(b, "cart:1", "apples", "5", NULL);
    await_field(b, "cart:1", "apples", "5", "l1");
    expect_integer(a, "cart:1", "HDEL apples", 0, 1);
    await_field(b, "cart:1", "apples", NULL, NULL);
    await_field(b, "cart:1", "pears", "2", "l1");
    expect_integer(a, "cart:1", "DEL", 0, 1);
    await_field(b, "cart:1", "pears", NULL, NULL);
    await_field(b, "cart:1", "pears", NULL, "l1"); /* that there is none is known too */
    expect_integer(a, "cart:1", "HINCRBY pears 3", 0, 3);
    await_field(b, "cart:1", "pears", "3", NULL);
}
END_TEST

START_TEST(the_writer_itself_reads_what_it_wrote_at_once) {
    keep_hashes_in_l1(a);
    char text[32];
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof text, "HSET f %d", i);
        expect_integer(a, "cart:2", text, 0, i == 0);
        snprintf(text, sizeof text, "%d", i);
        ck_assert(has_field(a, "cart:2", "f", text, NULL));
        ck_assert(has_field(a, "cart:2", "f", text, NULL));
    }
    ck_assert_uint_ge(rig_stat(a, "hash_l1_hits"), 1);
}
END_TEST

START_TEST(a_copy_lives_no_longer_than_the_hash) {
    struct pln_result result;
    keep_hashes_in_l1(a);
    expect_integer(a, "cart:3", "HSET f v", 30000, 1);
    await_field(a, "cart:3", "f", "v", "l1");
    ck_assert_int_eq(pln_hash_get(a, pln_key("cart:3"), NULL, 0, NULL, &result), PLN_OK);
    ck_assert_int_gt(result.left_ms, 0);
    ck_assert_int_le(result.left_ms, 30000);
    pln_release(a, result.value);
    expect_integer(a, "cart:3", "HSET f w", 1, 0);
    await_field(a, "cart:3", "f", NULL, NULL);
}
END_TEST

START_TEST(a_whole_hash_is_its_fields_and_no_more) {
    struct pln_result result;
    struct pln_bytes field, text;
    for (int is_kept = 0; is_kept < 2; is_kept++) {
        size_t at = 0, n = 0;
        expect_integer(a, "cart:4", "HSET a 1 b 2 c 3", 0, is_kept == 0 ? 3 : 0);
        ck_assert_int_eq(pln_hash_get(a, pln_key("cart:4"), NULL, 0, NULL, &result), PLN_OK);
        while (pln_hash_next(result.value, &at, &field, &text)) {
            ck_assert_uint_eq(field.len, 1);
            ck_assert_int_eq(*(const char *) text.data - '0', *(const char *) field.data - 'a' + 1);
            n++;
        }
        ck_assert_uint_eq(n, 3);
        pln_release(a, result.value);
        keep_hashes_in_l1(a);
    }
}
END_TEST

START_TEST(a_key_that_is_no_hash_is_told_either_way) {
    struct pln_result result;
    expect_integer(a, "cart:5", "SADD x", 0, 1);
    ck_assert_int_eq(pln_hash_get(a, pln_key("cart:5"), NULL, 0, NULL, &result), PLN_EL2);
    keep_hashes_in_l1(a);
    ck_assert_int_eq(pln_hash_get(a, pln_key("cart:5"), NULL, 0, NULL, &result), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "WRONGTYPE"));
    ck_assert_ptr_null(result.value);
}
END_TEST

START_TEST(with_redis_killed_a_copy_serves_and_a_write_fails) {
    struct pln_answer *answer;
    keep_hashes_in_l1(a);
    expect_integer(a, "cart:6", "HSET f v", 0, 1);
    expect_integer(a, "cart:7", "HSET f v", 0, 1);
    await_field(a, "cart:6", "f", "v", "l1");
    pln_test_redis_kill(&server);
    rig_await(a, "bus_losses", 1);
    ck_assert(has_field(a, "cart:6", "f", "v", "stale"));
    ck_assert_int_lt(data(a, "cart:7", "HSET f v", 0, &answer), 0);
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
    keep_hashes_in_l1(a);
    expect_integer(b, "cart:9", "HSET f v", 0, 1);
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
    struct pln_cache *patient = open_cache(20000);
    keep_hashes_in_l1(patient);
    return patient;
}

START_TEST(a_copy_that_is_void_before_it_arrives_is_not_kept) {
    pthread_t reader;
    void *wrong;
    struct pln_cache *patient = open_patient();
    expect_integer(a, "cart:9", "HSET f v", 0, 1);
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
    expect_integer(arg, "cart:9", "HSET f new", 0, 0);
    return NULL;
}

START_TEST(a_copy_taken_before_the_own_write_does_not_outlive_it) {
    pthread_t writer;
    struct pln_stamp stamp;
    struct pln_l1_life life;
    struct pln_cache *patient = open_patient();
    expect_integer(patient, "cart:9", "HSET f v", 0, 1);
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
    keep_hashes_in_l1(a);
    keep_hashes_in_l1(b);
    pthread_create(&reader, NULL, watch_counter, b);
    for (int i = 1; i <= N; i++) {
        expect_integer(a, "cart:8", "HINCRBY n 1", 0, i);
    }
    snprintf(text, sizeof text, "%d", N);
    await_field(b, "cart:8", "n", text, "l1");
    atomic_store(&is_over, true);
    pthread_join(reader, &wrong);
    ck_assert_ptr_null(wrong);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("data");
    TCase *tests = tcase_create("data");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, an_answer_is_a_tree_of_what_redis_said);
    tcase_add_test(tests, names_of_commands_are_taken_as_they_are);
    tcase_add_test(tests, what_blocks_or_changes_a_connection_is_refused);
    tcase_add_test(tests, without_redis_the_failure_says_so);
    tcase_add_test(tests, a_structure_lies_under_the_namespace);
    tcase_add_test(tests, the_rules_ttl_counts_from_the_write_that_makes_a_structure);
    tcase_add_test(tests, a_calls_own_ttl_counts_from_that_call);
    tcase_add_test(tests, a_write_that_fails_leaves_nothing_behind);
    tcase_add_test(tests, more_members_than_lua_can_unpack_are_written_in_one_step);
    tcase_add_test(tests, misuse_of_a_structure_is_named);
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
