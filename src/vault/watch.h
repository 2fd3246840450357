/*
 * watch: a descriptor or a time that the loop tells about. A thin cover of libuv's, whose handles
 * live until the loop has let go of them: here a free is at once, and no call comes after it.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct watch;

/* readable or writable; after a fault of the descriptor both are said, and reading tells which. */
typedef void watch_fn(void *user, bool readable, bool writable);

/* fd is borrowed, and may be closed right after watch_free(). Watches nothing yet. */
_must_ int watch_new(uv_loop_t *loop, int fd, watch_fn *tell, void *user, struct watch **ret,
                     struct err *e);
void watch_set(struct watch *w, bool readable, bool writable);
void watch_free(struct watch *w); /* NULL is fine */

struct alarm;

typedef void alarm_fn(void *user);

_must_ int alarm_new(uv_loop_t *loop, alarm_fn *ring, void *user, struct alarm **ret,
                     struct err *e);
/* Once, in so many milliseconds; a former time is forgotten. */
void alarm_set(struct alarm *a, uint64_t in_ms);
void alarm_stop(struct alarm *a);
void alarm_free(struct alarm *a); /* NULL is fine */
