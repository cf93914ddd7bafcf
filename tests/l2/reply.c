/* SPDX-License-Identifier: MIT
 * reply.c - see reply.h. */
#include "reply.h"

#include <hiredis/hiredis.h>

enum { MOST_DEEP = 8 };

struct text {
    const char *at, *end;
};

static void fini(struct pln_reply *reply) {
    for (size_t i = 0; i < reply->n_elements; i++) {
        fini((struct pln_reply *) &reply->elements[i]);
    }
    free((void *) reply->elements);
    free((void *) reply->bytes.data);
    *reply = (struct pln_reply){0};
}

void test_reply_free(struct pln_reply *reply) {
    if (reply != NULL) {
        fini(reply);
        free(reply);
    }
}

static void *need(void *memory) {
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static struct pln_bytes copy(const char *bytes, size_t len) {
    char *to = need(malloc(len + 1));
    if (len > 0) {
        memcpy(to, bytes, len);
    }
    to[len] = 0;
    return pln_bytes_of(to, len);
}

static bool take_line(struct text *text, struct pln_bytes *line) {
    const char *begin = text->at;
    const char *newline = begin == text->end ? NULL
                                             : memchr(begin, '\n', (size_t) (text->end - begin));
    if (newline == NULL) {
        return false;
    }
    const char *end = newline > begin && newline[-1] == '\r' ? newline - 1 : newline;
    *line = pln_bytes_of(begin, (size_t) (end - begin));
    text->at = newline + 1;
    return true;
}

static bool read_number(struct pln_bytes line, int64_t *number) {
    char digits[24], *end;
    if (line.len == 0 || line.len >= sizeof digits) {
        return false;
    }
    memcpy(digits, line.data, line.len);
    digits[line.len] = 0;
    *number = strtoll(digits, &end, 10);
    return *end == 0;
}

static bool read_string(struct text *text, int64_t len, struct pln_reply *reply) {
    if (len < 0) {
        return true; /* nil */
    }
    if (len > text->end - text->at) {
        return false;
    }
    reply->kind = PLN_REPLY_STRING;
    reply->bytes = copy(text->at, (size_t) len);
    text->at += len;
    text->at += text->at < text->end && *text->at == '\r';
    text->at += text->at < text->end && *text->at == '\n';
    return true;
}

static bool read_reply(struct text *text, int depth, struct pln_reply *reply);

static bool read_elements(struct text *text, int depth, int64_t n, struct pln_reply *reply) {
    if (n < 0) {
        reply->kind = PLN_REPLY_NIL;
        return true;
    }
    if (n > (text->end - text->at) / 2 || depth == MOST_DEEP) { /* an element has two bytes */
        return false;
    }
    struct pln_reply *elements = n == 0 ? NULL : need(calloc((size_t) n, sizeof *elements));
    reply->elements = elements;
    reply->n_elements = (size_t) n;
    for (int64_t i = 0; i < n; i++) {
        if (!read_reply(text, depth + 1, &elements[i])) {
            return false;
        }
    }
    return true;
}

/* What a failure leaves half done, fini() frees. */
static bool read_reply(struct text *text, int depth, struct pln_reply *reply) {
    static const struct {
        char sign;
        enum pln_reply_kind kind;
    } kinds[] = {{'+', PLN_REPLY_STATUS}, {'-', PLN_REPLY_ERROR}, {':', PLN_REPLY_INTEGER},
                 {'$', PLN_REPLY_NIL},    {'*', PLN_REPLY_ARRAY}, {'_', PLN_REPLY_NIL},
                 {'%', PLN_REPLY_MAP},    {'~', PLN_REPLY_SET},   {'>', PLN_REPLY_PUSH},
                 {'#', PLN_REPLY_BOOL}};
    struct pln_bytes line;
    char sign = text->at < text->end ? *text->at++ : 0;
    size_t i = 0;
    while (i < PLN_ARRAY_LEN(kinds) && kinds[i].sign != sign) {
        i++;
    }
    if (i == PLN_ARRAY_LEN(kinds) || !take_line(text, &line)) {
        return false;
    }
    reply->kind = kinds[i].kind;
    int64_t number = 0;
    switch (sign) {
    case '+':
    case '-':
        reply->bytes = copy(line.data, line.len);
        return true;
    case '_':
        return true;
    case '#':
        reply->integer = line.len == 1 && *(const char *) line.data == 't';
        return true;
    default:
        break;
    }
    if (!read_number(line, &number)) {
        return false;
    }
    if (sign == ':') {
        reply->integer = number;
        return true;
    }
    if (sign == '$') {
        return read_string(text, number, reply);
    }
    bool is_map = sign == '%' && number > 0 && number < INT32_MAX;
    return read_elements(text, depth, is_map ? 2 * number : number, reply);
}

struct pln_reply *test_reply_read(const void *bytes, size_t len) {
    struct text text = {bytes, (const char *) bytes + len};
    struct pln_reply *reply = need(calloc(1, sizeof *reply));
    if (!read_reply(&text, 0, reply)) {
        test_reply_free(reply);
        return NULL;
    }
    return reply;
}

static void convert(const redisReply *from, struct pln_reply *to) {
    switch (from->type) {
    case REDIS_REPLY_INTEGER:
        to->kind = PLN_REPLY_INTEGER;
        to->integer = from->integer;
        break;
    case REDIS_REPLY_ARRAY: {
        to->kind = PLN_REPLY_ARRAY;
        struct pln_reply *elements = need(calloc(from->elements + 1, sizeof *elements));
        to->elements = elements;
        to->n_elements = from->elements;
        for (size_t i = 0; i < from->elements; i++) {
            convert(from->element[i], &elements[i]);
        }
        break;
    }
    case REDIS_REPLY_NIL:
        to->kind = PLN_REPLY_NIL;
        break;
    default:
        to->kind = from->type == REDIS_REPLY_ERROR    ? PLN_REPLY_ERROR
                   : from->type == REDIS_REPLY_STATUS ? PLN_REPLY_STATUS
                                                      : PLN_REPLY_STRING;
        to->bytes = copy(from->str, from->len);
    }
}

struct pln_reply *test_reply_of(const redisReply *reply) {
    struct pln_reply *made = need(calloc(1, sizeof *made));
    convert(reply, made);
    return made;
}
