#include "work/erofs.h"

#include "base/ck.h"

#include <errno.h>
#include <string.h>

enum {
	COMPAT = 1 | 2, /* checksum, mtime */
	INCOMPAT = 4,   /* chunks */
	EXTENDED = 1,   /* of an inode's format; its layout is above it */
	FORMAT_FILE = 0100000,
	FORMAT_DIR = 0040000,
	FORMAT_LINK = 0120000,
	FORMAT_MASK = 0170000,
	CHUNK_BITS_MASK = 31,
	NS_MAX = 999999999,
};

/* What the type of a directory entry says. */
static const uint8_t kind_of_type[] = { [1] = WORK_FILE, [2] = WORK_DIR, [7] = WORK_LINK };

int erofs_parse_super(struct span in, struct erofs_super *ret)
{
	uint32_t magic, sum, compat, build_s, build_ns, blocks, meta, xattr, incompat;
	uint8_t block_bits, slots, name[16], rest[44];
	uint32_t build_s_high;
	struct erofs_super got = { 0 };
	uint16_t root;

	if (in.len != EROFS_SUPER_BYTES || !take_le32(&in, &magic) || !take_le32(&in, &sum) ||
	    !take_le32(&in, &compat) || !take_u8(&in, &block_bits) || !take_u8(&in, &slots) ||
	    !take_le16(&in, &root) || !take_le64(&in, &got.inodes) || !take_le32(&in, &build_s) ||
	    !take_le32(&in, &build_s_high) || !take_le32(&in, &build_ns) ||
	    !take_le32(&in, &blocks) || !take_le32(&in, &meta) || !take_le32(&in, &xattr) ||
	    !take_bytes(&in, got.id, sizeof(got.id)) || !take_bytes(&in, name, sizeof(name)) ||
	    !take_le32(&in, &incompat) || !take_bytes(&in, rest, sizeof(rest)))
		return -EBADMSG;
	if (magic != EROFS_MAGIC)
		return -EBADMSG;
	if (block_bits != EROFS_BLOCK_BITS || compat != COMPAT || incompat != INCOMPAT)
		return -EPROTO;
	got.meta_at = (uint64_t)meta * EROFS_BLOCK_BYTES;
	if (got.meta_at != 0 && got.meta_at != EROFS_OTHER_AT)
		return -EBADMSG;
	if (slots || xattr || root == 0 || got.inodes == 0 || blocks == 0)
		return -EBADMSG;
	for (size_t i = 0; i < sizeof(rest); i++)
		if (rest[i] != 0)
			return -EPROTO; /* compression, devices, attributes: another writer's */
	got.root_nid = root;
	got.blocks = blocks;
	*ret = got;
	return 0;
}

/*
 * A packer asks for an inode, a name and a record of every file, so these read in place: their
 * callers have checked the length.
 */
static uint16_t le16_at(const uint8_t *at)
{
	return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t le32_at(const uint8_t *at)
{
	return le16_at(at) | (uint32_t)le16_at(at + 2) << 16;
}

static uint64_t le64_at(const uint8_t *at)
{
	return le32_at(at) | (uint64_t)le32_at(at + 4) << 32;
}

static uint8_t kind_of_mode(uint16_t mode)
{
	switch (mode & FORMAT_MASK) {
	case FORMAT_FILE:
		return WORK_FILE;
	case FORMAT_DIR:
		return WORK_DIR;
	case FORMAT_LINK:
		return WORK_LINK;
	default:
		return 0;
	}
}

static bool layout_ok(const struct erofs_inode *in)
{
	unsigned bits = in->where & CHUNK_BITS_MASK;

	switch (in->layout) {
	case EROFS_PLAIN:
		return true;
	case EROFS_INLINE:
		/* all of it is behind the inode, never a part */
		return in->size < EROFS_BLOCK_BYTES;
	case EROFS_CHUNKS:
		return in->kind == WORK_FILE && in->where == bits &&
		       erofs_chunk_count(in->size, bits) <= EROFS_CHUNKS_MAX;
	default:
		return false;
	}
}

int erofs_parse_inode(struct span in, struct erofs_inode *ret)
{
	struct erofs_inode got;
	uint16_t format, mode;

	if (in.len != EROFS_INODE_BYTES)
		return -EBADMSG;
	format = le16_at(in.at);
	mode = le16_at(in.at + 4);
	got = (struct erofs_inode){ .size = le64_at(in.at + 8),
		                    .where = le32_at(in.at + 16),
		                    .index = le32_at(in.at + 20),
		                    .uid = le32_at(in.at + 24),
		                    .gid = le32_at(in.at + 28),
		                    .mtime_s = (int64_t)le64_at(in.at + 32),
		                    .mtime_ns = le32_at(in.at + 40),
		                    .nlink = le32_at(in.at + 44),
		                    .kind = kind_of_mode(mode),
		                    .layout = (uint8_t)(format >> 1 & 7),
		                    .mode = mode & 0777 };
	/* no attributes, and nothing where the format has nothing */
	if (got.kind == 0 || format != (EXTENDED | got.layout << 1) || le16_at(in.at + 2) != 0 ||
	    le16_at(in.at + 6) != 0 || le64_at(in.at + 48) != 0 || le64_at(in.at + 56) != 0 ||
	    (mode & ~FORMAT_MASK) != got.mode || got.mtime_ns > NS_MAX)
		return -EBADMSG;
	if (got.size > INT64_MAX || !layout_ok(&got))
		return -EBADMSG;
	*ret = got;
	return 0;
}

/* The entries' heads come first, so the first name's place tells how many there are. */
int erofs_parse_dir(struct span block, uint32_t *ret_count)
{
	uint16_t first;

	if (block.len > EROFS_BLOCK_BYTES || block.len < EROFS_DIRENT_BYTES)
		return -EBADMSG;
	first = le16_at(block.at + 8);
	if (first < EROFS_DIRENT_BYTES || first % EROFS_DIRENT_BYTES != 0 || first >= block.len)
		return -EBADMSG;
	*ret_count = first / EROFS_DIRENT_BYTES;
	return 0;
}

static bool take_head(struct span block, uint32_t i, uint64_t *ret_nid, uint16_t *ret_at,
                      uint8_t *ret_type)
{
	const uint8_t *head;

	if (!ck_range((uint64_t)i * EROFS_DIRENT_BYTES, EROFS_DIRENT_BYTES, block.len))
		return false;
	head = block.at + (size_t)i * EROFS_DIRENT_BYTES;
	*ret_nid = le64_at(head);
	*ret_at = le16_at(head + 8);
	*ret_type = head[10];
	return head[11] == 0;
}

int erofs_parse_dirent(struct span block, uint32_t i, struct erofs_dirent *ret)
{
	struct erofs_dirent got = { 0 };
	uint16_t begin, end;
	uint8_t type, unused8;
	const uint8_t *nul;
	uint32_t count;
	uint64_t nid;

	if (erofs_parse_dir(block, &count) < 0 || i >= count)
		return -EBADMSG;
	if (!take_head(block, i, &got.nid, &begin, &type))
		return -EBADMSG;
	end = (uint16_t)block.len;
	if (i + 1 < count && !take_head(block, i + 1, &nid, &end, &unused8))
		return -EBADMSG;
	if (begin < count * EROFS_DIRENT_BYTES || begin >= end || end > block.len)
		return -EBADMSG;
	got.name = span_of(block.at + begin, (size_t)(end - begin));
	/* only the last name of a block that is not full is ended by a NUL */
	nul = i + 1 == count ? memchr(got.name.at, 0, got.name.len) : NULL;
	if (nul)
		got.name.len = (size_t)(nul - got.name.at);
	got.kind = type < sizeof(kind_of_type) ? kind_of_type[type] : 0;
	if (got.kind == 0 || got.nid == 0)
		return -EBADMSG;
	if (!wpath_name_ok(got.name) && !span_is(got.name, ".") && !span_is(got.name, ".."))
		return -EBADMSG;
	*ret = got;
	return 0;
}

uint64_t erofs_chunk_count(uint64_t size, unsigned chunk_bits)
{
	unsigned bits = EROFS_BLOCK_BITS + chunk_bits;

	return size == 0 ? 0 : ((size - 1) >> bits) + 1;
}

uint32_t erofs_parse_crc(struct span in)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < in.len; i++) {
		crc ^= in.at[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
	}
	return crc;
}
