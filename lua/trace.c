/* SPDX-License-Identifier: MIT
 *
 * trace.c - reads a trace: see trace.h. All of it is in memory before any of it is replayed, and is
 * replayed from there as often as there are budgets and policies.
 */
#include "trace.h"

#include <errno.h>
#ifdef PLN_HAVE_LZMA
#include <lzma.h>
#endif
#include <stdio.h>

enum {
    FIRST_BYTES = 1 << 20, /* room to read into, doubled as it fills */
    MOST_FIELDS = 3,
    MOST_VALUE_BYTES = 1 << 30,
    MOST_DIGITS = 12, /* of whole seconds, or bytes: far below what 64 bits hold */
};

struct text {
    char *bytes;
    size_t len, room;
};

/* ---- bytes ---- */

static bool grow(struct text *text) {
    if (text->len < text->room) {
        return true;
    }
    size_t room = text->room > 0 ? 2 * text->room : FIRST_BYTES;
    char *bytes = realloc(text->bytes, room);
    if (bytes == NULL) {
        return false;
    }
    text->bytes = bytes;
    text->room = room;
    return true;
}

static int read_all(const char *path, struct text *text) {
    size_t n = 1;
    errno = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return pln_fail(PLN_EINVAL, "%s: %s", path, strerror(errno));
    }
    while (n > 0 && grow(text)) {
        n = fread(text->bytes + text->len, 1, text->room - text->len, file);
        text->len += n;
    }
    int status = ferror(file) ? pln_fail(PLN_EINVAL, "%s: %s", path, strerror(errno))
                 : n > 0      ? pln_fail(PLN_ENOMEM, "%s: no memory for it", path)
                              : PLN_OK;
    fclose(file);
    return status;
}

static bool is_packed(const struct text *text) {
    static const char magic[] = {'\xfd', '7', 'z', 'X', 'Z', 0};
    return text->len >= sizeof magic && memcmp(text->bytes, magic, sizeof magic) == 0;
}

#ifdef PLN_HAVE_LZMA
static int unpack(const char *path, const struct text *packed, struct text *text) {
    lzma_ret status = LZMA_OK;
    lzma_stream stream = LZMA_STREAM_INIT;
    if (lzma_stream_decoder(&stream, UINT64_MAX, LZMA_CONCATENATED) != LZMA_OK) {
        return pln_fail(PLN_ENOMEM, "%s: no memory to unpack it", path);
    }
    stream.next_in = (const uint8_t *) packed->bytes;
    stream.avail_in = packed->len;
    while (status == LZMA_OK && grow(text)) {
        stream.next_out = (uint8_t *) text->bytes + text->len;
        stream.avail_out = text->room - text->len;
        status = lzma_code(&stream, LZMA_FINISH);
        text->len = text->room - stream.avail_out;
    }
    lzma_end(&stream);
    if (status == LZMA_STREAM_END) {
        return PLN_OK;
    }
    return status == LZMA_OK || status == LZMA_MEM_ERROR
               ? pln_fail(PLN_ENOMEM, "%s: no memory to unpack it", path)
               : pln_fail(PLN_EINVAL, "%s: its xz data is %s", path,
                          status == LZMA_BUF_ERROR ? "cut short" : "damaged");
}
#else
static int unpack(const char *path, const struct text *packed, struct text *text) {
    (void) packed;
    (void) text;
    return pln_fail(PLN_EINVAL, "%s: is packed by xz, and this program was built without liblzma",
                    path);
}
#endif

static int read_text(const char *path, struct text *text) {
    int status = read_all(path, text);
    if (status == PLN_OK && is_packed(text)) {
        struct text packed = *text;
        *text = (struct text){.len = 0};
        status = unpack(path, &packed, text);
        free(packed.bytes);
    }
    return status;
}

/* ---- lines ---- */

/* Where in the file a fault is, for pln_fail(). */
struct place {
    const char *path;
    size_t line;
};

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

/* Cuts a line, without its end, into fields. Returns how many, MOST_FIELDS + 1 where there are
 * more; an empty one has no length. */
static size_t cut(const char *at, const char *end, struct pln_bytes *fields) {
    size_t n = 0;
    while (at < end && is_blank(*at)) {
        at++;
    }
    while (end > at && is_blank(end[-1])) {
        end--;
    }
    bool has_more = at < end;
    while (has_more && n <= MOST_FIELDS) {
        const char *start = at;
        while (at < end && !is_blank(*at) && *at != ',') {
            at++;
        }
        if (n < MOST_FIELDS) {
            fields[n] = pln_bytes_of(start, (size_t) (at - start));
        }
        n++;
        has_more = at < end;
        while (at < end && is_blank(*at)) {
            at++;
        }
        if (at < end && *at == ',') {
            at++;
        }
        while (at < end && is_blank(*at)) {
            at++;
        }
    }
    return n;
}

/* Digits, at most MOST_DIGITS; returns how many. */
static size_t read_digits(struct pln_bytes field, uint64_t *number) {
    const char *text = field.data;
    size_t n = 0;
    *number = 0;
    while (n < field.len && n < MOST_DIGITS && text[n] >= '0' && text[n] <= '9') {
        *number = *number * 10 + (uint64_t) (text[n++] - '0');
    }
    return n;
}

/* What a field is, for a complaint: cut, and without bytes that would spoil a line. */
static const char *shown(struct pln_bytes field, char text[40]) {
    size_t n = field.len < 32 ? field.len : 32;
    for (size_t i = 0; i < n; i++) {
        char c = ((const char *) field.data)[i];
        text[i] = (char) (c >= ' ' && c <= '~' ? c : '?');
    }
    strcpy(text + n, n < field.len ? "..." : "");
    return text;
}

static int read_size(const struct place *place, struct pln_bytes field, uint32_t *size) {
    uint64_t number;
    char text[40];
    if (field.len == 0 || read_digits(field, &number) != field.len || number > MOST_VALUE_BYTES) {
        return pln_fail(PLN_EINVAL,
                        "%s:%zu: a size is whole bytes in digits, at most 1 GiB, got '%s'",
                        place->path, place->line, shown(field, text));
    }
    *size = (uint32_t) number;
    return PLN_OK;
}

static int read_time(const struct place *place, struct pln_bytes field, pln_ms *time) {
    const char *text = field.data;
    char got[40];
    uint64_t seconds;
    size_t n = read_digits(field, &seconds);
    pln_ms ms = 0, unit = 100;
    bool is_good = n > 0;
    if (n < field.len && text[n] == '.') {
        for (n++; n < field.len && text[n] >= '0' && text[n] <= '9'; n++) {
            ms += (text[n] - '0') * unit;
            unit /= 10;
        }
        is_good = is_good && text[n - 1] != '.';
    }
    if (!is_good || n != field.len) {
        return pln_fail(PLN_EINVAL, "%s:%zu: a time is seconds, such as 12.5, got '%s'",
                        place->path, place->line, shown(field, got));
    }
    *time = (pln_ms) seconds * 1000 + ms;
    return PLN_OK;
}

static int read_line(const struct place *place, const struct pln_bytes *fields, size_t n,
                     const struct pln_trace *trace, struct pln_trace_line *line) {
    size_t wanted = trace->has_times ? 3 : trace->has_sizes ? 2 : 1;
    if (n == 0) {
        return pln_fail(PLN_EINVAL, "%s:%zu: an empty line, where a key should be", place->path,
                        place->line);
    }
    if (n > MOST_FIELDS) {
        return pln_fail(PLN_EINVAL, "%s:%zu: more than a key, a size and a time", place->path,
                        place->line);
    }
    if (n != wanted) {
        return pln_fail(PLN_EINVAL, "%s:%zu: %zu field%s, where the lines above have %zu",
                        place->path, place->line, n, n == 1 ? "" : "s", wanted);
    }
    if (fields[0].len == 0 || fields[0].len > PLN_MAX_KEY) {
        return pln_fail(PLN_EINVAL, "%s:%zu: a key of %zu bytes, must be 1 to %d", place->path,
                        place->line, fields[0].len, PLN_MAX_KEY);
    }
    line->key = fields[0].data;
    line->len = (uint32_t) fields[0].len;
    int status = n > 1 ? read_size(place, fields[1], &line->size) : PLN_OK;
    return status == PLN_OK && n > 2 ? read_time(place, fields[2], &line->at) : status;
}

static int check_order(const struct place *place, const struct pln_trace *trace) {
    const struct pln_trace_line *last = &trace->lines[trace->n];
    if (trace->n > 0 && last->at < last[-1].at) {
        return pln_fail(PLN_EINVAL, "%s:%zu: %.3f s is earlier than the line above, %.3f s",
                        place->path, place->line, (double) last->at / 1000,
                        (double) last[-1].at / 1000);
    }
    return PLN_OK;
}

static int read_lines(struct pln_trace *trace, const struct text *text, const char *path) {
    struct place place = {path, 1};
    struct pln_bytes fields[MOST_FIELDS];
    size_t room = 1;
    for (size_t i = 0; i < text->len; i++) {
        room += text->bytes[i] == '\n';
    }
    trace->lines = calloc(room, sizeof *trace->lines);
    if (trace->lines == NULL) {
        return pln_fail(PLN_ENOMEM, "%s: no memory for %zu lines", path, room);
    }
    const char *at = text->bytes, *end = text->bytes + text->len;
    for (; at < end; place.line++) {
        const char *newline = memchr(at, '\n', (size_t) (end - at));
        const char *stop = newline != NULL ? newline : end;
        size_t n = cut(at, stop > at && stop[-1] == '\r' ? stop - 1 : stop, fields);
        if (trace->n == 0) {
            trace->has_sizes = n > 1;
            trace->has_times = n > 2;
        }
        int status = read_line(&place, fields, n, trace, &trace->lines[trace->n]);
        if (status == PLN_OK) {
            status = check_order(&place, trace);
        }
        if (status < 0) {
            return status;
        }
        trace->n++;
        at = stop + 1;
    }
    return trace->n > 0 ? PLN_OK
                        : pln_fail(PLN_EINVAL, "%s:1: empty: a trace has one request a line", path);
}

/* ---- different keys ---- */

/* A set of keys by their hashes: that two of a million share one of 64 bits has a chance of 1 in
 * 30 million. The value's size is the last one seen. */
struct seen {
    uint64_t hash; /* 0: free */
    uint64_t bytes;
};

static int count_keys(struct pln_trace *trace, const char *path) {
    size_t n_slots = 16;
    while (n_slots < trace->n * 2) {
        n_slots *= 2;
    }
    struct seen *slots = calloc(n_slots, sizeof *slots);
    if (slots == NULL) {
        return pln_fail(PLN_ENOMEM, "%s: no memory to count its keys", path);
    }
    for (size_t i = 0; i < trace->n; i++) {
        const struct pln_trace_line *line = &trace->lines[i];
        uint64_t hash = pln_hash(pln_bytes_of(line->key, line->len), 0) | 1;
        size_t at = (hash >> 20) & (n_slots - 1);
        while (slots[at].hash != 0 && slots[at].hash != hash) {
            at = (at + 1) & (n_slots - 1);
        }
        trace->n_keys += slots[at].hash == 0;
        slots[at].hash = hash;
        trace->bytes -= slots[at].bytes;
        slots[at].bytes = line->len + line->size;
        trace->bytes += slots[at].bytes;
    }
    free(slots);
    return PLN_OK;
}

int pln_trace_init(struct pln_trace *trace, const char *path, uint32_t value_bytes) {
    struct text text = {.len = 0};
    *trace = (struct pln_trace){.n = 0};
    int status = read_text(path, &text);
    trace->text = text.bytes;
    if (status == PLN_OK) {
        status = read_lines(trace, &text, path);
    }
    for (size_t i = 0; status == PLN_OK && !trace->has_sizes && i < trace->n; i++) {
        trace->lines[i].size = value_bytes;
    }
    if (status == PLN_OK) {
        status = count_keys(trace, path);
    }
    if (status < 0) {
        pln_trace_fini(trace);
    }
    return status;
}

void pln_trace_fini(struct pln_trace *trace) {
    free(trace->lines);
    free(trace->text);
    *trace = (struct pln_trace){.n = 0};
}
