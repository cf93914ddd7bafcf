/* SPDX-License-Identifier: MIT
 *
 * files.c - the files that a policy was read from, and whether they are as they were then.
 *
 * A file's stamp is made of what changes when it is written or replaced: its number, size and
 * times. Content is not compared: a file that was only touched is read again, and no harm done.
 */
#include "policy.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

uint64_t pln_file_stamp(const struct stat *info) {
    const uint64_t parts[] = {
        info->st_dev,
        info->st_ino,
        (uint64_t) info->st_size,
        (uint64_t) info->st_mtim.tv_sec,
        (uint64_t) info->st_mtim.tv_nsec,
        (uint64_t) info->st_ctim.tv_sec,
        (uint64_t) info->st_ctim.tv_nsec,
    };
    return pln_hash(pln_bytes_of(parts, sizeof parts), 0);
}

/* Paths are kept whole: the program may go to another folder. */
static char *absolute(const char *path) {
    char *joined = NULL;
    char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);
    if (here == NULL) {
        return strdup(path);
    }
    if (asprintf(&joined, "%s/%s", here, path) < 0) {
        joined = NULL;
    }
    free(here);
    return joined;
}

int pln_ruleset_add_file(struct pln_ruleset *ruleset, const char *path, uint64_t stamp) {
    char **grown = realloc(ruleset->files, (ruleset->n_files + 1) * sizeof *grown);
    char *whole = absolute(path);
    if (grown != NULL) {
        ruleset->files = grown;
    }
    if (grown == NULL || whole == NULL) {
        free(whole);
        return pln_fail(PLN_ENOMEM, "policy: no memory for a path");
    }
    ruleset->files[ruleset->n_files++] = whole;
    ruleset->stamp = ruleset->stamp * 31 + stamp;
    return PLN_OK;
}

uint64_t pln_ruleset_stamp_now(const struct pln_ruleset *ruleset) {
    uint64_t stamp = 0;
    for (size_t i = 0; i < ruleset->n_files; i++) {
        struct stat info;
        stamp = stamp * 31 + (stat(ruleset->files[i], &info) == 0 ? pln_file_stamp(&info) : 0);
    }
    return stamp;
}
