/* SPDX-License-Identifier: MIT
 *
 * loaders.c - what a policy calls for by name: functions that the program has registered, and
 * loaders among them.
 *
 * Loaders that the program registered run on workers, where the policy's own functions run. Those
 * of one call's options run in the calling thread, as a call's own loader does, and what is loaded
 * behind knows nothing of them.
 */
#include "hosts.h"

struct pln_registered {
    struct pln_registered *next;
    pln_function function;
    void *arg;
    char name[];
};

/* ---- the list ---- */

static struct pln_registered **find_locked(struct pln_registered **list, const char *name) {
    struct pln_registered **place = list;
    while (*place != NULL && strcmp((*place)->name, name) != 0) {
        place = &(*place)->next;
    }
    return place;
}

int pln_register(struct pln_cache *cache, struct pln_registered **list, const char *what,
                 const char *name, pln_function function, void *arg) {
    size_t len = name == NULL ? 0 : strlen(name);
    struct pln_registered *created = NULL;
    if (cache == NULL || len == 0 || len > PLN_MAX_LOADER_NAME) {
        return pln_fail(PLN_EINVAL, "register_%s: a cache, and a name of 1 to %d bytes wanted",
                        what, PLN_MAX_LOADER_NAME);
    }
    if (function != NULL && (created = malloc(sizeof *created + len + 1)) == NULL) {
        return pln_fail(PLN_ENOMEM, "register_%s: no memory for '%s'", what, name);
    }
    pthread_mutex_lock(&cache->policy_lock);
    struct pln_registered **place = find_locked(list, name), *former = *place;
    if (former != NULL) {
        *place = former->next;
    }
    if (created != NULL) {
        *created = (struct pln_registered){.next = *list, .function = function, .arg = arg};
        memcpy(created->name, name, len + 1);
        *list = created;
    }
    /* relaxed: who looks for one has the lock under which this is changed */
    atomic_fetch_add_explicit(&cache->registrations, 1, memory_order_relaxed);
    pthread_mutex_unlock(&cache->policy_lock);
    free(former);
    return PLN_OK;
}

pln_function pln_registered_find(struct pln_cache *cache, struct pln_registered **list,
                                 const char *name, void **arg) {
    pthread_mutex_lock(&cache->policy_lock);
    const struct pln_registered *found = *find_locked(list, name);
    pln_function function = found != NULL ? found->function : NULL;
    *arg = found != NULL ? found->arg : NULL;
    pthread_mutex_unlock(&cache->policy_lock);
    return function;
}

void pln_registered_free(struct pln_registered *list) {
    struct pln_registered *next;
    for (struct pln_registered *one = list; one != NULL; one = next) {
        next = one->next;
        free(one);
    }
}

int pln_register_loader(struct pln_cache *cache, const char *name, pln_loader loader, void *arg) {
    return pln_register(cache, cache != NULL ? &cache->loaders : NULL, "loader", name,
                        (pln_function) loader, arg);
}

static pln_loader find_loader(struct pln_cache *cache, const char *name, void **arg) {
    return (pln_loader) pln_registered_find(cache, &cache->loaders, name, arg);
}

/* ---- loading ---- */

/* What it returned, made one of the three ends that a load has. */
static int check(int status, const struct pln_load *load, const char *name) {
    if (status == PLN_OK && load->value == NULL) {
        return pln_fail(PLN_ELOADER, "loader '%s' succeeded without a value", name);
    }
    if (status > 0 && status != PLN_ABSENT) {
        return pln_fail(PLN_ELOADER, "loader '%s' returned status %d", name, status);
    }
    return status;
}

int pln_cache_load_by_name(struct pln_cache *cache, const char *name, struct pln_bytes key,
                           struct pln_load *load, bool *has_ttl) {
    void *arg;
    pln_loader loader = find_loader(cache, name, &arg);
    if (loader == NULL) {
        return pln_fail(PLN_ELOADER, "no loader '%s' is registered", name);
    }
    pln_fail(PLN_ELOADER, "loader '%s' failed and gave no reason", name);
    int status = check(loader(arg, key, load), load, name);
    *has_ttl = load->ttl_ms != 0;
    return status;
}

int pln_loader_shape(const struct pln_request *request, int status, struct pln_load *load) {
    const struct pln_rule *rule = request->match.rule;
    uint32_t shaping = PLN_RULE_TTL | PLN_RULE_TAGS | PLN_RULE_RELATED;
    status = check(status, load, rule->loader);
    if (status != PLN_OK || (rule->hooks & shaping) == 0) {
        return status;
    }
    pln_ms said = load->ttl_ms;
    status = pln_shape_by_rule(
        request->cache, request->ruleset, &request->match, request->key.key,
        pln_bytes_of(pln_value_data(load->value), pln_value_len(load->value)), load->value->format,
        load);
    load->ttl_ms = said != 0 ? said : load->ttl_ms; /* the loader's word comes first */
    return status;
}

/* The call's: its value is shaped as one that a worker loads. */
static int load_in_caller(void *arg, struct pln_bytes key, struct pln_load *load) {
    const struct pln_request *request = arg;
    const struct pln_get_options *options = request->options;
    int status = options->load_by_name(options->load_arg, request->match.rule->loader, key, load);
    return pln_loader_shape(request, status, load);
}

void pln_loader_choose(struct pln_request *request) {
    const struct pln_rule *rule = request->match.rule;
    if (request->loader == NULL && request->options->load_by_name != NULL && rule != NULL &&
        rule->loader != NULL && (request->options->flags & PLN_GET_NO_LOAD) == 0) {
        request->loader = load_in_caller;
        request->loader_arg = request;
    }
}

bool pln_loader_can_run(const struct pln_request *request) {
    const struct pln_rule *rule = request->match.rule;
    void *arg;
    return rule != NULL && (rule->hooks & PLN_RULE_LOAD) != 0 &&
           (rule->loader == NULL || find_loader(request->cache, rule->loader, &arg) != NULL);
}

int pln_loader_missing(const struct pln_request *request) {
    const struct pln_rule *rule = request->match.rule;
    if (rule == NULL || rule->loader == NULL || request->is_refresh ||
        (request->options->flags & PLN_GET_NO_LOAD) != 0) {
        return PLN_MISS;
    }
    return pln_fail(PLN_ELOADER, "%s:%d: rule '%s': no loader '%s' is registered", rule->file,
                    rule->line, pln_template_text(rule->pattern), rule->loader);
}
