/* A control packet: what is read is written back the same; failure leaves the output alone. */
#include "vmm/ctl.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ctl got;
	struct ctl before;
	uint8_t again[CTL_BYTES];

	memset(&got, 0xa5, sizeof(got));
	memcpy(&before, &got, sizeof(got));
	if (ctl_parse(span_of(data, size), &got) != 0) {
		assert(memcmp(&got, &before, sizeof(got)) == 0);
		return 0;
	}
	assert(got.text_len <= CTL_TEXT_MAX && got.code <= 0);
	ctl_put(&got, again);
	assert(size == CTL_BYTES && memcmp(data, again, CTL_BYTES) == 0);
	return 0;
}
