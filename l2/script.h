/* SPDX-License-Identifier: MIT
 *
 * script.h - running what script.c has; private to this folder, and a part of internal.h.
 */
#ifndef PLN_L2_SCRIPT_H
#define PLN_L2_SCRIPT_H

enum {
    PLN_SCRIPT_MAX_ARGS = 8 + PLN_MAX_TAGS,
    PLN_SCRIPT_MAX_NUMBERS = 6,
    PLN_SCRIPT_MAX_NAMES = 4
};

struct pln_script_call {
    enum pln_script script;
    const struct pln_hashed *key; /* NULL: the script needs the tags only */
    enum pln_message_kind kind;   /* what it tells the others; 0: nothing */
    struct pln_bytes payload;
    struct pln_bytes args[PLN_SCRIPT_MAX_ARGS];
    size_t n_args;
    char numbers[PLN_SCRIPT_MAX_NUMBERS][24]; /* texts of the numbers among them */
    size_t n_numbers;
    const struct pln_bytes *more; /* arguments behind these */
    size_t n_more;
    const char *names[PLN_SCRIPT_MAX_NAMES]; /* keys before the tags', or in the place of all */
    size_t n_names;
    bool is_link;
    bool is_bulk;    /* it may take long: see internal.h */
    bool has_moment; /* before `args`, as the server that it goes to has it on its clock: */
    pln_ms moment;   /* of the precise clock */
    pln_ns since;    /* before `args`, how many microseconds ago this was when it is sent; 0: not */
};

const char *pln_script_text(enum pln_script script);
void pln_script_add(struct pln_script_call *call, struct pln_bytes arg);
void pln_script_add_number(struct pln_script_call *call, int64_t number);
/* A duration; what is longer than any is "". */
void pln_script_add_duration(struct pln_script_call *call, pln_ms duration);
/* An item as set and commit want it: six arguments, and its tags' fields. The memory, of so many
 * bytes, must outlive the call. */
enum { PLN_SCRIPT_ITEM_MAX = PLN_ENVELOPE_BEFORE + 4 + PLN_MAX_TAGS * (1 + 2 + 2 * PLN_MAX_TAG) };
size_t pln_script_item_bytes(const struct pln_l2_item *item);
void pln_script_add_item(struct pln_script_call *call, const struct pln_l2_item *item,
                         uint8_t *memory);
/* The same without the fields. Returns the end of what it has used. */
uint8_t *pln_script_add_envelope(struct pln_script_call *call, const struct pln_l2_item *item,
                                 uint8_t *memory);
/* Runs it. Returns: PLN_OK with a reply that is no error and is the caller's to free. */
int pln_script_run(struct pln_node *node, const struct pln_script_call *call, pln_ns deadline,
                   struct pln_reply **reply);

/* One that is on its way, for who has several; its memory and the call's stay until it is finished.
 */
struct pln_script_running {
    struct pln_node *node;
    const struct pln_script_call *call;
    uint64_t floor; /* of the tags, where they are apart */
    size_t index;   /* of the connection */
    bool by_text;   /* wanted, or used since the server has no hash of it */
    struct pln_request request;
};

/* Queues a script; sends what is queued there; waits for the answer, and returns as the run of one.
 * A failure that another try could mend is tried again in the usual way. */
void pln_script_post(struct pln_node *node, const struct pln_script_call *call, pln_ns deadline,
                     struct pln_script_running *running);
void pln_script_flush(const struct pln_script_running *running);
int pln_script_finish(struct pln_script_running *running, pln_ns deadline,
                      struct pln_reply **reply);

#endif
