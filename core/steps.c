/* SPDX-License-Identifier: MIT
 *
 * steps.c - the leader's way (fill.c) in steps, between which no thread has hold of it.
 *
 *     L2 get ───────── the answer comes in the thread that carries L2's commands (l2/async.c)
 *       │ miss
 *       ├─► the policy's loader, or none: as ever (behind.c)
 *       ▼ the host's
 *     lease ────────── on a worker; held elsewhere: it rests, and the host's next look, or the word
 *       │ ours         of that load's end, brings it back
 *       ▼
 *     the host loads ─ in its own thread and time
 *       ▼
 *     commit, install  on a worker; without a lease at once
 *
 * Steps have one owner at a time: whoever carries out one, or the host, as the flight's turn says.
 * A host that gives up while a step is under way leaves it to that step to end the flight.
 *
 * Where there are no worker threads a step runs in the thread that would hand it over.
 */
#include "steps.h"
#include "hosts.h"
#include "store.h"

enum step { ASK, LEASE, STORE, RELEASE };

struct pln_steps {
    struct pln_job job;
    enum step next;
    struct pln_l2_get get;
    pln_ns asked_at;
    struct pln_request request;     /* its key's bytes are the flight's */
    struct pln_get_options options; /* but for tags, which are the load's */
    struct fill fill;
    struct pln_load load;
    bool is_named;
    int status; /* of the host's load; the text where it is negative */
    char text[PLN_ERROR_TEXT];
};

int pln_steps_host_loads(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) arg;
    (void) key;
    assert(load == NULL);
    return pln_load_error(load, "get: only the host can run this loader");
}

static struct pln_flights *flights_of(const struct pln_steps *steps) {
    return steps->request.cache->flights;
}

/* ---- ends ---- */

static void steps_free(struct pln_steps *steps) {
    pln_release(steps->request.cache, steps->fill.old);
    pln_load_fini(&steps->load);
    pln_flight_leave(flights_of(steps), steps->fill.flight);
    pln_ruleset_unref(steps->request.ruleset);
    free(steps);
}

static void end(struct pln_steps *steps, int status, struct pln_outcome *outcome) {
    pln_fill_end(&steps->fill, status, outcome);
    steps_free(steps);
}

/* Those who wait are to load it themselves, and no stale value is to keep them from it. */
static void end_flight(struct pln_steps *steps) {
    struct pln_outcome outcome = {.is_leaders_own = true};
    pln_outcome_fini(&steps->fill.fallback);
    pln_fill_end(&steps->fill, pln_fail(PLN_ELOADER, "get: who was to load the key gave it up"),
                 &outcome);
}

/* ---- steps ---- */

/* The host's turn, unless it is gone. Its memory is not looked at from then on. */
static void turn(struct pln_steps *steps, enum pln_turn to, pln_ns rests_until) {
    if (!pln_flight_turn(flights_of(steps), steps->fill.flight, to, rests_until)) {
        end_flight(steps);
        pln_fill_end_lease(&steps->fill); /* there is one on workers alone, which may wait */
        steps_free(steps);
    }
}

/* The host is to load, unless a write waits to be stored that its source does not have yet. */
static void want_load(struct pln_steps *steps) {
    struct pln_outcome outcome = {0};
    int status = pln_fill_find_queued(&steps->fill, &steps->load);
    if (status == PLN_MISS) {
        turn(steps, PLN_TURN_WANTED, 0);
        return;
    }
    status = pln_fill_store(&steps->fill, &steps->load, status, &outcome);
    end(steps, status, &outcome);
}

static void take_lease(struct pln_steps *steps) {
    struct pln_outcome outcome = {0};
    int status = steps->fill.has_waited ? pln_fill_retry_lease(&steps->fill, &outcome)
                                        : pln_fill_try_lease(&steps->fill, &outcome);
    if (status == PLN_PENDING) {
        turn(steps, PLN_TURN_RESTS, pln_fill_nap(&steps->fill));
    } else if (status == PLN_MISS) {
        want_load(steps);
    } else {
        outcome.is_leaders_own = status < 0; /* others may have more time to wait for a lease */
        end(steps, status, &outcome);
    }
}

static void store(struct pln_steps *steps) {
    struct pln_outcome outcome = {0};
    int status = steps->status;
    if (status < 0) {
        pln_fail(status, "%s", steps->text);
    }
    if (steps->is_named) {
        status = pln_loader_shape(&steps->request, status, &steps->load);
    }
    status = pln_fill_store(&steps->fill, &steps->load, status, &outcome);
    end(steps, status, &outcome);
}

static void submit(struct pln_steps *steps, enum step next) {
    struct pln_outcome outcome = {0};
    steps->next = next;
    int status = pln_workers_submit(steps->request.cache->workers, &steps->job, true);
    if (status < 0 && next == STORE) {
        store(steps); /* it was brought, and is not lost for want of a worker */
    } else if (status < 0 && next == RELEASE) {
        steps_free(steps); /* the lease ends by itself */
    } else if (status < 0) {
        end(steps, status, &outcome);
    }
}

static void asked(struct pln_steps *steps, int status, struct pln_outcome *outcome) {
    if (!pln_fill_asked(&steps->fill, status, outcome)) {
        steps_free(steps);
    } else if (pln_fill_uses_l2(&steps->fill) ||
               pln_queued_is_used(steps->request.cache, steps->request.terms)) {
        submit(steps, LEASE); /* and what waits to be stored: not to be asked for here */
    } else {
        pln_fill_stamp(&steps->fill);
        turn(steps, PLN_TURN_WANTED, 0);
    }
}

static void ask_here(struct pln_steps *steps) {
    const struct pln_request *request = &steps->request;
    struct pln_outcome outcome = {0};
    int status = pln_fill_ask(&steps->fill, pln_cache_read(request->options, request->terms),
                              &outcome);
    asked(steps, status, &outcome);
}

static void run(struct pln_job *job, unsigned worker) {
    struct pln_steps *steps = PLN_CONTAINER_OF(job, struct pln_steps, job);
    steps->fill.worker = (int) worker;
    switch (steps->next) {
    case ASK:
        ask_here(steps);
        break;
    case LEASE:
        take_lease(steps);
        break;
    case STORE:
        store(steps);
        break;
    case RELEASE:
        pln_fill_end_lease(&steps->fill);
        steps_free(steps);
        break;
    }
}

/* What is left of it when the cache closes: what was brought is stored, a lease given back. */
static void drop(struct pln_job *job) {
    struct pln_steps *steps = PLN_CONTAINER_OF(job, struct pln_steps, job);
    struct pln_outcome outcome = {0};
    if (steps->next == STORE || steps->next == RELEASE) {
        run(job, 0);
    } else {
        end(steps, pln_fail(PLN_ECLOSED, "get: the cache is being closed"), &outcome);
    }
}

/* ---- the first ---- */

static void on_answer(struct pln_l2_get *get, int status, struct pln_l2_value *value) {
    struct pln_steps *steps = PLN_CONTAINER_OF(get, struct pln_steps, get);
    struct pln_flights *flights = flights_of(steps);
    struct pln_outcome outcome = {0};
    status = pln_fill_answered(&steps->fill, steps->asked_at, status, value, &outcome);
    asked(steps, status, &outcome);
    pln_flights_ask(flights, false);
}

/* Whether L2 has the question. Else *status says why not. */
static bool is_asked(struct pln_steps *steps, int *status) {
    struct pln_request *request = &steps->request;
    struct pln_flights *flights = flights_of(steps);
    pln_fill_stamp(&steps->fill);
    steps->asked_at = pln_clock_precise();
    steps->get = (struct pln_l2_get){
        .key = request->key,
        .deadline = pln_cache_l2_deadline(request->cache, request->deadline),
        .done = on_answer};
    pln_flights_ask(flights, true);
    *status = pln_l2_get_async(pln_cache_l2(request->cache), &steps->get);
    if (*status != PLN_OK) {
        pln_flights_ask(flights, false);
    }
    return *status == PLN_OK;
}

static void ask(struct pln_steps *steps) {
    const struct pln_request *request = &steps->request;
    struct pln_outcome outcome = {0};
    int status = PLN_EBUSY;
    if (!pln_fill_uses_l2(&steps->fill)) {
        asked(steps, PLN_MISS, &outcome);
        return;
    }
    bool is_near = pln_cache_read(request->options, request->terms) != PLN_READ_PRIMARY &&
                   pln_cache_l2(request->cache)->ops->get_near != NULL;
    if (!is_near && is_asked(steps, &status)) {
        return;
    }
    if (status == PLN_EBUSY || status == PLN_ESYSTEM) {
        submit(steps, ASK); /* replicas, or no thread that carries questions */
        return;
    }
    status = pln_fill_answered(&steps->fill, steps->asked_at, status, NULL, &outcome);
    asked(steps, status, &outcome);
}

static int take_tags(struct pln_steps *steps, const struct pln_get_options *options) {
    int status = PLN_OK;
    for (size_t i = 0; i < options->n_tags && status == PLN_OK; i++) {
        status = pln_load_tag(&steps->load, options->tags[i]);
    }
    steps->options.tags = NULL;
    steps->options.n_tags = 0;
    return status;
}

void pln_steps_lead(const struct pln_request *request, struct pln_flight *flight, bool is_named,
                    struct pln_steps **of_host) {
    struct pln_cache *cache = request->cache;
    struct pln_outcome outcome = {0};
    struct pln_steps *steps = malloc(sizeof *steps);
    if (steps == NULL) {
        struct pln_request copy = *request;
        struct fill fill = {.request = &copy, .cache = cache, .flight = flight, .worker = -1};
        pln_fill_end(&fill, pln_fail(PLN_ENOMEM, "get: no memory to start a load"), &outcome);
        return;
    }
    *steps = (struct pln_steps){.job = {.run = run, .drop = drop},
                                .request = *request,
                                .options = *request->options,
                                .is_named = is_named};
    steps->request.key = *pln_flight_key(flight);
    steps->request.options = &steps->options;
    steps->fill = (struct fill){
        .request = &steps->request, .cache = cache, .flight = flight, .worker = -1};
    steps->request.terms = pln_cache_match(cache, steps->request.key.key, &steps->request.match,
                                           &steps->request.ruleset); /* captures point into keys */
    steps->request.key.is_plain = steps->request.terms->is_plain;
    pln_flight_ref(cache->flights, flight);
    int status = take_tags(steps, request->options);
    if (status < 0) {
        end(steps, status, &outcome);
        return;
    }
    if (pln_fill_leaves_all(&steps->fill)) {
        pln_fill_hand_over(&steps->fill, true, true);
        steps_free(steps);
        return;
    }
    *of_host = steps; /* first: nothing is known of them once they are on their way */
    ask(steps);
}

/* ---- the host's turn ---- */

void pln_steps_go_on(struct pln_steps *steps) {
    submit(steps, LEASE);
}

struct pln_load *pln_steps_load(struct pln_steps *steps) {
    pln_fill_load_begins(&steps->fill, &steps->load);
    return &steps->load;
}

struct pln_load *pln_steps_taken(struct pln_steps *steps) {
    return &steps->load;
}

void pln_steps_loaded(struct pln_steps *steps, int status) {
    pln_fill_load_ends(&steps->fill, &steps->load, status);
    steps->status = steps->is_named ? status : pln_fill_check(NULL, &steps->load, status);
    memcpy(steps->text, pln_error_text(), sizeof steps->text);
    if (steps->fill.has_lease || steps->is_named) {
        submit(steps, STORE);
    } else {
        store(steps);
    }
}

void pln_steps_give_up(struct pln_steps *steps) {
    end_flight(steps);
    if (steps->fill.has_lease) {
        submit(steps, RELEASE);
    } else {
        steps_free(steps);
    }
}
