/*
 * A loose ref and packed-refs, of any bytes: a name that a ref may have is one that a file may
 * have, part by part.
 */
#include "work/gitobj_stream.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	struct span rest = in;
	struct span name = { 0 };
	struct gitobj_id id;

	if (gitobj_parse_ref(in, &id, &name) == 0)
		assert(name.len == 0 || gitobj_parse_ref_name_ok(name));
	while (gitobj_parse_packed_ref(&rest, &id, &name) == 0) {
		struct span next = name;
		struct span part;

		assert(!name.len || !memchr(name.at, '\n', name.len));
		if (!gitobj_parse_ref_name_ok(name))
			continue;
		while (take_until(&next, 0x2f, &part))
			assert(wpath_name_ok(part));
	}
	return 0;
}
