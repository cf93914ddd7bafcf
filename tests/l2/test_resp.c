/* SPDX-License-Identifier: MIT
 * test_resp.c - l2/conn.c, reply.c and shape.c: RESP3 is spoken where the server has it and hiredis
 * reads it (1.0 and later), a server that refuses it is spoken to as ever, an answer has one shape
 * in both, and what is pushed reaches nobody. Which of the two it is, the build decides. */
#include <check.h>
#include <stdio.h>

#include "../../l2/internal.h"
#include "client.h"
#include "fake.h"
#include "server.h"

static const bool has_resp3 = PLN_RESP_BEST == PLN_RESP3;
static struct server server;
static struct fake fake;
static struct client a;

static void open_client(const char *url) {
    client_init(&a);
    struct pln_l2_options options = client_options(&a, url);
    options.pool = 1;
    options.timeout_ms = 20000; /* no connection is given up for a sleepy machine */
    options.connect_timeout_ms = 20000;
    ck_assert_msg(pln_l2_redis_new(&options, &a.l2) == PLN_OK, "%s", pln_error_text());
}

static pln_ns late(void) {
    return pln_clock_precise() + 20000000000;
}

/* A command whose words are parted by blanks; an underline stands for a blank in a word. */
static struct pln_reply *ask(const char *text) {
    char copy[512], *rest = copy;
    struct pln_bytes words[16];
    size_t n = 0;
    struct pln_reply *reply = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *word; (word = strsep(&rest, " ")) != NULL && n < PLN_ARRAY_LEN(words); n++) {
        for (char *at = word; (at = strchr(at, '_')) != NULL;) {
            *at = ' ';
        }
        words[n] = pln_key(word);
    }
    int status = pln_l2_command(a.l2, NULL, words, n, late(), &reply);
    ck_assert_msg(status == PLN_OK, "%s: %s", text, pln_error_text());
    return reply;
}

/* A tree as text: [a 1 [b -]], whatever its leaves are. */
static void write_tree(FILE *out, const struct pln_reply *reply) {
    switch (reply->kind) {
    case PLN_REPLY_NIL:
        fputs("-", out);
        break;
    case PLN_REPLY_INTEGER:
    case PLN_REPLY_BOOL:
        fprintf(out, "%lld", (long long) reply->integer);
        break;
    case PLN_REPLY_ARRAY:
    case PLN_REPLY_MAP:
    case PLN_REPLY_SET:
    case PLN_REPLY_PUSH:
        fputs("[", out);
        for (size_t i = 0; i < reply->n_elements; i++) {
            fputs(i == 0 ? "" : " ", out);
            write_tree(out, &reply->elements[i]);
        }
        fputs("]", out);
        break;
    default:
        fputs(pln_reply_text(reply), out);
    }
}

static void expect(const char *text, const char *expected) {
    char *tree = NULL;
    size_t len;
    struct pln_reply *reply = ask(text);
    FILE *out = open_memstream(&tree, &len);
    write_tree(out, reply);
    fclose(out);
    ck_assert_msg(strcmp(tree, expected) == 0, "%s gives %s, not %s", text, tree, expected);
    pln_reply_free(reply);
    free(tree);
}

static void set_up_server(void) {
    pln_test_redis_start(&server, NULL);
    open_client(server.url);
    expect("HSET h f 1", "1");
    expect("ZADD z 1.5 a 3 b", "2");
    expect("SADD s x", "1");
    expect("XADD x 1-1 f v", "1-1");
    expect("XADD y 2-1 f v", "2-1");
}

static void tear_down_server(void) {
    client_fini(&a);
    pln_test_redis_stop(&server);
}

START_TEST(an_answer_has_one_shape_in_both_protocols) {
    expect("HGETALL h", "[f 1]");
    expect("hgetall none", "[]");
    expect("HRANDFIELD h 1 WITHVALUES", "[f 1]");
    expect("SMEMBERS s", "[x]");
    expect("ZSCORE z a", "1.5");
    expect("ZSCORE z none", "-");
    expect("ZMSCORE z a none b", "[1.5 - 3]");
    expect("ZINCRBY z 2 b", "5");
    expect("ZRANGE z 0 -1", "[a b]");
    expect("zrange z 0 -1 withscores", "[a 1.5 b 5]");
    expect("ZREVRANGE z 0 -1 WITHSCORES", "[b 5 a 1.5]");
    expect("ZRANGEBYSCORE z -inf +inf WITHSCORES", "[a 1.5 b 5]");
    expect("ZREVRANGEBYSCORE z +inf -inf WITHSCORES", "[b 5 a 1.5]");
    expect("ZRANGE none 0 -1 WITHSCORES", "[]");
    expect("ZUNION 1 z WITHSCORES", "[a 1.5 b 5]");
    expect("ZINTER 1 z WITHSCORES", "[a 1.5 b 5]");
    expect("ZDIFF 1 z WITHSCORES", "[a 1.5 b 5]");
    expect("ZADD one 1 m", "1");
    expect("ZRANDMEMBER one 2 WITHSCORES", "[m 1]");
    expect("ZSCAN z 0", "[0 [a 1.5 b 5]]");
    expect("ZPOPMIN z", "[a 1.5]");
    expect("ZPOPMAX z 2", "[b 5]");
    expect("ZADD z inf c", "1");
    expect("ZSCORE z c", "inf");
    expect("XRANGE x - +", "[[1-1 [f v]]]");
    expect("XREAD COUNT 1 STREAMS x y 0 0", "[[x [[1-1 [f v]]]] [y [[2-1 [f v]]]]]");
    expect("XREAD STREAMS x 9", "-");
    expect("XGROUP CREATE x g 0", "OK");
    expect("XREADGROUP GROUP g me STREAMS x >", "[[x [[1-1 [f v]]]]]");
    expect("CONFIG GET save", "[save ]");
    expect("MGET none", "[-]");
}
END_TEST

static void expect_kind(const char *text, enum pln_reply_kind resp3, enum pln_reply_kind resp2) {
    struct pln_reply *reply = ask(text);
    ck_assert_msg(reply->kind == (has_resp3 ? resp3 : resp2), "%s gives kind %d", text,
                  reply->kind);
    pln_reply_free(reply);
}

START_TEST(kinds_are_told_apart_as_the_protocol_does) {
    expect_kind("HGETALL h", PLN_REPLY_MAP, PLN_REPLY_ARRAY);
    expect_kind("SMEMBERS s", PLN_REPLY_SET, PLN_REPLY_ARRAY);
    expect_kind("ZSCORE z a", PLN_REPLY_DOUBLE, PLN_REPLY_STRING);
    expect_kind("XREAD STREAMS x 0", PLN_REPLY_ARRAY, PLN_REPLY_ARRAY);
    expect_kind("INFO server", PLN_REPLY_STRING, PLN_REPLY_STRING);
    expect_kind("EVAL redis.setresp(3)_return_true 0", PLN_REPLY_BOOL, PLN_REPLY_INTEGER);
    struct pln_reply *reply = ask("INFO server");
    ck_assert_int_eq(pln_reply_text(reply)[0], '#'); /* and not "txt:" */
    pln_reply_free(reply);
}
END_TEST

/* How often a text is in what the server says of its connections. */
static size_t count_clients(const char *part) {
    size_t n = 0;
    char *list = pln_test_redis_command(&server, "CLIENT LIST");
    for (char *at = list; (at = strstr(at, part)) != NULL; at++) {
        n++;
    }
    free(list);
    return n;
}

START_TEST(data_connections_speak_the_best_and_the_link_resp2) {
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert_msg(client_hears(&a, "+"), "%s", a.log);
    /* one for values, one for commands; the link; and who asks this */
    ck_assert_uint_eq(count_clients("resp=3"), has_resp3 ? 2 : 0);
    ck_assert_uint_eq(count_clients("resp=2"), has_resp3 ? 2 : 4);
}
END_TEST

/* ---- servers without it, and pushes ---- */

static void set_up_fake(void) {
    pln_test_fake_start(&fake);
    open_client(fake.url);
}

static void tear_down_fake(void) {
    client_fini(&a);
    pln_test_fake_stop(&fake);
}

static void expect_own(const char *key) {
    char expected[32];
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_value value;
    snprintf(expected, sizeof expected, "%s=1;", key);
    int result = pln_l2_get(a.l2, &hashed, late(), &value);
    ck_assert_msg(result == PLN_OK, "%s: %d, %s", key, result, pln_error_text());
    ck_assert(pln_bytes_equal(value.item.value, pln_key(expected)));
    pln_l2_value_fini(&value);
}

static const char *const refusals[] = {
    "-ERR unknown command 'HELLO'\r\n",
    "-NOPROTO unsupported protocol version\r\n",
    "-NOPERM this user has no permissions to run the 'hello' command\r\n",
    "+OK\r\n",
};

START_TEST(a_server_that_refuses_it_is_logged_in_to_all_the_same) {
    pln_test_fake_rule(&fake, (struct fake_rule){"HELLO", 0, 0, refusals[_i]});
    expect_own("a");
    expect_own("b");
    ck_assert_uint_eq(pln_test_fake_accepted(&fake), 1);
    ck_assert_uint_eq(pln_test_fake_met(&fake, 0), has_resp3 ? 1 : 0);
}
END_TEST

#define PUSH ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nx\r\n"

/* A push where an answer is awaited, all at once and by bytes. */
START_TEST(a_push_before_an_answer_is_dropped_and_counted) {
    for (int drip = 0; drip <= 1; drip++) {
        pln_test_fake_rule(
            &fake, (struct fake_rule){"PING x", 0, 1, PUSH PUSH "+mine\r\n", .drip_ms = drip});
        expect_own("a");
        expect("PING x", "mine");
        expect_own("b");
        pln_test_fake_forget_rules(&fake);
    }
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_PUSHES), 4);
    ck_assert_uint_eq(pln_test_fake_accepted(&fake), 2); /* one for values, one for commands */
}
END_TEST

static void await_followed(size_t n) {
    pln_ns until = late();
    while (pln_test_fake_followed(&fake) < n) {
        ck_assert(pln_clock_precise() < until);
    }
}

/* After an answer: at once, or on the idle connection. */
static const char *const after[] = {PUSH, PUSH PUSH PUSH, ">0\r\n"};

START_TEST(a_push_that_nobody_waits_for_shifts_no_answer) {
    size_t n_pushes = _i == 1 ? 3 : 1;
    for (int delay = 0; delay <= 1; delay++) {
        pln_test_fake_rule(&fake, (struct fake_rule){"PING x", 0, 1, "+mine\r\n",
                                                     .extra = after[_i], .extra_delay_ms = delay});
        size_t followed = pln_test_fake_followed(&fake);
        expect("PING x", "mine");
        await_followed(followed + 1);
        expect_own("b");
        expect("PING", "PONG");
        pln_test_fake_forget_rules(&fake);
    }
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_PUSHES), 2 * n_pushes);
    ck_assert_uint_eq(pln_test_fake_accepted(&fake), 2);
}
END_TEST

/* What is begun as a push and goes on as one is no answer; what begins as anything else is. */
START_TEST(half_a_push_may_lie_between_two_answers) {
    pln_test_fake_rule(&fake, (struct fake_rule){"PING x", 0, 1, "+mine\r\n>2\r\n$1\r\nx\r\n$1"});
    pln_test_fake_rule(&fake, (struct fake_rule){"PING y", 0, 1, "\r\ny\r\n+yours\r\n"});
    expect("PING x", "mine");
    expect("PING y", "yours");
    expect_own("b");
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_PUSHES), 1);
    ck_assert_uint_eq(pln_test_fake_accepted(&fake), 2);
}
END_TEST

START_TEST(half_an_answer_that_nobody_asked_for_ends_the_connection) {
    pln_test_fake_rule(&fake, (struct fake_rule){"PING x", 0, 1, "+mine\r\n*2\r\n"});
    expect("PING x", "mine");
    expect("PING", "PONG");
    expect_own("b"); /* over another connection than commands */
    ck_assert_uint_eq(pln_test_fake_accepted(&fake), 3);
}
END_TEST

/* Without RESP3 the push is what is seen. */
START_TEST(an_answer_behind_a_push_that_nobody_asked_for_is_seen) {
    pln_test_fake_rule(&fake, (struct fake_rule){"PING x", 0, 1, "+mine\r\n" PUSH "+bad\r\n"});
    expect("PING x", "mine");
    expect("PING", "PONG");
    expect_own("b"); /* over another connection than commands */
    ck_assert_uint_eq(pln_test_fake_accepted(&fake), 3);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("resp");
    TCase *real = tcase_create("real"), *told = tcase_create("told");
    suite_add_tcase(suite, real);
    suite_add_tcase(suite, told);
    tcase_set_timeout(real, 60);
    tcase_set_timeout(told, 60);
    tcase_add_checked_fixture(real, set_up_server, tear_down_server);
    tcase_add_test(real, an_answer_has_one_shape_in_both_protocols);
    tcase_add_test(real, kinds_are_told_apart_as_the_protocol_does);
    tcase_add_test(real, data_connections_speak_the_best_and_the_link_resp2);
    tcase_add_checked_fixture(told, set_up_fake, tear_down_fake);
    tcase_add_loop_test(told, a_server_that_refuses_it_is_logged_in_to_all_the_same, 0,
                        PLN_ARRAY_LEN(refusals));
    tcase_add_test(told, half_an_answer_that_nobody_asked_for_ends_the_connection);
    tcase_add_test(told, an_answer_behind_a_push_that_nobody_asked_for_is_seen);
    if (has_resp3) { /* without it a push is no reply at all: faults_bytes */
        tcase_add_test(told, a_push_before_an_answer_is_dropped_and_counted);
        tcase_add_loop_test(told, a_push_that_nobody_waits_for_shifts_no_answer, 0,
                            PLN_ARRAY_LEN(after));
        tcase_add_test(told, half_a_push_may_lie_between_two_answers);
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
