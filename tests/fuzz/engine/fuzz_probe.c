/* The kept verdict is written back the same as it was read; failure leaves the output alone. */
#include "engine/probe_parse.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct probe_record got;
	struct probe_record before;
	struct probe_record again;
	struct probe_qemu qemu = { .major = 0xa5a5a5 };
	char text[PROBE_RECORD_MAX];
	struct buf b;

	if (probe_parse_qemu_version(span_of(data, size), &qemu) != 0)
		assert(qemu.major == 0xa5a5a5);
	memset(&got, 0xa5, sizeof(got));
	memcpy(&before, &got, sizeof(got));
	if (probe_parse_record(span_of(data, size), &got) != 0) {
		assert(memcmp(&got, &before, sizeof(got)) == 0);
		return 0;
	}
	buf_init(&b, text, sizeof(text));
	probe_put_record(&b, &got);
	assert(buf_ok(&b));
	assert(probe_parse_record(buf_span(&b), &again) == 0);
	assert(probe_record_matches(&got, &again) && got.kind == again.kind &&
	       got.insns_per_s == again.insns_per_s);
	return 0;
}
