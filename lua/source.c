/* SPDX-License-Identifier: MIT
 *
 * source.c - the text of a policy, and of the files that it includes, each read once: every state
 * compiles this text, so that an edit between two readings cannot mix two policies.
 */
#include "script.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

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
static void hide_first_line(char *text, size_t len) {
    char *end = memchr(text, '\n', len);
    if (len > 0 && text[0] == '#') {
        memset(text, ' ', end == NULL ? len : (size_t) (end - text));
    }
}

/* Reads a file whole; the text is the caller's to free, whatever this returns. `what` is its name
 * in failures. */
static int read_text(const char *what, FILE *file, bool is_trusted, struct pln_text *text) {
    size_t limit = is_trusted ? TRUSTED_SOURCE : PLN_SCRIPT_SOURCE;
    text->bytes = malloc(limit + 1);
    if (text->bytes == NULL) {
        return pln_fail(PLN_ENOMEM, "%s: no memory for it", what);
    }
    struct stat info;
    text->stamp = fstat(fileno(file), &info) == 0 ? pln_file_stamp(&info) : 0;
    text->len = fread(text->bytes, 1, limit + 1, file);
    if (ferror(file)) {
        return pln_fail(PLN_EPOLICY, "%s cannot be read: %s", what, strerror(errno));
    }
    if (text->len > limit) {
        return pln_fail(PLN_EPOLICY, "%s is larger than %zu kB", what, limit >> 10);
    }
    char *fitted = realloc(text->bytes, text->len + 1);
    text->bytes = fitted == NULL ? text->bytes : fitted;
    hide_first_line(text->bytes, text->len);
    return PLN_OK;
}

int pln_source_init(struct pln_source_text *source, const char *path, uint32_t flags) {
    *source = (struct pln_source_text){.is_trusted = (flags & PLN_POLICY_TRUSTED) != 0};
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return pln_fail(PLN_EPOLICY, "policy: %s cannot be opened: %s", path, strerror(errno));
    }
    char what[PLN_ERROR_TEXT];
    snprintf(what, sizeof what, "policy: %s", path);
    int status = split_path(source, path);
    if (status == PLN_OK) {
        status = read_text(what, file, source->is_trusted, &source->text);
    }
    fclose(file);
    if (status < 0) {
        pln_source_fini(source);
    }
    return status;
}

/* ---- files that are included ---- */

static void free_included(struct pln_included *included) {
    if (included != NULL) {
        free(included->name);
        free(included->path);
        free(included->text.bytes);
        free(included);
    }
}

/* Opens without waiting: a pipe would keep the reader for as long as it likes. */
static FILE *open_included(const char *path) {
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &about) == 0 && !S_ISREG(about.st_mode)) {
        close(fd);
        errno = S_ISDIR(about.st_mode) ? EISDIR : EINVAL;
        return NULL;
    }
    return fd >= 0 ? fdopen(fd, "r") : NULL;
}

static int read_included(struct pln_source_text *source, struct pln_included *included) {
    FILE *file = open_included(included->path);
    char what[PLN_ERROR_TEXT];
    snprintf(what, sizeof what, "'%s'", included->name);
    if (file == NULL) {
        return pln_fail(PLN_EPOLICY, "%s cannot be opened: %s", what, strerror(errno));
    }
    int status = read_text(what, file, source->is_trusted, &included->text);
    fclose(file);
    return status;
}

int pln_source_include(struct pln_source_text *source, const char *name,
                       const struct pln_included **included) {
    for (const struct pln_included *one = source->includes; one != NULL; one = one->next) {
        if (strcmp(one->name, name) == 0) {
            *included = one;
            return PLN_OK;
        }
    }
    if (source->is_complete) {
        return pln_fail(PLN_EPOLICY, "'%s' was not included when the policy was first read", name);
    }
    if (source->n_includes == PLN_SCRIPT_FILES) {
        return pln_fail(PLN_EPOLICY, "a policy includes at most %d files", PLN_SCRIPT_FILES);
    }
    struct pln_included *created = calloc(1, sizeof *created);
    if (created == NULL || (created->name = strdup(name)) == NULL ||
        asprintf(&created->path, "%s%s", name[0] == '/' ? "" : source->folder, name) < 0) {
        free(created != NULL ? created->name : NULL);
        free(created);
        return pln_fail(PLN_ENOMEM, "no memory for '%s'", name);
    }
    int status = read_included(source, created);
    if (status < 0) {
        free_included(created);
        return status;
    }
    created->next = source->includes;
    source->includes = created;
    source->n_includes++;
    *included = created;
    return PLN_OK;
}

void pln_source_complete(struct pln_source_text *source) {
    if (!source->is_complete) { /* else several threads may be looking */
        source->is_complete = true;
    }
}

void pln_source_fini(struct pln_source_text *source) {
    struct pln_included *next;
    for (struct pln_included *one = source->includes; one != NULL; one = next) {
        next = one->next;
        free_included(one);
    }
    free(source->text.bytes);
    free(source->path);
    free(source->folder);
    free(source->file);
    *source = (struct pln_source_text){.path = NULL};
}
