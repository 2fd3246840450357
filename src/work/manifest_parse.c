#include "work/manifest.h"
#include "work/path.h"

#include "base/buf.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

enum { NS_MAX = 999999999 };

static const uint8_t magic[8] = { 'b', 'e', 'r', 'm', 'm', 'a', 'n', 0 };

/* One for each file of a tree that is packed again, so these read and write in place. */
static uint32_t le32_at(const uint8_t *at)
{
	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t le64_at(const uint8_t *at)
{
	return le32_at(at) | (uint64_t)le32_at(at + 4) << 32;
}

static void put_le32(uint8_t *at, uint32_t v)
{
	v = htole32(v);
	memcpy(at, &v, sizeof(v));
}

static void put_le64(uint8_t *at, uint64_t v)
{
	v = htole64(v);
	memcpy(at, &v, sizeof(v));
}

int manifest_parse_record(struct span in, struct host_record *ret)
{
	static const uint8_t rest[6];
	struct host_record got;

	if (in.len != MANIFEST_RECORD_BYTES)
		return -EBADMSG;
	got = (struct host_record){ .dev = le64_at(in.at),
		                    .ino = le64_at(in.at + 8),
		                    .size = le64_at(in.at + 16),
		                    .mtime_s = (int64_t)le64_at(in.at + 24),
		                    .ctime_s = (int64_t)le64_at(in.at + 32),
		                    .mtime_ns = le32_at(in.at + 40),
		                    .ctime_ns = le32_at(in.at + 44),
		                    .mode = le32_at(in.at + 48),
		                    .nlink = le32_at(in.at + 52),
		                    .kind = in.at[56],
		                    .flags = in.at[57] };
	if (got.kind < WORK_FILE || got.kind > WORK_LINK || got.mtime_ns > NS_MAX ||
	    got.ctime_ns > NS_MAX || got.flags > (HOST_RACY | HOST_MADE | HOST_OUTSIDE))
		return -EBADMSG;
	if (memcmp(in.at + 58, rest, sizeof(rest)) != 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}

int manifest_parse_header(struct span in, struct manifest_header *ret)
{
	struct manifest_header got = { 0 };
	uint32_t version, record_bytes;
	uint8_t mark[sizeof(magic)];

	if (in.len != MANIFEST_HEADER_BYTES || !take_bytes(&in, mark, sizeof(mark)) ||
	    !take_le32(&in, &version) || !take_le32(&in, &record_bytes) ||
	    !take_bytes(&in, got.image_id, sizeof(got.image_id)) || !take_le64(&in, &got.count) ||
	    !take_le64(&in, &got.packed_ns) || !take_le64(&in, &got.root_dev) ||
	    !take_le64(&in, &got.root_ino) || !take_le64(&in, &got.meta_end) ||
	    !take_le64(&in, &got.data_end))
		return -EBADMSG;
	if (memcmp(mark, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	if (version != MANIFEST_VERSION)
		return -EPROTO;
	if (record_bytes != MANIFEST_RECORD_BYTES || got.count == 0 || got.count > UINT32_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < in.len; i++)
		if (in.at[i] != 0)
			return -EBADMSG;
	*ret = got;
	return 0;
}

void manifest_put_record(uint8_t out[MANIFEST_RECORD_BYTES], const struct host_record *r)
{
	memset(out, 0, MANIFEST_RECORD_BYTES);
	put_le64(out, r->dev);
	put_le64(out + 8, r->ino);
	put_le64(out + 16, r->size);
	put_le64(out + 24, (uint64_t)r->mtime_s);
	put_le64(out + 32, (uint64_t)r->ctime_s);
	put_le32(out + 40, r->mtime_ns);
	put_le32(out + 44, r->ctime_ns);
	put_le32(out + 48, r->mode);
	put_le32(out + 52, r->nlink);
	out[56] = r->kind;
	out[57] = r->flags;
}

void manifest_put_header(uint8_t out[MANIFEST_HEADER_BYTES], const struct manifest_header *h)
{
	struct buf b;

	memset(out, 0, MANIFEST_HEADER_BYTES);
	buf_init(&b, out, MANIFEST_HEADER_BYTES);
	buf_put(&b, magic, sizeof(magic));
	buf_put_le32(&b, MANIFEST_VERSION);
	buf_put_le32(&b, MANIFEST_RECORD_BYTES);
	buf_put(&b, h->image_id, sizeof(h->image_id));
	buf_put_le64(&b, h->count);
	buf_put_le64(&b, h->packed_ns);
	buf_put_le64(&b, h->root_dev);
	buf_put_le64(&b, h->root_ino);
	buf_put_le64(&b, h->meta_end);
	buf_put_le64(&b, h->data_end);
}
