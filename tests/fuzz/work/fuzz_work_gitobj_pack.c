/*
 * The head of an entry in a pack: what is taken ends within the input, and is of a type there is.
 */
#include "work/gitobj_stream.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	struct gitobj_packed p;
	uint32_t objects;
	int r;

	(void)!gitobj_parse_pack_head(in, &objects);
	memset(&p, 0xa5, sizeof(p));
	r = gitobj_parse_packed(in, &p);
	if (r == 0) {
		assert(p.head_bytes > 0 && p.head_bytes <= in.len);
		assert(p.head_bytes <= GITOBJ_ENTRY_HEAD_MAX);
		assert((p.type == GITOBJ_OFS_DELTA) == (p.back != 0));
	} else {
		assert(p.len == 0xa5a5a5a5a5a5a5a5);
		assert(r == -EBADMSG || in.len < GITOBJ_ENTRY_HEAD_MAX);
	}
	return 0;
}
