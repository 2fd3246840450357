#include "work/manifest.h"
#include "work/path.h"

#include "base/buf.h"

#include <errno.h>
#include <string.h>

enum { NS_MAX = 999999999 };

static const uint8_t magic[8] = { 'b', 'e', 'r', 'm', 'm', 'a', 'n', 0 };

int manifest_parse_record(struct span in, struct host_record *ret)
{
	struct host_record got = { 0 };
	uint64_t mtime, ctime;
	uint8_t rest[6];

	if (in.len != MANIFEST_RECORD_BYTES || !take_le64(&in, &got.dev) ||
	    !take_le64(&in, &got.ino) || !take_le64(&in, &got.size) || !take_le64(&in, &mtime) ||
	    !take_le64(&in, &ctime) || !take_le32(&in, &got.mtime_ns) ||
	    !take_le32(&in, &got.ctime_ns) || !take_le32(&in, &got.mode) ||
	    !take_le32(&in, &got.nlink) || !take_u8(&in, &got.kind) || !take_u8(&in, &got.flags) ||
	    !take_bytes(&in, rest, sizeof(rest)))
		return -EBADMSG;
	got.mtime_s = (int64_t)mtime;
	got.ctime_s = (int64_t)ctime;
	if (got.kind < WORK_FILE || got.kind > WORK_LINK || got.mtime_ns > NS_MAX ||
	    got.ctime_ns > NS_MAX || got.flags > (HOST_RACY | HOST_MADE | HOST_OUTSIDE))
		return -EBADMSG;
	for (size_t i = 0; i < sizeof(rest); i++)
		if (rest[i] != 0)
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
	    !take_le64(&in, &got.root_ino))
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
	struct buf b;

	memset(out, 0, MANIFEST_RECORD_BYTES);
	buf_init(&b, out, MANIFEST_RECORD_BYTES);
	buf_put_le64(&b, r->dev);
	buf_put_le64(&b, r->ino);
	buf_put_le64(&b, r->size);
	buf_put_le64(&b, (uint64_t)r->mtime_s);
	buf_put_le64(&b, (uint64_t)r->ctime_s);
	buf_put_le32(&b, r->mtime_ns);
	buf_put_le32(&b, r->ctime_ns);
	buf_put_le32(&b, r->mode);
	buf_put_le32(&b, r->nlink);
	buf_put_u8(&b, r->kind);
	buf_put_u8(&b, r->flags);
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
}
