/* SPDX-License-Identifier: MIT
 *
 * perilune_reload.h - a part of perilune.h: policies that change while the program runs, and the
 * tests that a policy's file brings along.
 *
 * A file is compiled aside, its cache.test statements are run, and only then does it take the place
 * of the policy in force, at once and as a whole. A call goes on by the policy that it began with;
 * the replaced one is freed when the last such call has ended. No call waits for any of this.
 */
#ifndef PERILUNE_RELOAD_H
#define PERILUNE_RELOAD_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads the file of the policy in force again, and puts what it says now in its place. A file with
 * any fault changes nothing. Returns: PLN_OK, also where another policy was loaded meanwhile;
 * PLN_MISS where none was loaded; PLN_EPOLICY as pln_load_policy(). Threads: any; takes as long as
 * reading the file, once for each worker. */
PLN_API int pln_reload_policy(struct pln_cache *cache);

/* The same for all caches of this process, behind the caller: what becomes of it is logged and
 * counted (policy_reloads, policy_reload_errors). `perilune run` does this on SIGHUP; a host may do
 * it where it sees fit, but not in a signal's handler. Returns how many caches have a policy. */
PLN_API size_t pln_reload_policies(void);

/* Called for a cache.test of a policy's file. `failure` is NULL where it held, else says where it
 * stands, what was expected and what was got. */
typedef void (*pln_test_visit)(void *arg, const char *key, int line, const char *failure);

/* Reads and checks a policy's file as pln_load_policy() would, puts it nowhere, and tells of each
 * of its tests. Returns: PLN_OK where all of them held; PLN_EPOLICY where one did not, or the file
 * has a fault. */
PLN_API int pln_test_policy(struct pln_cache *cache, const char *path, uint32_t flags,
                            pln_test_visit visit, void *arg);

#ifdef __cplusplus
}
#endif

#endif
