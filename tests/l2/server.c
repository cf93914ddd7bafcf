/* SPDX-License-Identifier: MIT
 * server.c - see server.h. */
#include "server.h"

#include <fcntl.h>
#include <ftw.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Ends the program: a test without its server has nothing to say. Not by check's asserts, because
 * benchmarks use this file too. */
static void need(bool is_well, const char *what, const struct server *server) {
    if (!is_well) {
        fprintf(stderr, "test server at %s: %s\n", server->path, what);
        abort();
    }
}

const char *pln_test_redis_program(void) {
    const char *named = getenv("PLN_REDIS_SERVER");
    return named != NULL && named[0] != 0 ? named : "redis-server";
}

/* Replaces the child by the server. It dies with the test, so that none is left behind. */
static void become_server(const struct server *server) {
    const char *argv[32] = {
        pln_test_redis_program(), "--port", "0",     "--unixsocket", server->path, "--save", "",
        "--appendonly",           "no",     "--dir", server->folder, NULL};
    size_t n = 11;
    for (size_t i = 0; server->options[i] != NULL; i++) {
        argv[n++] = server->options[i];
    }
    int nowhere = open("/dev/null", O_RDWR);
    dup2(nowhere, 0);
    dup2(nowhere, 1);
    dup2(nowhere, 2);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execvp(argv[0], (char *const *) argv);
    _exit(127);
}

static void nap(void) {
    struct timespec time = {.tv_nsec = 2000000};
    nanosleep(&time, NULL);
}

/* An error is an answer too: a server with a password is up. */
static bool answers(const struct server *server) {
    redisContext *context = redisConnectUnix(server->path);
    redisReply *reply = context == NULL || context->err != 0 ? NULL : redisCommand(context, "PING");
    bool is_up = reply != NULL &&
                 (reply->type != REDIS_REPLY_ERROR || strncmp(reply->str, "LOADING", 7) != 0);
    if (reply != NULL) {
        freeReplyObject(reply);
    }
    if (context != NULL) {
        redisFree(context);
    }
    return is_up;
}

void pln_test_redis_restart(struct server *server) {
    need(server->pid == 0, "started twice", server);
    unlink(server->path);
    server->pid = fork();
    need(server->pid >= 0, "no process", server);
    if (server->pid == 0) {
        become_server(server);
    }
    for (int tries = 0; tries < 5000 && !answers(server); tries++) {
        int status;
        need(waitpid(server->pid, &status, WNOHANG) == 0,
             "the server ended at once (is it installed? PLN_REDIS_SERVER names it)", server);
        nap();
    }
    need(answers(server), "the server does not answer", server);
}

void pln_test_redis_start(struct server *server, const char *const *options) {
    memset(server, 0, sizeof *server);
    for (size_t i = 0; options != NULL && options[i] != NULL; i++) {
        need(i + 1 < sizeof server->options / sizeof server->options[0], "too many options",
             server);
        server->options[i] = options[i];
    }
    snprintf(server->folder, sizeof server->folder, "/tmp/pln-test-XXXXXX");
    need(mkdtemp(server->folder) != NULL, "no folder", server);
    snprintf(server->path, sizeof server->path, "%s/redis", server->folder);
    snprintf(server->url, sizeof server->url, "unix:%s", server->path);
    pln_test_redis_restart(server);
}

void pln_test_redis_kill(struct server *server) {
    if (server->pid > 0) {
        kill(server->pid, SIGKILL);
        waitpid(server->pid, NULL, 0);
        server->pid = 0;
    }
}

void pln_test_redis_pause(struct server *server) {
    int status;
    kill(server->pid, SIGSTOP);
    need(waitpid(server->pid, &status, WUNTRACED) == server->pid && WIFSTOPPED(status),
         "did not stop", server);
}

void pln_test_redis_resume(struct server *server) {
    kill(server->pid, SIGCONT);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void) info, (void) type, (void) walk;
    return remove(path);
}

void pln_test_redis_stop(struct server *server) {
    pln_test_redis_kill(server);
    nftw(server->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS); /* what it saved, too */
}

int pln_test_free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *) &address, len) != 0 ||
        getsockname(fd, (struct sockaddr *) &address, &len) != 0) {
        fprintf(stderr, "test server: no port of 127.0.0.1 is free\n");
        abort();
    }
    close(fd);
    return ntohs(address.sin_port);
}

static void print(FILE *out, const redisReply *reply) {
    switch (reply->type) {
    case REDIS_REPLY_INTEGER:
        fprintf(out, "%lld", reply->integer);
        break;
    case REDIS_REPLY_ARRAY:
        for (size_t i = 0; i < reply->elements; i++) {
            fputs(i == 0 ? "" : "\n", out);
            print(out, reply->element[i]);
        }
        break;
    case REDIS_REPLY_NIL:
        break;
    default:
        fwrite(reply->str, 1, reply->len, out);
    }
}

char *pln_test_redis_command(struct server *server, const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    redisContext *context = redisConnectUnix(server->path);
    need(context != NULL, "out of memory", server);
    redisReply *reply = redisCommand(context, line);
    need(reply != NULL, context->errstr, server);
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    print(out, reply);
    fclose(out);
    freeReplyObject(reply);
    redisFree(context);
    return text;
}
