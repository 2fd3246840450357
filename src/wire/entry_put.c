#include "wire/entry.h"

void entry_put(struct buf *out, const struct entry *en)
{
	size_t start = out->len;

	if (en->path.len > WIRE_PATH_MAX || en->target.len > WIRE_PATH_MAX)
		out->over = true;
	buf_put_u8(out, en->kind);
	if (en->kind != ENTRY_END) {
		buf_put_le32(out, en->mode);
		buf_put_le32(out, en->uid);
		buf_put_le32(out, en->gid);
		buf_put_le64(out, (uint64_t)en->mtime_s);
		buf_put_le32(out, en->mtime_ns);
		buf_put_le64(out, en->size);
		buf_put_str16(out, en->path);
		buf_put_str16(out, en->target);
	}
	if (out->over)
		out->len = start; /* a header is there whole or not at all */
}
