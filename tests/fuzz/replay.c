/* SPDX-License-Identifier: MIT
 *
 * replay.c - feeds files to a fuzzer's function, in a build without a fuzzer: each file given as an
 * argument, and each file of a folder given as one. Every input is a test in the output's TAP.
 *
 * So the inputs that once did harm, and those from which the fuzzers start, are tried by every run
 * of the tests, with every compiler and sanitizer.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the program. */
static void bail_out(const char *what, const char *path) {
    printf("Bail out! %s: %s\n", what, path);
    exit(1);
}

static void replay_file(const char *path, unsigned *n_done) {
    FILE *in = fopen(path, "rb");
    struct stat facts;
    if (in == NULL || fstat(fileno(in), &facts) != 0) {
        bail_out("cannot be read", path);
    }
    size_t size = (size_t) facts.st_size;
    uint8_t *data = malloc(size == 0 ? 1 : size); /* no byte more, for the address sanitizer */
    if (data == NULL || fread(data, 1, size, in) != size) {
        bail_out("cannot be read", path);
    }
    fclose(in);
    printf("# %s\n", path); /* before: it may be the last thing said */
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    const char *slash = strrchr(path, '/');
    printf("ok %u - %s\n", ++*n_done, slash == NULL ? path : slash + 1);
}

static int is_shown(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static void replay_folder(const char *path, unsigned *n_done) {
    struct dirent **entries;
    int n = scandir(path, &entries, is_shown, alphasort);
    if (n <= 0) {
        bail_out("has no seeds", path);
    }
    for (int i = 0; i < n; i++) {
        char *file = NULL;
        if (asprintf(&file, "%s/%s", path, entries[i]->d_name) < 0) {
            bail_out("no memory", path);
        }
        replay_file(file, n_done);
        free(file);
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv) {
    unsigned n_done = 0;
    for (int i = 1; i < argc; i++) {
        struct stat facts;
        if (stat(argv[i], &facts) != 0) {
            bail_out("is not there", argv[i]);
        }
        (S_ISDIR(facts.st_mode) ? replay_folder : replay_file)(argv[i], &n_done);
    }
    printf("1..%u\n", n_done);
    return n_done == 0;
}
