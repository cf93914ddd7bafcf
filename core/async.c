/* SPDX-License-Identifier: MIT
 *
 * async.c - a get without waiting. It is the read of cache.c, whose flight is not slept for, but
 * watched: the op is told when something has happened to it, and its owner looks.
 *
 *     pln_begin_get ─► plain hit, or served by L1 ─► done
 *          ▼
 *        join ─► leader: steps.c ─► L2, lease, loader, in other threads
 *          └ follower: nothing
 *        look ─► under way; or the owner's loader is wanted; or ready, as a caller who slept
 *
 * A leader whose program runs the loader is the host of its flight (flight.h): it has its steps,
 * and where it ends before them, others lead.
 */
#include "nested.h"
#include "news.h"
#include "steps.h"
#include "way.h"

struct get_op {
    struct pln_op op;
    struct pln_watcher watcher;
    struct pln_way way;
    struct pln_get_options options; /* its tags lie behind the struct, as does the key */
    struct pln_flight *flight;      /* a reference */
    struct pln_steps *steps;        /* of a host */
    bool leads;
    bool is_out;   /* the host loads */
    bool is_named; /* the host's loader is one of those that rules call for */
};

static struct get_op *get_of(struct pln_op *op) {
    return PLN_CONTAINER_OF(op, struct get_op, op);
}

static void tell(struct pln_watcher *watcher) {
    pln_op_tell(&PLN_CONTAINER_OF(watcher, struct get_op, watcher)->op);
}

/* ---- flights ---- */

static void leave(struct get_op *get) {
    struct pln_flights *flights = get->way.request.cache->flights;
    if (get->flight == NULL) {
        return;
    }
    if (get->steps != NULL && pln_flight_give_up(flights, get->flight)) {
        pln_steps_give_up(get->steps);
    }
    pln_flight_unwatch(flights, get->flight, &get->watcher);
    pln_flight_leave(flights, get->flight);
    get->flight = NULL;
    get->steps = NULL;
    get->is_out = false;
}

/* Joins the key's flight, or begins one. Negative: there is none. */
static int take_off(struct get_op *get) {
    struct pln_request *request = &get->way.request;
    struct pln_cache *cache = request->cache;
    bool may_lag = pln_cache_read(request->options, request->terms) != PLN_READ_PRIMARY;
    struct pln_stamp stamp;
    if (pln_nested_check(cache, request->key.key) < 0) {
        return PLN_ELOADER;
    }
    pln_stamp_take(cache->inval, request->key.hash, &stamp);
    get->flight = pln_flight_join(cache->flights, &stamp, &request->key, may_lag, &get->leads);
    if (get->flight == NULL) {
        return PLN_ENOMEM;
    }
    get->watcher.tell = tell;
    pln_flight_watch(cache->flights, get->flight, &get->watcher);
    if (!get->leads) {
        pln_count(cache->counts, PLN_COUNT_LOAD_WAITS, 1);
        return PLN_OK;
    }
    bool is_host = request->loader != NULL;
    if (is_host) {
        pln_flight_host(cache->flights, get->flight, &get->watcher, request->deadline);
    }
    struct pln_steps *steps = NULL;
    pln_steps_lead(request, get->flight, get->is_named, is_host ? &get->steps : &steps);
    return PLN_OK;
}

static enum pln_op_state settle(struct get_op *get, int flown, struct pln_outcome *outcome) {
    int status = pln_way_settle(&get->way, flown, outcome, &get->op.result);
    pln_op_ready(&get->op, status);
    pln_way_end(&get->way, status, &get->op.result);
    get->way.request.ruleset = NULL;
    pln_step_a_little(get->way.request.cache, get->options.timeout_ms == 0);
    return PLN_OP_READY;
}

/* One look at its flight. False: look again, for it has begun another, or has moved its own on. */
static bool look_once(struct get_op *get, enum pln_op_state *state) {
    struct pln_request *request = &get->way.request;
    struct pln_flights *flights = request->cache->flights;
    struct pln_outcome outcome = {0};
    struct pln_glance glance;
    struct pln_patience patience = {
        .deadline = request->deadline,
        .soft_ms = request->soft_ms,
        .has_stale = request->has_stale,
        .takes_stale = (request->options->flags & PLN_GET_NO_STALE) == 0,
    };
    int status = get->flight == NULL ? take_off(get) : PLN_OK;
    if (status < 0) {
        pln_outcome_fail(&outcome, status);
        *state = settle(get, PLN_OK, &outcome);
        return true;
    }
    int flown = pln_flight_look(flights, get->flight, &get->watcher, &patience, &outcome, &glance);
    get->op.until = glance.until;
    if (flown == PLN_MISS && glance.turn == PLN_TURN_RESTS &&
        pln_flight_take(flights, get->flight, PLN_TURN_RESTS, PLN_TURN_OURS)) {
        pln_steps_go_on(get->steps);
        return false;
    }
    if (flown == PLN_MISS) {
        *state = glance.turn == PLN_TURN_WANTED ? PLN_OP_WANTS_LOAD : PLN_OP_UNDER_WAY;
        get->op.until = glance.turn == PLN_TURN_WANTED ? 0 : glance.until;
        return true;
    }
    leave(get);
    if (flown == PLN_OK && pln_way_may_do_better(request, &outcome, get->leads) &&
        pln_clock_precise() < request->deadline) {
        pln_outcome_fini(&outcome);
        return false;
    }
    *state = settle(get, flown, &outcome);
    return true;
}

static enum pln_op_state look(struct pln_op *op) {
    enum pln_op_state state = PLN_OP_UNDER_WAY;
    while (!look_once(get_of(op), &state)) {
    }
    return state;
}

static void end(struct pln_op *op) {
    struct get_op *get = get_of(op);
    struct pln_request *request = &get->way.request;
    leave(get);
    if (get->way.kept != NULL) {
        pln_l1_unclaim_refresh(request->cache->l1, &request->key); /* there may be no flight */
        pln_release(request->cache, get->way.kept);
        get->way.kept = NULL;
    }
    if (request->ruleset != NULL) {
        pln_ruleset_unref(request->ruleset);
        request->ruleset = NULL;
    }
    pln_release(request->cache, op->result.value);
    op->result.value = NULL;
}

static const struct pln_op_kind kind = {.look = look, .end = end};

/* ---- beginning ---- */

/* Room for the key and the tags behind the struct. */
static struct get_op *get_new(struct pln_hashed *key, const struct pln_get_options *options) {
    size_t size = sizeof(struct get_op) + key->key.len;
    for (size_t i = 0; i < options->n_tags; i++) {
        size += sizeof(struct pln_bytes) + options->tags[i].len;
    }
    struct get_op *get = calloc(1, size);
    if (get == NULL) {
        pln_fail(PLN_ENOMEM, "get: no memory to begin one");
        return NULL;
    }
    struct pln_bytes *tags = (void *) (get + 1);
    char *at = (void *) (tags + options->n_tags);
    memcpy(at, key->key.data, key->key.len);
    key->key.data = at;
    at += key->key.len;
    for (size_t i = 0; i < options->n_tags; i++) {
        tags[i] = pln_bytes_of(at, options->tags[i].len);
        if (tags[i].len > 0) {
            memcpy(at, options->tags[i].data, tags[i].len);
        }
        at += tags[i].len;
    }
    get->options = *options;
    get->options.tags = tags;
    get->options.load_by_name = NULL;
    return get;
}

/* Lets the host's loaders by name answer where the rule calls for one. */
static void choose_named(struct get_op *get) {
    struct pln_request *request = &get->way.request;
    const struct pln_rule *rule = request->match.rule;
    if (request->loader == NULL && rule != NULL && rule->loader != NULL &&
        (request->options->flags & PLN_GET_NO_LOAD) == 0) {
        request->loader = pln_steps_host_loads;
        get->is_named = true;
    }
}

static int begin(struct pln_news *news, struct pln_hashed *key,
                 const struct pln_get_options *options, uint32_t flags, struct pln_result *result,
                 struct pln_op **op) {
    static const struct pln_get_options no_options = {0};
    struct get_op *get = get_new(key, options != NULL ? options : &no_options);
    if (get == NULL) {
        return PLN_ENOMEM;
    }
    pln_way_begin(&get->way, pln_news_cache(news), key, &get->options,
                  (flags & PLN_BEGIN_LOADS) != 0 ? pln_steps_host_loads : NULL, NULL);
    if ((flags & PLN_BEGIN_LOADS_NAMED) != 0) {
        choose_named(get);
    }
    int status = pln_way_look(&get->way, result);
    if (status != PLN_PENDING) {
        pln_way_end(&get->way, status, result);
        free(get);
        return status;
    }
    pln_op_begin(&get->op, news, &kind);
    *op = &get->op;
    if (pln_news_has_no_threads(news)) {
        pln_op_tell(&get->op); /* all of it is done when it is looked at */
        return PLN_PENDING;
    }
    if (look(&get->op) == PLN_OP_READY) {
        status = pln_op_result(&get->op, result);
        pln_op_free(&get->op);
        *op = NULL;
    }
    return status;
}

int pln_begin_get(struct pln_news *news, struct pln_bytes key,
                  const struct pln_get_options *options, uint32_t flags, struct pln_result *result,
                  struct pln_op **op) {
    struct pln_hashed hashed;
    *op = NULL;
    *result = (struct pln_result){.source = PLN_FROM_MISS};
    int status = pln_news_check(news);
    if (status == PLN_OK) {
        status = pln_cache_key(pln_news_cache(news), key, &hashed);
    }
    if (status == PLN_OK) {
        status = pln_way_plain(pln_news_cache(news), &hashed, options, result);
        status = status == PLN_PENDING ? begin(news, &hashed, options, flags, result, op) : status;
    }
    return status;
}

/* ---- the host's load ---- */

/* Whether the host of the op may go on with its load. */
static bool may_take(const struct pln_op *op) {
    return op->kind == &kind && op->at != NULL && pln_news_check(op->news) == PLN_OK &&
           !op->is_ready;
}

const char *pln_op_loader(const struct pln_op *op) {
    const struct get_op *get = PLN_CONTAINER_OF(op, const struct get_op, op);
    return may_take(op) && get->is_named ? get->way.request.match.rule->loader : NULL;
}

struct pln_load *pln_op_load_begin(struct pln_op *op) {
    struct get_op *get = get_of(op);
    if (!may_take(op) || get->steps == NULL ||
        !pln_flight_take(get->way.request.cache->flights, get->flight, PLN_TURN_WANTED,
                         PLN_TURN_OUT)) {
        return NULL;
    }
    op->until = PLN_FOREVER;
    get->is_out = true;
    return pln_steps_load(get->steps);
}

struct pln_load *pln_op_load(struct pln_op *op) {
    struct get_op *get = get_of(op);
    return may_take(op) && get->is_out ? pln_steps_taken(get->steps) : NULL;
}

void pln_op_load_end(struct pln_op *op, int status) {
    struct get_op *get = get_of(op);
    if (may_take(op) && get->is_out) {
        (void) pln_flight_take(get->way.request.cache->flights, get->flight, PLN_TURN_OUT,
                               PLN_TURN_OURS);
        op->until = 0;
        get->is_out = false;
        pln_steps_loaded(get->steps, status);
    }
}
