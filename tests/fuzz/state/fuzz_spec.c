/* What is read as a spec has whole strings, and is written again as one that reads the same. */
#include "state/spec.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const char *const *list, size_t max)
{
	size_t n = 0;

	for (; list && list[n]; n++)
		assert(strlen(list[n]) < SPEC_BYTES_MAX);
	assert(n <= max);
}

static void walk_all(const struct spec *s)
{
	const char *const texts[] = {
		s->name, s->image, s->image_id, s->hostname, s->user, s->cwd
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert(!texts[i] || strlen(texts[i]) < SPEC_BYTES_MAX);
	assert(s->image && s->argv);
	walk(s->argv, SPEC_STRINGS_MAX);
	walk(s->envp, SPEC_STRINGS_MAX);
	walk(s->warm, SPEC_WARM_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char second[SPEC_BYTES_MAX];
	static char third[SPEC_BYTES_MAX];
	_own_free_ char *first = malloc(size + 1);
	_own_free_ void *lists = NULL;
	_own_free_ void *again = NULL;
	struct err e = { 0 };
	struct spec got;
	struct buf a;
	struct buf b;
	int r;

	assert(first);
	memcpy(first, data, size);
	memset(&got, 0xa5, sizeof(got));
	r = spec_parse(first, size, &got, &lists, &e);
	if (r < 0) {
		assert(r == -EBADMSG && e.text[0] && !lists);
		assert(((const uint8_t *)&got)[0] == 0xa5);
		return 0;
	}
	walk_all(&got);
	(void)!spec_check(&got, &e);
	buf_init(&a, second, sizeof(second));
	spec_put(&a, &got);
	assert(buf_ok(&a));
	r = spec_parse(second, a.len, &got, &again, &e);
	assert(r == 0);
	buf_init(&b, third, sizeof(third));
	spec_put(&b, &got);
	assert(buf_ok(&b) && span_equal(buf_span(&a), buf_span(&b)));
	return 0;
}
