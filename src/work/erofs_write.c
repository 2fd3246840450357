#include "work/erofs_internal.h"

#include "base/buf.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	FIRST_META_AT = EROFS_BLOCK_BYTES, /* from where nids count: none is 0 */
	/* Measured on ext4, Linux 6.18: writes of 256 KiB cost twice the processor time. */
	WRITE_BYTES = 64 << 10,
};

int erofs_new(int fd, uint64_t disk_bytes, uint32_t uid, uint32_t gid, struct erofs **ret,
              struct err *e)
{
	_own_(erofs_free) struct erofs *w = calloc(1, sizeof(*w));

	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	w->meta_max = EROFS_DATA_AT;
	w->data_at = EROFS_DATA_AT;
	w->meta = (struct window){ calloc(1, META_WINDOW_BYTES), META_WINDOW_BYTES, FIRST_META_AT,
		                   0 };
	w->data = (struct window){ malloc(DATA_WINDOW_BYTES), DATA_WINDOW_BYTES, EROFS_DATA_AT, 0 };
	w->sha = EVP_MD_CTX_new();
	if (!w->meta.at || !w->data.at || !w->sha ||
	    EVP_DigestInit_ex(w->sha, EVP_sha256(), NULL) != 1)
		return err_set(e, -ENOMEM, "out of memory");
	assert(disk_bytes > EROFS_DATA_AT && disk_bytes % EROFS_BLOCK_BYTES == 0 &&
	       disk_bytes / EROFS_BLOCK_BYTES <= UINT32_MAX);
	w->fd = fd;
	w->disk_bytes = disk_bytes;
	w->uid = uid;
	w->gid = gid;
	w->data_end = EROFS_DATA_AT;
	*ret = steal_ptr(&w);
	return 0;
}

void erofs_free(struct erofs *w)
{
	if (!w)
		return;
	EVP_MD_CTX_free(w->sha);
	free(w->over.kept);
	free(w->over.taken);
	free(w->chunks);
	free(w->meta.at);
	free(w->data.at);
	free(w);
}

int erofs_pwrite(struct erofs *w, const void *data, size_t len, uint64_t at, struct err *e)
{
	const uint8_t *from = data;

	while (len > 0) {
		size_t piece = len < WRITE_BYTES ? len : WRITE_BYTES;
		ssize_t n = pwrite(w->fd, from, piece, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "write the workspace's image");
		from += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int erofs_flush(struct erofs *w, struct window *win, struct err *e)
{
	int r = erofs_pwrite(w, win->at, win->len, win->base, e);

	if (r < 0)
		return r;
	win->base += win->len;
	win->len = 0;
	if (win == &w->meta)
		memset(win->at, 0, win->size);
	else if (win->base > w->data_end)
		w->data_end = win->base;
	return 0;
}

int erofs_take_meta(struct erofs *w, size_t len, uint64_t *ret_at, struct err *e)
{
	uint64_t at = window_end(&w->meta);
	size_t left = EROFS_BLOCK_BYTES - (size_t)(at % EROFS_BLOCK_BYTES);
	size_t skip = len > left ? left : 0;
	size_t room = (len + EROFS_SLOT_BYTES - 1) / EROFS_SLOT_BYTES * EROFS_SLOT_BYTES;
	int r;

	assert(room + EROFS_BLOCK_BYTES <= w->meta.size);
	if (at + skip + room > w->meta_max)
		return err_set(e, -E2BIG, "the workspace has too many files for one image");
	if (w->meta.size - w->meta.len < skip + room) {
		r = erofs_flush(w, &w->meta, e);
		if (r < 0)
			return r;
	}
	w->meta.len += skip + room; /* zeros already */
	*ret_at = at + skip;
	return 0;
}

/* What was written already is written again, in part: a directory whose children took long. */
int erofs_set_meta(struct erofs *w, uint64_t at, const void *data, size_t len, struct err *e)
{
	if (EVP_DigestUpdate(w->sha, data, len) != 1)
		return err_set(e, -ENOMEM, "out of memory");
	if (at < w->meta.base)
		return erofs_pwrite(w, data, len, at, e);
	memcpy(w->meta.at + (at - w->meta.base), data, len);
	return 0;
}

int erofs_put_inode(struct erofs *w, const uint8_t inode[EROFS_INODE_BYTES], const void *behind,
                    size_t len, uint64_t *ret_nid, struct err *e)
{
	uint64_t at;
	int r;

	r = erofs_take_meta(w, EROFS_INODE_BYTES + len, &at, e);
	if (r == 0)
		r = erofs_set_meta(w, at, inode, EROFS_INODE_BYTES, e);
	if (r == 0 && len > 0)
		r = erofs_set_meta(w, at + EROFS_INODE_BYTES, behind, len, e);
	if (r < 0)
		return r;
	w->inodes++;
	*ret_nid = (at - w->meta_at) / EROFS_SLOT_BYTES;
	return 0;
}

static uint16_t format_bits(uint8_t kind)
{
	return kind == WORK_DIR ? 0040000 : kind == WORK_LINK ? 0120000 : 0100000;
}

void erofs_fill_inode(const struct erofs *w, const struct erofs_inode *in,
                      uint8_t out[EROFS_INODE_BYTES])
{
	/* one for each file of a tree: written as it lies on the disk, with zeros for the rest */
	const struct {
		uint16_t format, xattrs, mode, unused;
		uint64_t size;
		uint32_t where, index, uid, gid;
		uint64_t mtime_s;
		uint32_t mtime_ns, nlink;
		uint64_t rest[2];
	} inode = {
		.format = htole16((uint16_t)(1 | in->layout << 1)),
		.mode = htole16((uint16_t)(format_bits(in->kind) | (in->mode & 0777))),
		.size = htole64(in->size),
		.where = htole32(in->where),
		.index = htole32(in->index),
		.uid = htole32(w->uid),
		.gid = htole32(w->gid),
		.mtime_s = htole64((uint64_t)in->mtime_s),
		.mtime_ns = htole32(in->mtime_ns),
		.nlink = htole32(in->nlink),
	};

	static_assert(sizeof(inode) == EROFS_INODE_BYTES, "an inode as the format has it");
	memcpy(out, &inode, sizeof(inode));
}

int erofs_link(struct erofs *w, const struct erofs_attr *a, struct span target, uint64_t *ret_nid,
               struct err *e)
{
	struct erofs_inode in = { .size = target.len,
		                  .mtime_s = a->mtime_s,
		                  .mtime_ns = a->mtime_ns,
		                  .index = a->index,
		                  .where = EROFS_NO_BLOCK,
		                  .nlink = 1,
		                  .mode = 0777,
		                  .kind = WORK_LINK,
		                  .layout = EROFS_INLINE };
	uint8_t inode[EROFS_INODE_BYTES];
	int r;

	assert(target.len > 0 && target.len <= EROFS_LINK_MAX);
	if (target.len <= EROFS_DIR_INLINE_MAX) {
		erofs_fill_inode(w, &in, inode);
		return erofs_put_inode(w, inode, target.at, target.len, ret_nid, e);
	}
	/* does not fit beside its inode: a block of its own */
	in.layout = EROFS_PLAIN;
	in.where = (uint32_t)(window_end(&w->data) / EROFS_BLOCK_BYTES);
	r = erofs_put_data(w, target.at, target.len, e);
	if (r == 0)
		r = erofs_pad_data(w, e);
	if (r < 0)
		return r;
	erofs_fill_inode(w, &in, inode);
	return erofs_put_inode(w, inode, NULL, 0, ret_nid, e);
}

static void fill_super(const struct erofs *w, const uint8_t *id, uint8_t block[EROFS_BLOCK_BYTES])
{
	uint8_t *at = block + EROFS_SUPER_AT;
	struct buf b;
	uint32_t sum;

	buf_init(&b, at, EROFS_SUPER_BYTES);
	buf_put_le32(&b, EROFS_MAGIC);
	buf_put_le32(&b, 0); /* the checksum, below */
	buf_put_le32(&b, 1 | 2);
	buf_put_u8(&b, EROFS_BLOCK_BITS);
	buf_put_u8(&b, 0);
	buf_put_le16(&b, (uint16_t)w->root_nid);
	buf_put_le64(&b, w->inodes);
	buf_put_le64(&b, 0); /* no time of making: the same tree gives the same bytes */
	buf_put_le32(&b, 0);
	buf_put_le32(&b, (uint32_t)(w->disk_bytes / EROFS_BLOCK_BYTES));
	buf_put_le32(&b, (uint32_t)(w->meta_at / EROFS_BLOCK_BYTES));
	buf_put_le32(&b, 0);
	buf_put(&b, id, EROFS_ID_BYTES);
	buf_put(&b, (const uint8_t[16]){ "berm" }, 16);
	buf_put_le32(&b, 4);
	assert(buf_ok(&b));
	sum = erofs_parse_crc(span_of(at, EROFS_BLOCK_BYTES - EROFS_SUPER_AT));
	buf_init(&b, at + 4, 4);
	buf_put_le32(&b, sum);
}

uint64_t erofs_bytes(const struct erofs *w)
{
	uint64_t data_end = w->over.away != 0 ? w->over.away : window_end(&w->data);

	return window_end(&w->meta) - w->meta_at + (data_end - w->data_at) - w->holes +
	       w->over.kept_bytes;
}

int erofs_finish(struct erofs *w, uint8_t ret_id[EROFS_ID_BYTES], struct erofs_places *ret_places,
                 struct err *e)
{
	struct erofs_places places = { w->meta_at, window_end(&w->meta), window_end(&w->data) };
	uint8_t block[EROFS_BLOCK_BYTES] = { 0 }, digest[EVP_MAX_MD_SIZE];
	int r;

	r = erofs_copies_end(w, e);
	if (r == 0)
		r = erofs_flush(w, &w->data, e);
	if (r == 0)
		r = erofs_flush(w, &w->meta, e);
	if (r < 0)
		return r;
	if (EVP_DigestFinal_ex(w->sha, digest, NULL) != 1)
		return err_set(e, -ENOMEM, "out of memory");
	assert(w->root_nid > 0 && w->root_nid <= UINT16_MAX);
	fill_super(w, digest, block);
	r = erofs_pwrite(w, block, sizeof(block), 0, e);
	if (r == 0)
		r = erofs_punch_rest(w, e);
	if (r < 0)
		return r;
	if (ftruncate(w->fd, (off_t)w->disk_bytes) < 0)
		return err_sys(e, "give the workspace's image its size");
	memcpy(ret_id, digest, EROFS_ID_BYTES);
	if (ret_places)
		*ret_places = places;
	return 0;
}
