/* SPDX-License-Identifier: MIT
 *
 * pulse.c - see pulse.h. One thread for all servers of a client: one that hangs keeps the others'
 * questions waiting for a command's timeout, and what is vouched for is that much older.
 */
#include "internal.h"
#include "thread.h"

void pln_pulse_init(struct pln_redis *redis) {
    pthread_mutex_init(&redis->pulser.lock, NULL);
    pthread_cond_init(&redis->pulser.wake, NULL);
}

void pln_pulse_fini(struct pln_redis *redis) {
    pthread_cond_destroy(&redis->pulser.wake);
    pthread_mutex_destroy(&redis->pulser.lock);
}

static struct pln_node *find_asked_locked(struct pln_redis *redis) {
    for (size_t i = 0; i < pln_nodes_count(redis); i++) {
        if (redis->nodes[i]->pulse.turn == PLN_PULSE_ASKED) {
            return redis->nodes[i];
        }
    }
    return NULL;
}

static void ask_locked(struct pln_pulser *pulser, struct pln_node *node) {
    struct pln_reply *reply = NULL;
    node->pulse.turn = PLN_PULSE_ASKING;
    pthread_mutex_unlock(&pulser->lock);
    int result = pln_mend_ask(node, &reply);
    pthread_mutex_lock(&pulser->lock);
    if (node->pulse.turn != PLN_PULSE_ASKING) { /* forgotten meanwhile */
        pln_reply_free(reply);
        return;
    }
    node->pulse.turn = result == PLN_OK ? PLN_PULSE_ANSWERED : PLN_PULSE_IDLE;
    node->pulse.reply = reply;
    pln_wake(node->link.wake_fd);
}

static void *run(void *arg) {
    struct pln_redis *redis = arg;
    struct pln_pulser *pulser = &redis->pulser;
    pthread_mutex_lock(&pulser->lock);
    while (!pulser->is_stopping) {
        struct pln_node *node = find_asked_locked(redis);
        if (node != NULL) {
            ask_locked(pulser, node);
        } else {
            pthread_cond_wait(&pulser->wake, &pulser->lock);
        }
    }
    pthread_mutex_unlock(&pulser->lock);
    return NULL;
}

void pln_pulse_stop(struct pln_redis *redis) {
    struct pln_pulser *pulser = &redis->pulser;
    pthread_mutex_lock(&pulser->lock);
    bool is_started = pulser->is_started;
    pulser->is_stopping = true;
    pthread_cond_signal(&pulser->wake);
    pthread_mutex_unlock(&pulser->lock);
    if (is_started) {
        pthread_join(pulser->thread, NULL);
    }
}

int pln_pulse_ask(struct pln_node *node, const struct pln_feed_state *state) {
    struct pln_pulser *pulser = &node->redis->pulser;
    int result = PLN_OK;
    pthread_mutex_lock(&pulser->lock);
    if (!pulser->is_started && !pulser->is_stopping) {
        result = pln_thread_start(&pulser->thread, run, node->redis, "the heartbeat");
        pulser->is_started = result == PLN_OK;
    }
    if (result == PLN_OK && node->pulse.turn == PLN_PULSE_IDLE) {
        node->pulse.turn = PLN_PULSE_ASKED;
        node->pulse.state = *state;
        pthread_cond_signal(&pulser->wake);
    }
    pthread_mutex_unlock(&pulser->lock);
    return result;
}

bool pln_pulse_take(struct pln_node *node, struct pln_feed_state *state, struct pln_reply **reply) {
    struct pln_pulser *pulser = &node->redis->pulser;
    pthread_mutex_lock(&pulser->lock);
    bool is_there = node->pulse.turn == PLN_PULSE_ANSWERED;
    if (is_there) {
        node->pulse.turn = PLN_PULSE_IDLE;
        *state = node->pulse.state;
        *reply = node->pulse.reply;
        node->pulse.reply = NULL;
    }
    pthread_mutex_unlock(&pulser->lock);
    return is_there;
}

void pln_pulse_forget(struct pln_node *node) {
    struct pln_pulser *pulser = &node->redis->pulser;
    pthread_mutex_lock(&pulser->lock);
    node->pulse.turn = PLN_PULSE_IDLE;
    pln_reply_free(node->pulse.reply);
    node->pulse.reply = NULL;
    pthread_mutex_unlock(&pulser->lock);
}
