/* SPDX-License-Identifier: MIT
 *
 * policy.c - what a program does with a policy's file: puts it in force, or only tests it.
 */
#include "script.h"

int pln_policy_read(struct pln_cache *cache, const char *path, uint32_t flags,
                    struct pln_ruleset **ruleset) {
    struct pln_ruleset *created;
    int status = pln_vm_read(cache, path, flags, &created);
    if (status < 0) {
        return status;
    }
    status = pln_tests_verdict(created);
    if (status == PLN_OK) {
        status = pln_cache_check_policy(cache, created);
    }
    if (status < 0) {
        pln_ruleset_unref(created);
        return status;
    }
    *ruleset = created;
    return PLN_OK;
}

static int check_arguments(const struct pln_cache *cache, const char *path, uint32_t flags) {
    if (cache == NULL || path == NULL || (flags & ~(uint32_t) PLN_POLICY_TRUSTED) != 0) {
        return pln_fail(PLN_EINVAL, "policy: a cache, a path and known flags are wanted");
    }
    return PLN_OK;
}

int pln_load_policy(struct pln_cache *cache, const char *path, uint32_t flags) {
    struct pln_ruleset *ruleset;
    int status = check_arguments(cache, path, flags);
    if (status < 0) {
        return status;
    }
    status = pln_policy_read(cache, path, flags, &ruleset);
    if (status == PLN_OK) {
        pln_cache_set_policy_take(cache, ruleset);
    } else {
        pln_cache_policy_refused(cache);
    }
    return status;
}

int pln_policy_test(struct pln_cache *cache, const char *path, uint32_t flags,
                    pln_policy_visit visit, void *arg) {
    struct pln_ruleset *ruleset;
    int status = check_arguments(cache, path, flags);
    if (status == PLN_OK) {
        status = pln_vm_read(cache, path, flags, &ruleset);
    }
    if (status < 0) {
        return status;
    }
    for (size_t i = 0; i < ruleset->n_tests; i++) {
        const struct pln_policy_test *test = &ruleset->tests[i];
        visit(arg, test->key, test->file, test->line, test->failure);
    }
    status = pln_tests_verdict(ruleset);
    pln_ruleset_unref(ruleset);
    return status;
}

struct visitor {
    pln_test_visit visit;
    void *arg;
};

static void visit_plainly(void *arg, const char *key, const char *file, int line,
                          const char *failure) {
    const struct visitor *visitor = arg;
    (void) file;
    visitor->visit(visitor->arg, key, line, failure);
}

int pln_test_policy(struct pln_cache *cache, const char *path, uint32_t flags, pln_test_visit visit,
                    void *arg) {
    struct visitor visitor = {visit, arg};
    return pln_policy_test(cache, path, flags, visit_plainly, &visitor);
}
