/* SPDX-License-Identifier: MIT
 *
 * memory.c - servers in memory that caches of this process find by name, in the place of a Redis,
 * for the tests of programs that use perilune. What they do, and get wrong when told to, stands in
 * l2/mem.c; here are their names, their handles, and the checks of what is asked.
 *
 * One lives as long as somebody uses it: a cache, or a handle. The list is that of fork.c, which
 * holds it still while the process forks.
 */
#include "engine.h"

enum {
    LONGEST_NAME = 64,
    LONGEST_DELAY_MS = 3600 * 1000, /* what is longer is a unit mistaken */
    WIDEST_REORDER = 1024,
};

static const char prefix[] = "memory:";

/* ---- by name ---- */

const char *pln_memory_name(const char *url) {
    if (strncmp(url, prefix, sizeof prefix - 1) != 0) {
        return NULL;
    }
    const char *name = url + sizeof prefix - 1;
    return strncmp(name, "//", 2) == 0 ? name + 2 : name;
}

static bool is_name(const char *name) {
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    return len > 0 && len <= LONGEST_NAME && name[len] == 0;
}

static int make_memory(const char *name, struct pln_memory **memory) {
    size_t size = strlen(name) + 1;
    struct pln_memory *created = calloc(1, sizeof *created + size);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "memory:%s: no memory for it", name);
    }
    memcpy(created->name, name, size);
    int status = pln_l2_mem_server_new(&created->server);
    if (status < 0) {
        free(created);
        return status;
    }
    pln_l2_mem_server_label(created->server, name);
    *memory = created;
    return PLN_OK;
}

int pln_memory_open(const char *name, struct pln_memory **memory) {
    int status = PLN_OK;
    if (name == NULL || !is_name(name)) {
        return pln_fail(PLN_EINVAL,
                        "memory: a name has 1 to %d letters, digits, '.', '_' or '-', got '%.80s'",
                        LONGEST_NAME, name == NULL ? "" : name);
    }
    struct pln_memory **memories = pln_fork_lock_memories();
    struct pln_memory *found = *memories;
    while (found != NULL && strcmp(found->name, name) != 0) {
        found = found->next;
    }
    if (found == NULL) {
        status = make_memory(name, &found);
        if (status == PLN_OK) {
            found->next = *memories;
            *memories = found;
        }
    }
    if (status == PLN_OK) {
        found->n_users++;
        *memory = found;
    }
    pln_fork_unlock();
    return status;
}

void pln_memory_close(struct pln_memory *memory) {
    if (memory == NULL) {
        return;
    }
    struct pln_memory **at = pln_fork_lock_memories();
    assert(memory->n_users > 0);
    bool is_last = --memory->n_users == 0;
    if (is_last) {
        while (*at != memory) {
            at = &(*at)->next;
        }
        *at = memory->next;
    }
    pln_fork_unlock();
    if (is_last) {
        pln_l2_mem_server_free(memory->server);
        free(memory);
    }
}

int pln_memory_client(void *arg, const struct pln_l2_options *options, struct pln_l2 **l2) {
    struct pln_memory *memory = arg;
    return pln_l2_mem_new(options, memory->server, l2);
}

/* ---- what goes wrong ---- */

/* The client of a cache, or NULL for all. */
static int find_client(struct pln_memory *memory, struct pln_cache *cache, struct pln_l2 **l2) {
    if (memory == NULL) {
        return pln_fail(PLN_EINVAL, "memory: expected a handle, got NULL");
    }
    if (cache != NULL && cache->memory != memory) {
        return pln_fail(PLN_EINVAL, "memory:%s: cache '%s' does not use it", memory->name,
                        cache->name);
    }
    *l2 = cache != NULL ? pln_cache_l2(cache) : NULL;
    return PLN_OK;
}

static int check_delay(const char *name, pln_ms delay) {
    if (delay < 0 || delay > LONGEST_DELAY_MS) {
        return pln_fail(PLN_EINVAL, "%s: must be from 0 to 1 hour, got %lld ms", name,
                        (long long) delay);
    }
    return PLN_OK;
}

static int check_share(const char *name, double share) {
    if (!(share >= 0 && share <= 1)) {
        return pln_fail(PLN_EINVAL, "%s: must be a share from 0 to 1, got %g", name, share);
    }
    return PLN_OK;
}

static int check_faults(const struct pln_memory_faults *faults) {
    const struct {
        const char *name;
        pln_ms delay;
    } delays[] = {
        {"delay", faults->delay_ms},
        {"delay_random", faults->delay_random_ms},
        {"message_delay", faults->message_delay_ms},
        {"message_random", faults->message_random_ms},
    };
    const struct {
        const char *name;
        double share;
    } shares[] = {
        {"carried_out", faults->carried_out},
        {"duplicate", faults->duplicate},
        {"lose", faults->lose},
    };
    int status = PLN_OK;
    for (size_t i = 0; status == PLN_OK && i < PLN_ARRAY_LEN(delays); i++) {
        status = check_delay(delays[i].name, delays[i].delay);
    }
    for (size_t i = 0; status == PLN_OK && i < PLN_ARRAY_LEN(shares); i++) {
        status = check_share(shares[i].name, shares[i].share);
    }
    if (status == PLN_OK && faults->reorder > WIDEST_REORDER) {
        status = pln_fail(PLN_EINVAL, "reorder: must be at most %d messages, got %u",
                          WIDEST_REORDER, faults->reorder);
    }
    return status;
}

int pln_memory_faults(struct pln_memory *memory, struct pln_cache *cache,
                      const struct pln_memory_faults *faults) {
    static const struct pln_memory_faults none = {0};
    struct pln_l2 *l2 = NULL;
    int status = find_client(memory, cache, &l2);
    if (status == PLN_OK && faults != NULL) {
        status = check_faults(faults);
    }
    if (status == PLN_OK) {
        pln_l2_mem_faults(memory->server, l2, faults != NULL ? faults : &none);
    }
    return status;
}

int pln_memory_link(struct pln_memory *memory, struct pln_cache *cache, bool is_up) {
    struct pln_l2 *l2 = NULL;
    int status = find_client(memory, cache, &l2);
    if (status == PLN_OK) {
        pln_l2_mem_set_link(memory->server, l2, is_up);
    }
    return status;
}

int pln_memory_cut(struct pln_memory *memory, struct pln_cache *cache, enum pln_memory_cut cut) {
    struct pln_l2 *l2 = NULL;
    int status = find_client(memory, cache, &l2);
    if (status == PLN_OK && (unsigned) cut > PLN_MEMORY_HANGS) {
        status = pln_fail(PLN_EINVAL, "memory:%s: cut: expected one of enum pln_memory_cut, got %d",
                          memory->name, (int) cut);
    }
    if (status == PLN_OK) {
        /* commands before the link: what the link's return lets ask anew is then answered */
        pln_l2_mem_set_cut(memory->server, l2, cut);
        pln_l2_mem_set_link(memory->server, l2, cut == PLN_MEMORY_UNCUT);
    }
    return status;
}

int pln_memory_deliver(struct pln_memory *memory, struct pln_cache *cache, size_t n,
                       size_t *delivered) {
    struct pln_l2 *l2 = NULL;
    int status = find_client(memory, cache, &l2);
    if (status == PLN_OK) {
        size_t reported = pln_l2_mem_bring(memory->server, l2, n);
        if (delivered != NULL) {
            *delivered = reported;
        }
    }
    return status;
}

void pln_memory_forget(struct pln_memory *memory) {
    pln_l2_mem_forget(memory->server);
}

int pln_memory_evict(struct pln_memory *memory, double share, size_t *evicted) {
    struct pln_l2 *l2;
    int status = find_client(memory, NULL, &l2);
    if (status == PLN_OK) {
        status = check_share("share", share);
    }
    if (status == PLN_OK) {
        size_t n = pln_l2_mem_evict(memory->server, share);
        if (evicted != NULL) {
            *evicted = n;
        }
    }
    return status;
}

void pln_memory_stats(struct pln_memory *memory, struct pln_memory_stats *stats) {
    pln_l2_mem_stats(memory->server, stats);
}
