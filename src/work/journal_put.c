#include "work/journal.h"

#include <string.h>

static void put_i64(struct buf *out, int64_t v)
{
	uint64_t u;

	memcpy(&u, &v, sizeof(u));
	buf_put_le64(out, u);
}

/* Pads what began at `from` with zeros and closes it with its checksum. */
static void put_block_end(struct buf *out, size_t from, size_t size)
{
	while (buf_ok(out) && out->len - from < size - 4)
		buf_put_u8(out, 0);
	if (buf_ok(out))
		buf_put_le32(out, journal_crc(0, span_of(out->at + from, size - 4)));
}

void journal_put_head(struct buf *out, const struct journal_head *h)
{
	size_t from = out->len;

	buf_put(out, "bermjnl1", 8);
	buf_put_u8(out, h->kind);
	buf_put_u8(out, h->keep);
	buf_put_le32(out, h->generation);
	buf_put_le64(out, h->root.dev);
	buf_put_le64(out, h->root.ino);
	put_i64(out, h->root.btime_ns);
	buf_put_str16(out, span_str(h->session));
	put_block_end(out, from, JOURNAL_HEAD_BYTES);
}

void journal_put_mark(struct buf *out, enum journal_mark m, struct journal_sum sum)
{
	size_t from = out->len;

	buf_put(out, "bermmark", 8);
	buf_put_le32(out, (uint32_t)m);
	buf_put_le32(out, sum.bytes);
	buf_put_le32(out, sum.crc);
	put_block_end(out, from, JOURNAL_MARK_BYTES);
}

static void put_seen(struct buf *out, const struct apply_seen *s)
{
	buf_put_u8(out, s->kind);
	buf_put_le32(out, s->mode);
	buf_put_le32(out, s->nlink);
	buf_put_le64(out, s->ino);
	buf_put_le64(out, s->size);
	put_i64(out, s->mtime_ns);
	put_i64(out, s->ctime_ns);
}

static void put_path(struct buf *out, const char *path)
{
	buf_put_str16(out, span_str(path));
	buf_put_u8(out, 0);
}

/* Room for the prefix is left first and filled last. */
static void put_prefix(struct buf *out, size_t from)
{
	struct span body;
	uint8_t room[JOURNAL_PREFIX_BYTES];
	struct buf prefix;

	if (!buf_ok(out))
		return;
	body = span_of(out->at + from + sizeof(room), out->len - from - sizeof(room));
	buf_init(&prefix, room, sizeof(room));
	buf_put_le32(&prefix, (uint32_t)body.len);
	buf_put_le32(&prefix, journal_crc(0, body));
	memcpy(out->at + from, room, sizeof(room));
}

void journal_put_step(struct buf *out, const struct journal_step *s)
{
	size_t from = out->len;

	buf_put_le64(out, 0);
	buf_put_u8(out, s->type);
	buf_put_u8(out, s->flags);
	buf_put_le32(out, s->slot);
	put_seen(out, &s->was);
	put_seen(out, &s->now);
	put_path(out, s->path);
	put_path(out, s->other);
	put_prefix(out, from);
}

void journal_put_end(struct buf *out, uint32_t steps)
{
	size_t from = out->len;

	buf_put_le64(out, 0);
	buf_put_u8(out, 0);
	buf_put_le32(out, steps);
	put_prefix(out, from);
}
