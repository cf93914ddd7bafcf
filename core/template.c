/* SPDX-License-Identifier: MIT
 *
 * template.c - patterns that keys are matched against and texts that captures are filled into.
 *
 * Both are one thing: literals and captures in turn. A pattern is read so that matching needs no
 * second thought: a capture ends at the first occurrence of the byte that follows it in the
 * pattern, so a key is walked once, without going back, whatever it looks like. For the same reason
 * a pattern is a row of steps: what a key must have, one after the other. By these many patterns
 * are searched at once (matcher.c), and two compared exactly (cover.c).
 *
 * "{{" and "}}" stand for the braces themselves.
 */
#include "policy.h"

#include <ctype.h>
#include <stdio.h>

enum { MAX_TEXT = PLN_MAX_STEPS - 1 }; /* bytes of a pattern or template */

enum part_kind { LITERAL, FIELD, REST };

struct part {
    enum part_kind kind;
    unsigned capture; /* its place among the pattern's */
    const char *at;   /* LITERAL: the bytes, FIELD: its name; into `bytes` */
    size_t len;
};

struct pln_template {
    char *text;  /* as written */
    char *bytes; /* literals and names, each name ended by a zero */
    size_t n_parts;
    unsigned n_captures;
    const char *names[PLN_MAX_CAPTURES]; /* of a pattern */
    struct pln_bytes sample;             /* of a pattern: a key that it matches; into `bytes` */
    struct part parts[];
};

/* What the names in a text refer to. */
enum role { PATTERN, OF_PATTERN, OF_EVENT };

struct parser {
    const char *text;
    enum role role;
    const struct pln_template *names;
    size_t at;   /* in text */
    size_t used; /* of template->bytes */
    struct pln_template *template;
};

static int fail_at(const struct parser *parser, size_t at, const char *what) {
    return pln_fail(PLN_EINVAL, "'%s': at byte %zu: %s", parser->text, at + 1, what);
}

/* ---- reading ---- */

static int find_name(const struct pln_template *template, const char *name) {
    for (unsigned i = 0; i < template->n_captures; i++) {
        if (strcmp(template->names[i], name) == 0) {
            return (int) i;
        }
    }
    return -1;
}

/* Gives a capture its place: a new one of the pattern, or that of the pattern filled from. */
static int place_capture(struct parser *parser, struct part *part, size_t at) {
    struct pln_template *template = parser->template;
    if (parser->role == OF_EVENT) {
        return PLN_OK;
    }
    if (parser->role == OF_PATTERN) {
        int place = find_name(parser->names, part->at);
        if (place < 0) {
            return pln_fail(PLN_EINVAL, "'%s': at byte %zu: pattern '%s' has no %s%s%s",
                            parser->text, at + 1, parser->names->text,
                            part->kind == REST ? "" : "{", part->at, part->kind == REST ? "" : "}");
        }
        part->capture = (unsigned) place;
        return PLN_OK;
    }
    if (find_name(template, part->at) >= 0) {
        return fail_at(parser, at, "this name is there already");
    }
    if (template->n_captures == PLN_MAX_CAPTURES) {
        return fail_at(parser, at, "a pattern has at most 8 captures");
    }
    part->capture = template->n_captures;
    template->names[template->n_captures++] = part->at;
    return PLN_OK;
}

static int add_capture(struct parser *parser, enum part_kind kind, const char *name, size_t len) {
    struct pln_template *template = parser->template;
    size_t at = parser->at;
    if (parser->role == PATTERN && template->n_parts > 0 &&
        template->parts[template->n_parts - 1].kind != LITERAL) {
        return fail_at(parser, at, "two captures side by side: nothing says where one ends");
    }
    struct part *part = &template->parts[template->n_parts++];
    *part = (struct part){kind, 0, template->bytes + parser->used, len};
    memcpy(template->bytes + parser->used, name, len); /* its zero is calloc's */
    parser->used += len + 1;
    return place_capture(parser, part, at);
}

static size_t name_len(const char *text) {
    size_t len = 0;
    while (isalnum((unsigned char) text[len]) || text[len] == '_') {
        len++;
    }
    return isdigit((unsigned char) text[0]) ? 0 : len;
}

static int read_field(struct parser *parser) {
    const char *name = parser->text + parser->at + 1;
    size_t len = name_len(name);
    if (strchr(name, '}') == NULL) {
        return fail_at(parser, parser->at, "'{' is not closed (\"{{\" is a brace itself)");
    }
    if (len == 0 || name[len] != '}') {
        return fail_at(parser, parser->at, "a name has letters, digits and '_', as in {id}");
    }
    int status = add_capture(parser, FIELD, name, len);
    parser->at += len + 2;
    return status;
}

static int read_rest(struct parser *parser) {
    if (parser->role == OF_EVENT) {
        return fail_at(parser, parser->at, "an event has no '*', only named fields");
    }
    if (parser->role == PATTERN && parser->text[parser->at + 1] != 0) {
        return fail_at(parser, parser->at, "'*' takes the rest of a key: it must come last");
    }
    int status = add_capture(parser, REST, "*", 1);
    parser->at++;
    return status;
}

static int read_literal(struct parser *parser) {
    struct pln_template *template = parser->template;
    struct part *part = &template->parts[template->n_parts++];
    *part = (struct part){LITERAL, 0, template->bytes + parser->used, 0};
    const char *text = parser->text + parser->at;
    while (*text != 0 && *text != '*') {
        if (*text == '{' || *text == '}') {
            if (text[0] != text[1]) {
                break;
            }
            text++;
        }
        template->bytes[parser->used++] = *text++;
        part->len++;
    }
    parser->at = (size_t) (text - parser->text);
    if (*text == '}') {
        return fail_at(parser, parser->at, "'}' without '{' (\"}}\" is a brace itself)");
    }
    return PLN_OK;
}

static int read_parts(struct parser *parser) {
    int status = PLN_OK;
    while (status == PLN_OK && parser->text[parser->at] != 0) {
        const char *text = parser->text + parser->at;
        if (text[0] == '{' && text[1] != '{') {
            status = read_field(parser);
        } else if (text[0] == '*') {
            status = read_rest(parser);
        } else {
            status = read_literal(parser);
        }
    }
    return status;
}

/* A key of the pattern's with the shortest captures: a byte that is not the stop, and no rest. */
static void make_sample(struct pln_template *template, char *at) {
    template->sample.data = at;
    for (size_t i = 0; i < template->n_parts; i++) {
        const struct part *part = &template->parts[i];
        if (part->kind == LITERAL) {
            memcpy(at, part->at, part->len);
            at += part->len;
        } else if (part->kind == FIELD) {
            *at++ = i + 1 < template->n_parts && part[1].at[0] == 1 ? 2 : 1;
        }
    }
    template->sample.len = (size_t) (at - (const char *) template->sample.data);
}

static int read_template(struct parser *parser, struct pln_template **template) {
    size_t len = strlen(parser->text);
    if (len == 0) {
        return pln_fail(PLN_EINVAL, "'': it is empty");
    }
    if (len > MAX_TEXT) {
        return pln_fail(PLN_EINVAL, "'%.40s...': it is longer than %d bytes", parser->text,
                        MAX_TEXT);
    }
    /* a part takes at least one byte of text, a name one more for its zero */
    struct pln_template *created = calloc(1, sizeof *created + len * sizeof(struct part));
    int status = PLN_ENOMEM;
    if (created == NULL || (created->text = strdup(parser->text)) == NULL ||
        (created->bytes = calloc(3, len + 1)) == NULL) {
        pln_fail(PLN_ENOMEM, "policy: no memory for a pattern");
        goto out;
    }
    parser->template = created;
    status = read_parts(parser);
    if (status == PLN_OK) {
        make_sample(created, created->bytes + 2 * (len + 1));
        *template = created;
        created = NULL;
    }
out:
    pln_template_free(created);
    return status;
}

int pln_template_new(const char *text, const struct pln_template *names,
                     struct pln_template **template) {
    struct parser parser = {
        .text = text, .role = names == NULL ? PATTERN : OF_PATTERN, .names = names};
    return read_template(&parser, template);
}

int pln_template_new_free(const char *text, struct pln_template **template) {
    struct parser parser = {.text = text, .role = OF_EVENT};
    return read_template(&parser, template);
}

void pln_template_free(struct pln_template *template) {
    if (template != NULL) {
        free(template->text);
        free(template->bytes);
        free(template);
    }
}

const char *pln_template_text(const struct pln_template *template) {
    return template->text;
}

const char *pln_template_name(const struct pln_template *template, size_t i) {
    return i < template->n_captures ? template->names[i] : NULL;
}

struct pln_bytes pln_template_field(const struct pln_template *template, size_t i) {
    for (size_t part = 0; part < template->n_parts; part++) {
        if (template->parts[part].kind != LITERAL && i-- == 0) {
            return pln_bytes_of(template->parts[part].at, template->parts[part].len);
        }
    }
    return pln_bytes_of(NULL, 0);
}

/* ---- matching ---- */

/* Where the capture ends that begins at `from`; SIZE_MAX where the key has none. The part after a
 * field, if any, is a literal of at least one byte: captures never stand side by side. */
static size_t capture_end(const struct part *part, bool is_last, struct pln_bytes key,
                          size_t from) {
    if (part->kind == REST) {
        return key.len;
    }
    if (from == key.len) {
        return SIZE_MAX;
    }
    if (is_last) {
        return key.len;
    }
    const char *start = (const char *) key.data + from;
    const char *end = memchr(start, part[1].at[0], key.len - from);
    return end == NULL || end == start ? SIZE_MAX : from + (size_t) (end - start);
}

bool pln_template_match(const struct pln_template *pattern, struct pln_bytes key,
                        struct pln_bytes *captures, unsigned *n_captures) {
    size_t at = 0;
    for (size_t i = 0; i < pattern->n_parts; i++) {
        const struct part *part = &pattern->parts[i];
        if (part->kind == LITERAL) {
            if (key.len - at < part->len ||
                memcmp((const char *) key.data + at, part->at, part->len) != 0) {
                return false;
            }
            at += part->len;
            continue;
        }
        size_t end = capture_end(part, i + 1 == pattern->n_parts, key, at);
        if (end == SIZE_MAX) {
            return false;
        }
        captures[part->capture] = pln_bytes_of((const char *) key.data + at, end - at);
        at = end;
    }
    *n_captures = pattern->n_captures;
    return at == key.len;
}

/* ---- as steps ---- */

size_t pln_template_steps(const struct pln_template *pattern, uint16_t *steps) {
    size_t n = 0;
    for (size_t i = 0; i < pattern->n_parts; i++) {
        const struct part *part = &pattern->parts[i];
        if (part->kind == REST) {
            steps[n++] = PLN_STEP_REST;
            return n;
        }
        if (part->kind == FIELD && i + 1 == pattern->n_parts) {
            steps[n++] = PLN_STEP_LAST;
            return n;
        }
        if (part->kind == FIELD) {
            steps[n++] = (uint16_t) (PLN_STEP_FIELD + (unsigned char) part[1].at[0]);
        }
        for (size_t k = 0; part->kind == LITERAL && k < part->len; k++) {
            steps[n++] = (unsigned char) part->at[k];
        }
    }
    steps[n++] = PLN_STEP_END;
    return n;
}

struct pln_bytes pln_template_sample(const struct pln_template *pattern) {
    return pattern->sample;
}

/* ---- filling ---- */

static const struct pln_bytes *find_field(const struct pln_field *fields, size_t n_fields,
                                          const struct part *part) {
    for (size_t i = 0; i < n_fields; i++) {
        if (pln_bytes_equal(fields[i].name, pln_bytes_of(part->at, part->len))) {
            return &fields[i].value;
        }
    }
    return NULL;
}

/* Copies bytes to buffer + at. Returns the new end, SIZE_MAX where they do not fit. */
static size_t copy_to(char *buffer, size_t size, size_t at, struct pln_bytes bytes) {
    if (size - at < bytes.len) {
        return SIZE_MAX;
    }
    if (bytes.len > 0) {
        memcpy(buffer + at, bytes.data, bytes.len);
    }
    return at + bytes.len;
}

size_t pln_template_fill(const struct pln_template *template, const struct pln_bytes *captures,
                         char *buffer, size_t size) {
    size_t at = 0;
    for (size_t i = 0; i < template->n_parts && at != SIZE_MAX; i++) {
        const struct part *part = &template->parts[i];
        struct pln_bytes bytes = part->kind == LITERAL ? pln_bytes_of(part->at, part->len)
                                                       : captures[part->capture];
        at = copy_to(buffer, size, at, bytes);
    }
    return at;
}

size_t pln_template_fill_fields(const struct pln_template *template, const struct pln_field *fields,
                                size_t n_fields, char *buffer, size_t size) {
    size_t at = 0;
    for (size_t i = 0; i < template->n_parts && at != SIZE_MAX; i++) {
        const struct part *part = &template->parts[i];
        struct pln_bytes bytes = pln_bytes_of(part->at, part->len);
        if (part->kind != LITERAL) {
            const struct pln_bytes *value = find_field(fields, n_fields, part);
            if (value == NULL) {
                return SIZE_MAX;
            }
            bytes = *value;
        }
        at = copy_to(buffer, size, at, bytes);
    }
    return at;
}
