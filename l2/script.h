/* SPDX-License-Identifier: MIT
 *
 * script.h - running what script.c has; private to this folder, and a part of internal.h.
 */
#ifndef PLN_L2_SCRIPT_H
#define PLN_L2_SCRIPT_H

enum { PLN_SCRIPT_MAX_ARGS = 8 + PLN_MAX_TAGS, PLN_SCRIPT_MAX_NUMBERS = 5 };

struct pln_script_call {
    enum pln_script script;
    const struct pln_hashed *key; /* NULL: the script needs the tags only */
    enum pln_message_kind kind;   /* what it tells the others; 0: nothing */
    struct pln_bytes payload;
    struct pln_bytes args[PLN_SCRIPT_MAX_ARGS];
    size_t n_args;
    char numbers[PLN_SCRIPT_MAX_NUMBERS][24]; /* texts of the numbers among them */
    size_t n_numbers;
    bool is_link;
    bool has_moment; /* before `args`, as the server that it goes to has it on its clock: */
    pln_ms moment;   /* of the precise clock */
};

const char *pln_script_text(enum pln_script script);
void pln_script_add(struct pln_script_call *call, struct pln_bytes arg);
void pln_script_add_number(struct pln_script_call *call, int64_t number);
/* A duration; what is longer than any is "". */
void pln_script_add_duration(struct pln_script_call *call, pln_ms duration);
/* An item as set and commit want it: six arguments. The buffers must outlive the call. */
void pln_script_add_item(struct pln_script_call *call, const struct pln_l2_item *item,
                         uint8_t before[PLN_ENVELOPE_BEFORE],
                         uint8_t after[PLN_ENVELOPE_AFTER_MAX]);
/* The fields of its tags, behind all others. Likewise. */
void pln_script_add_tags(struct pln_script_call *call, const struct pln_l2_item *item,
                         char fields[PLN_MAX_TAGS][2 + PLN_MAX_TAG]);
/* Runs it. Returns: PLN_OK with a reply that is no error and is the caller's to free. */
int pln_script_run(struct pln_node *node, const struct pln_script_call *call, pln_ns deadline,
                   struct pln_reply **reply);

#endif
