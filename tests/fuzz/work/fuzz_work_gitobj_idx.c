/*
 * An index of a pack, of any bytes and any size of its file: its tables lie within the file.
 */
#include "work/gitobj_stream.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	static uint8_t head[GITOBJ_IDX_HEAD_BYTES];
	struct gitobj_idx x;
	uint64_t bytes = 0;

	if (!take_le64(&in, &bytes))
		return 0;
	memset(head, 0, sizeof(head));
	memcpy(head, "\xfftOc\0\0\0\2", 8);
	memcpy(head + 8, in.at, in.len < sizeof(head) - 8 ? in.len : sizeof(head) - 8);
	if (gitobj_parse_idx_head(span_of(head, sizeof(head)), bytes, &x) == 0) {
		assert(x.large_at + 8ULL * x.large_count + 40 == bytes);
		assert(x.offsets_at + 4ULL * x.fanout[255] == x.large_at);
	}
	(void)!gitobj_parse_idx_head(in, bytes, &x);
	return 0;
}
