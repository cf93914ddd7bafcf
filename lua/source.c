/* SPDX-License-Identifier: MIT
 *
 * source.c - the text of a policy file, read once: every state compiles this text, so that an edit
 * of the file between two readings cannot mix two policies.
 */
#include "script.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

enum { TRUSTED_SOURCE = 16 << 20 };

static int split_path(struct pln_source_text *source, const char *path) {
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : (size_t) (slash - path) + 1;
    source->path = strdup(path);
    source->folder = strndup(path, len);
    source->file = strdup(path + len);
    if (source->path == NULL || source->folder == NULL || source->file == NULL) {
        return pln_fail(PLN_ENOMEM, "policy: no memory for a path");
    }
    return PLN_OK;
}

/* "#!/usr/bin/perilune" may stand in the first line: made a comment, so that lines keep their
 * numbers. */
static void hide_first_line(struct pln_source_text *source) {
    char *end = memchr(source->text, '\n', source->len);
    if (source->len > 0 && source->text[0] == '#') {
        memset(source->text, ' ', end == NULL ? source->len : (size_t) (end - source->text));
    }
}

static int read_text(struct pln_source_text *source, const char *path, FILE *file) {
    size_t limit = source->is_trusted ? TRUSTED_SOURCE : PLN_SCRIPT_SOURCE;
    source->text = malloc(limit + 1);
    if (source->text == NULL) {
        return pln_fail(PLN_ENOMEM, "policy: no memory for %s", path);
    }
    struct stat info;
    source->stamp = fstat(fileno(file), &info) == 0 ? pln_file_stamp(&info) : 0;
    source->len = fread(source->text, 1, limit + 1, file);
    if (ferror(file)) {
        return pln_fail(PLN_EPOLICY, "policy: %s cannot be read: %s", path, strerror(errno));
    }
    if (source->len > limit) {
        return pln_fail(PLN_EPOLICY, "policy: %s is larger than %zu kB", path, limit >> 10);
    }
    char *fitted = realloc(source->text, source->len + 1);
    source->text = fitted == NULL ? source->text : fitted;
    hide_first_line(source);
    return PLN_OK;
}

int pln_source_init(struct pln_source_text *source, const char *path, uint32_t flags) {
    *source = (struct pln_source_text){.is_trusted = (flags & PLN_POLICY_TRUSTED) != 0};
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return pln_fail(PLN_EPOLICY, "policy: %s cannot be opened: %s", path, strerror(errno));
    }
    int status = split_path(source, path);
    if (status == PLN_OK) {
        status = read_text(source, path, file);
    }
    fclose(file);
    if (status < 0) {
        pln_source_fini(source);
    }
    return status;
}

void pln_source_fini(struct pln_source_text *source) {
    free(source->text);
    free(source->path);
    free(source->folder);
    free(source->file);
    *source = (struct pln_source_text){.text = NULL};
}
