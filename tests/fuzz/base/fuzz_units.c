/*
 * Numbers people write. A value is within the bounds that were asked for, failure leaves the
 * output as it was and says so in words, and what units_put_* print of a value is short.
 */
#include "base/units.h"

#include <assert.h>
#include <string.h>

enum { TEXT_MAX = 64, SHOWN_MAX = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef int parse_fn(const char *text, uint64_t *ret, struct err *e);
typedef void put_fn(struct buf *b, uint64_t v);

static void one(parse_fn *parse, put_fn *put, const char *text)
{
	uint64_t got = 0xa5a5a5a5a5a5a5a5;
	struct err e = { 0 };
	char room[SHOWN_MAX];
	struct buf b;
	int r = parse(text, &got, &e);

	assert(r <= 0 && e.code == r && (r == 0) == (e.len == 0));
	if (r < 0) {
		assert(got == 0xa5a5a5a5a5a5a5a5);
		return;
	}
	buf_init(&b, room, sizeof(room));
	put(&b, got);
	assert(buf_ok(&b) && b.len > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[TEXT_MAX + 1];
	uint64_t got = 0;

	if (size > TEXT_MAX)
		return 0;
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	one(units_parse_size, units_put_size, text);
	one(units_parse_duration, units_put_duration, text);
	if (units_parse_count(text, 3, 5000, &got, NULL) == 0)
		assert(got >= 3 && got <= 5000);
	else
		assert(got == 0);
	return 0;
}
