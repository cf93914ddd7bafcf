/* SPDX-License-Identifier: MIT
 * fake_usual.c - what the server of fake.h says where no rule says otherwise. */
#include "fake.h"

#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "../../l2/internal.h"

static bool is_word(const struct fake_command *command, size_t i, const char *text) {
    return command->n > i && command->words[i].len == strlen(text) &&
           strncasecmp(command->words[i].data, text, strlen(text)) == 0;
}

/* "ns:v:a" has the value "a=1;" in an envelope, fresh for long. */
static void add_value(FILE *out, const struct fake_word *name) {
    char text[160];
    uint8_t envelope[512];
    const char *key = memmem(name->data, name->len, ":v:", 3);
    key = key == NULL ? name->data : key + 3;
    int len = snprintf(text, sizeof text, "%.*s=1;", (int) (name->data + name->len - key), key);
    struct pln_l2_item item = {.value = pln_bytes_of(text, (size_t) len),
                               .fresh_left = 3600000,
                               .life_left = 7200000,
                               .tag_clock = 7};
    size_t size = pln_envelope_size(&item);
    pln_envelope_write(&item, (pln_ms) time(NULL) * 1000, envelope);
    fprintf(out, "$%zu\r\n", size);
    fwrite(envelope, 1, size, out);
    fputs("\r\n", out);
}

static void add_bulk(FILE *out, const char *text) {
    fprintf(out, "$%zu\r\n%s\r\n", strlen(text), text);
}

/* The hash of a script says which it is, by its order in the load. */
static void add_hash(struct fake_connection *connection, FILE *out) {
    char hash[41];
    snprintf(hash, sizeof hash, "%040x", connection->n_loaded++ % PLN_N_SCRIPTS);
    add_bulk(out, hash);
}

static void add_script_result(FILE *out, const struct fake_command *command) {
    char hash[41] = "";
    if (command->n > 1 && command->words[1].len == 40) {
        memcpy(hash, command->words[1].data, 40);
    }
    switch (strtoul(hash, NULL, 16)) {
    case PLN_SCRIPT_TIMES:
        fputs("*3\r\n$1\r\n5\r\n$-1\r\n$1\r\n7\r\n", out);
        break;
    case PLN_SCRIPT_BEAT:
        fputs("*6\r\n$1\r\n5\r\n$-1\r\n$1\r\n7\r\n$1\r\n9\r\n$1\r\n1\r\n$0\r\n\r\n", out);
        break;
    case PLN_SCRIPT_LEASE:
        fputs("*2\r\n:1\r\n:7\r\n", out);
        break;
    default:
        fputs(":1\r\n", out);
    }
}

static void tell_subscribers(struct fake *fake, const struct fake_command *command) {
    char *bytes = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&bytes, &len);
    fputs("*3\r\n$7\r\nmessage\r\n", out);
    for (size_t i = 1; i < 3; i++) {
        fprintf(out, "$%zu\r\n", command->words[i].len);
        fwrite(command->words[i].data, 1, command->words[i].len, out);
        fputs("\r\n", out);
    }
    fclose(out);
    pthread_mutex_lock(&fake->lock);
    fake->n_published++;
    for (size_t i = 0; i < FAKE_CONNECTIONS; i++) {
        struct fake_connection *other = &fake->connections[i];
        if (other->is_used && !other->is_done && other->is_subscribed) {
            send(other->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
    }
    pthread_mutex_unlock(&fake->lock);
    free(bytes);
}

static void subscribe(struct fake_connection *connection, const struct fake_command *command,
                      FILE *out) {
    for (size_t i = 1; i < command->n; i++) {
        fprintf(out, "*3\r\n$9\r\nsubscribe\r\n$%zu\r\n%.*s\r\n:%zu\r\n", command->words[i].len,
                (int) command->words[i].len, command->words[i].data, i);
    }
    pthread_mutex_lock(&connection->fake->lock);
    connection->is_subscribed = true;
    pthread_mutex_unlock(&connection->fake->lock);
}

static void add_time(FILE *out) {
    struct timespec now;
    char seconds[24], micros[24];
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(seconds, sizeof seconds, "%lld", (long long) now.tv_sec);
    snprintf(micros, sizeof micros, "%ld", now.tv_nsec / 1000);
    fputs("*2\r\n", out);
    add_bulk(out, seconds);
    add_bulk(out, micros);
}

/* The answers of a login and of a link that goes up; returns false where it is none of these. */
static bool add_greeting(struct fake_connection *connection, const struct fake_command *command,
                         FILE *out) {
    if (is_word(command, 0, "AUTH") || is_word(command, 0, "SELECT")) {
        fputs("+OK\r\n", out);
    } else if (is_word(command, 0, "PING")) {
        fputs(connection->is_subscribed ? "*2\r\n$4\r\npong\r\n$0\r\n\r\n" : "+PONG\r\n", out);
    } else if (is_word(command, 0, "CLIENT") && is_word(command, 1, "ID")) {
        fprintf(out, ":%d\r\n", connection->fd);
    } else if (is_word(command, 0, "CLIENT")) {
        fputs("+OK\r\n", out);
    } else if (is_word(command, 0, "INFO")) {
        add_bulk(out, "# Server\r\nredis_version:7.0.0\r\n"
                      "run_id:0123456789012345678901234567890123456789\r\n");
    } else if (is_word(command, 0, "ROLE")) {
        fputs("*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n", out);
    } else if (is_word(command, 0, "TIME")) {
        add_time(out);
    } else if (is_word(command, 0, "SUBSCRIBE")) {
        subscribe(connection, command, out);
    } else {
        return false;
    }
    return true;
}

void pln_test_fake_usual(struct fake_connection *connection, const struct fake_command *command,
                         FILE *out) {
    if (add_greeting(connection, command, out)) {
        return;
    }
    if (is_word(command, 0, "GET")) {
        add_value(out, &command->words[1]);
    } else if (is_word(command, 0, "MGET")) {
        fprintf(out, "*%zu\r\n", command->n - 1);
        for (size_t i = 1; i < command->n; i++) {
            add_value(out, &command->words[i]);
        }
    } else if (is_word(command, 0, "HMGET")) {
        fprintf(out, "*%zu\r\n$1\r\n5\r\n", command->n - 2);
        for (size_t i = 3; i < command->n; i++) {
            fputs("$-1\r\n", out);
        }
    } else if (is_word(command, 0, "SCRIPT")) {
        add_hash(connection, out);
    } else if (is_word(command, 0, "EVALSHA") || is_word(command, 0, "EVAL")) {
        add_script_result(out, command);
    } else if (is_word(command, 0, "PUBLISH")) {
        tell_subscribers(connection->fake, command);
        fputs(":1\r\n", out);
    } else {
        fputs("-ERR unknown command\r\n", out);
    }
}
