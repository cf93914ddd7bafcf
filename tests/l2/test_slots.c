/* SPDX-License-Identifier: MIT
 * test_slots.c - l2/slots.c, l2/shards.c, l2/address.c: which slot a key has, which node a slot
 * has, and what a cluster says of both. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>

#include "../../l2/topology.h"
#include "reply.h"

static struct pln_bytes text_of(const char *text) {
    return pln_bytes_of(text, strlen(text));
}

/* ---- slots ---- */

/* The same remainder, a bit at a time. */
static unsigned slow_slot(struct pln_bytes bytes) {
    const uint8_t *at = bytes.data;
    unsigned crc = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        crc ^= (unsigned) at[i] << 8;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc & 0x8000 ? (crc << 1 ^ 0x1021) & 0xffff : crc << 1;
        }
    }
    return crc % PLN_N_SLOTS;
}

static const struct {
    const char *name, *hashed;
} tags[] = {
    {"foo", "foo"},
    {"{user1000}.following", "user1000"},
    {"{user1000}.followers", "user1000"},
    {"foo{bar}", "bar"},
    {"foo{}{bar}", "foo{}{bar}"},
    {"foo{{bar}}zap", "{bar"},
    {"foo{bar}{zap}", "bar"},
    {"foo{bar", "foo{bar"},
    {"foo}bar{", "foo}bar{"},
    {"}foo{bar}", "bar"},
    {"{}", "{}"},
    {"", ""},
};

START_TEST(a_key_has_the_slot_of_its_hash_tag) {
    ck_assert_uint_eq(pln_slot_of(text_of(tags[_i].name)), slow_slot(text_of(tags[_i].hashed)));
}
END_TEST

START_TEST(slots_are_those_that_the_cluster_has) {
    /* the check value of the polynomial, and answers of CLUSTER KEYSLOT */
    ck_assert_uint_eq(pln_slot_of(text_of("123456789")), 0x31c3);
    ck_assert_uint_eq(pln_slot_of(text_of("foo")), 12182);
    ck_assert_uint_eq(pln_slot_of(text_of("foo{bar}")), 5061);
    ck_assert_uint_eq(pln_slot_of(text_of("")), 0);
    ck_assert_uint_eq(pln_slot_of(pln_bytes_of(NULL, 0)), 0);
}
END_TEST

START_TEST(every_byte_counts_as_in_the_slow_way) {
    uint64_t random = 1;
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[40];
        size_t len = (size_t) round % sizeof bytes;
        for (size_t i = 0; i < len; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            bytes[i] = (uint8_t) (random >> 56);
            bytes[i] = bytes[i] == '{' ? 'x' : bytes[i];
        }
        unsigned slot = pln_slot_of(pln_bytes_of(bytes, len));
        unsigned expected = slow_slot(pln_bytes_of(bytes, len));
        if (slot != expected) {
            ck_abort_msg("round %d: slot %u, not %u", round, slot, expected);
        }
    }
}
END_TEST

/* ---- the map ---- */

static struct pln_slot_map map;

START_TEST(the_map_knows_what_it_was_told_and_nothing_else) {
    pln_slot_map_init(&map);
    ck_assert_uint_eq(pln_slot_map_covered(&map), 0);
    ck_assert_uint_eq(pln_slot_map_find(&map, 0), PLN_NO_NODE);
    pln_slot_map_set_range(&map, 100, 199, 3);
    pln_slot_map_set(&map, 150, 4);
    ck_assert_uint_eq(pln_slot_map_find(&map, 99), PLN_NO_NODE);
    ck_assert_uint_eq(pln_slot_map_find(&map, 100), 3);
    ck_assert_uint_eq(pln_slot_map_find(&map, 150), 4);
    ck_assert_uint_eq(pln_slot_map_find(&map, 151), 3);
    ck_assert_uint_eq(pln_slot_map_find(&map, 199), 3);
    ck_assert_uint_eq(pln_slot_map_find(&map, 200), PLN_NO_NODE);
    ck_assert_uint_eq(pln_slot_map_covered(&map), 100);
    pln_slot_map_set(&map, 150, PLN_NO_NODE);
    ck_assert_uint_eq(pln_slot_map_covered(&map), 99);
}
END_TEST

static atomic_bool has_ended;

/* A slot that always has a node is never seen without one, and only with one it was given. */
static void *look(void *arg) {
    size_t *n_wrong = arg;
    /* relaxed: the end is seen soon enough */
    while (!atomic_load_explicit(&has_ended, memory_order_relaxed)) {
        for (unsigned slot = 0; slot < PLN_N_SLOTS; slot += 97) {
            unsigned node = pln_slot_map_find(&map, slot);
            *n_wrong += node != 1 && node != 2;
        }
    }
    return NULL;
}

START_TEST(readers_see_no_gap_while_the_map_is_replaced) {
    static struct pln_address nodes[1];
    static struct pln_slot_range ranges[] = {{0, 5000, 1, {0}}, {5001, PLN_N_SLOTS - 1, 1, {0}}};
    struct pln_shards shards = {nodes, 1, ranges, 2};
    size_t n_wrong = 0;
    pthread_t thread;
    pln_slot_map_init(&map);
    pln_shards_apply(&shards, (uint16_t[]){1}, &map);
    ck_assert_uint_eq(pln_slot_map_covered(&map), PLN_N_SLOTS);
    ck_assert_int_eq(pthread_create(&thread, NULL, look, &n_wrong), 0);
    for (int round = 0; round < 500; round++) {
        pln_shards_apply(&shards, (uint16_t[]){round % 2 == 0 ? 2 : 1}, &map);
    }
    /* relaxed: the thread is joined below */
    atomic_store_explicit(&has_ended, true, memory_order_relaxed);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(n_wrong, 0);
}
END_TEST

/* ---- redirects ---- */

static const struct {
    const char *text;
    bool is_ask;
    unsigned slot;
    const char *host;
    int port;
} redirects[] = {
    {"MOVED 3999 127.0.0.1:6381", false, 3999, "127.0.0.1", 6381},
    {"ASK 0 127.0.0.1:1", true, 0, "127.0.0.1", 1},
    {"MOVED 16383 :65535", false, 16383, "", 65535},
    {"MOVED 3999 ::1:6381", false, 3999, "::1", 6381},
    {"MOVED 3999 [::1]:6381", false, 3999, "::1", 6381},
    {"ASK 3999 fe80::1%eth0:6381", true, 3999, "fe80::1%eth0", 6381},
    {"MOVED 3999 cache-3.example.org:6390", false, 3999, "cache-3.example.org", 6390},
};

START_TEST(a_redirect_says_where_to_go) {
    struct pln_redirect redirect;
    ck_assert_msg(pln_moved_read(text_of(redirects[_i].text), &redirect), "%s refused",
                  redirects[_i].text);
    ck_assert_int_eq(redirect.is_ask, redirects[_i].is_ask);
    ck_assert_uint_eq(redirect.slot, redirects[_i].slot);
    ck_assert_str_eq(redirect.to.host, redirects[_i].host);
    ck_assert_int_eq(redirect.to.port, redirects[_i].port);
}
END_TEST

static const char *const no_redirects[] = {
    "",
    "MOVED",
    "MOVED ",
    "MOVED 3999",
    "MOVED 3999 ",
    "MOVED  127.0.0.1:6381",
    "MOVED 16384 127.0.0.1:6381",
    "MOVED -1 127.0.0.1:6381",
    "MOVED 99999999999999999999 127.0.0.1:6381",
    "MOVED 3x 127.0.0.1:6381",
    "MOVED 3999 127.0.0.1",
    "MOVED 3999 127.0.0.1:",
    "MOVED 3999 127.0.0.1:0",
    "MOVED 3999 127.0.0.1:65536",
    "MOVED 3999 127.0.0.1:6381 ",
    "MOVED 3999 127.0.0.1:6381x",
    "MOVED 3999 127.0.0.1 :6381",
    "MOVED 3999 12\n7.0.0.1:6381",
    "MOVED 3999 []:6381",
    "MOVED 3999 [::1:6381",
    "MOVED 3999 ?:6381",
    "moved 3999 127.0.0.1:6381",
    "ERR MOVED 3999 127.0.0.1:6381",
    "TRYAGAIN Multiple keys request during rehashing of slot",
};

START_TEST(what_is_no_redirect_is_not_followed) {
    struct pln_redirect redirect;
    ck_assert_msg(!pln_moved_read(text_of(no_redirects[_i]), &redirect), "'%s' taken",
                  no_redirects[_i]);
}
END_TEST

START_TEST(a_host_has_at_most_255_bytes) {
    char text[600] = "MOVED 1 ";
    struct pln_redirect redirect;
    memset(text + 8, 'h', 255);
    memcpy(text + 8 + 255, ":7", 3);
    ck_assert(pln_moved_read(text_of(text), &redirect));
    ck_assert_uint_eq(strlen(redirect.to.host), 255);
    memcpy(text + 8 + 255, "h:7", 4);
    ck_assert(!pln_moved_read(text_of(text), &redirect));
}
END_TEST

/* ---- CLUSTER SLOTS ---- */

static int read_shards(const char *text, struct pln_shards *shards) {
    struct pln_reply *reply = test_reply_read(text, strlen(text));
    ck_assert_msg(reply != NULL, "no reply: %s", text);
    int result = pln_shards_read(reply, shards);
    test_reply_free(reply);
    return result;
}

START_TEST(the_answer_of_a_cluster_is_read) {
    struct pln_shards shards;
    ck_assert_msg(
        read_shards(
            "*3\n"
            "*4\n:0\n:5460\n*3\n$9\n127.0.0.1\n:7000\n$2\nid\n*3\n$9\n127.0.0.1\n:7003\n$1\ni\n"
            "*3\n:5461\n:5461\n*4\n$3\n::1\n:7001\n$1\ni\n*2\n$8\nhostname\n$1\nh\n"
            "*5\n:10000\n:16383\n*2\n$-1\n:7002\n*2\n$1\n?\n:7004\n*2\n$9\n127.0.0.1\n:7000\n",
            &shards) == PLN_OK,
        "%s", pln_error_text());
    ck_assert_uint_eq(shards.n_ranges, 3);
    ck_assert_uint_eq(shards.n_nodes, 4);
    ck_assert_str_eq(shards.nodes[1].host, "127.0.0.1");
    ck_assert_int_eq(shards.nodes[1].port, 7003);
    ck_assert_str_eq(shards.nodes[2].host, "::1");
    ck_assert_str_eq(shards.nodes[3].host, "");
    ck_assert_int_eq(shards.nodes[3].port, 7002);
    ck_assert_uint_eq(shards.ranges[0].n_nodes, 2);
    ck_assert_uint_eq(shards.ranges[0].nodes[0], 0);
    ck_assert_uint_eq(shards.ranges[0].nodes[1], 1);
    /* the unknown replica is left out, the known node found again */
    ck_assert_uint_eq(shards.ranges[2].n_nodes, 2);
    ck_assert_uint_eq(shards.ranges[2].nodes[0], 3);
    ck_assert_uint_eq(shards.ranges[2].nodes[1], 0);

    pln_slot_map_init(&map);
    pln_slot_map_set(&map, 9999, 7);
    pln_shards_apply(&shards, (uint16_t[]){10, 11, 12, 13}, &map);
    ck_assert_uint_eq(pln_slot_map_find(&map, 5460), 10);
    ck_assert_uint_eq(pln_slot_map_find(&map, 5461), 12);
    ck_assert_uint_eq(pln_slot_map_find(&map, 9999), PLN_NO_NODE);
    ck_assert_uint_eq(pln_slot_map_find(&map, 16383), 13);
    pln_shards_fini(&shards);
    pln_shards_fini(&shards);
    pln_shards_fini(NULL);
}
END_TEST

START_TEST(a_primary_nobody_knows_keeps_its_place) {
    struct pln_shards shards;
    ck_assert_int_eq(read_shards("*1\n*4\n:1\n:2\n*2\n$1\n?\n:1\n*2\n$1\nb\n:2\n", &shards),
                     PLN_OK);
    ck_assert_uint_eq(shards.ranges[0].n_nodes, 2);
    ck_assert_uint_eq(shards.ranges[0].nodes[0], PLN_NO_NODE);
    ck_assert_uint_eq(shards.ranges[0].nodes[1], 0);
    pln_slot_map_init(&map);
    pln_shards_apply(&shards, (uint16_t[]){5}, &map);
    ck_assert_uint_eq(pln_slot_map_covered(&map), 0);
    pln_shards_fini(&shards);
}
END_TEST

START_TEST(a_cluster_without_slots_is_read_too) {
    struct pln_shards shards;
    ck_assert_int_eq(read_shards("*0\n", &shards), PLN_OK);
    ck_assert_uint_eq(shards.n_ranges, 0);
    ck_assert_uint_eq(shards.n_nodes, 0);
    pln_shards_fini(&shards);
}
END_TEST

static const struct {
    const char *text, *part;
} bad_shards[] = {
    {"-ERR This instance has cluster support disabled\n", "cluster support disabled"},
    {"$-1\n", "expected an array"},
    {":1\n", "expected an array"},
    {"*1\n:1\n", "range 0 is not two slots"},
    {"*1\n*2\n:1\n:2\n", "range 0 is not two slots"},
    {"*1\n*3\n$1\n1\n:2\n*2\n$1\na\n:1\n", "range 0 is not two slots"},
    {"*1\n*3\n:3\n:2\n*2\n$1\na\n:1\n", "from slot 3 to 2, expected"},
    {"*1\n*3\n:-1\n:2\n*2\n$1\na\n:1\n", "from slot -1 to 2, expected"},
    {"*1\n*3\n:0\n:16384\n*2\n$1\na\n:1\n", "from slot 0 to 16384, expected"},
    {"*2\n*3\n:0\n:9\n*2\n$1\na\n:1\n*3\n:9\n:12\n*2\n$1\na\n:1\n",
     "range 1, from slot 9 to 12, has slot 9"},
    {"*1\n*3\n:0\n:1\n*1\n$1\na\n", "not a host and a port"},
    {"*1\n*3\n:0\n:1\n*2\n$1\na\n$1\n1\n", "not a host and a port"},
    {"*1\n*3\n:0\n:1\n:1\n", "not a host and a port"},
    {"*1\n*3\n:0\n:1\n*2\n:1\n:1\n", "host is no text"},
    {"*1\n*3\n:0\n:1\n*2\n$1\na\n:0\n", "cannot be one"},
    {"*1\n*3\n:0\n:1\n*2\n$1\na\n:65536\n", "cannot be one"},
    {"*1\n*3\n:0\n:1\n*2\n$3\na b\n:1\n", "cannot be one"},
};

START_TEST(a_damaged_answer_is_refused_by_name) {
    struct pln_shards shards;
    ck_assert_int_eq(read_shards(bad_shards[_i].text, &shards), PLN_EL2);
    ck_assert_msg(strstr(pln_error_text(), bad_shards[_i].part) != NULL, "'%s' does not say '%s'",
                  pln_error_text(), bad_shards[_i].part);
}
END_TEST

/* An answer of n ranges, each of one slot and its own nodes. */
static char *many_nodes(size_t n_ranges, size_t n_nodes) {
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    fprintf(out, "*%zu\n", n_ranges);
    for (size_t i = 0; i < n_ranges; i++) {
        fprintf(out, "*%zu\n:%zu\n:%zu\n", n_nodes + 2, i, i);
        for (size_t j = 0; j < n_nodes; j++) {
            fprintf(out, "*2\n$1\nh\n:%zu\n", i * n_nodes + j + 1);
        }
    }
    fclose(out);
    return text;
}

static const struct {
    size_t n_ranges, n_nodes;
    const char *part; /* NULL: it is read */
} bounds[] = {
    {1024, 1, NULL},
    {1025, 1, "more than 1024 nodes"},
    {64, 16, NULL},
    {1, 17, "has 17 nodes, at most 16"},
};

START_TEST(an_answer_is_bounded) {
    struct pln_shards shards;
    char *text = many_nodes(bounds[_i].n_ranges, bounds[_i].n_nodes);
    int result = read_shards(text, &shards);
    free(text);
    if (bounds[_i].part == NULL) {
        ck_assert_msg(result == PLN_OK, "%s", pln_error_text());
        ck_assert_uint_eq(shards.n_nodes, 1024);
        pln_shards_fini(&shards);
    } else {
        ck_assert_int_eq(result, PLN_EL2);
        ck_assert_ptr_nonnull(strstr(pln_error_text(), bounds[_i].part));
    }
}
END_TEST

START_TEST(more_ranges_than_slots_are_refused) {
    struct pln_shards shards;
    char *text = many_nodes(PLN_N_SLOTS + 1, 0);
    ck_assert_int_eq(read_shards(text, &shards), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "at most 16384 ranges"));
    free(text);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("slots");
    TCase *tests = tcase_create("slots");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, a_key_has_the_slot_of_its_hash_tag, 0, PLN_ARRAY_LEN(tags));
    tcase_add_test(tests, slots_are_those_that_the_cluster_has);
    tcase_add_test(tests, every_byte_counts_as_in_the_slow_way);
    tcase_add_test(tests, the_map_knows_what_it_was_told_and_nothing_else);
    tcase_add_test(tests, readers_see_no_gap_while_the_map_is_replaced);
    tcase_add_loop_test(tests, a_redirect_says_where_to_go, 0, PLN_ARRAY_LEN(redirects));
    tcase_add_loop_test(tests, what_is_no_redirect_is_not_followed, 0, PLN_ARRAY_LEN(no_redirects));
    tcase_add_test(tests, a_host_has_at_most_255_bytes);
    tcase_add_test(tests, the_answer_of_a_cluster_is_read);
    tcase_add_test(tests, a_primary_nobody_knows_keeps_its_place);
    tcase_add_test(tests, a_cluster_without_slots_is_read_too);
    tcase_add_loop_test(tests, a_damaged_answer_is_refused_by_name, 0, PLN_ARRAY_LEN(bad_shards));
    tcase_add_loop_test(tests, an_answer_is_bounded, 0, PLN_ARRAY_LEN(bounds));
    tcase_add_test(tests, more_ranges_than_slots_are_refused);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
