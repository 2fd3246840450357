/*
 * loop: the I/O thread's event loop: epoll, a fixed table of watches, and calls from other
 * threads.
 *
 * All device code runs on this one thread, so no device needs a lock. A vCPU thread that needs
 * something done to a device (activate, reset) hands over a function and waits: loop_call().
 *
 * Bounded   LOOP_WATCHES_MAX fds, LOOP_EVENTS_MAX events a turn, one waiting call a vCPU
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

enum {
	LOOP_WATCHES_MAX = 64, /* 8 devices with up to 6 queues, sockets, timers and control */
	LOOP_EVENTS_MAX = 16,
};

struct loop;
typedef void (*loop_fn)(void *arg, uint32_t events);

_must_ int loop_new(struct loop **ret, struct err *e);
void loop_free(struct loop *l);
OWN_DEFINE(struct loop, loop_free)

/* Watches fd (borrowed) for `events` (EPOLLIN, EPOLLOUT; level triggered; 0 is none for now).
 * The id stays valid until loop_drop(). */
_must_ int loop_watch(struct loop *l, int fd, uint32_t events, loop_fn fn, void *arg,
                      unsigned *ret_id, struct err *e);
void loop_set(struct loop *l, unsigned id, uint32_t events);
void loop_drop(struct loop *l, unsigned id);

/* Runs until loop_stop(), which any thread or callback may call. */
_must_ int loop_run(struct loop *l, struct err *e);
void loop_stop(struct loop *l);

/*
 * Runs fn(arg) on the loop's thread and returns when it is done. From the loop's own thread, and
 * before loop_run() was called, it is a plain call. Once the loop has stopped fn is not run.
 */
void loop_call(struct loop *l, void (*fn)(void *arg), void *arg);
