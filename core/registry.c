/* SPDX-License-Identifier: MIT
 *
 * registry.c - engines by name: a cache that all of the process shares, whatever opens it. A host
 * may have a Lua state for each thread, or for each request, and each opens the same name.
 *
 * The list belongs to the process, as that of fork.c. An engine stands in it while it is being
 * opened, which may take as long as a policy's reading; who wants it meanwhile waits. Its users are
 * counted; the last one closes it, but for one that stays: that is ended by name, or by the
 * process.
 */
#include "engine.h"

struct pln_engine {
    struct pln_engine *next;
    struct pln_cache *cache; /* NULL: it is being opened */
    pthread_t opener;
    char *settings; /* NULL: none */
    size_t n_users;
    bool stays;
    char name[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over all of them, and: */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct pln_engine *engines;

static struct pln_engine *find_locked(const char *name) {
    struct pln_engine *engine = engines;
    while (engine != NULL && strcmp(engine->name, name) != 0) {
        engine = engine->next;
    }
    return engine;
}

static void unlist_locked(struct pln_engine *engine) {
    struct pln_engine **at = &engines;
    while (*at != engine) {
        at = &(*at)->next;
    }
    *at = engine->next;
}

static void free_engine(struct pln_engine *engine) {
    free(engine->settings);
    free(engine);
}

/* ---- one that is there ---- */

static int compare(const struct pln_engine *engine, const struct pln_options *options,
                   const char *settings) {
    char text[PLN_ERROR_TEXT];
    const struct pln_options *running = pln_start_options(engine->cache->start);
    int status = options == NULL ? PLN_OK : pln_options_compare(running, options);
    if (status == PLN_OK && settings != NULL &&
        (engine->settings == NULL || strcmp(engine->settings, settings) != 0)) {
        status = pln_fail(PLN_EINVAL, "%.200s, not %.200s",
                          engine->settings == NULL ? "nothing of the kind" : engine->settings,
                          settings);
    }
    if (status < 0) {
        memcpy(text, pln_error_text(), sizeof text);
        pln_fail(status, "open: engine '%s' runs with other options: %s", engine->name, text);
    }
    return status;
}

/* Joins the engine of the name. PLN_MISS: there is none. */
static int join_locked(const char *name, const struct pln_options *options,
                       const struct pln_engine_options *wanted, struct pln_cache **cache) {
    struct pln_engine *engine;
    while ((engine = find_locked(name)) != NULL && engine->cache == NULL) {
        if (pthread_equal(engine->opener, pthread_self())) {
            return pln_fail(PLN_EBUSY, "open: engine '%s' is being opened by this very thread",
                            name);
        }
        pthread_cond_wait(&changed, &lock);
    }
    if (engine == NULL) {
        return PLN_MISS;
    }
    int status = compare(engine, options, wanted->settings);
    if (status == PLN_OK) {
        engine->n_users++;
        engine->stays = engine->stays || wanted->stays;
        *cache = engine->cache;
    }
    return status;
}

/* ---- a new one ---- */

static int list_locked(const char *name, const struct pln_engine_options *wanted,
                       struct pln_engine **engine) {
    size_t size = strlen(name) + 1;
    struct pln_engine *created = calloc(1, sizeof *created + size);
    if (created == NULL ||
        (wanted->settings != NULL && (created->settings = strdup(wanted->settings)) == NULL)) {
        free(created);
        return pln_fail(PLN_ENOMEM, "open: no memory for an engine");
    }
    memcpy(created->name, name, size);
    created->opener = pthread_self();
    created->n_users = 1;
    created->stays = wanted->stays;
    created->next = engines;
    engines = created;
    *engine = created;
    return PLN_OK;
}

static int open_new(const struct pln_options *options, const struct pln_engine_options *wanted,
                    struct pln_cache **cache) {
    char text[PLN_ERROR_TEXT];
    int status = pln_open(options, cache);
    if (status == PLN_OK && wanted->prepare != NULL) {
        status = wanted->prepare(wanted->arg, *cache);
        if (status < 0) {
            memcpy(text, pln_error_text(), sizeof text); /* closing may fail in other words */
            pln_close(*cache);
            pln_fail(status, "%s", text);
        }
    }
    return status;
}

/* What was opened is everybody's, or not there. */
static void settle(struct pln_engine *engine, struct pln_cache *cache) {
    pthread_mutex_lock(&lock);
    if (cache != NULL) {
        cache->engine = engine;
        engine->cache = cache;
    } else {
        unlist_locked(engine);
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    if (cache == NULL) {
        free_engine(engine);
    }
}

int pln_open_named(const struct pln_options *options, const struct pln_engine_options *engine,
                   struct pln_cache **cache) {
    static const struct pln_engine_options none = {0};
    struct pln_engine *listed = NULL;
    struct pln_cache *opened = NULL;
    const char *name = options != NULL && options->name != NULL ? options->name : "perilune";
    engine = engine != NULL ? engine : &none;
    pthread_mutex_lock(&lock);
    int status = join_locked(name, options, engine, &opened);
    if (status == PLN_MISS) {
        status = list_locked(name, engine, &listed);
    }
    pthread_mutex_unlock(&lock);
    if (listed != NULL) {
        status = open_new(options, engine, &opened);
        settle(listed, status == PLN_OK ? opened : NULL);
    }
    if (status == PLN_OK) {
        *cache = opened;
    }
    return status;
}

/* ---- ends ---- */

bool pln_engine_leave(struct pln_engine *engine) {
    pthread_mutex_lock(&lock);
    assert(engine->n_users > 0);
    bool is_last = --engine->n_users == 0 && !engine->stays;
    if (is_last) {
        unlist_locked(engine);
    }
    pthread_mutex_unlock(&lock);
    if (is_last) {
        free_engine(engine);
    }
    return is_last;
}

int pln_shutdown(const char *name) {
    struct pln_cache *cache = NULL;
    int status = PLN_MISS;
    pthread_mutex_lock(&lock);
    struct pln_engine *engine = name == NULL ? NULL : find_locked(name);
    if (engine != NULL && (engine->cache == NULL || engine->n_users > 0)) {
        engine->stays = false;
        status = PLN_PENDING;
    } else if (engine != NULL) {
        cache = engine->cache;
        unlist_locked(engine);
        status = PLN_OK;
    }
    pthread_mutex_unlock(&lock);
    if (cache != NULL) {
        cache->engine = NULL;
        free_engine(engine);
        pln_close(cache);
    }
    return status;
}

/* ---- around a fork ---- */

void pln_engines_freeze(void) {
    pthread_mutex_lock(&lock);
}

/* A child has those that were open. Its users are those of its parent, too, of whom most will never
 * close it there: it has them to its end, or until they are ended by name. */
void pln_engines_thaw(bool is_child) {
    struct pln_engine **at = &engines;
    if (is_child) {
        changed = (pthread_cond_t) PTHREAD_COND_INITIALIZER; /* who waited is not here */
    }
    while (is_child && *at != NULL) {
        struct pln_engine *engine = *at;
        bool is_lost = engine->cache == NULL && !pthread_equal(engine->opener, pthread_self());
        *at = is_lost ? engine->next : engine;
        at = is_lost ? at : &engine->next;
    }
    pthread_mutex_unlock(&lock);
}
