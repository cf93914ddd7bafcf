/* SPDX-License-Identifier: MIT
 *
 * loaders.c - loaders that a policy calls for by name.
 *
 * Those that the program registered run on workers, where the policy's own functions run. Those of
 * one call's options run in the calling thread, as a call's own loader does, and what is loaded
 * behind knows nothing of them.
 */
#include "hosts.h"

struct pln_registered {
    struct pln_registered *next;
    pln_loader loader;
    void *arg;
    char name[];
};

/* ---- the list ---- */

static struct pln_registered **find_locked(struct pln_cache *cache, const char *name) {
    struct pln_registered **place = &cache->loaders;
    while (*place != NULL && strcmp((*place)->name, name) != 0) {
        place = &(*place)->next;
    }
    return place;
}

static struct pln_registered *new_registered(const char *name, pln_loader loader, void *arg) {
    size_t size = strlen(name) + 1;
    struct pln_registered *created = malloc(sizeof *created + size);
    if (created != NULL) {
        *created = (struct pln_registered){.loader = loader, .arg = arg};
        memcpy(created->name, name, size);
    }
    return created;
}

int pln_register_loader(struct pln_cache *cache, const char *name, pln_loader loader, void *arg) {
    size_t len = name == NULL ? 0 : strlen(name);
    struct pln_registered *created = NULL;
    if (cache == NULL || len == 0 || len > PLN_MAX_LOADER_NAME) {
        return pln_fail(PLN_EINVAL, "register_loader: a cache, and a name of 1 to %d bytes wanted",
                        PLN_MAX_LOADER_NAME);
    }
    if (loader != NULL && (created = new_registered(name, loader, arg)) == NULL) {
        return pln_fail(PLN_ENOMEM, "register_loader: no memory for '%s'", name);
    }
    pthread_mutex_lock(&cache->policy_lock);
    struct pln_registered **place = find_locked(cache, name);
    struct pln_registered *former = *place;
    if (former != NULL) {
        *place = former->next;
    }
    if (created != NULL) {
        created->next = cache->loaders;
        cache->loaders = created;
    }
    pthread_mutex_unlock(&cache->policy_lock);
    free(former);
    return PLN_OK;
}

void pln_loaders_free(struct pln_cache *cache) {
    struct pln_registered *next;
    for (struct pln_registered *one = cache->loaders; one != NULL; one = next) {
        next = one->next;
        free(one);
    }
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
    struct pln_registered found = {.loader = NULL};
    pthread_mutex_lock(&cache->policy_lock);
    const struct pln_registered *registered = *find_locked(cache, name);
    if (registered != NULL) {
        found.loader = registered->loader;
        found.arg = registered->arg;
    }
    pthread_mutex_unlock(&cache->policy_lock);
    if (found.loader == NULL) {
        return pln_fail(PLN_ELOADER, "no loader '%s' is registered", name);
    }
    pln_fail(PLN_ELOADER, "loader '%s' failed and gave no reason", name);
    int status = check(found.loader(found.arg, key, load), load, name);
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

static bool is_registered(struct pln_cache *cache, const char *name) {
    pthread_mutex_lock(&cache->policy_lock);
    bool is_there = *find_locked(cache, name) != NULL;
    pthread_mutex_unlock(&cache->policy_lock);
    return is_there;
}

bool pln_loader_can_run(const struct pln_request *request) {
    const struct pln_rule *rule = request->match.rule;
    return rule != NULL && (rule->hooks & PLN_RULE_LOAD) != 0 &&
           (rule->loader == NULL || is_registered(request->cache, rule->loader));
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
