/* SPDX-License-Identifier: MIT
 * test_nodes.c - l2/node.c and many.c over several real servers that share the keys. */
#include <check.h>
#include <stdio.h>

#include "../../l2/internal.h"
#include "semantics.h"
#include "server.h"

enum { N_SERVERS = 3, N_KEYS = 300 };

static struct server servers[N_SERVERS];
static struct client a, b;
static char url[512], names[N_KEYS][16];
static struct pln_hashed keys[N_KEYS];
static struct pln_l2_value values[N_KEYS];
static int statuses[N_KEYS];

static void open_client(struct client *client) {
    client_init(client);
    client->n_servers = N_SERVERS;
    struct pln_l2_options options = client_options(client, url);
    ck_assert_msg(pln_l2_redis_new(&options, &client->l2) == PLN_OK, "%s", pln_error_text());
    ck_assert_int_eq(pln_l2_start(client->l2), PLN_OK);
    ck_assert_msg(client_hears(client, "+"), "%s", client->log);
    expect_story(client, "+");
}

static void set_up(void) {
    strcpy(url, "redis+ring://");
    for (size_t i = 0; i < N_SERVERS; i++) {
        pln_test_redis_start(&servers[i], NULL);
        strcat(strcat(url, i > 0 ? "," : ""), servers[i].url);
    }
    open_client(&a);
    open_client(&b);
    for (size_t i = 0; i < N_KEYS; i++) {
        snprintf(names[i], sizeof names[i], "key%zu", i);
        keys[i] = key_of(names[i]);
    }
}

static void tear_down(void) {
    client_fini(&a);
    client_fini(&b);
    for (size_t i = 0; i < N_SERVERS; i++) {
        pln_test_redis_stop(&servers[i]);
    }
}

static size_t place(size_t key) {
    return pln_node_place(pln_redis_of(a.l2), keys[key].key);
}

static void fill(void) {
    for (size_t i = 0; i < N_KEYS; i++) {
        struct pln_l2_item item = item_of(names[i]);
        ck_assert_int_eq(pln_l2_set(a.l2, &keys[i], &item, 0, soon()), PLN_OK);
    }
}

/* The same as soon as the breaker of a server that has come back lets somebody try. */
static void fill_at_last(void) {
    pln_ns until = pln_clock_precise() + 10000000000;
    for (size_t i = 0; i < N_KEYS; i++) {
        struct pln_l2_item item = item_of(names[i]);
        int result;
        do {
            result = pln_l2_set(a.l2, &keys[i], &item, 0, soon());
        } while (result == PLN_EL2DOWN && pln_clock_precise() < until);
        ck_assert_int_eq(result, PLN_OK);
    }
}

/* Reads, as soon as b's breakers let it. */
static void await_all_back(void) {
    pln_ns until = pln_clock_precise() + 10000000000;
    struct pln_l2_value value;
    for (size_t i = 0; i < N_KEYS; i++) {
        int result;
        do {
            result = pln_l2_get(b.l2, &keys[i], soon(), &value);
        } while (result == PLN_EL2DOWN && pln_clock_precise() < until);
        ck_assert_int_eq(result, PLN_OK);
        pln_l2_value_fini(&value);
    }
}

/* Each key has its own value, or, where its server is `gone`, its failure. Returns how many. */
static size_t check_many(size_t gone) {
    size_t n = 0;
    ck_assert_int_eq(pln_l2_get_many(b.l2, keys, N_KEYS, soon(), values, statuses), PLN_OK);
    for (size_t i = 0; i < N_KEYS; i++) {
        int wanted = place(i) == gone ? PLN_EL2DOWN : PLN_OK;
        if (statuses[i] != wanted) {
            ck_abort_msg("%s: %d", names[i], statuses[i]);
        }
        if (statuses[i] == PLN_OK) {
            if (!pln_bytes_equal(values[i].item.value, keys[i].key)) {
                ck_abort_msg("%s has another's value", names[i]);
            }
            pln_l2_value_fini(&values[i]);
            n++;
        }
    }
    return n;
}

START_TEST(a_ring_does_what_a_tier_must_do) {
    semantics[_i].run(&a, &b);
}
END_TEST

START_TEST(each_value_lies_on_the_server_of_its_key) {
    size_t n_of[N_SERVERS] = {0};
    fill();
    for (size_t i = 0; i < N_KEYS; i++) {
        for (size_t j = 0; j < N_SERVERS; j++) {
            char *found = pln_test_redis_command(&servers[j], "EXISTS ns:v:%s", names[i]);
            bool is_there = strcmp(found, "1") == 0;
            free(found);
            if (is_there != (j == place(i))) {
                ck_abort_msg("%s is %son server %zu", names[i], is_there ? "" : "not ", j);
            }
        }
        n_of[place(i)]++;
    }
    for (size_t j = 0; j < N_SERVERS; j++) {
        ck_assert_uint_gt(n_of[j], N_KEYS / N_SERVERS / 2);
    }
}
END_TEST

START_TEST(many_keys_are_read_from_all_servers_at_once) {
    fill();
    ck_assert_uint_eq(check_many(N_SERVERS), N_KEYS);
    struct pln_l2_value value;
    for (size_t i = 0; i < N_KEYS; i += 7) {
        ck_assert_int_eq(pln_l2_remove(a.l2, &keys[i], soon()), PLN_OK);
        ck_assert_int_eq(pln_l2_get(b.l2, &keys[i], soon(), &value), PLN_MISS);
    }
    ck_assert_int_eq(pln_l2_get_many(b.l2, keys, N_KEYS, soon(), values, statuses), PLN_OK);
    for (size_t i = 0; i < N_KEYS; i++) {
        ck_assert_int_eq(statuses[i], i % 7 == 0 ? PLN_MISS : PLN_OK);
        if (statuses[i] == PLN_OK) {
            pln_l2_value_fini(&values[i]);
        }
    }
}
END_TEST

START_TEST(a_clear_and_a_tag_reach_every_server) {
    struct pln_bytes tag = pln_key("odd");
    for (size_t i = 0; i < N_KEYS; i++) {
        struct pln_l2_item item = item_of(names[i]);
        item.tags = &tag;
        item.n_tags = i % 2;
        ck_assert_int_eq(pln_l2_set(a.l2, &keys[i], &item, 0, soon()), PLN_OK);
    }
    ck_assert_int_eq(pln_l2_drop_tag(b.l2, tag, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_get_many(a.l2, keys, N_KEYS, soon(), values, statuses), PLN_OK);
    for (size_t i = 0; i < N_KEYS; i++) {
        ck_assert_int_eq(statuses[i], i % 2 == 1 ? PLN_MISS : PLN_OK);
        if (statuses[i] == PLN_OK) {
            pln_l2_value_fini(&values[i]);
        }
    }
    ck_assert_int_eq(pln_l2_clear(b.l2, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_get_many(a.l2, keys, N_KEYS, soon(), values, statuses), PLN_OK);
    for (size_t i = 0; i < N_KEYS; i++) {
        ck_assert_int_eq(statuses[i], PLN_MISS);
    }
}
END_TEST

START_TEST(a_dead_server_costs_its_own_keys_alone) {
    fill();
    pln_test_redis_kill(&servers[1]);
    ck_assert_msg(client_hears(&b, "-"), "%s", b.log);
    ck_assert_uint_gt(check_many(1), N_KEYS / 2);
    ck_assert_int_eq(pln_l2_clear(a.l2, soon()), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), servers[1].path));
    ck_assert_msg(client_hears(&b, "clear clear"), "%s", b.story);
    ck_assert_int_eq(pln_l2_get_many(b.l2, keys, N_KEYS, soon(), values, statuses), PLN_OK);
    for (size_t i = 0; i < N_KEYS; i++) { /* the others have been cleared all the same */
        ck_assert_int_eq(statuses[i], place(i) == 1 ? PLN_EL2DOWN : PLN_MISS);
    }
    pln_test_redis_restart(&servers[1]);
    /* down and up once, for all servers together */
    ck_assert_msg(client_hears(&b, "clear clear +"), "%s", b.log);
    fill_at_last();
    await_all_back();
    ck_assert_uint_eq(check_many(N_SERVERS), N_KEYS);
}
END_TEST

struct seen {
    size_t n, n_up;
    struct pln_node_info infos[N_SERVERS];
};

static void see(void *arg, const struct pln_node_info *info) {
    struct seen *seen = arg;
    ck_assert_uint_lt(seen->n, N_SERVERS);
    seen->infos[seen->n++] = *info;
    seen->n_up += info->is_up;
}

START_TEST(each_server_is_shown_with_how_it_fares) {
    struct seen seen = {0};
    struct pln_l2_health health;
    fill();
    ck_assert_uint_eq(pln_l2_nodes(a.l2, NULL, NULL), N_SERVERS);
    ck_assert_uint_eq(pln_l2_nodes(a.l2, see, &seen), N_SERVERS);
    ck_assert_uint_eq(seen.n_up, N_SERVERS);
    for (size_t i = 0; i < N_SERVERS; i++) {
        ck_assert_ptr_nonnull(strstr(seen.infos[i].address, servers[i].path));
        ck_assert_uint_gt(seen.infos[i].connections, 0);
        ck_assert_uint_eq(seen.infos[i].errors + seen.infos[i].timeouts, 0);
        ck_assert_int_ge(seen.infos[i].beat_age_ms, 0);
    }
    pln_test_redis_kill(&servers[1]);
    ck_assert_msg(client_hears(&a, "-"), "%s", a.log);
    ck_assert_int_eq(pln_l2_clear(a.l2, soon()), PLN_EL2DOWN);
    ck_assert_int_eq(pln_l2_clear(a.l2, soon()), PLN_EL2DOWN);
    seen = (struct seen){0};
    pln_l2_nodes(a.l2, see, &seen);
    ck_assert_uint_eq(seen.n_up, N_SERVERS - 1);
    ck_assert(!seen.infos[1].is_up && seen.infos[1].is_breaker_open);
    ck_assert(!seen.infos[0].is_breaker_open && !seen.infos[2].is_breaker_open);
    ck_assert_uint_gt(seen.infos[1].errors, 0);
    ck_assert_uint_eq(seen.infos[0].errors + seen.infos[2].errors, 0);
    pln_l2_health(a.l2, &health);
    ck_assert_uint_eq(health.n_nodes, N_SERVERS);
    ck_assert_uint_eq(health.n_nodes_up, N_SERVERS - 1);
    /* of one server, one line */
    char *first = strstr(a.log, "commands fail at once");
    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_null(strstr(first + 1, "commands fail at once"));
}
END_TEST

START_TEST(a_ring_with_a_fault_is_refused) {
    struct client c;
    client_init(&c);
    struct pln_l2_options options = client_options(&c, "redis+ring://a:1*600,b:1*600");
    ck_assert_int_eq(pln_l2_redis_new(&options, &c.l2), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "weight"));
    client_fini(&c);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("nodes");
    TCase *tests = tcase_create("ring");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, a_ring_does_what_a_tier_must_do, 0, n_semantics);
    tcase_add_test(tests, each_value_lies_on_the_server_of_its_key);
    tcase_add_test(tests, many_keys_are_read_from_all_servers_at_once);
    tcase_add_test(tests, a_clear_and_a_tag_reach_every_server);
    tcase_add_test(tests, a_dead_server_costs_its_own_keys_alone);
    tcase_add_test(tests, each_server_is_shown_with_how_it_fares);
    tcase_add_test(tests, a_ring_with_a_fault_is_refused);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
