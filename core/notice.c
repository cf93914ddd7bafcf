/* SPDX-License-Identifier: MIT
 *
 * notice.c - what an entry of a stream or a message on a channel says: an event, and its fields.
 *
 *     {"event": "user.changed", "id": 7, "name": "Ada"}       a message: an object in JSON
 *     user.changed id=7 name=Ada                              or words
 *     XADD shop:events * event user.changed id 7              an entry: pairs of which one is
 * `event`
 *
 * All of it comes from outside, so all is bounded, and what cannot be meant is refused with its
 * place. JSON is read by jansson, which checks UTF-8, bounds the depth and keeps whole numbers of
 * 64 bits whole; nothing but text, whole numbers and booleans is taken, for nothing else has one
 * way to be written into a key. A null is a field that is not there.
 */
#include "feeder.h"

#include <jansson.h>
#include <stdio.h>

enum { NUMBER_ROOM = 24 };

/* What a notice keeps: the tree, or a copy of the words, and the texts of the numbers. */
struct memory {
    json_t *json;
    char numbers[PLN_NOTICE_FIELDS][NUMBER_ROOM];
};

void pln_notice_fini(struct pln_notice *notice) {
    struct memory *memory = notice->memory;
    if (memory != NULL) {
        json_decref(memory->json);
        free(memory);
    }
    *notice = (struct pln_notice){.n_fields = 0};
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int check_size(size_t bytes) {
    return bytes <= PLN_NOTICE_BYTES
               ? PLN_OK
               : pln_fail(PLN_ETOOBIG, "it has %zu bytes, %d at most", bytes, PLN_NOTICE_BYTES);
}

static int check_event(struct pln_bytes event) {
    const unsigned char *bytes = event.data;
    if (event.len == 0 || event.len > PLN_NOTICE_EVENT) {
        return pln_fail(PLN_EINVAL, "the event's name has %zu bytes, must have 1 to %d", event.len,
                        PLN_NOTICE_EVENT);
    }
    for (size_t i = 0; i < event.len; i++) {
        if (bytes[i] < ' ' || bytes[i] == 0x7f) {
            return pln_fail(PLN_EINVAL, "the event's name has the byte 0x%02x at %zu", bytes[i],
                            i + 1);
        }
    }
    return PLN_OK;
}

static int add(struct pln_notice *notice, struct pln_bytes name, struct pln_bytes value) {
    if (notice->n_fields == PLN_NOTICE_FIELDS) {
        return pln_fail(PLN_ETOOBIG, "it has more than %d fields", PLN_NOTICE_FIELDS);
    }
    for (size_t i = 0; i < notice->n_fields; i++) {
        if (pln_bytes_equal(notice->fields[i].name, name)) {
            return pln_fail(PLN_EINVAL, "the field '%.*s' is there twice",
                            name.len > 64 ? 64 : (int) name.len, (const char *) name.data);
        }
    }
    notice->fields[notice->n_fields++] = (struct pln_field){name, value};
    return PLN_OK;
}

/* ---- JSON ---- */

/* The text of a value; its bytes lie in the tree, or in `room`. */
static int text_of(const char *name, const json_t *value, char room[NUMBER_ROOM],
                   struct pln_bytes *text) {
    switch (json_typeof(value)) {
    case JSON_STRING:
        *text = pln_bytes_of(json_string_value(value), json_string_length(value));
        return PLN_OK;
    case JSON_INTEGER:
        snprintf(room, NUMBER_ROOM, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        *text = pln_key(room);
        return PLN_OK;
    case JSON_TRUE:
    case JSON_FALSE:
        *text = json_is_true(value) ? pln_key("true") : pln_key("false");
        return PLN_OK;
    case JSON_REAL:
        return pln_fail(PLN_EINVAL, "the field '%.64s' is a fraction: put it in quotes", name);
    default:
        return pln_fail(PLN_EINVAL, "the field '%.64s' is %s, must be a text, number or boolean",
                        name, json_is_array(value) ? "an array" : "an object");
    }
}

static int read_members(json_t *json, struct pln_notice *notice) {
    struct memory *memory = notice->memory;
    const char *name;
    json_t *value;
    int status = PLN_OK;
    json_object_foreach(json, name, value) {
        bool is_event = strcmp(name, "event") == 0;
        struct pln_bytes text;
        if (is_event ? !json_is_string(value) : json_is_null(value)) {
            continue;
        }
        if (notice->n_fields == PLN_NOTICE_FIELDS) {
            return add(notice, pln_key(name), pln_key(""));
        }
        status = text_of(name, value, memory->numbers[notice->n_fields], &text);
        if (status == PLN_OK && is_event) {
            notice->event = text;
        } else if (status == PLN_OK) {
            status = add(notice, pln_key(name), text);
        }
        if (status != PLN_OK) {
            return status;
        }
    }
    return notice->event.data != NULL
               ? PLN_OK
               : pln_fail(PLN_EINVAL, "the object has no \"event\" that is a text");
}

static int read_json(struct pln_bytes message, struct pln_notice *notice) {
    struct memory *memory = notice->memory;
    json_error_t error;
    memory->json = json_loadb(message.data, message.len, JSON_REJECT_DUPLICATES, &error);
    if (memory->json == NULL) {
        return pln_fail(PLN_EINVAL, "no JSON: %s, at byte %d", error.text, error.position);
    }
    return read_members(memory->json, notice);
}

/* ---- words ---- */

/* The next word of the text, and what is left of it. */
static struct pln_bytes next_word(struct pln_bytes *text) {
    const char *at = text->data, *end = at + text->len, *begin;
    while (at < end && is_blank(*at)) {
        at++;
    }
    for (begin = at; at < end && !is_blank(*at);) {
        at++;
    }
    *text = pln_bytes_of(at, (size_t) (end - at));
    return pln_bytes_of(begin, (size_t) (at - begin));
}

static int read_words(struct pln_bytes message, struct pln_notice *notice) {
    struct pln_bytes left = message, word;
    int status = PLN_OK;
    notice->event = next_word(&left);
    while (status == PLN_OK && (word = next_word(&left)).len > 0) {
        const char *equals = memchr(word.data, '=', word.len);
        size_t n = equals == NULL ? 0 : (size_t) (equals - (const char *) word.data);
        status = n == 0 ? pln_fail(PLN_EINVAL, "'%.*s' is no NAME=VALUE",
                                   word.len > 64 ? 64 : (int) word.len, (const char *) word.data)
                        : add(notice, pln_bytes_of(word.data, n),
                              pln_bytes_of(equals + 1, word.len - n - 1));
    }
    return status;
}

/* ---- both ---- */

static int end(struct pln_notice *notice, int status) {
    status = status == PLN_OK ? check_event(notice->event) : status;
    if (status != PLN_OK) {
        pln_notice_fini(notice);
    }
    return status;
}

int pln_notice_read_message(struct pln_bytes message, struct pln_notice *notice) {
    struct pln_bytes rest = message;
    int status = check_size(message.len);
    *notice = (struct pln_notice){.n_fields = 0};
    if (status != PLN_OK) {
        return status;
    }
    struct pln_bytes first = next_word(&rest);
    if (first.len == 0 || *(const char *) first.data != '{') {
        return end(notice, read_words(message, notice));
    }
    notice->memory = calloc(1, sizeof(struct memory));
    return end(notice, notice->memory == NULL ? pln_fail(PLN_ENOMEM, "no memory for a message")
                                              : read_json(message, notice));
}

int pln_notice_read_entry(const struct pln_reply *entry, struct pln_notice *notice) {
    size_t bytes = 0;
    int status = PLN_OK;
    *notice = (struct pln_notice){.n_fields = 0};
    if (entry == NULL || entry->kind != PLN_REPLY_ARRAY || entry->n_elements % 2 != 0) {
        bool is_gone = entry == NULL || entry->kind == PLN_REPLY_NIL;
        return pln_fail(PLN_EINVAL, "%s",
                        is_gone ? "it was trimmed away before it was read" : "it has no fields");
    }
    for (size_t i = 0; status == PLN_OK && i < entry->n_elements; i += 2) {
        struct pln_bytes name = entry->elements[i].bytes, value = entry->elements[i + 1].bytes;
        bytes += name.len + value.len;
        status = check_size(bytes);
        if (status == PLN_OK && notice->event.data == NULL &&
            pln_bytes_equal(name, pln_key("event"))) {
            notice->event = value;
        } else if (status == PLN_OK) {
            status = add(notice, name, value);
        }
    }
    if (status == PLN_OK && notice->event.data == NULL) {
        status = pln_fail(PLN_EINVAL, "it has no field 'event'");
    }
    return end(notice, status);
}
