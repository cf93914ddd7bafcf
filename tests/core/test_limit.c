/* SPDX-License-Identifier: MIT
 * test_limit.c - counters and limits over a real redis-server: exact among threads, and, at times
 * of the test's, request by request as a model in whole numbers says. */
#include "rig.h"
#include "../../core/named.h"
#include "../l2/server.h"

#include <stdio.h>

enum { N_THREADS = 16, DAY = 24 * 3600 * 1000 };

static struct server server;
static struct pln_cache *cache;

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

static struct pln_limit_result ask(const struct pln_limit_options *limit) {
    struct pln_limit_result result;
    int status = pln_limit(cache, pln_key("x"), limit, &result);
    ck_assert_msg(status == PLN_OK, "%s", pln_error_text());
    return result;
}

static bool server_says(const char *command, const char *expected) {
    char *text = pln_test_redis_command(&server, "%s", command);
    bool is_so = strncmp(text, expected, strlen(expected)) == 0;
    free(text);
    return is_so;
}

/* ---- limits ---- */

static struct pln_limit_options shared;

static void *ask_often(void *arg) {
    intptr_t n_allowed = 0;
    (void) arg;
    for (int i = 0; i < 20; i++) {
        struct pln_limit_result result;
        if (pln_limit(cache, pln_key("x"), &shared, &result) != PLN_OK) {
            return (void *) (intptr_t) -1000000;
        }
        n_allowed += result.is_allowed;
    }
    return (void *) n_allowed;
}

START_TEST(of_all_that_ask_at_once_exactly_the_rate_is_allowed) {
    pthread_t threads[N_THREADS];
    intptr_t n_allowed = 0;
    shared = (struct pln_limit_options){.rate = 100, .per_ms = DAY, .kind = (uint8_t) _i};
    for (size_t i = 0; i < N_THREADS; i++) {
        pthread_create(&threads[i], NULL, ask_often, NULL);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        void *n;
        pthread_join(threads[i], &n);
        n_allowed += (intptr_t) n;
    }
    ck_assert_int_eq(n_allowed, 100);
    ck_assert_int_eq(ask(&shared).remaining, 0);
}
END_TEST

START_TEST(the_answer_tells_what_remains_and_when_to_come_again) {
    struct pln_limit_options limit = {.rate = 5, .per_ms = DAY, .cost = 2, .kind = (uint8_t) _i};
    struct pln_limit_result result = ask(&limit);
    ck_assert(result.is_allowed && !result.is_guess);
    ck_assert_int_eq(result.remaining, 3);
    ck_assert_int_eq(result.retry_ms, 0);
    ck_assert_int_gt(result.reset_ms, 0);
    ck_assert_int_eq(ask(&limit).remaining, 1);
    result = ask(&limit);
    ck_assert(!result.is_allowed);
    ck_assert_int_eq(result.remaining, 1); /* what is refused is not counted */
    ck_assert_int_gt(result.retry_ms, 0);
    limit.cost = 1;
    ck_assert(ask(&limit).is_allowed);
    ck_assert(!ask(&limit).is_allowed);
}
END_TEST

START_TEST(what_is_refused_is_allowed_some_time_later) {
    struct pln_limit_options limit = {.rate = 1, .per_ms = 50, .kind = (uint8_t) _i};
    pln_ns deadline = pln_deadline(20000);
    for (int n_allowed = 0; n_allowed < 5;) {
        n_allowed += ask(&limit).is_allowed;
        ck_assert(pln_clock_precise() < deadline);
    }
}
END_TEST

/* ---- models ---- */

enum { MOST = 64 };

/* What a limit has let through, in whole numbers. */
struct model {
    struct pln_limit_options limit;
    int64_t span;
    int64_t times[MOST * 100]; /* log */
    size_t n;
    int64_t window, current, last; /* sliding */
    int64_t arrival;               /* bucket: when it would be empty again */
};

static bool model_fits(const struct model *model, int64_t now) {
    int64_t span = model->span, cost = model->limit.cost, rate = model->limit.rate;
    if (model->limit.kind == PLN_LIMIT_LOG) {
        int64_t n = 0;
        for (size_t i = 0; i < model->n; i++) {
            n += model->times[i] > now - span;
        }
        return n + cost <= rate;
    }
    if (model->limit.kind == PLN_LIMIT_BUCKET) {
        int64_t each = span / rate, from = model->arrival > now ? model->arrival : now;
        return from + cost * each <= now + model->limit.burst * each;
    }
    int64_t gone = now / span - model->window;
    int64_t current = gone == 0 ? model->current : 0;
    int64_t last = gone == 0 ? model->last : gone == 1 ? model->current : 0;
    return (current + cost) * span + last * (span - now % span) <= rate * span;
}

static void model_take(struct model *model, int64_t now) {
    int64_t gone = now / model->span - model->window;
    for (int64_t i = 0; i < model->limit.cost; i++) {
        model->times[model->n++] = now;
    }
    if (gone > 0) {
        model->last = gone == 1 ? model->current : 0;
        model->current = 0;
        model->window += gone;
    }
    model->current += model->limit.cost;
    model->arrival = (model->arrival > now ? model->arrival : now) +
                     model->limit.cost * (model->span / model->limit.rate);
}

/* One request, of which the model knew before. */
static void step(struct model *model, int64_t now) {
    struct pln_limit_result result;
    bool fits = model_fits(model, now);
    int status = pln_limit_at(cache, pln_key("x"), &model->limit, now, &result);
    if (status != PLN_OK || result.is_allowed != fits) {
        ck_abort_msg("at %lld: %s, and %s", (long long) now, pln_status_name(status),
                     fits ? "should be allowed" : "should be refused");
    }
    if (fits) {
        model_take(model, now);
    } else if (!model_fits(model, now + result.retry_ms * 1000) ||
               (result.retry_ms > 1 && model_fits(model, now + (result.retry_ms - 1) * 1000 - 1))) {
        ck_abort_msg("at %lld: retry after %lld ms is not right", (long long) now,
                     (long long) result.retry_ms);
    }
    struct model other = *model; /* as many of cost 1 as remain would be allowed, and no more */
    other.limit.cost = 1;
    for (int64_t i = 0; i < result.remaining; i++) {
        if (!model_fits(&other, now)) {
            ck_abort_msg("at %lld: not %lld remain", (long long) now, (long long) result.remaining);
        }
        model_take(&other, now);
    }
    if (model_fits(&other, now)) {
        ck_abort_msg("at %lld: more than %lld remain", (long long) now,
                     (long long) result.remaining);
    }
}

/* The window is a day, so that no name ends by the server's clock meanwhile. */
START_TEST(every_answer_is_the_models) {
    static const int64_t rates[] = {1, 2, 8, 24};
    uint64_t random = (uint64_t) _i + 1;
    for (size_t r = 0; r < PLN_ARRAY_LEN(rates); r++) {
        struct model model = {.span = (int64_t) DAY * 1000};
        model.limit = (struct pln_limit_options){
            .rate = rates[r], .per_ms = DAY, .kind = (uint8_t) _i, .cost = 1};
        model.limit.burst = _i == PLN_LIMIT_BUCKET ? 1 + rates[r] / 2 : 0;
        int64_t now = (int64_t) 20000 * DAY * 1000;
        int64_t most = model.limit.burst != 0 ? model.limit.burst : rates[r];
        for (int i = 0; i < 400; i++) {
            random = random * 6364136223846793005 + 1442695040888963407;
            /* mostly far less than a window; now and then the edge of one, or past several */
            now += random >> 60 == 0 ? model.span - now % model.span
                                     : (int64_t) (random >> 32) * (random >> 59 & 1 ? 20 : 1);
            model.limit.cost = 1 + (int64_t) (random >> 40 & 7) % most;
            step(&model, now);
        }
        ck_assert(server_says("FLUSHALL", "OK"));
    }
}
END_TEST

/* ---- away, and misused ---- */

START_TEST(with_redis_away_the_caller_has_said_what_holds) {
    struct pln_limit_options limit = {.rate = 5};
    struct pln_limit_result result;
    pln_test_redis_kill(&server);
    ck_assert_int_eq(pln_limit(cache, pln_key("x"), &limit, &result), PLN_EL2DOWN);
    limit.on_away = PLN_LIMIT_ALLOW;
    ck_assert(ask(&limit).is_allowed && ask(&limit).is_guess);
    limit.on_away = PLN_LIMIT_DENY;
    ck_assert(!ask(&limit).is_allowed && ask(&limit).is_guess);
}
END_TEST

static void expect_refused(struct pln_limit_options limit, const char *text) {
    struct pln_limit_result result;
    limit.on_away = limit.on_away != 0 ? limit.on_away : PLN_LIMIT_ALLOW;
    ck_assert_int_eq(pln_limit(cache, pln_key("x"), &limit, &result), PLN_EINVAL);
    ck_assert_msg(strstr(pln_error_text(), text) != NULL, "%s", pln_error_text());
}

START_TEST(a_limit_that_makes_no_sense_is_refused) {
    expect_refused((struct pln_limit_options){.rate = 0}, "rate: 0, must be 1 to");
    expect_refused((struct pln_limit_options){.rate = 10001, .kind = PLN_LIMIT_LOG}, "to 10000");
    expect_refused((struct pln_limit_options){.rate = 1, .per_ms = -1}, "per: -1 ms");
    expect_refused((struct pln_limit_options){.rate = 5, .cost = 6}, "cost: 6, must be 1 to 5");
    expect_refused((struct pln_limit_options){.rate = 5, .burst = 6}, "burst: 6");
    expect_refused((struct pln_limit_options){.rate = 5, .kind = 9}, "kind: ");
    expect_refused((struct pln_limit_options){.rate = 5, .on_away = 9}, "on_away: ");
}
END_TEST

/* ---- counters ---- */

static void *count_often(void *arg) {
    int64_t value;
    for (int i = 0; i < 100; i++) {
        if (pln_counter_add(cache, pln_key("n"), 3, i % 2 == 0 ? 0 : DAY, &value) != PLN_OK) {
            return arg;
        }
    }
    return NULL;
}

START_TEST(what_many_add_is_all_there) {
    pthread_t threads[N_THREADS];
    int64_t value;
    for (size_t i = 0; i < N_THREADS; i++) {
        pthread_create(&threads[i], NULL, count_often, &threads);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
    ck_assert_int_eq(pln_counter_get(cache, pln_key("n"), &value), PLN_OK);
    ck_assert_int_eq(value, N_THREADS * 100 * 3);
    ck_assert_int_eq(pln_counter_reset(cache, pln_key("n")), PLN_OK);
    ck_assert_int_eq(pln_counter_get(cache, pln_key("n"), &value), PLN_OK);
    ck_assert_int_eq(value, 0);
}
END_TEST

START_TEST(a_counters_ttl_begins_with_the_first_addition) {
    int64_t value;
    ck_assert_int_eq(pln_counter_add(cache, pln_key("n"), 1, 100000, &value), PLN_OK);
    ck_assert_int_eq(pln_counter_add(cache, pln_key("n"), 1, DAY, &value), PLN_OK);
    ck_assert_int_eq(value, 2);
    char *left = pln_test_redis_command(&server, "PTTL t:c:n");
    ck_assert_int_gt(atoll(left), 0);
    ck_assert_int_le(atoll(left), 100000);
    free(left);
    ck_assert_int_eq(pln_counter_add(cache, pln_key("m"), 1, 0, &value), PLN_OK);
    ck_assert(server_says("PTTL t:c:m", "-1"));
}
END_TEST

START_TEST(a_counter_is_exact_to_its_last_number_and_goes_no_further) {
    int64_t value;
    ck_assert_int_eq(pln_counter_add(cache, pln_key("n"), INT64_MAX - 1, DAY, &value), PLN_OK);
    ck_assert_int_eq(value, INT64_MAX - 1);
    ck_assert_int_eq(pln_counter_add(cache, pln_key("n"), 1, DAY, &value), PLN_OK);
    ck_assert_int_eq(value, INT64_MAX);
    ck_assert_int_eq(pln_counter_add(cache, pln_key("n"), 1, 0, &value), PLN_EL2);
    ck_assert_int_eq(pln_counter_add(cache, pln_key("n"), 1, DAY, &value), PLN_EL2);
    ck_assert_int_eq(pln_counter_get(cache, pln_key("n"), &value), PLN_OK);
    ck_assert_int_eq(value, INT64_MAX);
    ck_assert(server_says("SET t:c:n word", "OK"));
    ck_assert_int_eq(pln_counter_get(cache, pln_key("n"), &value), PLN_EL2);
    ck_assert_int_eq(pln_counter_add(cache, pln_key("n"), 1, -1, &value), PLN_EINVAL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("limit");
    TCase *tests = tcase_create("limit");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, of_all_that_ask_at_once_exactly_the_rate_is_allowed, 0,
                        PLN_LIMIT_BUCKET + 1);
    tcase_add_loop_test(tests, the_answer_tells_what_remains_and_when_to_come_again, 0,
                        PLN_LIMIT_BUCKET + 1);
    tcase_add_loop_test(tests, what_is_refused_is_allowed_some_time_later, 0, PLN_LIMIT_BUCKET + 1);
    tcase_add_loop_test(tests, every_answer_is_the_models, PLN_LIMIT_SLIDING, PLN_LIMIT_BUCKET + 1);
    tcase_add_test(tests, with_redis_away_the_caller_has_said_what_holds);
    tcase_add_test(tests, a_limit_that_makes_no_sense_is_refused);
    tcase_add_test(tests, what_many_add_is_all_there);
    tcase_add_test(tests, a_counters_ttl_begins_with_the_first_addition);
    tcase_add_test(tests, a_counter_is_exact_to_its_last_number_and_goes_no_further);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
