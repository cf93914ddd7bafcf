/* SPDX-License-Identifier: MIT
 *
 * lease.c - the right to load a key for all processes: got at once, or after another has had it.
 */
#include "fills.h"

/* So long does a process sleep that waits for another's load, before it looks again unasked. The
 * word that wakes it is lost where the link has just gone, or is not yet there: without the look it
 * would sleep to the end of a lease whose holder, or server, is long dead. */
enum { LOOK_AGAIN_MS = 50 };

void pln_fill_end_lease(struct fill *fill) {
    if (fill->has_lease) {
        /* should this fail the lease ends by itself */
        (void) pln_l2_release(pln_cache_l2(fill->cache), &fill->request->key, &fill->lease,
                              pln_cache_l2_deadline(fill->cache, PLN_FOREVER));
        fill->has_lease = false;
    }
}

/* What L2 has once more, now that the lease is ours (else the last holder may just have stored it),
 * or has been another's for a while. */
static int look_again(struct fill *fill, struct pln_outcome *outcome) {
    /* with a new stamp: what is read from here on may be kept */
    int status = pln_fill_ask(fill, PLN_READ_PRIMARY, outcome);
    if (status == PLN_OK) {
        pln_fill_end_lease(fill);
    }
    return status == PLN_OK ? PLN_OK : PLN_MISS;
}

static int ask_lease(struct fill *fill) {
    if (pln_fills_grant(fill)) {
        return PLN_OK;
    }
    pln_fill_stamp(fill); /* first: what is loaded under the lease may be kept */
    return pln_l2_lease(pln_cache_l2(fill->cache), &fill->request->key,
                        fill->request->terms->lease_ms,
                        pln_cache_l2_deadline(fill->cache, fill->request->deadline), &fill->lease);
}

int pln_fill_leased(struct fill *fill, int status) {
    fill->is_l2_away = status < 0;
    fill->has_lease = status == PLN_OK;
    if (status == PLN_PENDING) {
        pln_count(fill->cache->counts, PLN_COUNT_LEASE_WAITS, fill->has_waited ? 0 : 1);
        fill->has_waited = true;
    }
    return status < 0 ? PLN_MISS : status;
}

int pln_fill_ask_lease(struct fill *fill) {
    int status = pln_fill_uses_l2(fill) ? pln_fill_leased(fill, ask_lease(fill)) : PLN_MISS;
    if (status == PLN_MISS) {
        fill->has_lease = false;
        pln_fill_stamp(fill);
    }
    return status;
}

int pln_fill_try_lease(struct fill *fill, struct pln_outcome *outcome) {
    int status = pln_fill_ask_lease(fill);
    return status != PLN_OK ? status : fill->lease.is_empty ? PLN_MISS : look_again(fill, outcome);
}

pln_ns pln_fill_nap(const struct fill *fill) {
    pln_ms nap = fill->lease.left < LOOK_AGAIN_MS ? fill->lease.left + 1 : LOOK_AGAIN_MS;
    pln_ns until = pln_clock_precise() + nap * 1000000;
    return until < fill->request->deadline ? until : fill->request->deadline;
}

int pln_fill_retry_lease(struct fill *fill, struct pln_outcome *outcome) {
    if (look_again(fill, outcome) == PLN_OK) {
        return PLN_OK;
    }
    if (pln_fill_is_late(fill)) {
        return pln_fail(PLN_ETIMEOUT,
                        "get: another process has been loading the key for longer than %lld ms",
                        (long long) fill->request->timeout_ms);
    }
    return pln_fill_try_lease(fill, outcome);
}

int pln_fill_get_lease(struct fill *fill, struct pln_outcome *outcome) {
    int status = pln_fill_try_lease(fill, outcome);
    while (status == PLN_PENDING) {
        pln_fills_yield();
        pln_flight_sleep(fill->cache->flights, fill->flight, pln_fill_nap(fill));
        status = pln_fill_retry_lease(fill, outcome);
    }
    return status;
}
