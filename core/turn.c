/* SPDX-License-Identifier: MIT
 *
 * turn.c - one instance's turns at the queue: it asks for the lead, and with it takes, stores, and
 * ends what is stored.
 *
 *     ask ── another has it ─► again in a second
 *      │ ours
 *      ▼
 *     take what a former leader had taken ─► take what is new ─► batches (batch.c)
 *                                              ▲                    │ one that is due
 *                                              └── end what is over ◄─ store
 *
 * Of all instances only the one that has the lead stores, so writes are stored in the order of the
 * queue. The lead ends by itself, so an instance may only act while it is certain to have it: it
 * counts from before it asked, by its own clock, while the server counts from later on. Before a
 * store is called the lead has to last for as long as a call may take. Once it is not certain any
 * more, if only for a moment, all that was taken is forgotten: another may have stored it, and what
 * came later besides. It is in the queue, and is handed out anew from the first that is left.
 *
 * Should an instance that was stopped for longer than its lead go on amid the call of a store, that
 * write may come late. Nothing here can prevent it; the version of each item can.
 *
 * Which rule a write goes by is looked up when it is taken, by the policy in force. So a rule may
 * change its strategy or store while writes wait; they are stored by whatever store their key has
 * then. When another policy comes into force, or a store by name, all is forgotten and taken anew.
 * Writes of keys without a store stay in the queue: another instance may have one for them, so from
 * time to time the lead is offered, and then they are looked at again. None is passed by a later
 * one of its key, which has the same rule.
 */
#include "drain.h"

#include <stdio.h>

enum {
    TAKE_MOST = 1000,    /* entries at a time */
    LEAST_LEAD_MS = 200, /* else twice the longest call of a store: 10 s by default */
    ASK_EVERY_MS = 1000, /* for the lead */
    LEAST_POLL_MS = 20,  /* what others put into the queue is looked for so often */
    AWAY_MS = 1000,      /* after a failure of Redis */
    HOMELESS_MS = 1000,  /* before what has no store is looked at again, doubling to: */
    HOMELESS_MOST_MS = 60000,
    OFFER_MS = 1500, /* so long the lead is free for those who ask every second */
};

struct pln_turns {
    struct pln_cache *cache;
    struct pln_l2_taking taking;
    struct pln_batches *batches;
    struct pln_ruleset *ruleset; /* by which they were grouped; a reference, or NULL */
    uint64_t store_changes;      /* likewise */
    bool was_filled;             /* what was asked for last was there, all of it */
    bool is_leading;
    pln_ns lead_until; /* certain up to then */
    pln_ns ask_at;     /* while another has it, or Redis is away */
    pln_ns stored_at;  /* the last call of a store, its end */
    pln_ns poll_at;
    pln_ms poll; /* between two looks for what others have written */
    bool is_offered;
    bool has_homeless, has_told_homeless;
    pln_ns homeless_at;
    pln_ms homeless_pause;
    bool is_told_refused;
    bool is_told_down; /* stores are not told apart: trouble is told once, and its end */
    pln_ms took;       /* the last call of a store, where the lead ended meanwhile; else 0 */
    bool is_told_slow;
};

/* ---- rules ---- */

static const struct pln_write_options *terms_of(const struct pln_turns *turns, size_t group) {
    return pln_store_terms(turns->cache, group == 0 ? NULL : &turns->ruleset->rules[group - 1]);
}

/* Group 0 has what no rule matches. */
static const struct pln_write_options *find_terms(void *arg, struct pln_bytes key, size_t *group) {
    struct pln_turns *turns = arg;
    struct pln_match match;
    pln_ruleset_match(turns->ruleset, key, &match);
    *group = match.rule == NULL ? 0 : match.index + 1;
    return pln_store_is_there(turns->cache, match.rule) ? terms_of(turns, *group) : NULL;
}

/* The longest timeout, and the shortest time for which an item waits, of those with a store. */
static void measure(struct pln_cache *cache, const struct pln_ruleset *ruleset, pln_ms *longest,
                    pln_ms *shortest) {
    *longest = 0;
    *shortest = ASK_EVERY_MS;
    for (size_t i = 0; i <= ruleset->n_rules; i++) {
        const struct pln_rule *rule = i == 0 ? NULL : &ruleset->rules[i - 1];
        const struct pln_write_options *terms = pln_store_terms(cache, rule);
        if (terms->strategy != PLN_WRITE_ASIDE) {
            *longest = terms->timeout_ms > *longest ? terms->timeout_ms : *longest;
        }
        if (terms->strategy == PLN_WRITE_BEHIND) {
            *shortest = terms->every_ms < *shortest ? terms->every_ms : *shortest;
        }
    }
}

pln_ms pln_turns_longest(struct pln_cache *cache) {
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    pln_ms longest, shortest;
    measure(cache, ruleset, &longest, &shortest);
    pln_ruleset_unref(ruleset);
    return longest;
}

/* ---- life ---- */

/* Another for each lead: who gives one back may not know whether that was heard, and then it is
 * not to end the next one, however late it comes. */
static void draw_token(struct pln_turns *turns) {
    uint64_t token[2] = {pln_random64(), pln_random64()};
    static_assert(sizeof token == sizeof turns->taking.token, "a token is two numbers");
    memcpy(turns->taking.token, token, sizeof token);
}

int pln_turns_new(struct pln_cache *cache, struct pln_turns **turns) {
    struct pln_turns *created = calloc(1, sizeof *created);
    if (created == NULL || pln_batches_new(find_terms, created, &created->batches) != PLN_OK) {
        free(created);
        return pln_fail(PLN_ENOMEM, "queue: no memory");
    }
    draw_token(created);
    created->cache = cache;
    created->taking.most = TAKE_MOST;
    *turns = created;
    return PLN_OK;
}

void pln_turns_free(struct pln_turns *turns) {
    if (turns != NULL) {
        pln_batches_free(turns->batches);
        pln_ruleset_unref(turns->ruleset);
        free(turns);
    }
}

/* From the first that is left on. */
static void begin_anew(struct pln_turns *turns) {
    pln_batches_clear(turns->batches);
    turns->taking.is_first = true;
    turns->taking.after_ms = turns->taking.after_seq = 0;
    turns->has_homeless = false;
    turns->poll_at = 0;
}

/* Its writes are in the queue still, and are stored again: without end, if it is always slow. */
static void tell_slow(struct pln_turns *turns) {
    if (turns->took > 0 && !turns->is_told_slow) {
        turns->is_told_slow = true;
        pln_logf(&turns->cache->host, PLN_LOG_WARN,
                 "queue: a store took %.1f s, and the lead ended meanwhile: its writes are stored "
                 "again; a longer timeout in its rule, or a smaller batch, ends that",
                 (double) turns->took / 1000);
    }
    turns->took = 0;
}

static void lose(struct pln_turns *turns, pln_ms ask_again) {
    tell_slow(turns);
    begin_anew(turns);
    turns->is_leading = false;
    turns->ask_at = pln_deadline(ask_again < ASK_EVERY_MS ? ask_again : ASK_EVERY_MS);
}

/* By the policy in force, and the stores that are there, from now on. */
static void follow_policy(struct pln_turns *turns) {
    struct pln_ruleset *ruleset = pln_cache_policy(turns->cache);
    uint64_t store_changes = pln_store_changes(turns->cache);
    if (ruleset == turns->ruleset && store_changes == turns->store_changes) {
        pln_ruleset_unref(ruleset);
        return;
    }
    pln_ms longest, shortest;
    measure(turns->cache, ruleset, &longest, &shortest);
    turns->taking.lead = 2 * longest > LEAST_LEAD_MS ? 2 * longest : LEAST_LEAD_MS;
    turns->poll = shortest > LEAST_POLL_MS ? shortest : LEAST_POLL_MS;
    begin_anew(turns); /* the batches know the former one's rules */
    pln_ruleset_unref(turns->ruleset);
    turns->ruleset = ruleset;
    turns->store_changes = store_changes;
    turns->homeless_pause = HOMELESS_MS;
    turns->has_told_homeless = false;
}

static pln_ns deadline_of(const struct pln_turns *turns) {
    return pln_cache_l2_deadline(turns->cache, PLN_FOREVER);
}

/* ---- taking ---- */

/* Whether the lead is certain to last for so long; it is renewed where it has to be. */
static bool holds_for(struct pln_turns *turns, pln_ms duration) {
    pln_ns now = pln_clock_precise();
    if (now >= turns->lead_until) {
        return false;
    }
    if (turns->lead_until - now >= duration * 1000000) {
        return true;
    }
    if (pln_l2_queue_hold(pln_cache_l2(turns->cache), &turns->taking, deadline_of(turns)) !=
        PLN_OK) {
        return false;
    }
    turns->lead_until = now + turns->taking.lead * 1000000;
    return turns->lead_until - pln_clock_precise() >= duration * 1000000;
}

static void note_homeless(struct pln_turns *turns, const struct pln_l2_entry *entry) {
    if (!turns->has_homeless) {
        turns->has_homeless = true;
        turns->homeless_at = pln_deadline(turns->homeless_pause);
        turns->homeless_pause = turns->homeless_pause * 2 < HOMELESS_MOST_MS
                                    ? turns->homeless_pause * 2
                                    : HOMELESS_MOST_MS;
    }
    if (!turns->has_told_homeless) {
        turns->has_told_homeless = true;
        pln_logf(&turns->cache->host, PLN_LOG_WARN,
                 "queue: there is no store here for '%.*s', which waits to be stored; it stays "
                 "until there is one",
                 (int) (entry->key.len < 100 ? entry->key.len : 100),
                 (const char *) entry->key.data);
    }
}

/* Returns PLN_OK; PLN_ENOMEM: then all is to be taken anew. */
static int add_all(struct pln_turns *turns, const struct pln_l2_entries *entries) {
    pln_ns now = pln_clock_precise();
    int status = PLN_OK;
    for (size_t i = 0; i < entries->n && status >= 0; i++) {
        const struct pln_l2_entry *entry = &entries->entries[i];
        status = pln_batches_add(turns->batches, entry, now);
        if (status == PLN_MISS) {
            note_homeless(turns, entry);
        }
        turns->taking.after_ms = entry->ms;
        turns->taking.after_seq = entry->seq;
    }
    return status < 0 ? status : PLN_OK;
}

/* That Redis is away is told by its link. */
static void tell_refused(struct pln_turns *turns, int status) {
    if (status != PLN_EL2DOWN && status != PLN_ETIMEOUT && !turns->is_told_refused) {
        turns->is_told_refused = true;
        pln_logf(&turns->cache->host, PLN_LOG_WARN,
                 "queue: nothing is stored, since it cannot be read: %s", pln_error_text());
    }
}

/* Takes what comes next. Returns: PLN_OK; PLN_PENDING where another has the lead; or negative. */
static int take(struct pln_turns *turns) {
    struct pln_l2_entries entries = {.n = 0};
    pln_ms left = ASK_EVERY_MS;
    pln_ns began = pln_clock_precise();
    if (turns->was_filled && pln_batches_count(turns->batches) == 0) { /* a failure forgets none */
        turns->taking.most = turns->taking.most < TAKE_MOST / 2 ? turns->taking.most * 2
                                                                : TAKE_MOST;
    }
    int status = pln_l2_queue_take(pln_cache_l2(turns->cache), &turns->taking, deadline_of(turns),
                                   &entries, &left);
    if (status == PLN_PENDING) {
        lose(turns, left);
        return PLN_PENDING;
    }
    if (status != PLN_OK) { /* what was asked for may have been handed out, and is to be again */
        turns->taking.most = turns->taking.most / 8 + 1; /* perhaps it was too much for the time */
        turns->was_filled = false;
        tell_refused(turns, status);
        lose(turns, AWAY_MS);
        return status;
    }
    turns->is_told_refused = false;
    turns->is_leading = true;
    turns->lead_until = began + turns->taking.lead * 1000000;
    turns->was_filled = entries.n == turns->taking.most;
    status = add_all(turns, &entries);
    bool has_more = turns->taking.is_first || entries.n > 0; /* then of what is new */
    turns->taking.is_first = turns->taking.is_first && entries.n > 0;
    turns->poll_at = has_more ? 0 : pln_deadline(turns->poll);
    pln_l2_entries_fini(&entries);
    if (status < 0) {
        lose(turns, AWAY_MS);
    }
    return status;
}

/* ---- what is over ---- */

/* What is done with the lead, and has become of it. */
static int check(struct pln_turns *turns, int status) {
    if (status == PLN_PENDING) {
        lose(turns, ASK_EVERY_MS);
    }
    return status;
}

static int bury(struct pln_turns *turns, const struct pln_given_up *given_up) {
    struct pln_cache *cache = turns->cache;
    struct pln_l2 *l2 = pln_cache_l2(cache);
    const struct pln_l2_entry *entry = given_up->entry;
    int status = given_up->n_older == 0 ? PLN_OK
                                        : pln_l2_queue_end(l2, &turns->taking, given_up->older,
                                                           given_up->n_older, deadline_of(turns));
    if (status == PLN_OK) {
        status = pln_l2_queue_bury(l2, &turns->taking, entry, given_up->attempts, given_up->error,
                                   given_up->dead, deadline_of(turns));
    }
    if (status == PLN_OK) {
        pln_count(cache->counts, PLN_COUNT_STORE_DEAD, 1);
        pln_logf(&cache->host, PLN_LOG_ERROR,
                 "queue: '%.*s' is a dead letter after %u attempts: %s",
                 (int) (entry->key.len < 100 ? entry->key.len : 100),
                 (const char *) entry->key.data, given_up->attempts, given_up->error);
        pln_batches_buried(turns->batches);
    }
    return status;
}

/* Takes out of the queue what is stored, and then what is given up. What fails is tried again, but
 * for a lost lead. */
static int end_all(struct pln_turns *turns, bool *has_ended) {
    struct pln_given_up given_up;
    size_t n;
    const struct pln_l2_entry *over = pln_batches_over(turns->batches, &n);
    int status = PLN_OK;
    if (n > 0) {
        status = pln_l2_queue_end(pln_cache_l2(turns->cache), &turns->taking, over, n,
                                  deadline_of(turns));
        if (status == PLN_OK) {
            pln_batches_ended(turns->batches);
            *has_ended = true;
            turns->took = 0;
            turns->is_told_slow = false;
        }
    }
    while (status == PLN_OK && pln_batches_given_up(turns->batches, &given_up)) {
        status = bury(turns, &given_up);
        *has_ended = *has_ended || status == PLN_OK;
    }
    return check(turns, status);
}

/* ---- storing ---- */

static bool store(void *arg, size_t group, struct pln_store_item *items, size_t n) {
    struct pln_turns *turns = arg;
    /* of a key an earlier write may have been left out, for want of a store that came meanwhile */
    bool is_current = turns->store_changes == pln_store_changes(turns->cache);
    if (!is_current || !holds_for(turns, terms_of(turns, group)->timeout_ms)) {
        return false;
    }
    size_t n_again = 0;
    for (size_t i = 0; i < n; i++) {
        n_again += items[i].attempt > 1;
    }
    pln_count(turns->cache->counts, PLN_COUNT_STORE_RETRIES, n_again);
    pln_ns began = pln_clock_precise();
    (void) pln_store_run(turns->cache, turns->ruleset,
                         group == 0 ? NULL : &turns->ruleset->rules[group - 1], items, n);
    turns->stored_at = pln_clock_precise();
    turns->took = turns->stored_at < turns->lead_until ? 0 : (turns->stored_at - began) / 1000000;
    return true;
}

/* Tells of trouble once, and of its end. */
static void tell(struct pln_turns *turns) {
    const struct pln_batch_report *report = pln_batches_report(turns->batches);
    const struct pln_host *host = &turns->cache->host;
    if (report->n_again > 0 && report->n_stored == 0 && !turns->is_told_down) {
        turns->is_told_down = true;
        pln_logf(host, PLN_LOG_WARN, "queue: %zu writes are not stored, and are tried again: %s",
                 report->n_again, report->error);
    } else if (report->n_stored > 0 && turns->is_told_down) {
        turns->is_told_down = false;
        pln_logf(host, PLN_LOG_WARN, "queue: writes are stored again");
    }
}

/* One batch, where one is due. Returns as pln_batches_store(). */
static int store_batch(struct pln_turns *turns) {
    turns->stored_at = pln_clock_precise();
    int status = pln_batches_store(turns->batches, &turns->stored_at, store, turns);
    if (status == PLN_OK) {
        tell(turns);
    } else if (status == PLN_PENDING || status < 0) {
        lose(turns, ASK_EVERY_MS);
    }
    return status;
}

/* ---- a turn ---- */

void pln_turns_leave(struct pln_turns *turns) {
    bool has_ended = false;
    if (turns->is_leading) {
        (void) end_all(turns, &has_ended);
    }
    if (turns->is_leading) {
        pln_l2_queue_leave(pln_cache_l2(turns->cache), &turns->taking, deadline_of(turns));
        draw_token(turns);
    }
    begin_anew(turns);
    turns->is_leading = false;
}

/* What has no store here is for others, whom the lead is offered for a while; then it is looked at
 * again. */
static void offer(struct pln_turns *turns) {
    pln_turns_leave(turns);
    turns->ask_at = pln_deadline(OFFER_MS);
}

static bool may_take(const struct pln_turns *turns, bool has_news) {
    return !pln_batches_are_full(turns->batches) &&
           (has_news || !turns->is_leading || pln_clock_precise() >= turns->poll_at);
}

static pln_ns next_turn(struct pln_turns *turns) {
    pln_ns now = pln_clock_precise();
    if (!turns->is_leading) {
        return turns->ask_at;
    }
    pln_ns due = pln_batches_due(turns->batches, now);
    pln_ns renew_at = turns->lead_until - turns->taking.lead * 1000000 / 2;
    if (!pln_batches_are_full(turns->batches)) {
        due = turns->poll_at < due ? turns->poll_at : due;
    }
    if (turns->has_homeless && turns->homeless_at < due) {
        due = turns->homeless_at;
    }
    return due < renew_at ? due : renew_at;
}

/* The lead is certain, and there are turns to come for which it has to be. */
static bool keep_lead(struct pln_turns *turns) {
    if (turns->is_leading && !holds_for(turns, turns->taking.lead / 2)) {
        lose(turns, 0);
    }
    return turns->is_leading;
}

pln_ns pln_turns_take(struct pln_turns *turns, struct pln_drain_turn *turn) {
    bool has_stored = false, has_taken = false;
    turn->is_at_end = turn->has_ended = false;
    follow_policy(turns);
    pln_batches_set_hasty(turns->batches, turn->is_hasty);
    if (turn->is_hurried) {
        pln_batches_hurry(turns->batches, pln_clock_precise());
    }
    if (keep_lead(turns) && turns->has_homeless && pln_clock_precise() >= turns->homeless_at) {
        offer(turns);
    }
    if (turns->is_leading || pln_clock_precise() >= turns->ask_at || turn->is_hurried) {
        has_taken = may_take(turns, turn->has_news);
        if (has_taken) {
            (void) take(turns);
        }
    }
    if (turns->is_leading && end_all(turns, &turn->has_ended) == PLN_OK) {
        has_stored = store_batch(turns) == PLN_OK;
    }
    if (turns->is_leading && has_stored) {
        (void) end_all(turns, &turn->has_ended);
    }
    turn->is_leading = turns->is_leading;
    turn->n_waiting = pln_batches_count(turns->batches);
    bool has_all = pln_batches_are_full(turns->batches) || (has_taken && turns->poll_at > 0);
    turn->is_at_end = !has_stored && (!turns->is_leading || has_all);
    turn->n_wanted = !turns->is_leading ? SIZE_MAX : turn->n_waiting == 0 ? 1 : 500;
    return next_turn(turns);
}
