/*
 * loop: the I/O thread's event loop: epoll, a fixed table of watches, and calls from other
 * threads.
 *
 * All device code runs on this one thread, so no device needs a lock. A vCPU thread that needs
 * something done to a device (activate, reset) hands over a function and waits: loop_call().
 *
 * Bounded   LOOP_WATCHES_MAX fds, LOOP_EVENTS_MAX events a turn, one waiting call a thread
 * Threads   loop_stop() and loop_call(): any. All else: the thread that made the loop until
 *           loop_run(), the one inside loop_run() from then on.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

enum {
	LOOP_WATCHES_MAX = 64, /* 8 devices with up to 6 queues, sockets, timers and control */
	LOOP_EVENTS_MAX = 16,
	LOOP_CALLS_TURN = 32, /* calls carried out before fds have their turn: one a vCPU */
};

struct loop;
typedef void (*loop_fn)(void *arg, uint32_t events);

/* -ENOMEM, or what the kernel says: no fds left. */
_must_ int loop_new(struct loop **ret, struct err *e);

/* Only after all threads that may call loop_call() are joined or known to be outside of it. */
void loop_free(struct loop *l);
OWN_DEFINE(struct loop, loop_free)

/*
 * Watches fd (borrowed) for `events` (EPOLLIN, EPOLLOUT; level triggered; 0 is none for now).
 * The id is never 0 and stays valid until loop_drop(), which comes before the fd is closed. With
 * any events asked for, EPOLLERR and EPOLLHUP come as well, turn by turn until the watch is set
 * to 0 or dropped. -ENOSPC: the table is full; -EPERM, -EEXIST: a plain file, a second watch.
 */
_must_ int loop_watch(struct loop *l, int fd, uint32_t events, loop_fn fn, void *arg,
                      unsigned *ret_id, struct err *e);
/* Both act at once: what is set to 0 or dropped is not called again, not even for an event of
 * the same turn. */
void loop_set(struct loop *l, unsigned id, uint32_t events);
void loop_drop(struct loop *l, unsigned id);

/* Runs until loop_stop(), which any thread or callback may call. Once stopped, it stays so. */
_must_ int loop_run(struct loop *l, struct err *e);
void loop_stop(struct loop *l);

/*
 * Runs fn(arg) on the loop's thread and returns when it is done. It is a plain call from the
 * loop's own thread, and, before loop_run(), from the thread that made the loop; others wait for
 * loop_run(). Once the loop has stopped fn is not run: stop it before joining a thread that may
 * be in here.
 *
 * So the loop's thread must not wait for a thread that may be in here, as vm_pause() does for the
 * vCPUs: another one does that, and comes back with loop_call().
 */
void loop_call(struct loop *l, void (*fn)(void *arg), void *arg);
