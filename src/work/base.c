#include "work/base_internal.h"

#include "base/ck.h"
#include "base/fdio.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ_CHUNK_BYTES = 64 << 10 };

static int read_at(int fd, uint64_t off, void *ret, size_t len, const char *what, struct err *e)
{
	size_t got;

	if (fd_read_at(fd, off, ret, len, &got) < 0)
		return err_sys(e, "read %s", what);
	if (got < len)
		return err_set(e, -EBADMSG, "%s is damaged: it is too short", what);
	return 0;
}

static const char image_name[] = "the workspace's image";
static const char manifest_name[] = "the workspace's manifest";

int base_damaged(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "%s is damaged: %s", image_name, what);
}

/* Into the cache, and a few behind it for who goes forwards. Short of the first, it is damaged. */
static int read_blocks(struct base *b, uint64_t block, struct err *e)
{
	uint64_t left = b->super.blocks - block;
	size_t want = block != b->next_block     ? 1
	              : left < BASE_BLOCKS_AHEAD ? (size_t)left
	                                         : BASE_BLOCKS_AHEAD;
	struct iovec to[BASE_BLOCKS_AHEAD];
	ssize_t n;

	for (size_t i = 0; i < want; i++) {
		struct base_block *c = &b->cache[(block + i) % BASE_CACHE_BLOCKS];

		c->block = UINT64_MAX;
		to[i] = (struct iovec){ c->at, EROFS_BLOCK_BYTES };
	}
	do
		n = preadv(b->image_fd, to, (int)want, (off_t)(block * EROFS_BLOCK_BYTES));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_sys(e, "read %s", image_name);
	if (n < EROFS_BLOCK_BYTES)
		return base_damaged(e, "it is too short");
	want = (size_t)n / EROFS_BLOCK_BYTES;
	for (size_t i = 0; i < want; i++)
		b->cache[(block + i) % BASE_CACHE_BLOCKS].block = block + i;
	b->next_block = block + want;
	return 0;
}

int base_block(struct base *b, uint64_t block, const uint8_t **ret, struct err *e)
{
	struct base_block *c = &b->cache[block % BASE_CACHE_BLOCKS];
	int r;

	if (block >= b->super.blocks)
		return base_damaged(e, "a block is outside of it");
	if (c->block != block) {
		r = read_blocks(b, block, e);
		if (r < 0)
			return r;
	}
	*ret = c->at;
	return 0;
}

int base_node_at(struct base *b, uint64_t nid, struct base_node *ret, struct err *e)
{
	struct erofs_inode in;
	const uint8_t *block = NULL;
	uint64_t at;
	int r;

	if (!ck_mul(nid, EROFS_SLOT_BYTES, &at) || !ck_add(at, b->super.meta_at, &at) ||
	    at % EROFS_BLOCK_BYTES > EROFS_BLOCK_BYTES - EROFS_INODE_BYTES)
		return base_damaged(e, "an inode is where none can be");
	r = base_block(b, at / EROFS_BLOCK_BYTES, &block, e);
	if (r < 0)
		return r;
	if (erofs_parse_inode(span_of(block + at % EROFS_BLOCK_BYTES, EROFS_INODE_BYTES), &in) < 0)
		return base_damaged(e, "an inode makes no sense");
	if (in.layout == EROFS_INLINE &&
	    in.size > EROFS_BLOCK_BYTES - EROFS_INODE_BYTES - at % EROFS_BLOCK_BYTES)
		return base_damaged(e, "a content crosses its block");
	if (in.layout == EROFS_PLAIN && !ck_range((uint64_t)in.where * EROFS_BLOCK_BYTES, in.size,
	                                          b->super.blocks * EROFS_BLOCK_BYTES))
		return base_damaged(e, "a content is outside of it");
	if ((in.kind == WORK_DIR && in.size > BASE_DIR_BYTES_MAX) ||
	    (in.kind == WORK_LINK && (in.size == 0 || in.size > BASE_LINK_MAX)))
		return base_damaged(e, "a size makes no sense");
	*ret = (struct base_node){ .nid = nid,
		                   .size = in.size,
		                   .mtime_s = in.mtime_s,
		                   .mtime_ns = in.mtime_ns,
		                   .index = in.index,
		                   .uid = in.uid,
		                   .gid = in.gid,
		                   .mode = in.mode,
		                   .kind = in.kind,
		                   .layout_ = in.layout,
		                   .where_ = in.where };
	return 0;
}

static int open_image(struct base *b, struct err *e)
{
	uint8_t block[EROFS_BLOCK_BYTES];
	struct span at = span_of(block + EROFS_SUPER_AT, EROFS_SUPER_BYTES);
	struct stat st;
	int r;

	r = read_at(b->image_fd, 0, block, sizeof(block), image_name, e);
	if (r < 0)
		return r;
	r = erofs_parse_super(at, &b->super);
	if (r == -EPROTO)
		return err_set(e, r, "%s was written by another version of berm", image_name);
	if (r < 0)
		return base_damaged(e, "its first block makes no sense");
	memset(b->sum, 0, sizeof(b->sum));
	memcpy(b->sum, block + EROFS_SUPER_AT + 4, sizeof(b->sum));
	memset(block + EROFS_SUPER_AT + 4, 0, sizeof(b->sum));
	if (erofs_parse_crc(span_of(block + EROFS_SUPER_AT, EROFS_BLOCK_BYTES - EROFS_SUPER_AT)) !=
	    ((uint32_t)b->sum[0] | (uint32_t)b->sum[1] << 8 | (uint32_t)b->sum[2] << 16 |
	     (uint32_t)b->sum[3] << 24))
		return base_damaged(e, "its first block has another checksum");
	if (fstat(b->image_fd, &st) < 0)
		return err_sys(e, "look at %s", image_name);
	/* a disk under the tests has no length of its own */
	if (S_ISREG(st.st_mode) &&
	    (uint64_t)st.st_size != b->super.blocks * (uint64_t)EROFS_BLOCK_BYTES)
		return base_damaged(e, "its length is another");
	return 0;
}

static int open_manifest(struct base *b, struct err *e)
{
	uint8_t head[MANIFEST_HEADER_BYTES];
	struct stat st;
	int r;

	r = read_at(b->manifest_fd, 0, head, sizeof(head), manifest_name, e);
	if (r < 0)
		return r;
	r = manifest_parse_header(span_of(head, sizeof(head)), &b->manifest);
	if (r == -EPROTO)
		return err_set(e, r, "%s was written by another version of berm", manifest_name);
	if (r < 0)
		return err_set(e, r, "%s is damaged", manifest_name);
	if (memcmp(b->manifest.image_id, b->super.id, MANIFEST_ID_BYTES) != 0)
		return err_set(e, -EBADMSG, "%s belongs to another image", manifest_name);
	if (fstat(b->manifest_fd, &st) < 0)
		return err_sys(e, "look at %s", manifest_name);
	if ((uint64_t)st.st_size !=
	    MANIFEST_HEADER_BYTES + b->manifest.count * MANIFEST_RECORD_BYTES)
		return err_set(e, -EBADMSG, "%s is damaged: its length is another", manifest_name);
	return 0;
}

static int take_fd(int fd, int *ret, struct err *e)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return err_sys(e, "duplicate an fd");
	*ret = copy;
	return 0;
}

int base_open(int image_fd, int manifest_fd, struct base **ret, struct err *e)
{
	_own_(base_free) struct base *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return err_set(e, -ENOMEM, "out of memory");
	b->image_fd = b->manifest_fd = -1;
	for (size_t i = 0; i < BASE_CACHE_BLOCKS; i++)
		b->cache[i].block = UINT64_MAX;
	r = take_fd(image_fd, &b->image_fd, e);
	if (r == 0)
		r = open_image(b, e);
	if (r == 0)
		r = base_node_at(b, b->super.root_nid, &b->root, e);
	if (r == 0 && b->root.kind != WORK_DIR)
		r = base_damaged(e, "its root is no directory");
	if (r == 0 && manifest_fd >= 0) {
		r = take_fd(manifest_fd, &b->manifest_fd, e);
		if (r == 0)
			r = open_manifest(b, e);
	}
	if (r < 0)
		return r;
	*ret = steal_ptr(&b);
	return 0;
}

void base_free(struct base *b)
{
	if (!b)
		return;
	own_close_fd(&b->image_fd);
	own_close_fd(&b->manifest_fd);
	free(b);
}

int base_image_fd(const struct base *b)
{
	return b->image_fd;
}

int base_manifest_fd(const struct base *b)
{
	return b->manifest_fd;
}

bool base_places(const struct base *b, struct erofs_places *ret)
{
	if (b->manifest_fd < 0 || b->manifest.meta_end == 0)
		return false;
	*ret = (struct erofs_places){ b->super.meta_at, b->manifest.meta_end,
		                      b->manifest.data_end };
	return true;
}

void base_totals(const struct base *b, struct base_totals *ret)
{
	*ret = (struct base_totals){ .inodes = b->super.inodes,
		                     .image_bytes = b->super.blocks * EROFS_BLOCK_BYTES,
		                     .packed_ns = b->manifest.packed_ns,
		                     .root_dev = b->manifest.root_dev,
		                     .root_ino = b->manifest.root_ino };
	memcpy(ret->id, b->super.id, sizeof(ret->id));
}

void base_root(const struct base *b, struct base_node *ret)
{
	*ret = b->root;
}

int base_host_record(struct base *b, const struct base_node *node, struct host_record *ret,
                     struct err *e)
{
	uint64_t first = node->index / BASE_RECORDS_CACHED * BASE_RECORDS_CACHED;
	size_t at = node->index % BASE_RECORDS_CACHED;

	if (b->manifest_fd < 0)
		return err_set(e, -ENOENT, "no manifest of the workspace is open");
	if (node->index >= b->manifest.count)
		return base_damaged(e, "a file has no record in the manifest");
	if (b->records_count == 0 || b->records_first != first) {
		uint64_t left = b->manifest.count - first;
		size_t count = left < BASE_RECORDS_CACHED ? (size_t)left : BASE_RECORDS_CACHED;
		int r;

		b->records_count = 0;
		r = read_at(b->manifest_fd, MANIFEST_HEADER_BYTES + first * MANIFEST_RECORD_BYTES,
		            b->records, count * MANIFEST_RECORD_BYTES, manifest_name, e);
		if (r < 0)
			return r;
		b->records_first = first;
		b->records_count = count;
	}
	if (manifest_parse_record(
		    span_of(b->records + at * MANIFEST_RECORD_BYTES, MANIFEST_RECORD_BYTES), ret) <
	    0)
		return err_set(e, -EBADMSG, "%s is damaged: a record makes no sense",
		               manifest_name);
	return 0;
}

/* Of a file in chunks: up to the end of this chunk; zeros where it is a hole. */
static int read_chunk(struct base *b, const struct base_node *node, uint64_t off, uint8_t *to,
                      size_t *len, struct err *e)
{
	unsigned bits = EROFS_BLOCK_BITS + node->where_;
	uint64_t within = off & ((UINT64_C(1) << bits) - 1);
	uint64_t left = (UINT64_C(1) << bits) - within;
	uint64_t at = base_inode_at(b, node) + EROFS_INODE_BYTES + (off >> bits) * 4;
	uint32_t block = 0;
	const uint8_t *meta = NULL;
	struct span entry;
	int r;

	*len = *len < left ? *len : (size_t)left;
	r = base_block(b, at / EROFS_BLOCK_BYTES, &meta, e);
	if (r < 0)
		return r;
	entry = span_of(meta + at % EROFS_BLOCK_BYTES, 4);
	if (!take_le32(&entry, &block) || block == EROFS_NO_BLOCK) {
		memset(to, 0, *len);
		return 0;
	}
	if (!ck_range((uint64_t)block * EROFS_BLOCK_BYTES + within, *len,
	              b->super.blocks * EROFS_BLOCK_BYTES))
		return base_damaged(e, "a content is outside of it");
	return read_at(b->image_fd, (uint64_t)block * EROFS_BLOCK_BYTES + within, to, *len,
	               image_name, e);
}

int base_read(struct base *b, const struct base_node *node, uint64_t off, void *ret, size_t len,
              struct err *e)
{
	uint64_t inode_at = base_inode_at(b, node);
	uint8_t *to = ret;
	int r = 0;

	if (!ck_range(off, len, node->size))
		return err_set(e, -ENODATA, "read past the end of a file in the workspace's image");
	if (node->layout_ == EROFS_INLINE) {
		const uint8_t *block = NULL;

		r = base_block(b, inode_at / EROFS_BLOCK_BYTES, &block, e);
		if (r == 0 && len > 0)
			memcpy(to, block + inode_at % EROFS_BLOCK_BYTES + EROFS_INODE_BYTES + off,
			       len);
		return r;
	}
	if (node->layout_ == EROFS_PLAIN)
		return read_at(b->image_fd, (uint64_t)node->where_ * EROFS_BLOCK_BYTES + off, to,
		               len, image_name, e);
	while (r == 0 && len > 0) {
		size_t n = len;

		r = read_chunk(b, node, off, to, &n, e);
		to += n;
		off += n;
		len -= n;
	}
	return r;
}

int base_read_link(struct base *b, const struct base_node *node, char ret[BASE_LINK_MAX + 1],
                   size_t *ret_len, struct err *e)
{
	int r;

	assert(node->kind == WORK_LINK && node->size <= BASE_LINK_MAX);
	r = base_read(b, node, 0, ret, (size_t)node->size, e);
	if (r < 0)
		return r;
	ret[node->size] = 0;
	*ret_len = (size_t)node->size;
	return 0;
}

static void free_sha(EVP_MD_CTX *c)
{
	EVP_MD_CTX_free(c);
}
OWN_DEFINE(EVP_MD_CTX, free_sha)

int base_digest(struct base *b, const struct base_node *node, uint8_t ret[BASE_SHA256_BYTES],
                struct err *e)
{
	_own_(free_sha) EVP_MD_CTX *sha = EVP_MD_CTX_new();
	_own_free_ uint8_t *chunk = malloc(READ_CHUNK_BYTES);

	if (!sha || !chunk || EVP_DigestInit_ex(sha, EVP_sha256(), NULL) != 1)
		return err_set(e, -ENOMEM, "out of memory");
	for (uint64_t off = 0; off < node->size;) {
		uint64_t left = node->size - off;
		size_t n = left < READ_CHUNK_BYTES ? (size_t)left : READ_CHUNK_BYTES;
		int r = base_read(b, node, off, chunk, n, e);

		if (r < 0)
			return r;
		if (EVP_DigestUpdate(sha, chunk, n) != 1)
			return err_set(e, -ENOMEM, "out of memory");
		off += n;
	}
	if (EVP_DigestFinal_ex(sha, ret, NULL) != 1)
		return err_set(e, -ENOMEM, "out of memory");
	return 0;
}

int base_same_content(struct base *b, const struct base_node *node, int fd, struct err *e)
{
	_own_free_ uint8_t *both = malloc((size_t)2 * READ_CHUNK_BYTES);
	uint8_t *other = both ? both + READ_CHUNK_BYTES : NULL;
	size_t got = 0;
	int r;

	if (!both)
		return err_set(e, -ENOMEM, "out of memory");
	for (uint64_t off = 0; off < node->size; off += got) {
		uint64_t left = node->size - off;
		size_t n = left < READ_CHUNK_BYTES ? (size_t)left : READ_CHUNK_BYTES;

		if (fd_read_at(fd, off, other, n, &got) < 0)
			return err_sys(e, "read a file to compare it");
		if (got != n)
			return 0;
		r = base_read(b, node, off, both, n, e);
		if (r < 0)
			return r;
		if (memcmp(both, other, n) != 0)
			return 0;
	}
	if (fd_read_at(fd, node->size, other, 1, &got) < 0)
		return err_sys(e, "read a file to compare it");
	return got == 0;
}
