#include "work/journal.h"

#include <errno.h>
#include <string.h>

static const char head_magic[8] = { 'b', 'e', 'r', 'm', 'j', 'n', 'l', '1' };
static const char mark_magic[8] = { 'b', 'e', 'r', 'm', 'm', 'a', 'r', 'k' };

/* CRC-32 (IEEE 802.3) of each half byte: a table of sixteen is as fast as a disk needs. */
uint32_t journal_crc(uint32_t crc, struct span bytes)
{
	static const uint32_t half[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
		0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
		0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};

	crc = ~crc;
	for (size_t i = 0; i < bytes.len; i++) {
		crc ^= bytes.at[i];
		crc = crc >> 4 ^ half[crc & 15];
		crc = crc >> 4 ^ half[crc & 15];
	}
	return ~crc;
}

static bool all_zero(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.at[i] != 0)
			return false;
	return true;
}

static bool take_i64(struct span *in, int64_t *ret)
{
	uint64_t v;

	if (!take_le64(in, &v))
		return false;
	memcpy(ret, &v, sizeof(v));
	return true;
}

/* The last four bytes of a block of fixed size are the checksum of the others. */
static bool take_block(struct span in, size_t size, const char magic[8], struct span *ret)
{
	struct span body, sum;
	uint32_t crc;

	if (!take_span(&in, size - 4, &body) || !take_span(&in, 4, &sum) ||
	    !take_le32(&sum, &crc) || crc != journal_crc(0, body) || memcmp(body.at, magic, 8) != 0)
		return false;
	*ret = span_of(body.at + 8, body.len - 8);
	return true;
}

static bool session_ok(struct span s)
{
	if (s.len == 0 || s.len > APPLY_SESSION_MAX)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.at[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
			return false;
	}
	return true;
}

int journal_parse_head(struct span in, struct journal_head *ret)
{
	struct journal_head h = { 0 };
	struct span body, session;

	if (in.len < JOURNAL_HEAD_BYTES)
		return -EAGAIN;
	if (!take_block(in, JOURNAL_HEAD_BYTES, head_magic, &body) || !take_u8(&body, &h.kind) ||
	    !take_u8(&body, &h.keep) || !take_le32(&body, &h.generation) ||
	    !take_le64(&body, &h.root.dev) || !take_le64(&body, &h.root.ino) ||
	    !take_i64(&body, &h.root.btime_ns) || !take_str16(&body, APPLY_SESSION_MAX, &session) ||
	    !all_zero(body))
		return -EBADMSG;
	if (h.kind < JOURNAL_APPLY || h.kind > JOURNAL_UNDO || h.keep > 1 || h.generation == 0 ||
	    !session_ok(session))
		return -EBADMSG;
	memcpy(h.session, session.at, session.len);
	*ret = h;
	return 0;
}

int journal_parse_mark(struct span in, enum journal_mark want, struct journal_sum *ret)
{
	struct journal_sum got;
	struct span body;
	uint32_t which;

	if (in.len < JOURNAL_MARK_BYTES)
		return -EAGAIN;
	if (all_zero(span_of(in.at, JOURNAL_MARK_BYTES)))
		return -ENOENT;
	if (!take_block(in, JOURNAL_MARK_BYTES, mark_magic, &body) || !take_le32(&body, &which) ||
	    !take_le32(&body, &got.bytes) || !take_le32(&body, &got.crc) || which != want ||
	    !all_zero(body))
		return -EBADMSG;
	*ret = got;
	return 0;
}

static bool take_seen(struct span *in, struct apply_seen *ret)
{
	return take_u8(in, &ret->kind) && take_le32(in, &ret->mode) && take_le32(in, &ret->nlink) &&
	       take_le64(in, &ret->ino) && take_le64(in, &ret->size) &&
	       take_i64(in, &ret->mtime_ns) && take_i64(in, &ret->ctime_ns) &&
	       ret->kind <= APPLY_OTHER && ret->mode <= 07777;
}

/* A path with its NUL, so that it can be used where it lies. */
static bool take_path(struct span *in, const char **ret)
{
	struct span s;
	uint8_t nul;

	if (!take_str16(in, WPATH_MAX, &s) || !take_u8(in, &nul) || nul != 0 ||
	    wpath_parse(s, NULL) < 0)
		return false;
	*ret = (const char *)s.at;
	return true;
}

static bool take_body(struct span in, struct journal_step *ret)
{
	if (!take_u8(&in, &ret->flags) || !take_le32(&in, &ret->slot) ||
	    !take_seen(&in, &ret->was) || !take_seen(&in, &ret->now) ||
	    !take_path(&in, &ret->path) || !take_path(&in, &ret->other))
		return false;
	if (in.len != 0 || ret->flags > (STEP_SOFT | STEP_LATE | STEP_EARLY) || !*ret->path)
		return false;
	/* whatever has a second name says so: the root has no name of its own to move to */
	return ret->type == STEP_OUT || ret->type == STEP_IN || *ret->other;
}

int journal_parse_step(struct span *in, struct journal_step *ret, bool *ret_end)
{
	struct journal_step s = { 0 };
	struct span rest = *in, body;
	uint32_t len, crc;

	if (!take_le32(&rest, &len) || !take_le32(&rest, &crc))
		return -EAGAIN;
	if (len == 0 || len > JOURNAL_RECORD_MAX)
		return -EBADMSG;
	if (!take_span(&rest, len, &body))
		return -EAGAIN;
	if (crc != journal_crc(0, body) || !take_u8(&body, &s.type))
		return -EBADMSG;
	if (s.type == 0) {
		if (!take_le32(&body, &s.slot) || body.len != 0)
			return -EBADMSG;
		s.path = s.other = "";
	} else if (s.type >= STEP_TYPES || !take_body(body, &s)) {
		return -EBADMSG;
	}
	*ret_end = s.type == 0;
	*ret = s;
	*in = rest;
	return 0;
}
