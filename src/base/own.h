/*
 * own: scope-bound ownership.
 *
 * A variable marked _own_fd_, _own_free_ or _own_(x_free) gives up its resource when its scope
 * ends. Hand one on with steal_fd() or steal_ptr(), which leave the variable empty, so every
 * early return is already clean.
 */
#pragma once

#include <stdlib.h>
#include <unistd.h>

#define _must_ __attribute__((warn_unused_result))
/* unused: to clang 14 a variable that is only owned, such as a lock, is not used */
#define _own_(f)       __attribute__((cleanup(f##_scope), unused))
#define _own_fd_       __attribute__((cleanup(own_close_fd), unused))
#define _own_free_     __attribute__((cleanup(own_free_ptr), unused))
#define _printf_(f, a) __attribute__((format(printf, f, a)))

/* Makes x_free usable with _own_(x_free): `OWN_DEFINE(struct vm, vm_free)` in the header. */
#define OWN_DEFINE(type, f)                                                                        \
	static inline void f##_scope(type **p)                                                     \
	{                                                                                          \
		f(*p);                                                                             \
	}

static inline void own_close_fd(const int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

static inline void own_free_ptr(void *p)
{
	free(*(void **)p);
}

/* Takes the fd out of its owner, which then owns nothing. */
static inline int steal_fd(int *fd)
{
	int got = *fd;

	*fd = -1;
	return got;
}

/* Takes the pointer out of its owner, keeping its type. */
#define steal_ptr(p)                                                                               \
	__extension__({                                                                            \
		__typeof__(*(p)) *own_slot_ = (p);                                                 \
		__typeof__(*(p)) own_got_ = *own_slot_;                                            \
		*own_slot_ = NULL;                                                                 \
		own_got_;                                                                          \
	})
