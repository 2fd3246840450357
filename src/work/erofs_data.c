#include "work/erofs_internal.h"

#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
	BOUNCE_BYTES = 1 << 20,
	ROOM_WORTH = 16 << 10, /* a large file is read in no smaller pieces */
};

/* One call copies at most this much, so that a stop is noticed. */
#define COPY_RUN_MAX (UINT64_C(256) << 20)

static uint64_t round_up(uint64_t bytes)
{
	return (bytes + EROFS_BLOCK_BYTES - 1) / EROFS_BLOCK_BYTES * EROFS_BLOCK_BYTES;
}

/* The cursor never passes the disk's end: every block then has a number. */
static int check_place(const struct erofs *w, uint64_t len, struct err *e)
{
	if (len > w->disk_bytes - window_end(&w->data))
		return err_set(e, -E2BIG, "the workspace's files are too much for one image");
	return 0;
}

int erofs_put_data(struct erofs *w, const void *data, size_t len, struct err *e)
{
	const uint8_t *from = data;
	int r = check_place(w, len, e);

	while (r == 0 && len > 0) {
		size_t n = w->data.size - w->data.len;

		if (n == 0) {
			r = erofs_flush(w, &w->data, e);
			continue;
		}
		n = n < len ? n : len;
		memcpy(w->data.at + w->data.len, from, n);
		w->data.len += n;
		from += n;
		len -= n;
	}
	return r;
}

int erofs_pad_data(struct erofs *w, struct err *e)
{
	static const uint8_t zeros[EROFS_BLOCK_BYTES];
	uint64_t at = window_end(&w->data);

	return erofs_put_data(w, zeros, (size_t)(round_up(at) - at), e);
}

void erofs_begin(struct erofs *w, uint64_t size)
{
	assert(window_end(&w->data) % EROFS_BLOCK_BYTES == 0);
	w->file_size = size;
	w->file_at = window_end(&w->data);
}

static uint64_t file_left(const struct erofs *w)
{
	return w->file_size - (window_end(&w->data) - w->file_at);
}

int erofs_room(struct erofs *w, uint8_t **ret_at, size_t *ret_len, struct err *e)
{
	size_t room = w->data.size - w->data.len;
	uint64_t left = file_left(w);
	int r = check_place(w, left, e);

	if (r == 0 && room < left && room < ROOM_WORTH) {
		r = erofs_flush(w, &w->data, e);
		room = w->data.size;
	}
	if (r < 0)
		return r;
	*ret_at = w->data.at + w->data.len;
	*ret_len = room < left ? room : (size_t)left;
	return 0;
}

void erofs_filled(struct erofs *w, size_t len)
{
	assert(len <= w->data.size - w->data.len && len <= file_left(w));
	w->data.len += len;
}

static bool reflink(struct erofs *w, int fd, uint64_t from, uint64_t to, uint64_t len)
{
	struct file_clone_range range = {
		.src_fd = fd, .src_offset = from, .src_length = len, .dest_offset = to
	};

	if (w->no_reflink)
		return false;
	if (ioctl(w->fd, FICLONERANGE, &range) == 0)
		return true;
	/* once refused, it is refused for every file of that file system */
	w->no_reflink = true;
	return false;
}

/* The place is the data's next, and whoever asks fills it. */
static int take_place(struct erofs *w, uint64_t len, uint64_t *ret_at, struct err *e)
{
	int r = check_place(w, len, e);

	if (r == 0 && w->data.len > 0)
		r = erofs_flush(w, &w->data, e);
	if (r < 0)
		return r;
	*ret_at = w->data.base;
	w->data.base += len;
	return 0;
}

static void reached(struct erofs *w, uint64_t end)
{
	if (end > w->data_end)
		w->data_end = end;
}

int erofs_clone(struct erofs *w, int fd, uint64_t off, uint64_t len)
{
	assert(len % EROFS_BLOCK_BYTES == 0 && len <= file_left(w));
	if (w->no_reflink || check_place(w, len, NULL) < 0 || erofs_flush(w, &w->data, NULL) < 0)
		return -EOPNOTSUPP;
	if (w->data.base % EROFS_BLOCK_BYTES != 0 || !reflink(w, fd, off, w->data.base, len))
		return -EOPNOTSUPP;
	w->data.base += len;
	reached(w, w->data.base);
	return 0;
}

/* For what the kernel does not copy by itself, between two file systems on an older one. */
static int copy_by_hand(struct erofs *w, struct copy_run *c, struct err *e)
{
	_own_free_ uint8_t *bounce = malloc(BOUNCE_BYTES);

	if (!bounce)
		return err_set(e, -ENOMEM, "out of memory");
	while (c->len > 0) {
		size_t want = c->len < BOUNCE_BYTES ? (size_t)c->len : BOUNCE_BYTES;
		ssize_t n = pread(c->fd, bounce, want, (off_t)c->from);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "read the earlier image");
		if (n == 0)
			return err_set(e, -EBADMSG, "the earlier image is too short");
		r = erofs_pwrite(w, bounce, (size_t)n, c->to, e);
		if (r < 0)
			return r;
		c->from += (uint64_t)n;
		c->to += (uint64_t)n;
		c->len -= (uint64_t)n;
	}
	return 0;
}

static int copy_run(struct erofs *w, struct copy_run *c, struct err *e)
{
	while (c->len > 0) {
		loff_t from = (loff_t)c->from, to = (loff_t)c->to;
		ssize_t n = copy_file_range(c->fd, &from, w->fd, &to, (size_t)c->len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
			return err_sys(e, "copy from the earlier image");
		if (n <= 0)
			return copy_by_hand(w, c, e);
		c->from += (uint64_t)n;
		c->to += (uint64_t)n;
		c->len -= (uint64_t)n;
	}
	return 0;
}

int erofs_copies_end(struct erofs *w, struct err *e)
{
	struct copy_run c = w->run;

	w->run.len = 0;
	if (c.len == 0)
		return 0;
	reached(w, c.to + c.len);
	if (reflink(w, c.fd, c.from, c.to, c.len))
		return 0;
	return copy_run(w, &c, e);
}

int erofs_copy(struct erofs *w, int fd, uint64_t off, struct err *e)
{
	uint64_t len = round_up(w->file_size), to = 0;
	struct copy_run *c = &w->run;
	int r = take_place(w, len, &to, e);

	if (r < 0)
		return r;
	if (c->len > 0 && c->fd == fd && c->from + c->len == off && c->to + c->len == to &&
	    c->len < COPY_RUN_MAX) {
		c->len += len;
		return 0;
	}
	r = erofs_copies_end(w, e);
	if (r == 0)
		*c = (struct copy_run){ .from = off, .to = to, .len = len, .fd = fd };
	return r;
}

static void attr_to_inode(const struct erofs_attr *a, uint64_t size, struct erofs_inode *ret)
{
	*ret = (struct erofs_inode){ .size = size,
		                     .mtime_s = a->mtime_s,
		                     .mtime_ns = a->mtime_ns,
		                     .index = a->index,
		                     .nlink = 1,
		                     .mode = a->mode,
		                     .kind = WORK_FILE };
}

static int end_inline(struct erofs *w, struct erofs_inode *in, uint64_t *ret_nid, struct err *e)
{
	size_t size = (size_t)w->file_size;
	uint8_t inode[EROFS_INODE_BYTES];

	/* erofs_room() never flushes between the pieces of so small a file */
	assert(w->file_at >= w->data.base && w->data.len >= size);
	w->data.len -= size;
	in->layout = EROFS_INLINE;
	in->where = EROFS_NO_BLOCK;
	erofs_fill_inode(w, in, inode);
	return erofs_put_inode(w, inode, w->data.at + w->data.len, size, ret_nid, e);
}

static int end_sparse(struct erofs *w, struct erofs_inode *in, uint64_t *ret_nid, struct err *e)
{
	_own_free_ uint32_t *chunks = steal_ptr(&w->chunks);
	size_t table = (size_t)w->chunk_count * 4;
	uint8_t inode[EROFS_INODE_BYTES];
	struct buf b;

	/* the table in the file's byte order, over itself: each number is read before it is put */
	buf_init(&b, chunks, table);
	for (uint32_t i = 0; i < w->chunk_count; i++)
		buf_put_le32(&b, chunks[i]);
	in->layout = EROFS_CHUNKS;
	in->where = w->chunk_bits;
	w->holes += window_end(&w->data) - w->file_at - w->chunk_written;
	erofs_fill_inode(w, in, inode);
	return erofs_put_inode(w, inode, chunks, table, ret_nid, e);
}

int erofs_end(struct erofs *w, const struct erofs_attr *a, uint64_t *ret_nid,
              struct erofs_content *ret_content, struct err *e)
{
	struct erofs_content content = { .size = w->file_size };
	uint8_t inode[EROFS_INODE_BYTES];
	struct erofs_inode in;
	int r = 0;

	attr_to_inode(a, w->file_size, &in);
	if (ret_content)
		*ret_content = content;
	if (w->chunks)
		return end_sparse(w, &in, ret_nid, e);
	if (w->file_size <= EROFS_INLINE_MAX)
		return end_inline(w, &in, ret_nid, e);
	assert(window_end(&w->data) - w->file_at == w->file_size ||
	       window_end(&w->data) - w->file_at == round_up(w->file_size));
	r = erofs_pad_data(w, e);
	in.where = content.block = (uint32_t)(w->file_at / EROFS_BLOCK_BYTES);
	erofs_fill_inode(w, &in, inode);
	if (r == 0 && w->over.away != 0)
		r = erofs_over_end(w, true, e);
	if (r == 0)
		r = erofs_put_inode(w, inode, NULL, 0, ret_nid, e);
	if (r == 0 && ret_content)
		*ret_content = content;
	return r;
}

int erofs_drop(struct erofs *w, struct err *e)
{
	free(w->chunks);
	w->chunks = NULL;
	if (w->over.away != 0)
		return erofs_over_end(w, false, e);
	if (w->file_at >= w->data.base) {
		w->data.len = (size_t)(w->file_at - w->data.base);
		return 0;
	}
	/* some of it is in the file already, and what comes next need not cover it */
	w->data.len = 0;
	w->data.base = w->file_at;
	if (w->data_end > w->file_at && ftruncate(w->fd, (off_t)w->file_at) < 0)
		return err_sys(e, "shorten the workspace's image");
	w->data_end = w->file_at;
	return 0;
}

int erofs_share(struct erofs *w, const struct erofs_attr *a, const struct erofs_content *c,
                uint64_t *ret_nid, struct err *e)
{
	uint8_t inode[EROFS_INODE_BYTES];
	struct erofs_inode in;

	assert(c->block != 0);
	attr_to_inode(a, c->size, &in);
	in.where = c->block;
	erofs_fill_inode(w, &in, inode);
	return erofs_put_inode(w, inode, NULL, 0, ret_nid, e);
}

int erofs_begin_sparse(struct erofs *w, uint64_t size, struct err *e)
{
	unsigned bits = 0;

	assert(size > 0);
	while (erofs_chunk_count(size, bits) > EROFS_CHUNKS_MAX)
		bits++;
	assert(bits <= EROFS_CHUNK_BITS_MAX && !w->chunks);
	w->chunk_bits = bits;
	w->chunk_count = (uint32_t)erofs_chunk_count(size, bits);
	w->chunk_written = 0;
	w->chunks = malloc((size_t)w->chunk_count * 4);
	if (!w->chunks)
		return err_set(e, -ENOMEM, "out of memory");
	memset(w->chunks, 0xff, (size_t)w->chunk_count * 4);
	erofs_begin(w, size);
	return 0;
}

int erofs_extent(struct erofs *w, uint64_t off, uint64_t len, struct err *e)
{
	unsigned bits = EROFS_BLOCK_BITS + w->chunk_bits;
	int r = 0;

	assert(w->chunks && len > 0 && len <= w->file_size && off <= w->file_size - len);
	for (uint64_t c = off >> bits; r == 0 && c <= (off + len - 1) >> bits; c++) {
		uint64_t left = round_up(w->file_size - (c << bits)), at;
		uint64_t bytes = UINT64_C(1) << bits;

		if (w->chunks[c] != EROFS_NO_BLOCK)
			continue;
		r = take_place(w, left < bytes ? left : bytes, &at, e);
		if (r == 0)
			w->chunks[c] = (uint32_t)(at / EROFS_BLOCK_BYTES);
	}
	return r;
}

int erofs_put_at(struct erofs *w, uint64_t off, const void *data, size_t len, struct err *e)
{
	unsigned bits = EROFS_BLOCK_BITS + w->chunk_bits;
	const uint8_t *from = data;
	int r = 0;

	while (r == 0 && len > 0) {
		uint64_t within = off & ((UINT64_C(1) << bits) - 1);
		uint64_t left = (UINT64_C(1) << bits) - within;
		size_t n = len < left ? len : (size_t)left;
		uint64_t at = (uint64_t)w->chunks[off >> bits] * EROFS_BLOCK_BYTES + within;

		assert(w->chunks[off >> bits] != EROFS_NO_BLOCK);
		r = erofs_pwrite(w, from, n, at, e);
		reached(w, at + n);
		w->chunk_written += n;
		off += n;
		from += n;
		len -= n;
	}
	return r;
}
