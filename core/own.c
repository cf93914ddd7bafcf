/* SPDX-License-Identifier: MIT
 *
 * own.c - see own.h. It has a file of its own, so that where threads are played by one, the linker
 * can put in its place what is kept for each that is played.
 */
#include "own.h"

const void **pln_own(enum pln_own which) {
    static _Thread_local const void *own[PLN_N_OWN];
    return &own[which];
}
