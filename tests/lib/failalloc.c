#include "failalloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS_MAX = 100000 }; /* a loop that never gets through is a fault in the test */

static struct {
	unsigned long left; /* allocations until the one that fails; 0 when disarmed */
	unsigned long round;
	bool hit;
} state;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);

void failalloc_at(unsigned long n)
{
	state.left = n;
	state.hit = false;
}

void failalloc_begin(void)
{
	state.round = 0;
	state.hit = true; /* so that the first round runs */
}

bool failalloc_next(void)
{
	if (!state.hit) {
		failalloc_at(0);
		return false;
	}
	if (++state.round > ROUNDS_MAX)
		abort();
	failalloc_at(state.round);
	return true;
}

bool failalloc_hit(void)
{
	state.left = 0;
	return state.hit;
}

static bool fails(void)
{
	if (state.left == 0 || --state.left > 0)
		return false;
	state.hit = true;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}
