/* SPDX-License-Identifier: MIT
 *
 * fake.h - a server that says what a test wants it to say: each byte, when, and how it ends.
 *
 * Without rules it is a small Redis, as far as a client of ours can tell: it logs in, takes
 * scripts, hears and tells messages, and for any key has a value that says which key it is of. So
 * an answer that reaches the wrong caller is seen.
 */
#ifndef PLN_TEST_FAKE_H
#define PLN_TEST_FAKE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { FAKE_CONNECTIONS = 128, FAKE_RULES = 8 };

enum fake_end {
    FAKE_GO_ON,
    FAKE_CLOSE, /* after the bytes */
    FAKE_STALL, /* not a byte more, to no command, until the client goes */
};

/* What is done for a command instead of answering it. */
struct fake_rule {
    const char *command; /* the beginning of its words: "GET", "GET ns:v:a"; "" as soon as
                            somebody connects */
    unsigned after;      /* so many of them are answered as usual first */
    unsigned times;      /* then so many by the rule; 0: all */
    const char *bytes;   /* NULL: the usual answer */
    size_t len;          /* 0: as long as the text is */
    int delay_ms;        /* before the bytes */
    int drip_ms;         /* between one byte and the next; 0: all at once */
    size_t cut;          /* only so many of the bytes; 0: all */
    const char *extra;   /* said after them, unasked */
    int extra_delay_ms;  /* between the answer and that */
    enum fake_end end;
};

struct fake;

struct fake_connection {
    struct fake *fake;
    pthread_t thread;
    bool is_used, is_done; /* guarded by the fake's lock, as is the next */
    bool is_subscribed;
    unsigned n_loaded; /* scripts */
    int fd;
    char *input;
    size_t n_input, size;
};

struct fake {
    char folder[64], path[96];
    char url[112];     /* over the unix socket */
    char tcp_url[112]; /* over loopback */
    int port;
    int listeners[2]; /* unix, TCP */
    int stop_fd;      /* an eventfd: everything ends */
    pthread_t thread;

    pthread_mutex_t lock; /* guards all below */
    bool is_refusing;
    struct fake_rule rules[FAKE_RULES];
    unsigned n_met[FAKE_RULES];
    size_t n_rules;
    size_t n_accepted, n_commands, n_followed, n_open;
    long long n_published;
    struct fake_connection connections[FAKE_CONNECTIONS];
};

void pln_test_fake_start(struct fake *fake);
void pln_test_fake_stop(struct fake *fake);
/* Adds a rule; of several that fit a command the first is used. Its texts must live on. */
void pln_test_fake_rule(struct fake *fake, struct fake_rule rule);
void pln_test_fake_forget_rules(struct fake *fake);
/* Takes the sockets away, so that connecting is refused; and puts them back. */
void pln_test_fake_refuse(struct fake *fake, bool is_refusing);
/* Closes every connection. */
void pln_test_fake_hang_up(struct fake *fake);
size_t pln_test_fake_accepted(struct fake *fake);
size_t pln_test_fake_commands(struct fake *fake);
/* How many times all that a rule wants was said. */
size_t pln_test_fake_followed(struct fake *fake);
/* How often a rule was used, or looked at and let pass, by the order in which they were added. */
unsigned pln_test_fake_met(struct fake *fake, size_t rule);
/* Connections that the client has not closed yet. */
size_t pln_test_fake_open(struct fake *fake);

/* ---- between fake.c and fake_usual.c ---- */

struct fake_word {
    const char *data;
    size_t len;
};

struct fake_command {
    struct fake_word *words;
    size_t n;
    char begin[160]; /* its first words with blanks between */
};

/* Writes the usual answer to a command. */
void pln_test_fake_usual(struct fake_connection *connection, const struct fake_command *command,
                         FILE *out);

#endif
