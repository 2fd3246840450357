#include "wire/entry.h"

#include <errno.h>
#include <string.h>

enum { NS_PER_S = 1000000000 };

/* A str16 of a stream: how long it is may be judged before all of it is there. */
static int take_text(struct span *s, size_t len_max, struct span *ret)
{
	struct span b = *s;
	struct span got;
	uint16_t len;

	if (!take_le16(&b, &len))
		return -EAGAIN;
	if (len > len_max)
		return -EBADMSG;
	if (!take_span(&b, len, &got))
		return -EAGAIN;
	if (len > 0 && memchr(got.at, 0, len))
		return -EBADMSG;
	*s = b;
	*ret = got;
	return 0;
}

/* Relative, no part empty, "." or "..", none too long for a name, not too deep. */
static bool path_ok(struct span path)
{
	unsigned depth = 0;
	struct span part;

	if (path.len == 0)
		return true;
	if (path.at[path.len - 1] == '/')
		return false;
	while (take_until(&path, '/', &part)) {
		if (part.len == 0 || part.len > WIRE_NAME_MAX || span_is(part, ".") ||
		    span_is(part, ".."))
			return false;
		if (++depth > ENTRY_DEPTH_MAX)
			return false;
	}
	return true;
}

static bool entry_ok(const struct entry *en)
{
	if (en->mode > 07777 || en->mtime_ns >= NS_PER_S || en->size > INT64_MAX)
		return false;
	if (en->kind != ENTRY_FILE && en->size != 0)
		return false;
	if ((en->kind == ENTRY_LINK) != (en->target.len > 0))
		return false;
	return path_ok(en->path);
}

int entry_parse(struct span *in, struct entry *ret)
{
	struct entry got = { 0 };
	struct span s = *in;
	uint64_t mtime_s;
	int r;

	if (!take_u8(&s, &got.kind))
		return -EAGAIN;
	if (got.kind > ENTRY_LINK)
		return -EBADMSG;
	if (got.kind == ENTRY_END) {
		*ret = got;
		*in = s;
		return 0;
	}
	if (!take_le32(&s, &got.mode) || !take_le32(&s, &got.uid) || !take_le32(&s, &got.gid) ||
	    !take_le64(&s, &mtime_s) || !take_le32(&s, &got.mtime_ns) || !take_le64(&s, &got.size))
		return -EAGAIN;
	got.mtime_s = (int64_t)mtime_s;
	r = take_text(&s, WIRE_PATH_MAX, &got.path);
	if (r == 0)
		r = take_text(&s, WIRE_PATH_MAX, &got.target);
	if (r < 0)
		return r;
	if (!entry_ok(&got))
		return -EBADMSG;
	*ret = got;
	*in = s;
	return 0;
}
