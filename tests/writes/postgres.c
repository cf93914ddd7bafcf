/* SPDX-License-Identifier: MIT
 * postgres.c - see postgres.h. */
#include "postgres.h"

#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_WORDS = 16, PATH_SIZE = 256 };

static void need(bool is_well, const char *what) {
    if (!is_well) {
        fprintf(stderr, "test postgres: %s\n", what);
        abort();
    }
}

const char *test_postgres_programs(void) {
    static char path[PATH_SIZE];
    glob_t found;
    if (getuid() == 0 && getpwnam("postgres") == NULL) {
        return NULL;
    }
    if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found) != 0) {
        return NULL;
    }
    snprintf(path, sizeof path, "%s", found.gl_pathv[found.gl_pathc - 1]);
    *strrchr(path, '/') = 0;
    globfree(&found);
    return path;
}

/* In a child: becomes a program, without rights and without a voice. */
static void become(const char *folder, const char *program, const char *const *words) {
    char path[PATH_SIZE + 16];
    const char *argv[MOST_WORDS + 2] = {program};
    snprintf(path, sizeof path, "%s/%s", test_postgres_programs(), program);
    for (size_t i = 0; words[i] != NULL; i++) {
        need(i < MOST_WORDS, "too many words");
        argv[i + 1] = words[i];
    }
    if (getuid() == 0) {
        const struct passwd *user = getpwnam("postgres");
        need(setgroups(0, NULL) == 0 && setgid(user->pw_gid) == 0 && setuid(user->pw_uid) == 0,
             "cannot become the user postgres");
    }
    prctl(PR_SET_PDEATHSIG, SIGQUIT); /* after that, which takes it back */
    int log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0600);
    int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, 0);
    dup2(log, 1);
    dup2(log, 2);
    execv(path, (char *const *) argv);
    fprintf(stderr, "%s: cannot be run in %s\n", path, folder);
    _exit(127);
}

static pid_t start(const char *folder, const char *program, const char *const *words) {
    pid_t pid = fork();
    need(pid >= 0, "no process");
    if (pid == 0) {
        need(chdir(folder) == 0, "its folder is gone");
        become(folder, program, words);
    }
    return pid;
}

static void make_folder(struct test_postgres *postgres, bool syncs) {
    static const char *const places[] = {"/dev/shm", "/tmp"};
    const char *made = NULL;
    for (size_t i = syncs ? 1 : 0; i < 2 && made == NULL; i++) {
        snprintf(postgres->folder, sizeof postgres->folder, "%s/pln-postgres-XXXXXX", places[i]);
        made = mkdtemp(postgres->folder);
    }
    need(made != NULL, "no folder");
    if (getuid() == 0) {
        const struct passwd *user = getpwnam("postgres");
        need(chown(postgres->folder, user->pw_uid, user->pw_gid) == 0, "chown");
    }
    snprintf(postgres->conninfo, sizeof postgres->conninfo, "host=%s user=postgres dbname=postgres",
             postgres->folder);
}

void test_postgres_start(struct test_postgres *postgres, bool syncs) {
    int status = 0;
    make_folder(postgres, syncs);
    const char *making[] = {"-D", "data", "-A", "trust", "-U", "postgres", "--no-sync", NULL};
    pid_t maker = start(postgres->folder, "initdb", making);
    need(waitpid(maker, &status, 0) == maker && status == 0, "initdb failed");
    const char *running[] = {"-D",
                             "data",
                             "-k",
                             postgres->folder,
                             "-c",
                             "listen_addresses=",
                             "-c",
                             "max_connections=40",
                             syncs ? NULL : "-F",
                             NULL};
    postgres->pid = start(postgres->folder, "postgres", running);
    for (int tries = 0; PQping(postgres->conninfo) != PQPING_OK; tries++) {
        struct timespec time = {.tv_nsec = 10000000};
        need(tries < 3000 && waitpid(postgres->pid, &status, WNOHANG) == 0, "it does not come up");
        nanosleep(&time, NULL);
    }
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void) info, (void) type, (void) walk;
    return remove(path);
}

void test_postgres_stop(struct test_postgres *postgres) {
    if (postgres->pid > 0) {
        kill(postgres->pid, SIGQUIT);
        waitpid(postgres->pid, NULL, 0);
        postgres->pid = 0;
        nftw(postgres->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
}
