/* SPDX-License-Identifier: MIT
 *
 * feeder.c - the threads that feed a cache with events from outside: one for each channel and each
 * stream that the policy in force names.
 *
 * Each has a conversation of its own with Redis, for it blocks there. It survives the server: it
 * connects anew, less and less often, and says so once. What is done with what comes stands in
 * intake.c.
 *
 * When a policy is put in force, its sources are compared with those at work: equal ones go on
 * undisturbed. A child of fork() has none until it is in need of its cache: it is a host that
 * serves then, and no other of its processes hears for it.
 */
#include "feeder.h"
#include "thread.h"

#include <stdio.h>

struct pln_feeders {
    struct pln_cache *cache;
    pthread_mutex_t lock; /* over: */
    struct pln_feeder *first;
};

static const pln_ns first_pause = 20 * 1000000LL;
static const pln_ns last_pause = 2000 * 1000000LL;
static const pln_ns good_life = 1000 * 1000000LL;

pln_ns pln_feeder_pause(pln_ns *backoff) {
    pln_ns longest = *backoff < first_pause ? first_pause : *backoff;
    *backoff = longest * 2 < last_pause ? longest * 2 : last_pause;
    return longest / 2 + (pln_ns) (pln_random64() % (uint64_t) (longest / 2));
}

static const char *kind_name(const struct pln_event_source *source) {
    return source->kind == PLN_EVENT_CHANNEL ? "channel" : "stream";
}

/* ---- the thread ---- */

static void log_change(struct pln_feeder *feeder, bool is_up, bool was_down, const char *reason) {
    const struct pln_host *host = &feeder->cache->host;
    const char *kind = kind_name(&feeder->source), *name = feeder->source.name;
    if (is_up) {
        pln_logf(host, was_down ? PLN_LOG_WARN : PLN_LOG_INFO, "events: %s '%s' is heard%s, at %s",
                 kind, name, was_down ? " again" : "", pln_l2_talk_label(feeder->talk));
    } else {
        pln_logf(host, PLN_LOG_WARN, "events: %s '%s' is not heard: %s", kind, name, reason);
    }
}

/* Listens until the conversation fails, or the source is to end. */
static int listen_on(struct pln_feeder *feeder) {
    pln_ns up_at = pln_clock_precise();
    int status = PLN_OK;
    while (status == PLN_OK && !pln_feeder_is_stopping(feeder)) {
        status = pln_intake_take(feeder);
    }
    if (pln_clock_precise() - up_at > good_life) {
        feeder->backoff = 0;
    }
    return status;
}

static void *run(void *arg) {
    struct pln_feeder *feeder = arg;
    struct pln_reply *nothing;
    bool is_up = false, is_told_down = false;
    while (!pln_feeder_is_stopping(feeder)) {
        int status = pln_l2_talk_open(feeder->talk);
        if (status == PLN_OK) {
            status = pln_intake_begin(feeder);
        }
        is_up = status == PLN_OK;
        if (is_up) {
            log_change(feeder, true, is_told_down, NULL);
            is_told_down = false;
            status = listen_on(feeder);
        }
        if (pln_feeder_is_stopping(feeder)) {
            break;
        }
        if (!is_told_down) {
            log_change(feeder, false, false, pln_error_text());
            is_told_down = true;
        }
        pln_l2_talk_close(feeder->talk);
        (void) pln_l2_talk_hear(feeder->talk, /* it is closed: this is a sleep */
                                pln_clock_precise() + pln_feeder_pause(&feeder->backoff), &nothing);
    }
    pln_l2_talk_close(feeder->talk);
    if (is_up) {
        pln_intake_end(feeder);
    }
    return NULL;
}

/* ---- one source ---- */

static void free_feeder(struct pln_feeder *feeder) {
    if (feeder != NULL) {
        pln_l2_talk_free(feeder->talk);
        free(feeder->source.name);
        free(feeder->source.group);
        free(feeder);
    }
}

static int begin(struct pln_cache *cache, const struct pln_event_source *source,
                 struct pln_feeder **feeder) {
    struct pln_feeder *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "no memory");
    }
    created->cache = cache;
    created->source = *source;
    created->source.file = NULL;
    created->source.name = strdup(source->name);
    created->source.group = source->group == NULL ? NULL : strdup(source->group);
    snprintf(created->consumer, sizeof created->consumer, "%.32s-%016llx", cache->name,
             (unsigned long long) pln_random64());
    int status = created->source.name == NULL ||
                         (source->group != NULL) != (created->source.group != NULL)
                     ? pln_fail(PLN_ENOMEM, "no memory")
                     : pln_l2_talk_new(pln_cache_l2(cache), pln_key(source->name), &created->talk);
    if (status == PLN_OK) {
        status = pln_thread_start(&created->thread, run, created);
    }
    if (status != PLN_OK) {
        free_feeder(created);
        return status;
    }
    *feeder = created;
    return PLN_OK;
}

static void tell_end(struct pln_feeder *feeder) {
    /* relaxed: a flag by itself, as in pln_feeder_is_stopping() */
    atomic_store_explicit(&feeder->is_stopping, true, memory_order_relaxed);
    pln_l2_talk_wake(feeder->talk);
}

static void end(struct pln_feeder *feeder) {
    pthread_join(feeder->thread, NULL);
    free_feeder(feeder);
}

/* ---- all of them ---- */

static bool is_same_text(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool is_same(const struct pln_event_source *a, const struct pln_event_source *b) {
    return a->kind == b->kind && is_same_text(a->name, b->name) &&
           is_same_text(a->group, b->group) && a->idle == b->idle && a->most == b->most &&
           a->dead == b->dead;
}

static bool is_named(const struct pln_ruleset *ruleset, const struct pln_event_source *source) {
    bool is_there = false;
    for (size_t i = 0; i < ruleset->n_sources; i++) {
        is_there = is_there || is_same(&ruleset->sources[i], source);
    }
    return is_there;
}

static bool is_at_work(const struct pln_feeders *feeders, const struct pln_event_source *source) {
    const struct pln_feeder *feeder = feeders->first;
    while (feeder != NULL && !is_same(&feeder->source, source)) {
        feeder = feeder->next;
    }
    return feeder != NULL;
}

/* Ends those that the ruleset, or NULL, does not name; all are told before one is waited for. */
static void end_others_locked(struct pln_feeders *feeders, const struct pln_ruleset *ruleset) {
    struct pln_feeder *kept = NULL, *ended = NULL, *next;
    for (struct pln_feeder *feeder = feeders->first; feeder != NULL; feeder = next) {
        bool stays = ruleset != NULL && is_named(ruleset, &feeder->source);
        struct pln_feeder **list = stays ? &kept : &ended;
        next = feeder->next;
        feeder->next = *list;
        *list = feeder;
        if (!stays) {
            tell_end(feeder);
        }
    }
    feeders->first = kept;
    for (; ended != NULL; ended = next) {
        next = ended->next;
        end(ended);
    }
}

static void begin_new_locked(struct pln_feeders *feeders, const struct pln_ruleset *ruleset) {
    struct pln_cache *cache = feeders->cache;
    for (size_t i = 0; i < ruleset->n_sources; i++) {
        const struct pln_event_source *source = &ruleset->sources[i];
        struct pln_feeder *feeder = NULL;
        if (is_at_work(feeders, source)) {
            continue;
        }
        bool has_redis = cache->has_l2;
        int status = has_redis ? begin(cache, source, &feeder)
                               : pln_fail(PLN_EINVAL, "the cache has no Redis");
        if (status != PLN_OK) {
            /* who opens a cache without Redis knows that it hears nobody */
            pln_logf(&cache->host, has_redis ? PLN_LOG_WARN : PLN_LOG_INFO,
                     "events: %s:%d: %s '%s' is not heard: %s", source->file, source->line,
                     kind_name(source), source->name, pln_error_text());
            continue;
        }
        feeder->next = feeders->first;
        feeders->first = feeder;
    }
}

static void follow_locked(struct pln_feeders *feeders) {
    /* the policy in force, whichever of two that were loaded at once that is */
    struct pln_ruleset *ruleset = pln_cache_policy(feeders->cache);
    end_others_locked(feeders, ruleset);
    begin_new_locked(feeders, ruleset);
    pln_ruleset_unref(ruleset);
}

void pln_feeders_follow(struct pln_feeders *feeders) {
    struct pln_ruleset *ruleset = pln_cache_policy(feeders->cache);
    bool has_any = ruleset->n_sources > 0 && feeders->cache->has_l2;
    pln_ruleset_unref(ruleset);
    /* before the lock, which comes after that of who begins it */
    if (has_any && pln_wake_first(feeders->cache)) {
        return;
    }
    pthread_mutex_lock(&feeders->lock);
    follow_locked(feeders);
    pthread_mutex_unlock(&feeders->lock);
}

int pln_feeders_new(struct pln_cache *cache, struct pln_feeders **feeders) {
    struct pln_feeders *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "open: no memory for sources of events");
    }
    created->cache = cache;
    pthread_mutex_init(&created->lock, NULL);
    *feeders = created;
    return PLN_OK;
}

void pln_feeders_free(struct pln_feeders *feeders) {
    if (feeders != NULL) {
        end_others_locked(feeders, NULL);
        pthread_mutex_destroy(&feeders->lock);
        free(feeders);
    }
}

/* ---- around a fork ---- */

void pln_feeders_freeze(struct pln_feeders *feeders) {
    pthread_mutex_lock(&feeders->lock);
}

void pln_feeders_thaw(struct pln_feeders *feeders, bool is_child) {
    if (is_child) {
        feeders->first = NULL; /* the threads are the parent's */
    }
    pthread_mutex_unlock(&feeders->lock);
}
