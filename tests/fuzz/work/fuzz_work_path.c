/*
 * A path. Contracts: what is accepted is a chain of parts which, joined, are that path; a parent is
 * above its child in the order; a refusal says why.
 */
#include "work/path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void walk(struct span path)
{
	uint8_t storage[WPATH_MAX];
	struct span rest = path, name;
	unsigned depth = 0;
	struct buf joined;

	buf_init(&joined, storage, sizeof(storage));
	while (wpath_next(&rest, &name)) {
		uint8_t copy[WPATH_MAX];
		struct span dir = span_of(copy, joined.len);

		must(wpath_name_ok(name));
		memcpy(copy, joined.at, joined.len);
		buf_reset(&joined);
		wpath_put(&joined, dir, name);
		depth++;
	}
	must(buf_ok(&joined) && span_equal(buf_span(&joined), path));
	must(depth == wpath_depth(path) && depth <= WPATH_DEPTH_MAX);
	must(wpath_beneath(wpath_parent(path), path, &rest));
	must(span_equal(rest, wpath_last(path)));
	must(path.len == 0 || wpath_cmp(wpath_parent(path), path) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum wpath_fault fault = WPATH_OK;
	struct span path = span_of(data, size);
	int r = wpath_parse(path, &fault);

	if (r == 0) {
		must(fault == WPATH_OK);
		walk(path);
	} else {
		must(r == -EBADMSG && fault != WPATH_OK);
	}
	return 0;
}
