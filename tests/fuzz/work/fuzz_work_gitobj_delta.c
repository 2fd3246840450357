/*
 * A delta of any bytes, on a base of some: it writes what it says, and reads only its base.
 */
#include "work/gitobj_stream.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	static uint8_t made[1 << 16];
	uint8_t base[300];
	uint64_t base_len, len;

	for (size_t i = 0; i < sizeof(base); i++)
		base[i] = (uint8_t)i;
	if (gitobj_parse_delta_head(&in, &base_len, &len) < 0 || len > sizeof(made))
		return 0;
	if (base_len > sizeof(base))
		base_len = sizeof(base);
	(void)!gitobj_parse_delta(in, span_of(base, (size_t)base_len), made, (size_t)len);
	return 0;
}
