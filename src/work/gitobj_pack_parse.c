#include "work/gitobj_parse.h"

#include "base/ck.h"

#include <errno.h>
#include <string.h>

enum {
	PACK_MAGIC = 0x5041434b, /* "PACK" */
	IDX_MAGIC = 0xff744f63,
	VERSION = 2,
	SUMS_BYTES = 2 * GITOBJ_ID_BYTES, /* at the end of an index: the pack's and its own */
};

int gitobj_parse_pack_head(struct span in, uint32_t *ret_objects)
{
	uint32_t magic, version, objects;

	if (!take_be32(&in, &magic) || !take_be32(&in, &version) || !take_be32(&in, &objects))
		return -EBADMSG;
	if (magic != PACK_MAGIC || version != VERSION || objects > GITOBJ_PACKED_OBJECTS_MAX)
		return -EBADMSG;
	*ret_objects = objects;
	return 0;
}

/* Seven bits a byte, the most significant first, each byte but the last one more. */
static int take_back(struct span *in, uint64_t *ret)
{
	uint64_t v = 0;
	uint8_t c;

	for (int i = 0; i < 9; i++) {
		if (!take_u8(in, &c))
			return -EAGAIN;
		v = (v << 7) | (c & 0x7f);
		if (!(c & 0x80)) {
			*ret = v;
			return v == 0 ? -EBADMSG : 0;
		}
		v++;
	}
	return -EBADMSG;
}

/* The type in three bits, the size in four and then seven a byte, the least significant first. */
static int take_type_and_len(struct span *in, unsigned *ret_type, uint64_t *ret_len)
{
	uint64_t len;
	unsigned shift = 4;
	uint8_t c;

	if (!take_u8(in, &c))
		return -EAGAIN;
	*ret_type = c >> 4 & 7;
	len = c & 15;
	while (c & 0x80) {
		if (!take_u8(in, &c))
			return -EAGAIN;
		if (shift > 53)
			return -EBADMSG;
		len |= (uint64_t)(c & 0x7f) << shift;
		shift += 7;
	}
	*ret_len = len;
	return 0;
}

static int parse_packed(struct span in, struct gitobj_packed *ret)
{
	struct gitobj_packed p = { .len = 0 };
	size_t before = in.len;
	unsigned type = 0;
	int r = take_type_and_len(&in, &type, &p.len);

	if (r < 0)
		return r;
	if (type == 0 || type == 5)
		return -EBADMSG;
	p.type = (enum gitobj_type)type;
	if (p.type == GITOBJ_OFS_DELTA)
		r = take_back(&in, &p.back);
	else if (p.type == GITOBJ_REF_DELTA)
		r = take_bytes(&in, p.base.b, GITOBJ_ID_BYTES) ? 0 : -EAGAIN;
	if (r < 0)
		return r;
	p.head_bytes = before - in.len;
	*ret = p;
	return 0;
}

int gitobj_parse_packed(struct span in, struct gitobj_packed *ret)
{
	int r = parse_packed(in, ret);

	return r == -EAGAIN && in.len >= GITOBJ_ENTRY_HEAD_MAX ? -EBADMSG : r;
}

int gitobj_parse_idx_head(struct span in, uint64_t file_bytes, struct gitobj_idx *ret)
{
	struct gitobj_idx x = { .ids_at = GITOBJ_IDX_HEAD_BYTES };
	uint32_t magic, version;
	uint64_t need, large;

	if (!take_be32(&in, &magic) || !take_be32(&in, &version))
		return -EBADMSG;
	if (magic != IDX_MAGIC || version != VERSION)
		return -EPROTO;
	for (unsigned i = 0; i < 256; i++) {
		if (!take_be32(&in, &x.fanout[i]) || (i > 0 && x.fanout[i] < x.fanout[i - 1]))
			return -EBADMSG;
	}
	if (x.fanout[255] > GITOBJ_PACKED_OBJECTS_MAX)
		return -EBADMSG;
	/* an id, a checksum and an offset each */
	x.offsets_at = x.ids_at + (uint64_t)x.fanout[255] * (GITOBJ_ID_BYTES + 4);
	x.large_at = x.offsets_at + (uint64_t)x.fanout[255] * 4;
	need = x.large_at + SUMS_BYTES;
	if (!ck_sub(file_bytes, need, &large) || large % 8 != 0 || large / 8 > x.fanout[255])
		return -EBADMSG;
	x.large_count = (uint32_t)(large / 8);
	*ret = x;
	return 0;
}
