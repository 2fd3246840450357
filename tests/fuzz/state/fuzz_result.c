/* What is read as a result is written again as one that reads the same. */
#include "base/buf.h"
#include "state/result.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char first[RESULT_JSON_MAX];
	static char second[RESULT_JSON_MAX];
	struct err e = { 0 };
	struct result got;
	struct buf a;
	struct buf b;
	int r;

	memset(&got, 0xa5, sizeof(got));
	r = result_parse_json(span_of(data, size), &got, &e);
	if (r < 0) {
		assert(r == -EBADMSG && e.text[0]);
		assert((uint8_t)got.id[0] == 0xa5 && got.output_bytes == 0xa5a5a5a5a5a5a5a5);
		return 0;
	}
	assert(spec_id_ok(got.id) && got.reason < RESULT_REASON_COUNT);
	assert(memchr(got.image, 0, sizeof(got.image)));
	assert(memchr(got.message, 0, sizeof(got.message)));
	buf_init(&a, first, sizeof(first));
	result_put_json(&a, &got);
	assert(buf_ok(&a));
	r = result_parse_json(buf_span(&a), &got, &e);
	assert(r == 0);
	buf_init(&b, second, sizeof(second));
	result_put_json(&b, &got);
	assert(buf_ok(&b) && span_equal(buf_span(&a), buf_span(&b)));
	return 0;
}
