/* SPDX-License-Identifier: MIT
 * test_sentinel.c - l2/sentinel.c: what sentinels and servers answer is understood or refused. */
#include <check.h>

#include "../../l2/internal.h"
#include "../../l2/topology.h"
#include "reply.h"

static struct pln_bytes text_of(const char *text) {
    return pln_bytes_of(text, strlen(text));
}

static struct pln_reply *reply_of(const char *text) {
    struct pln_reply *reply = test_reply_read(text, strlen(text));
    ck_assert_msg(reply != NULL, "no reply: %s", text);
    return reply;
}

START_TEST(the_commands_are_those_of_a_sentinel) {
    struct pln_batch batch;
    pln_batch_init(&batch);
    pln_sentinel_ask_master(&batch, "mymaster");
    pln_sentinel_ask_sentinels(&batch, "mymaster");
    pln_sentinel_ask_replicas(&batch, "mymaster");
    pln_sentinel_subscribe(&batch);
    pln_sentinel_ask_role(&batch);
    ck_assert_uint_eq(batch.n_commands, 5);
    ck_assert(pln_bytes_equal(
        pln_bytes_of(batch.bytes, batch.len),
        text_of("*3\r\n$8\r\nSENTINEL\r\n$23\r\nGET-MASTER-ADDR-BY-NAME\r\n$8\r\nmymaster\r\n"
                "*3\r\n$8\r\nSENTINEL\r\n$9\r\nSENTINELS\r\n$8\r\nmymaster\r\n"
                "*3\r\n$8\r\nSENTINEL\r\n$8\r\nREPLICAS\r\n$8\r\nmymaster\r\n"
                "*2\r\n$9\r\nSUBSCRIBE\r\n$14\r\n+switch-master\r\n"
                "*1\r\n$4\r\nROLE\r\n")));
    pln_batch_fini(&batch);
}
END_TEST

/* ---- the master's address ---- */

static const struct {
    const char *text;
    int result;
    const char *host;
    int port;
} masters[] = {
    {"*2\n$9\n127.0.0.1\n$4\n6379\n", PLN_OK, "127.0.0.1", 6379},
    {"*2\n$3\n::1\n$5\n65535\n", PLN_OK, "::1", 65535},
    {"*-1\n", PLN_MISS},
    {"_\n", PLN_MISS},
    {"-IDONTKNOW a reason\n", PLN_EL2},
    {"*0\n", PLN_EL2},
    {"*1\n$9\n127.0.0.1\n", PLN_EL2},
    {"*3\n$9\n127.0.0.1\n$4\n6379\n$1\nx\n", PLN_EL2},
    {"*2\n$0\n\n$4\n6379\n", PLN_EL2},
    {"*2\n$9\n127.0.0.1\n$1\n0\n", PLN_EL2},
    {"*2\n$9\n127.0.0.1\n$5\n65536\n", PLN_EL2},
    {"*2\n$9\n127.0.0.1\n$4\n63x9\n", PLN_EL2},
    {"*2\n$9\n127.0.0\n1\n$4\n6379\n", PLN_EL2},
    {"*2\n$9\n127.0.0.1\n:6379\n", PLN_EL2},
    {"*2\n$-1\n$4\n6379\n", PLN_EL2},
    {"$9\n127.0.0.1\n", PLN_EL2},
};

START_TEST(a_sentinel_names_the_master_or_knows_none) {
    struct pln_address master;
    struct pln_reply *reply = reply_of(masters[_i].text);
    ck_assert_int_eq(pln_sentinel_read_master(reply, &master), masters[_i].result);
    if (masters[_i].result == PLN_OK) {
        ck_assert_str_eq(master.host, masters[_i].host);
        ck_assert_int_eq(master.port, masters[_i].port);
    } else if (masters[_i].result == PLN_EL2) {
        ck_assert_ptr_nonnull(strstr(pln_error_text(), "SENTINEL GET-MASTER-ADDR-BY-NAME: "));
    }
    test_reply_free(reply);
}
END_TEST

/* ---- sentinels and replicas ---- */

#define FIELDS(port, flags)                                                                        \
    "$4\nname\n$1\nx\n$2\nip\n$9\n127.0.0.1\n$4\nport\n$4\n" port "\n$5\nrunid\n$0\n\n"            \
    "$5\nflags\n" flags "\n"

START_TEST(peers_that_are_down_are_passed_over) {
    struct pln_address peers[8];
    size_t n = 0;
    struct pln_reply *reply = reply_of(
        "*6\n"
        "*10\n" FIELDS("7001", "$5\nslave") "*10\n" FIELDS("7002", "$12\ns_down,slave") "*10\n" FIELDS("7003", "$12\no_down,slave") "*10\n" FIELDS(
            "7004",
            "$18\nslave,disconnected") "%5\n" FIELDS("7005",
                                                     "$8\nsentinel") "*10\n" FIELDS("7006",
                                                                                    "$13\nslave,s_downs"));
    ck_assert_msg(pln_sentinel_read_peers(reply, peers, 8, &n) == PLN_OK, "%s", pln_error_text());
    ck_assert_uint_eq(n, 3);
    ck_assert_str_eq(peers[0].host, "127.0.0.1");
    ck_assert_int_eq(peers[0].port, 7001);
    ck_assert_int_eq(peers[1].port, 7005);
    ck_assert_int_eq(peers[2].port, 7006);
    /* no more than there is room for */
    peers[2].port = 1;
    ck_assert_int_eq(pln_sentinel_read_peers(reply, peers, 2, &n), PLN_OK);
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(peers[2].port, 1);
    test_reply_free(reply);
}
END_TEST

START_TEST(nobody_else_is_an_answer) {
    size_t n = 1;
    struct pln_reply *reply = reply_of("*0\n");
    ck_assert_int_eq(pln_sentinel_read_peers(reply, NULL, 0, &n), PLN_OK);
    ck_assert_uint_eq(n, 0);
    test_reply_free(reply);
}
END_TEST

static const struct {
    const char *text;
    int result;
} bad_peers[] = {
    {"-ERR No such master with that name\n", PLN_MISS},
    {"-ERR No such", PLN_EL2},
    {"-NOAUTH Authentication required.\n", PLN_EL2},
    {"*-1\n", PLN_EL2},
    {"*1\n:1\n", PLN_EL2},
    {"*1\n*1\n$2\nip\n", PLN_EL2},
    {"*1\n*0\n", PLN_EL2},
    {"*1\n*2\n$2\nip\n:1\n", PLN_EL2},
    {"*1\n*4\n$2\nip\n$1\na\n$4\nport\n$1\n1\n", PLN_EL2},
    {"*1\n*10\n" FIELDS("700x", "$5\nslave"), PLN_EL2},
    {"*2\n*10\n" FIELDS("7001", "$5\nslave") "$1\nx\n", PLN_EL2},
};

START_TEST(a_damaged_list_of_peers_is_refused) {
    struct pln_address peers[8];
    size_t n = 77;
    char text[400];
    stpcpy(stpcpy(text, bad_peers[_i].text), "\n");
    struct pln_reply *reply = reply_of(text);
    ck_assert_int_eq(pln_sentinel_read_peers(reply, peers, 8, &n), bad_peers[_i].result);
    ck_assert_uint_eq(n, 77);
    test_reply_free(reply);
}
END_TEST

START_TEST(a_name_without_a_value_is_refused) {
    struct pln_address peer;
    size_t n = 77;
    struct pln_reply *reply = reply_of(
        "*1\n*6\n$2\nip\n$1\na\n$4\nport\n$1\n1\n$5\nflags\n$5\nslave\n");
    /* whoever reads on finds what he looks for, so that he is seen without a sanitizer too */
    struct pln_reply fields = reply->elements[0], list = *reply;
    fields.n_elements = 5;
    list.elements = &fields;
    ck_assert_int_eq(pln_sentinel_read_peers(&list, &peer, 1, &n), PLN_EL2);
    ck_assert_uint_eq(n, 77);
    test_reply_free(reply);
}
END_TEST

/* ---- +switch-master ---- */

START_TEST(a_switch_says_which_service_and_where_to) {
    struct pln_switch change;
    ck_assert(pln_sentinel_read_switch(text_of("mymaster 127.0.0.1 6379 ::1 6380"), &change));
    ck_assert(pln_bytes_equal(change.service, text_of("mymaster")));
    ck_assert_str_eq(change.from.host, "127.0.0.1");
    ck_assert_int_eq(change.from.port, 6379);
    ck_assert_str_eq(change.to.host, "::1");
    ck_assert_int_eq(change.to.port, 6380);
}
END_TEST

static const char *const no_switches[] = {
    "",
    " ",
    "mymaster",
    "mymaster 127.0.0.1 6379 127.0.0.1",
    "mymaster 127.0.0.1 6379 127.0.0.1 ",
    "mymaster 127.0.0.1 6379 127.0.0.1 6380 x",
    "mymaster 127.0.0.1 6379  127.0.0.1 6380",
    " 127.0.0.1 6379 127.0.0.1 6380",
    "mymaster 127.0.0.1 0 127.0.0.1 6380",
    "mymaster 127.0.0.1 6379 127.0.0.1 65536",
    "mymaster 127.0.0.1 6379 127.0.0.1 -1",
    "mymaster 127.0.0.1 6379 127.\t.0.1 6380",
};

START_TEST(what_is_no_switch_is_not_believed) {
    struct pln_switch change;
    ck_assert_msg(!pln_sentinel_read_switch(text_of(no_switches[_i]), &change), "'%s' taken",
                  no_switches[_i]);
}
END_TEST

/* ---- ROLE ---- */

static const struct {
    const char *text;
    enum pln_role_kind kind;
    int64_t offset;
    bool is_linked;
    const char *host;
    int port;
} roles[] = {
    {"*3\n$6\nmaster\n:3129659\n*1\n*3\n$9\n127.0.0.1\n$4\n9001\n$7\n3129242\n", PLN_ROLE_MASTER,
     3129659, false, "", 0},
    {"*3\n$6\nmaster\n:0\n*0\n", PLN_ROLE_MASTER, 0, false, "", 0},
    {"*5\n$5\nslave\n$9\n127.0.0.1\n:9000\n$9\nconnected\n:3167038\n", PLN_ROLE_REPLICA, 3167038,
     true, "127.0.0.1", 9000},
    {"*5\n$5\nslave\n$3\n::1\n:9000\n$7\nconnect\n:-1\n", PLN_ROLE_REPLICA, -1, false, "::1", 9000},
    {"*2\n$8\nsentinel\n*1\n$8\nmymaster\n", PLN_ROLE_SENTINEL, -1, false, "", 0},
};

START_TEST(a_server_says_what_it_is) {
    struct pln_role role;
    struct pln_reply *reply = reply_of(roles[_i].text);
    ck_assert_msg(pln_role_read(reply, &role) == PLN_OK, "%s", pln_error_text());
    ck_assert_int_eq(role.kind, roles[_i].kind);
    ck_assert_int_eq(role.offset, roles[_i].offset);
    ck_assert_int_eq(role.is_linked, roles[_i].is_linked);
    ck_assert_str_eq(role.master.host, roles[_i].host);
    ck_assert_int_eq(role.master.port, roles[_i].port);
    test_reply_free(reply);
}
END_TEST

static const char *const bad_roles[] = {
    "-NOPERM this user has no permissions to run the 'role' command\n",
    "*-1\n",
    "+master\n",
    "*0\n",
    "*1\n$6\nmaster\n",
    "*2\n:1\n:1\n",
    "*3\n$6\nmaster\n:-1\n*0\n",
    "*3\n$6\nmaster\n$1\n0\n*0\n",
    "*3\n$6\nkeeper\n:0\n*0\n",
    "*4\n$5\nslave\n$1\na\n:9000\n$9\nconnected\n",
    "*5\n$5\nslave\n$0\n\n:9000\n$9\nconnected\n:1\n",
    "*5\n$5\nslave\n$1\na\n:0\n$9\nconnected\n:1\n",
    "*5\n$5\nslave\n$1\na\n$4\n9000\n$9\nconnected\n:1\n",
    "*5\n$5\nslave\n$1\na\n:9000\n:1\n:1\n",
    "*5\n$5\nslave\n$1\na\n:9000\n$9\nconnected\n:-2\n",
    "*2\n$8\nsentinel\n:1\n",
};

START_TEST(a_damaged_role_is_refused) {
    struct pln_role role;
    struct pln_reply *reply = reply_of(bad_roles[_i]);
    ck_assert_int_eq(pln_role_read(reply, &role), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "ROLE: "));
    test_reply_free(reply);
}
END_TEST

START_TEST(a_master_names_its_replicas) {
    static const char two[] = "*3\n$6\nmaster\n:9\n*2\n*3\n$9\n127.0.0.1\n$4\n9001\n$1\n9\n"
                              "*3\n$3\n::1\n$4\n9002\n$1\n8\n";
    struct pln_address replicas[2];
    size_t n = 0;
    struct pln_reply *reply = reply_of(two);
    ck_assert_int_eq(pln_role_read_replicas(reply, replicas, 2, &n), PLN_OK);
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(replicas[0].host, "127.0.0.1");
    ck_assert_int_eq(replicas[0].port, 9001);
    ck_assert_str_eq(replicas[1].host, "::1");
    ck_assert_int_eq(replicas[1].port, 9002);
    ck_assert_int_eq(pln_role_read_replicas(reply, replicas, 1, &n), PLN_OK);
    ck_assert_uint_eq(n, 1); /* there is room for no more */
    test_reply_free(reply);
    reply = reply_of("*3\n$6\nmaster\n:0\n*0\n");
    ck_assert_int_eq(pln_role_read_replicas(reply, replicas, 2, &n), PLN_OK);
    ck_assert_uint_eq(n, 0);
    test_reply_free(reply);
}
END_TEST

static const char *const bad_replicas[] = {
    "-NOPERM this user has no permissions to run the 'role' command\n",
    "*5\n$5\nslave\n$9\n127.0.0.1\n:9000\n$9\nconnected\n:3167038\n",
    "*2\n$8\nsentinel\n*1\n$8\nmymaster\n",
    "*2\n$6\nmaster\n:0\n",
    "*3\n$6\nmaster\n:0\n:0\n",
    "*3\n$6\nmaster\n:0\n*1\n$9\n127.0.0.1\n",
    "*3\n$6\nmaster\n:0\n*1\n*1\n$9\n127.0.0.1\n",
    "*3\n$6\nmaster\n:0\n*1\n*3\n$9\n127.0.0.1\n:9001\n$1\n9\n",
    "*3\n$6\nmaster\n:0\n*1\n*3\n$0\n\n$4\n9001\n$1\n9\n",
    "*3\n$6\nmaster\n:0\n*1\n*3\n$1\na\n$5\n70000\n$1\n9\n",
};

START_TEST(damaged_replicas_are_refused_whole) {
    struct pln_address replicas[2];
    size_t n = 7;
    struct pln_reply *reply = reply_of(bad_replicas[_i]);
    ck_assert_int_eq(pln_role_read_replicas(reply, replicas, 2, &n), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "ROLE: "));
    ck_assert_uint_eq(n, 7);
    test_reply_free(reply);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sentinel");
    TCase *tests = tcase_create("sentinel");
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, the_commands_are_those_of_a_sentinel);
    tcase_add_loop_test(tests, a_sentinel_names_the_master_or_knows_none, 0,
                        PLN_ARRAY_LEN(masters));
    tcase_add_test(tests, peers_that_are_down_are_passed_over);
    tcase_add_test(tests, nobody_else_is_an_answer);
    tcase_add_loop_test(tests, a_damaged_list_of_peers_is_refused, 0, PLN_ARRAY_LEN(bad_peers));
    tcase_add_test(tests, a_name_without_a_value_is_refused);
    tcase_add_test(tests, a_switch_says_which_service_and_where_to);
    tcase_add_loop_test(tests, what_is_no_switch_is_not_believed, 0, PLN_ARRAY_LEN(no_switches));
    tcase_add_loop_test(tests, a_server_says_what_it_is, 0, PLN_ARRAY_LEN(roles));
    tcase_add_loop_test(tests, a_damaged_role_is_refused, 0, PLN_ARRAY_LEN(bad_roles));
    tcase_add_test(tests, a_master_names_its_replicas);
    tcase_add_loop_test(tests, damaged_replicas_are_refused_whole, 0, PLN_ARRAY_LEN(bad_replicas));
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
