/*
 * The lines berm-unpack reports with, as a captured berm-unpack would write them: a stream that is
 * taken apart line by line; what is taken can be written again, and reads the same.
 */
#include "image/report.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct report *r)
{
	uint8_t storage[REPORT_LINE_MAX];
	struct report again;
	struct span in;
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	report_put(&b, r);
	assert(buf_ok(&b));
	in = buf_span(&b);
	assert(report_parse(&in, &again) == 0 && in.len == 0);
	assert(again.kind == r->kind && again.fail == r->fail && again.entries == r->entries);
	assert(r->kind == REPORT_PROGRESS || span_equal(again.text, r->text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	struct report before;
	struct report r;
	int got;

	for (;;) {
		size_t left = in.len;

		memset(&r, 0xa5, sizeof(r));
		before = r;
		got = report_parse(&in, &r);
		if (got < 0)
			break;
		assert(in.len < left);
		check_again(&r);
	}
	assert(memcmp(&r, &before, sizeof(r)) == 0);
	assert(got == -EBADMSG || (got == -EAGAIN && in.len < REPORT_LINE_MAX));
	return 0;
}
