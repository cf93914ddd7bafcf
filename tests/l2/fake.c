/* SPDX-License-Identifier: MIT
 * fake.c - see fake.h. A thread per connection, so that one may dawdle while the others go on. */
#include "fake.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST_WORDS = 9000, READ_BYTES = 16384 };

/* ---- time ---- */

/* Returns false where the fake is being stopped meanwhile. */
static bool nap(struct fake *fake, int ms) {
    struct pollfd poll_ = {.fd = fake->stop_fd, .events = POLLIN};
    return poll(&poll_, 1, ms) == 0;
}

/* ---- saying ---- */

static bool say(struct fake_connection *connection, const char *bytes, size_t n) {
    while (n > 0) {
        ssize_t sent = send(connection->fd, bytes, n, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        bytes += sent;
        n -= (size_t) sent;
    }
    return true;
}

static bool drip(struct fake_connection *connection, const char *bytes, size_t n, int ms) {
    for (size_t i = 0; i < n; i++) {
        if (!nap(connection->fake, ms) || !say(connection, bytes + i, 1)) {
            return false;
        }
    }
    return true;
}

/* ---- rules ---- */

static bool find_rule(struct fake *fake, const char *begin, struct fake_rule *found) {
    bool is_found = false;
    pthread_mutex_lock(&fake->lock);
    for (size_t i = 0; i < fake->n_rules && !is_found; i++) {
        struct fake_rule *rule = &fake->rules[i];
        size_t len = strlen(rule->command);
        if ((len == 0) == (begin[0] == 0) && strncasecmp(begin, rule->command, len) == 0) {
            unsigned met = fake->n_met[i]++;
            is_found = met >= rule->after && (rule->times == 0 || met < rule->after + rule->times);
            *found = *rule;
        }
    }
    pthread_mutex_unlock(&fake->lock);
    return is_found;
}

/* Returns false where the connection is to be closed. */
static bool follow(struct fake_connection *connection, const struct fake_rule *rule,
                   const char *usual, size_t n_usual) {
    const char *bytes = rule->bytes == NULL ? usual : rule->bytes;
    size_t n = rule->bytes == NULL ? n_usual : rule->len != 0 ? rule->len : strlen(rule->bytes);
    n = rule->cut != 0 && rule->cut < n ? rule->cut : n;
    if (rule->delay_ms > 0 && !nap(connection->fake, rule->delay_ms)) {
        return false;
    }
    bool is_well = rule->drip_ms > 0 ? drip(connection, bytes, n, rule->drip_ms)
                                     : say(connection, bytes, n);
    if (is_well && rule->extra != NULL) {
        is_well = (rule->extra_delay_ms == 0 || nap(connection->fake, rule->extra_delay_ms)) &&
                  say(connection, rule->extra, strlen(rule->extra));
    }
    pthread_mutex_lock(&connection->fake->lock);
    connection->fake->n_followed++;
    pthread_mutex_unlock(&connection->fake->lock);
    while (is_well && rule->end == FAKE_STALL) {
        char byte[READ_BYTES]; /* taken and not looked at */
        is_well = recv(connection->fd, byte, sizeof byte, 0) > 0;
    }
    return is_well && rule->end == FAKE_GO_ON;
}

static bool answer(struct fake_connection *connection, const struct fake_command *command) {
    struct fake_rule rule;
    char *usual = NULL;
    size_t n_usual = 0;
    pthread_mutex_lock(&connection->fake->lock);
    connection->fake->n_commands++;
    pthread_mutex_unlock(&connection->fake->lock);
    bool has_rule = find_rule(connection->fake, command->begin, &rule);
    if (has_rule && rule.bytes != NULL) {
        return follow(connection, &rule, NULL, 0);
    }
    FILE *out = open_memstream(&usual, &n_usual);
    pln_test_fake_usual(connection, command, out);
    fclose(out);
    bool goes_on = has_rule ? follow(connection, &rule, usual, n_usual)
                            : say(connection, usual, n_usual);
    free(usual);
    return goes_on;
}

/* ---- hearing ---- */

/* Reads "*3\r\n" or "$3\r\n" at an offset; false where it is not there yet. */
static bool read_length(const struct fake_connection *connection, size_t *at, size_t *length) {
    const char *from = connection->input + *at;
    const char *end = memmem(from, connection->n_input - *at, "\r\n", 2);
    if (end == NULL) {
        return false;
    }
    *length = strtoul(from + 1, NULL, 10);
    *at = (size_t) (end + 2 - connection->input);
    return true;
}

/* Takes a whole command from the input; returns its length, or 0. */
static size_t read_command(const struct fake_connection *connection, struct fake_command *command) {
    size_t at = 0, len;
    if (connection->n_input == 0 || !read_length(connection, &at, &command->n)) {
        return 0;
    }
    for (size_t i = 0; i < command->n; i++) {
        if (!read_length(connection, &at, &len) || connection->n_input - at < len + 2) {
            return 0;
        }
        command->words[i] = (struct fake_word){connection->input + at, len};
        at += len + 2;
    }
    size_t n = 0;
    for (size_t i = 0; i < command->n && i < 3 && n < sizeof command->begin; i++) {
        n += (size_t) snprintf(command->begin + n, sizeof command->begin - n, "%s%.*s",
                               i == 0 ? "" : " ", (int) command->words[i].len,
                               command->words[i].data);
    }
    return at;
}

static bool take_commands(struct fake_connection *connection, struct fake_command *command) {
    size_t n;
    while ((n = read_command(connection, command)) > 0) {
        bool goes_on = answer(connection, command);
        memmove(connection->input, connection->input + n, connection->n_input - n);
        connection->n_input -= n;
        if (!goes_on) {
            return false;
        }
    }
    return true;
}

static bool hear(struct fake_connection *connection) {
    if (connection->size - connection->n_input < READ_BYTES) {
        connection->size = connection->size * 2 + READ_BYTES;
        connection->input = realloc(connection->input, connection->size);
    }
    ssize_t n = recv(connection->fd, connection->input + connection->n_input, READ_BYTES, 0);
    connection->n_input += n > 0 ? (size_t) n : 0;
    return n > 0;
}

static void *serve(void *arg) {
    struct fake_connection *connection = arg;
    struct fake *fake = connection->fake;
    struct fake_command command = {.words = malloc(MOST_WORDS * sizeof(struct fake_word))};
    struct fake_rule rule;
    bool goes_on = !find_rule(fake, "", &rule) || follow(connection, &rule, "", 0);
    while (goes_on) {
        goes_on = hear(connection) && take_commands(connection, &command);
    }
    free(command.words);
    free(connection->input);
    pthread_mutex_lock(&fake->lock);
    connection->is_done = true;
    fake->n_open--;
    close(connection->fd);
    pthread_mutex_unlock(&fake->lock);
    return NULL;
}

/* ---- accepting ---- */

static void accept_one(struct fake *fake, int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    pthread_mutex_lock(&fake->lock);
    fake->n_accepted++;
    for (size_t i = 0; i < FAKE_CONNECTIONS; i++) {
        struct fake_connection *connection = &fake->connections[i];
        if (connection->is_used && !connection->is_done) {
            continue;
        }
        if (connection->is_used) {
            pthread_join(connection->thread, NULL); /* it has done with the lock */
        }
        *connection = (struct fake_connection){.fake = fake, .is_used = true, .fd = fd};
        fake->n_open++;
        pthread_create(&connection->thread, NULL, serve, connection);
        fd = -1;
        break;
    }
    pthread_mutex_unlock(&fake->lock);
    if (fd >= 0) {
        close(fd);
    }
}

static void open_listeners(struct fake *fake) {
    struct sockaddr_un unix_ = {.sun_family = AF_UNIX};
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_port = htons((uint16_t) fake->port)};
    socklen_t len = sizeof tcp;
    int on = 1;
    tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    snprintf(unix_.sun_path, sizeof unix_.sun_path, "%s", fake->path);
    fake->listeners[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    fake->listeners[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(fake->listeners[1], SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ck_assert_int_eq(bind(fake->listeners[0], (struct sockaddr *) &unix_, sizeof unix_), 0);
    ck_assert_int_eq(bind(fake->listeners[1], (struct sockaddr *) &tcp, sizeof tcp), 0);
    ck_assert_int_eq(listen(fake->listeners[0], 64) + listen(fake->listeners[1], 64), 0);
    ck_assert_int_eq(getsockname(fake->listeners[1], (struct sockaddr *) &tcp, &len), 0);
    fake->port = ntohs(tcp.sin_port);
}

static void close_listeners(struct fake *fake) {
    close(fake->listeners[0]);
    close(fake->listeners[1]);
    unlink(fake->path);
}

static void *run(void *arg) {
    struct fake *fake = arg;
    struct pollfd polls[3] = {{.fd = fake->stop_fd, .events = POLLIN},
                              {.fd = fake->listeners[0], .events = POLLIN},
                              {.fd = fake->listeners[1], .events = POLLIN}};
    while (poll(polls, 3, -1) >= 0 && polls[0].revents == 0) {
        for (size_t i = 1; i < 3; i++) {
            if (polls[i].revents != 0) {
                accept_one(fake, polls[i].fd);
            }
        }
    }
    return NULL;
}

static void start_accepting(struct fake *fake) {
    fake->stop_fd = eventfd(0, EFD_CLOEXEC);
    open_listeners(fake);
    ck_assert_int_eq(pthread_create(&fake->thread, NULL, run, fake), 0);
}

/* Ends every thread: those that nap by the eventfd, those that hear by their sockets. */
static void stop_accepting(struct fake *fake) {
    ck_assert_int_eq(eventfd_write(fake->stop_fd, 1), 0);
    pthread_join(fake->thread, NULL);
    close_listeners(fake);
    pln_test_fake_hang_up(fake);
    for (size_t i = 0; i < FAKE_CONNECTIONS; i++) {
        if (fake->connections[i].is_used) {
            pthread_join(fake->connections[i].thread, NULL);
            fake->connections[i].is_used = false;
        }
    }
    close(fake->stop_fd);
}

/* ---- for tests ---- */

void pln_test_fake_start(struct fake *fake) {
    memset(fake, 0, sizeof *fake);
    snprintf(fake->folder, sizeof fake->folder, "/tmp/pln-fake-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(fake->folder));
    snprintf(fake->path, sizeof fake->path, "%s/fake", fake->folder);
    snprintf(fake->url, sizeof fake->url, "unix:%s", fake->path);
    pthread_mutex_init(&fake->lock, NULL);
    start_accepting(fake);
    snprintf(fake->tcp_url, sizeof fake->tcp_url, "redis://127.0.0.1:%d", fake->port);
}

void pln_test_fake_stop(struct fake *fake) {
    if (!fake->is_refusing) {
        stop_accepting(fake);
    }
    rmdir(fake->folder);
    pthread_mutex_destroy(&fake->lock);
}

void pln_test_fake_rule(struct fake *fake, struct fake_rule rule) {
    pthread_mutex_lock(&fake->lock);
    ck_assert_uint_lt(fake->n_rules, FAKE_RULES);
    fake->n_met[fake->n_rules] = 0;
    fake->rules[fake->n_rules++] = rule;
    pthread_mutex_unlock(&fake->lock);
}

void pln_test_fake_forget_rules(struct fake *fake) {
    pthread_mutex_lock(&fake->lock);
    fake->n_rules = 0;
    pthread_mutex_unlock(&fake->lock);
}

void pln_test_fake_refuse(struct fake *fake, bool is_refusing) {
    if (is_refusing) {
        stop_accepting(fake);
    } else {
        start_accepting(fake);
    }
    fake->is_refusing = is_refusing;
}

void pln_test_fake_hang_up(struct fake *fake) {
    pthread_mutex_lock(&fake->lock);
    for (size_t i = 0; i < FAKE_CONNECTIONS; i++) {
        struct fake_connection *connection = &fake->connections[i];
        if (connection->is_used && !connection->is_done) {
            shutdown(connection->fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&fake->lock);
}

static size_t look(struct fake *fake, const size_t *count) {
    pthread_mutex_lock(&fake->lock);
    size_t n = *count;
    pthread_mutex_unlock(&fake->lock);
    return n;
}

size_t pln_test_fake_accepted(struct fake *fake) {
    return look(fake, &fake->n_accepted);
}

size_t pln_test_fake_commands(struct fake *fake) {
    return look(fake, &fake->n_commands);
}

size_t pln_test_fake_followed(struct fake *fake) {
    return look(fake, &fake->n_followed);
}

size_t pln_test_fake_open(struct fake *fake) {
    return look(fake, &fake->n_open);
}

unsigned pln_test_fake_met(struct fake *fake, size_t rule) {
    pthread_mutex_lock(&fake->lock);
    unsigned n = fake->n_met[rule];
    pthread_mutex_unlock(&fake->lock);
    return n;
}
