/* SPDX-License-Identifier: MIT
 *
 * reply.c - what a server answers, as a tree of our own that hiredis's reader builds through its
 * object functions.
 *
 * hiredis's own objects take an allocation for every element and one more for its bytes. Here a
 * reply is one block for the root and its elements, and a few chunks for the bytes of all strings
 * below it; a lone string is one block. The reader makes a parent before its children and names
 * the child's place in it, so elements can lie side by side.
 *
 * A reply is bounded as it grows: in elements, in depth, and (conn.c) in bytes; hiredis bounded
 * the depth until 1.0. Where an object is refused the reader says "out of memory", so the true
 * reason is kept beside it.
 *
 * The functions of hiredis changed their types from 0.14 to 1.0; both are here.
 */
#include "internal.h"

#include <stdio.h>

enum {
    MOST_ELEMENTS = 1024 * 1024, /* of one reply; what we ask for is bounded below that */
    MOST_DEEP = 8,               /* arrays in arrays: as many as hiredis 0.14 can read */
    FIRST_CHUNK = 512,
    LAST_CHUNK = 64 * 1024,
};

struct chunk {
    struct chunk *next;
    size_t used, size;
    char bytes[];
};

/* The root of a tree: what is allocated for it hangs here. */
struct root {
    struct pln_reply reply; /* first, so that a pointer to it is one to the root */
    struct chunk *chunks;
    size_t next_size;
    struct pln_reply elements[]; /* or the bytes of a lone string */
};

/* ---- memory ---- */

static void *refuse(const redisReadTask *task, const char *why) {
    struct pln_reader_state *state = task->privdata;
    snprintf(state->refusal, sizeof state->refusal, "%s", why);
    return NULL;
}

static char *take_bytes(struct root *root, size_t n) {
    struct chunk *chunk = root->chunks;
    if (chunk == NULL || chunk->size - chunk->used < n) {
        size_t size = n > root->next_size ? n : root->next_size;
        chunk = malloc(sizeof *chunk + size);
        if (chunk == NULL) {
            return NULL;
        }
        *chunk = (struct chunk){.next = root->chunks, .size = size};
        root->chunks = chunk;
        root->next_size = root->next_size < LAST_CHUNK ? root->next_size * 2 : LAST_CHUNK;
    }
    char *bytes = chunk->bytes + chunk->used;
    chunk->used += n;
    return bytes;
}

void pln_reply_free(struct pln_reply *reply) {
    if (reply == NULL) {
        return;
    }
    struct root *root = PLN_CONTAINER_OF(reply, struct root, reply);
    for (struct chunk *chunk = root->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    free(root);
}

struct pln_reply *pln_reply_copy(const struct pln_reply *reply) {
    struct root *root = malloc(sizeof *root + reply->bytes.len + 1);
    assert(reply->n_elements == 0);
    if (root == NULL) {
        return NULL;
    }
    *root = (struct root){.reply = *reply};
    char *bytes = (char *) root->elements;
    if (reply->bytes.len > 0) {
        memcpy(bytes, reply->bytes.data, reply->bytes.len);
    }
    bytes[reply->bytes.len] = 0;
    root->reply.bytes.data = bytes;
    return &root->reply;
}

static void free_object(void *object) {
    pln_reply_free(object);
}

/* ---- objects ---- */

static struct root *new_root(const redisReadTask *task, size_t n_bytes) {
    struct pln_reader_state *state = task->privdata;
    struct root *root = malloc(sizeof *root + n_bytes);
    if (root == NULL) {
        refuse(task, "no memory for a reply");
        return NULL;
    }
    *root = (struct root){.next_size = FIRST_CHUNK};
    state->root = root;
    state->n_elements = 0;
    return root;
}

/* An object without bytes or elements: the root, or its place in its parent. */
static struct pln_reply *new_object(const redisReadTask *task) {
    if (task->parent == NULL) {
        struct root *root = new_root(task, 0);
        return root == NULL ? NULL : &root->reply;
    }
    const struct pln_reply *parent = task->parent->obj;
    /* the elements are ours: const is for those who read the tree */
    return (struct pln_reply *) &parent->elements[task->idx];
}

static enum pln_reply_kind kind_of(int type) {
    switch (type) {
    case REDIS_REPLY_STATUS:
        return PLN_REPLY_STATUS;
    case REDIS_REPLY_ERROR:
        return PLN_REPLY_ERROR;
    case REDIS_REPLY_ARRAY:
        return PLN_REPLY_ARRAY;
#if HIREDIS_MAJOR >= 1
    case REDIS_REPLY_MAP:
        return PLN_REPLY_MAP;
    case REDIS_REPLY_SET:
        return PLN_REPLY_SET;
    case REDIS_REPLY_PUSH:
        return PLN_REPLY_PUSH;
#endif
    default:
        return PLN_REPLY_STRING;
    }
}

static void *create_string(const redisReadTask *task, char *text, size_t len) {
    struct pln_reader_state *state = task->privdata;
    struct pln_reply *reply;
    char *bytes;
#if HIREDIS_MAJOR >= 1
    if (task->type == REDIS_REPLY_VERB && len >= 4) { /* "txt:" before the text */
        text += 4;
        len -= 4;
    }
#endif
    if (task->parent == NULL) {
        struct root *root = new_root(task, len + 1);
        if (root == NULL) {
            return NULL;
        }
        reply = &root->reply;
        bytes = (char *) root->elements;
    } else {
        reply = new_object(task);
        bytes = take_bytes(state->root, len + 1);
        if (bytes == NULL) {
            return refuse(task, "no memory for a reply");
        }
    }
    memcpy(bytes, text, len);
    bytes[len] = 0;
    reply->kind = kind_of(task->type);
    reply->bytes = pln_bytes_of(bytes, len);
    return reply;
}

/* Room for elements; a chunk's bytes are aligned for anything only at its beginning. */
static struct pln_reply *take_elements(struct root *root, size_t n) {
    size_t alignment = _Alignof(struct pln_reply);
    char *bytes = take_bytes(root, n * sizeof(struct pln_reply) + alignment - 1);
    uintptr_t at = ((uintptr_t) bytes + alignment - 1) / alignment * alignment;
    return bytes == NULL ? NULL : (struct pln_reply *) at;
}

static bool is_too_deep(const redisReadTask *task) {
    int depth = 0;
    while (task != NULL && depth <= MOST_DEEP) {
        task = task->parent;
        depth++;
    }
    return depth > MOST_DEEP;
}

static void *create_elements(const redisReadTask *task, size_t n) {
    struct pln_reader_state *state = task->privdata;
    struct pln_reply *reply, *elements;
    size_t before = task->parent == NULL ? 0 : state->n_elements;
    if (is_too_deep(task)) {
        return refuse(task, "a reply of arrays nested more than 8 deep");
    }
    if (n > MOST_ELEMENTS - before) {
        return refuse(task, "a reply over the limit of 1048576 elements");
    }
    if (task->parent == NULL) {
        struct root *root = new_root(task, n * sizeof *elements);
        if (root == NULL) {
            return NULL;
        }
        reply = &root->reply;
        elements = root->elements;
    } else {
        elements = take_elements(state->root, n);
        if (elements == NULL) {
            return refuse(task, "no memory for a reply");
        }
        reply = new_object(task);
    }
    state->n_elements = before + n;
    memset(elements, 0, n * sizeof *elements); /* all nil, until they are read */
    reply->kind = kind_of(task->type);
    reply->elements = elements;
    reply->n_elements = n;
    return reply;
}

static void *create_integer(const redisReadTask *task, long long number) {
    struct pln_reply *reply = new_object(task);
    if (reply != NULL) {
        reply->kind = PLN_REPLY_INTEGER;
        reply->integer = number;
    }
    return reply;
}

static void *create_nil(const redisReadTask *task) {
    struct pln_reply *reply = new_object(task);
    if (reply != NULL) {
        reply->kind = PLN_REPLY_NIL;
    }
    return reply;
}

#if HIREDIS_MAJOR >= 1
static void *create_array(const redisReadTask *task, size_t n) {
    return create_elements(task, n);
}

static void *create_double(const redisReadTask *task, double number, char *text, size_t len) {
    struct pln_reply *reply = create_string(task, text, len); /* what RESP2 would give */
    if (reply != NULL) {
        reply->kind = PLN_REPLY_DOUBLE;
        reply->number = number;
    }
    return reply;
}

static void *create_bool(const redisReadTask *task, int is_true) {
    struct pln_reply *reply = new_object(task);
    if (reply != NULL) {
        reply->kind = PLN_REPLY_BOOL;
        reply->integer = is_true != 0;
    }
    return reply;
}
#else
static void *create_array(const redisReadTask *task, int n) {
    return create_elements(task, (size_t) n);
}
#endif

static const redisReplyObjectFunctions functions = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
    .createNil = create_nil,
    .freeObject = free_object,
#if HIREDIS_MAJOR >= 1
    .createDouble = create_double,
    .createBool = create_bool,
#endif
};

/* ---- for others ---- */

redisReader *pln_reader_new(struct pln_reader_state *state) {
    /* hiredis only reads it, but does not say so */
    redisReader *reader = redisReaderCreateWithFunctions((redisReplyObjectFunctions *) &functions);
    *state = (struct pln_reader_state){0};
    if (reader != NULL) {
        reader->privdata = state;
    }
    return reader;
}

struct pln_reply *pln_reply_more(struct pln_reply *reply, size_t n) {
    return take_elements(PLN_CONTAINER_OF(reply, struct root, reply), n);
}

bool pln_reply_is(const struct pln_reply *reply, const char *error_prefix) {
    return reply->kind == PLN_REPLY_ERROR &&
           strncmp(reply->bytes.data, error_prefix, strlen(error_prefix)) == 0;
}

void pln_replies_free(struct pln_reply **replies, size_t n) {
    for (size_t i = 0; i < n; i++) {
        pln_reply_free(replies[i]);
        replies[i] = NULL;
    }
}
