/* SPDX-License-Identifier: MIT
 * test_warm.c - core/warm.c and events.c. */
#include "rig.h"

#include <stdio.h>
#include <unistd.h>

static struct rig rig;
static struct pln_ruleset *ruleset; /* the cache's, to be filled in before it is used */

#define CACHE rig.caches[0]

static void setup(void) {
    struct pln_options options = {.ttl_ms = 10000};
    rig_open(&rig, 1, false, &options);
    rig_policy(&rig, CACHE, rig_rule("k:{id}", pln_cache_terms(CACHE), PLN_RULE_LOAD));
    ruleset = CACHE->policy;
}

static void teardown(void) {
    rig_close(&rig);
}

static struct pln_warm_source *add_source(enum pln_warm_kind kind, const char *name) {
    struct pln_warm_plan *plan = &ruleset->warm;
    plan->sources = realloc(plan->sources, (plan->n_sources + 1) * sizeof *plan->sources);
    struct pln_warm_source *source = &plan->sources[plan->n_sources++];
    *source = (struct pln_warm_source){.kind = kind, .name = name != NULL ? strdup(name) : NULL};
    return source;
}

static void add_keys(size_t n) {
    struct pln_warm_source *source = add_source(PLN_WARM_KEYS, NULL);
    source->keys = calloc(n, sizeof *source->keys);
    for (size_t i = 0; i < n; i++) {
        char key[24];
        int len = snprintf(key, sizeof key, "k:%zu", i);
        source->keys[source->n_keys++] = pln_bytes_of(strdup(key), (size_t) len);
    }
}

START_TEST(every_key_of_a_list_is_loaded_and_a_second_time_found) {
    struct pln_warm_report report;
    add_keys(100);
    ck_assert_int_eq(pln_warm(CACHE, NULL, &report), PLN_OK);
    ck_assert_uint_eq(report.wanted, 100);
    ck_assert_uint_eq(report.loaded, 100);
    ck_assert(report.is_ready);
    ck_assert_int_eq(rig.n_loads, 100);
    ck_assert_int_eq(pln_warm(CACHE, NULL, &report), PLN_OK);
    ck_assert_uint_eq(report.present, 100);
    ck_assert_int_eq(rig.n_loads, 100);
}
END_TEST

START_TEST(a_file_holds_one_key_a_line_with_comments) {
    char name[] = "/tmp/pln-warm-XXXXXX";
    int fd = mkstemp(name);
    FILE *file = fdopen(fd, "w");
    struct pln_warm_report report;
    fputs("# hot ones\nk:1\n\nk:2\r\nk:3", file);
    fclose(file);
    add_source(PLN_WARM_FILE, name);
    ck_assert_int_eq(pln_warm(CACHE, NULL, &report), PLN_OK);
    ck_assert_uint_eq(report.loaded, 3);
    unlink(name);
}
END_TEST

START_TEST(a_file_that_is_not_there_is_named) {
    struct pln_warm_report report;
    add_source(PLN_WARM_FILE, "/nonexistent/keys");
    ck_assert_int_eq(pln_warm(CACHE, NULL, &report), PLN_ESYSTEM);
    ck_assert_str_eq(pln_error_text(), "warm: /nonexistent/keys: No such file or directory");
}
END_TEST

START_TEST(a_sorted_set_wants_redis) {
    struct pln_warm_report report;
    add_source(PLN_WARM_ZSET, "hot");
    ck_assert_int_eq(pln_warm(CACHE, NULL, &report), PLN_EL2DOWN);
    ck_assert_str_eq(pln_error_text(), "warm: zset hot: the cache has no Redis");
}
END_TEST

START_TEST(keys_that_fail_are_counted_and_the_rest_go_on) {
    struct pln_warm_report report;
    add_keys(10);
    rig.load_status = PLN_ELOADER;
    ck_assert_int_eq(pln_warm(CACHE, NULL, &report), PLN_OK);
    ck_assert_uint_eq(report.failed, 10);
    ck_assert(!report.is_ready);
    ck_assert_uint_eq(report.loaded, 0);
}
END_TEST

START_TEST(the_rate_spaces_keys_and_the_deadline_ends_it) {
    struct pln_warm_report report;
    add_keys(1000);
    ruleset->warm.rate = 100;       /* the 1000 would take 10 s */
    ruleset->warm.deadline_ms = 55; /* keys at 0, 10, ... 50 ms */
    ck_assert_int_eq(pln_warm(CACHE, NULL, &report), PLN_OK);
    ck_assert(report.deadline_passed);
    ck_assert_uint_ge(report.loaded, 1);
    ck_assert_uint_le(report.loaded, 6);
}
END_TEST

static bool stop(void *arg, const struct pln_warm_report *report) {
    (void) arg;
    (void) report;
    return false;
}

START_TEST(progress_may_stop_it) {
    struct pln_warm_report report;
    add_keys(1000);
    ruleset->warm.rate = 50;
    struct pln_warm_options options = {.progress = stop};
    ck_assert_int_eq(pln_warm(CACHE, &options, &report), PLN_OK);
    ck_assert_uint_lt(report.loaded, 1000);
    ck_assert(!report.deadline_passed);
}
END_TEST

static struct pln_template **one_template(const char *text) {
    struct pln_template **list = malloc(sizeof *list);
    ck_assert_int_eq(pln_template_new_free(text, &list[0]), PLN_OK);
    return list;
}

START_TEST(an_event_deletes_its_keys_and_invalidates_its_tags) {
    struct pln_bytes tag = pln_key("list:7");
    struct pln_set_options tagged = {.tags = &tag, .n_tags = 1};
    struct pln_field fields[] = {{pln_key("id"), pln_key("7")}};
    ruleset->events = calloc(1, sizeof *ruleset->events);
    ruleset->n_events = 1;
    ruleset->events[0] = (struct pln_event_rule){.name = strdup("changed"),
                                                 .keys = one_template("item:{id}"),
                                                 .n_keys = 1,
                                                 .tags = one_template("list:{id}"),
                                                 .n_tags = 1};
    rig_set(CACHE, "item:7", "a");
    rig_set(CACHE, "item:8", "b");
    pln_set(CACHE, pln_key("list"), pln_key("c"), &tagged);
    ck_assert_int_eq(pln_raise(CACHE, pln_key("changed"), fields, 1), PLN_OK);
    rig_expect(CACHE, "item:7", NULL, "miss");
    rig_expect(CACHE, "list", NULL, "miss");
    rig_expect(CACHE, "item:8", "b", "l1");
    ck_assert_int_eq(pln_raise(CACHE, pln_key("unheard"), fields, 1), PLN_MISS);
    ck_assert_int_eq(pln_raise(CACHE, pln_key("changed"), NULL, 0), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(),
                     "raise: 'item:{id}' needs the field 'id', which the event lacks");
}
END_TEST

static void setup_shared(void) {
    struct pln_options options = {.ttl_ms = 10000, .timeout_ms = 50};
    rig_open(&rig, 2, true, &options);
    rig_policy(&rig, CACHE, rig_rule("k:{id}", pln_cache_terms(CACHE), PLN_RULE_LOAD));
    ruleset = CACHE->policy;
    struct pln_template **keys = calloc(5, sizeof *keys), **tags = calloc(2, sizeof *tags);
    const char *const texts[] = {"item:{id}", "page:{page}", "user:{id}", "{empty}", "all"};
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(pln_template_new_free(texts[i], &keys[i]), PLN_OK);
    }
    ck_assert_int_eq(pln_template_new_free("of:{page}", &tags[0]), PLN_OK);
    ck_assert_int_eq(pln_template_new_free("list:{id}", &tags[1]), PLN_OK);
    ruleset->events = calloc(1, sizeof *ruleset->events);
    ruleset->n_events = 1;
    ruleset->events[0] = (struct pln_event_rule){
        .name = strdup("changed"), .keys = keys, .n_keys = 5, .tags = tags, .n_tags = 2};
}

START_TEST(the_keys_of_an_event_go_by_one_message_and_none_keeps_the_others) {
    struct pln_cache *other = rig.caches[1];
    const char *const keys[] = {"item:7", "user:7", "all"};
    struct pln_field fields[] = {
        {pln_key("id"), pln_key("7")}, {pln_key("page"), pln_key("1")}, {pln_key("empty"), {0}}};
    for (int n_fields = 3; n_fields > 0; n_fields -= 2) {
        for (size_t i = 0; i < 3; i++) {
            rig_set(CACHE, keys[i], "v");
            rig_expect(other, keys[i], "v", "l2");
        }
        uint64_t heard = rig_stat(other, "bus_received");
        ck_assert_int_eq(pln_raise(CACHE, pln_key("changed"), fields, (size_t) n_fields),
                         PLN_EINVAL);
        ck_assert_str_eq(
            pln_error_text(),
            n_fields == 3 ? "raise: a key of 0 bytes, must be 1 to 4096"
                          : "raise: 'page:{page}' needs the field 'page', which the event lacks");
        /* the tags that can be filled, one each */
        ck_assert_uint_eq(rig_stat(other, "bus_received"), heard + 1 + (n_fields == 3 ? 2 : 1));
        for (size_t i = 0; i < 3; i++) {
            rig_expect(CACHE, keys[i], NULL, "miss");
            rig_expect(other, keys[i], NULL, "miss");
        }
    }
    pln_l2_mem_cut(CACHE->l2, true); /* what may pass is told before what may not */
    ck_assert_int_eq(pln_raise(CACHE, pln_key("changed"), fields, 1), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "is cut off; kept, and tried again later"));
    ck_assert_uint_eq(rig_stat(CACHE, "recovery_waiting"), 4);
    pln_l2_mem_cut(CACHE->l2, false);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("warm");
    TCase *tests = tcase_create("warm");
    suite_add_tcase(suite, tests);
    TCase *shared = tcase_create("shared");
    suite_add_tcase(suite, shared);
    tcase_add_checked_fixture(shared, setup_shared, teardown);
    tcase_add_test(shared, the_keys_of_an_event_go_by_one_message_and_none_keeps_the_others);
    tcase_set_timeout(tests, 30);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, every_key_of_a_list_is_loaded_and_a_second_time_found);
    tcase_add_test(tests, a_file_holds_one_key_a_line_with_comments);
    tcase_add_test(tests, a_file_that_is_not_there_is_named);
    tcase_add_test(tests, a_sorted_set_wants_redis);
    tcase_add_test(tests, keys_that_fail_are_counted_and_the_rest_go_on);
    tcase_add_test(tests, the_rate_spaces_keys_and_the_deadline_ends_it);
    tcase_add_test(tests, progress_may_stop_it);
    tcase_add_test(tests, an_event_deletes_its_keys_and_invalidates_its_tags);
    return rig_run(suite);
}
