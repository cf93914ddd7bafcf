/* SPDX-License-Identifier: MIT
 * node.c - see node.h. */
#include "node.h"
#include "server.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    BUS = 10000, /* how far a cluster's bus is from the port */
    /* Ports and buses both lie below 32768, where the system takes the ports of connections from:
     * what is free when it is looked at is not gone a moment later. */
    FIRST_PORT = 11000,
    LAST_PORT = 21000,
    MOST_PORTS_TRIED = 200,
    MOST_WAIT_MS = 180000,
};

void test_end(const char *what) {
    fprintf(stderr, "test node: %s\n", what);
    abort();
}

static void nap(long ms) {
    struct timespec time = {.tv_nsec = ms * 1000000};
    nanosleep(&time, NULL);
}

static long now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

bool test_is_soon(bool (*is_so)(void *arg), void *arg, long most_ms) {
    long end = now_ms() + most_ms;
    bool is_late = false;
    while (!is_so(arg) && !is_late) {
        is_late = now_ms() >= end;
        nap(20);
    }
    return !is_late;
}

void test_until(bool (*is_so)(void *arg), void *arg, const char *what) {
    test_need(test_is_soon(is_so, arg, MOST_WAIT_MS), what);
}

/* ---- a port ---- */

static bool is_free(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t) port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_bound = fd >= 0 && bind(fd, (struct sockaddr *) &address, sizeof address) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return is_bound;
}

/* By chance, so that tests that run side by side do not meet. */
static int find_port(void) {
    for (int tries = 0; tries < MOST_PORTS_TRIED; tries++) {
        unsigned random = 0;
        test_need(getrandom(&random, sizeof random, 0) == sizeof random, "no chance");
        int port = FIRST_PORT + (int) (random % (LAST_PORT - FIRST_PORT));
        if (is_free(port) && is_free(port + BUS)) {
            return port;
        }
    }
    test_end("no free port");
}

/* ---- the process ---- */

/* Replaces the child by the server, which dies with the test. */
static void become_server(const struct test_node *node, pid_t parent) {
    char port[16];
    const char *argv[TEST_NODE_OPTIONS + 24] = {pln_test_redis_program()};
    size_t n = 1;
    if (node->config[0] != 0) {
        argv[n++] = node->config;
        argv[n++] = "--sentinel";
    }
    snprintf(port, sizeof port, "%d", node->port);
    const char *const usual[] = {"--port",    port,         "--bind",       "127.0.0.1",
                                 "--dir",     node->folder, "--save",       "",
                                 "--logfile", "log",        "--appendonly", "no"};
    for (size_t i = 0; i < (node->config[0] == 0 ? sizeof usual / sizeof usual[0] : 0); i++) {
        argv[n++] = usual[i];
    }
    for (size_t i = 0; node->options[i] != NULL; i++) {
        argv[n++] = node->options[i];
    }
    int nowhere = open("/dev/null", O_RDWR);
    dup2(nowhere, 0);
    dup2(nowhere, 1);
    dup2(nowhere, 2);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) { /* else the test ended before it could say that the child is to */
        execvp(argv[0], (char *const *) argv);
    }
    _exit(127);
}

static void hang_up(struct test_node *node) {
    if (node->context != NULL) {
        redisFree(node->context);
        node->context = NULL;
    }
}

static bool answers(struct test_node *node) {
    struct timeval patience = {.tv_sec = 5};
    redisContext *context = redisConnectWithTimeout("127.0.0.1", node->port, patience);
    redisReply *reply = context == NULL || context->err != 0 ? NULL : redisCommand(context, "PING");
    bool is_up = reply != NULL &&
                 (reply->type != REDIS_REPLY_ERROR || strncmp(reply->str, "LOADING", 7) != 0);
    freeReplyObject(reply);
    if (context != NULL) {
        redisFree(context);
    }
    return is_up;
}

/* Returns false where it ended at once: another may have taken its port. */
static bool try_start(struct test_node *node) {
    pid_t parent = getpid();
    node->pid = fork();
    test_need(node->pid >= 0, "no process");
    if (node->pid == 0) {
        become_server(node, parent);
    }
    long end = now_ms() + MOST_WAIT_MS;
    while (!answers(node)) {
        int status;
        if (waitpid(node->pid, &status, WNOHANG) != 0) {
            node->pid = 0;
            return false;
        }
        test_need(now_ms() < end, "redis-server does not answer");
        nap(5);
    }
    /* it is this one that answers, and not another on its port */
    int status;
    nap(1);
    bool has_ended = waitpid(node->pid, &status, WNOHANG) != 0;
    node->pid = has_ended ? 0 : node->pid;
    return !has_ended;
}

static void make_folder(struct test_node *node) {
    *node = (struct test_node){0};
    snprintf(node->folder, sizeof node->folder, "/tmp/pln-test-XXXXXX");
    test_need(mkdtemp(node->folder) != NULL, "no folder");
}

static void write_config(struct test_node *node, const char *lines) {
    snprintf(node->config, sizeof node->config, "%s/conf", node->folder);
    FILE *out = fopen(node->config, "w");
    test_need(out != NULL, "no file");
    fprintf(out, "port %d\nbind 127.0.0.1\ndir %s\nlogfile log\n%s", node->port, node->folder,
            lines);
    test_need(fclose(out) == 0, "no file");
}

static void start(struct test_node *node, const char *lines) {
    for (int tries = 0; tries < 10; tries++) {
        node->port = find_port();
        if (lines != NULL) {
            write_config(node, lines);
        }
        if (try_start(node)) {
            return;
        }
    }
    test_end("redis-server ended at once (is it installed?)");
}

void test_node_start(struct test_node *node, const char *const *options) {
    make_folder(node);
    for (size_t i = 0; options[i] != NULL; i++) {
        test_need(i + 1 < TEST_NODE_OPTIONS, "too many options");
        node->options[i] = options[i];
    }
    start(node, NULL);
}

void test_node_start_sentinel(struct test_node *node, const char *lines) {
    make_folder(node);
    start(node, lines);
}

void test_node_restart(struct test_node *node) {
    test_need(node->pid == 0, "started twice");
    test_need(try_start(node), "redis-server did not start again on its port");
}

void test_node_kill(struct test_node *node) {
    hang_up(node);
    if (node->pid > 0) {
        kill(node->pid, SIGKILL);
        waitpid(node->pid, NULL, 0);
        node->pid = 0;
    }
}

void test_node_pause(struct test_node *node) {
    int status;
    kill(node->pid, SIGSTOP);
    test_need(waitpid(node->pid, &status, WUNTRACED) == node->pid && WIFSTOPPED(status),
              "did not stop");
}

void test_node_resume(struct test_node *node) {
    kill(node->pid, SIGCONT);
}

void test_node_stop(struct test_node *node) {
    test_node_kill(node);
    DIR *folder = node->folder[0] == 0 ? NULL : opendir(node->folder);
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        unlinkat(dirfd(folder), entry->d_name, 0);
    }
    if (folder != NULL) {
        closedir(folder);
        rmdir(node->folder);
    }
    *node = (struct test_node){0};
}

/* ---- what it says ---- */

static redisReply *try_ask(struct test_node *node, const char *command, int len) {
    void *reply = NULL;
    if (node->context == NULL) {
        node->context = redisConnectWithTimeout("127.0.0.1", node->port, (struct timeval){30, 0});
        test_need(node->context != NULL && node->context->err == 0, "cannot connect to a node");
        redisSetTimeout(node->context, (struct timeval){30, 0});
    }
    if (redisAppendFormattedCommand(node->context, command, (size_t) len) != REDIS_OK ||
        redisGetReply(node->context, &reply) != REDIS_OK) {
        hang_up(node);
        return NULL;
    }
    return reply;
}

/* Twice where the connection is lost: sentinels cut all of a server whose role they change. */
static redisReply *ask(struct test_node *node, const char *format, va_list args) {
    char *command = NULL;
    int len = redisvFormatCommand(&command, format, args);
    test_need(len > 0, "no command");
    redisReply *reply = try_ask(node, command, len);
    if (reply == NULL) {
        reply = try_ask(node, command, len);
    }
    test_need(reply != NULL, "a node does not answer");
    redisFreeCommand(command);
    return reply;
}

redisReply *test_node_ask(struct test_node *node, const char *format, ...) {
    va_list args;
    va_start(args, format);
    redisReply *reply = ask(node, format, args);
    va_end(args);
    return reply;
}

void test_node_tell(struct test_node *node, const char *format, ...) {
    va_list args;
    va_start(args, format);
    redisReply *reply = ask(node, format, args);
    va_end(args);
    if (reply->type == REDIS_REPLY_ERROR) {
        fprintf(stderr, "%s: ", format);
        test_end(reply->str);
    }
    freeReplyObject(reply);
}

bool test_node_says(struct test_node *node, const char *command, const char *part) {
    redisReply *reply = test_node_ask(node, command);
    bool is_said = reply->str != NULL && strstr(reply->str, part) != NULL;
    freeReplyObject(reply);
    return is_said;
}

/* Whether the text at a place in the answer to ROLE is this. */
static bool has_role(struct test_node *node, size_t place, const char *text) {
    redisReply *reply = test_node_ask(node, "ROLE");
    bool is_so = reply->type == REDIS_REPLY_ARRAY && reply->elements > place &&
                 reply->element[place]->str != NULL &&
                 strcmp(reply->element[place]->str, text) == 0;
    freeReplyObject(reply);
    return is_so;
}

bool test_node_is_linked(struct test_node *node) {
    return has_role(node, 3, "connected");
}

bool test_node_is_master(struct test_node *node) {
    return has_role(node, 0, "master");
}

long test_node_number(struct test_node *node, const char *command, const char *name) {
    redisReply *reply = test_node_ask(node, command);
    const char *at = reply->str == NULL ? NULL : strstr(reply->str, name);
    long number = at == NULL ? 0 : strtol(at + strlen(name), NULL, 10);
    freeReplyObject(reply);
    return number;
}

long test_node_reads(struct test_node *node) {
    return test_node_number(node, "INFO commandstats", "cmdstat_get:calls=") +
           test_node_number(node, "INFO commandstats", "cmdstat_mget:calls=");
}

static bool is_linked(void *arg) {
    return test_node_is_linked(arg);
}

void test_node_follow(struct test_node *replica, struct test_node *of, const char *announced) {
    const char *const options[] = {"--repl-diskless-sync-delay",
                                   "0",
                                   "--replica-read-only",
                                   "no",
                                   announced == NULL ? NULL : "--replica-announce-port",
                                   announced,
                                   NULL};
    test_node_start(replica, options);
    test_node_tell(replica, "REPLICAOF 127.0.0.1 %d", of->port);
    test_until(is_linked, replica, "a replica does not link to its primary");
}
