/*
 * A tree of any bytes. What is taken is sorted, has no name twice and none that git minds.
 */
#include "work/gitobj_stream.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	enum gitobj_bad bad = GITOBJ_BAD_NONE;
	struct gitobj_entry en;
	enum gitobj_type type;
	struct span last = { 0 };

	if (gitobj_parse_tree(in, &bad) < 0) {
		assert(bad > GITOBJ_BAD_NONE && bad < GITOBJ_BAD_COUNT);
		return 0;
	}
	while (in.len > 0) {
		int r = gitobj_parse_entry(&in, &en, &bad);

		assert(r == 0 && wpath_name_ok(en.name) && !gitobj_is_git_name(en.name));
		assert(gitobj_entry_type(&en, &type) || en.mode == 0160000);
		assert(!span_equal(last, en.name));
		last = en.name;
	}
	return 0;
}
