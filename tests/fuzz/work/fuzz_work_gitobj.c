/*
 * A loose object's head, a commit, a tag, and the stream between the job and its reader, of any
 * bytes.
 */
#include "work/gitobj_stream.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	struct gitobj_commit c;
	struct gitobj_id id;
	struct gitobj_record rec;
	enum gitobj_bad bad = GITOBJ_BAD_NONE;
	enum gitobj_type type;
	struct span rest = in;
	uint64_t len;

	if (gitobj_parse_loose_head(&rest, &type, &len) == 0)
		assert(rest.len < in.len && *gitobj_type_name(type));
	if (gitobj_parse_tag(in, &id, &type) == 0)
		assert(*gitobj_type_name(type) && in.len > 2 * sizeof(id));
	memset(&c, 0xa5, sizeof(c));
	if (gitobj_parse_commit(in, &c, &bad) == 0) {
		assert(c.parent_count <= GITOBJ_PARENTS_MAX);
		assert(c.parents.len == (size_t)48 * c.parent_count);
	} else {
		assert(bad != GITOBJ_BAD_NONE && c.parent_count == 0xa5a5a5a5);
	}
	rest = in;
	while (gitobj_parse_record(&rest, &rec) == 0) {
		uint8_t room[GITOBJ_STREAM_HEAD_MAX];
		struct buf b;

		buf_init(&b, room, sizeof(room));
		gitobj_put_record(&b, &rec);
		assert(buf_ok(&b) && b.len <= in.len);
		assert(memcmp(b.at, rest.at - b.len, b.len) == 0);
	}
	return 0;
}
