/*
 * Theory of operation
 *
 * A squashfs is data blocks, then tables: inodes, directories, fragments, export, ids, attributes;
 * the super block at the front points at them. Data is written as it streams in and its place kept
 * in the tree's inodes; the tables are written at the end, by libsquashfs, from the sorted tree.
 *
 * Nothing is compressed. The size word of a data block carries a bit that says so, and the tables
 * are compressed by a compressor that never gains anything, which makes libsquashfs store them as
 * they are. The super block has to name some compressor; the kernel never calls it.
 *
 * Directories are written bottom up, because an entry holds the place of its inode. Every number
 * that a file's order could decide comes from the tree, so equal trees make equal bytes.
 */
#include "image/squash.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "image/table.h"

#include <errno.h>
#include <sqfs/block.h>
#include <sqfs/compressor.h>
#include <sqfs/dir_writer.h>
#include <sqfs/error.h>
#include <sqfs/frag_table.h>
#include <sqfs/id_table.h>
#include <sqfs/inode.h>
#include <sqfs/io.h>
#include <sqfs/meta_writer.h>
#include <sqfs/super.h>
#include <sqfs/xattr_writer.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum {
	OUT_BYTES = 1 << 20,          /* one write; small files are gathered */
	SPACE_CHECK_BYTES = 32 << 20, /* between two looks at the room left */
	BLOCK_PLAIN = 1 << 24,        /* in a size word: stored as it is */
	DEV_MAJOR_MAX = 0xfff,        /* what the kernel's 32-bit device number holds */
	DEV_MINOR_MAX = 0xfffff,
	PAD_BYTES = 4096, /* loop devices want whole pages */
};

struct squash {
	sqfs_file_t file; /* first: libsquashfs hands it back */
	int fd;
	struct err io; /* why the last write failed: libsquashfs has one code for all */
	uint8_t *out;  /* what is not yet in the file */
	size_t out_len;
	uint64_t at; /* where out goes */
	uint64_t checked_at;

	struct tree_inode *in; /* being written */
	uint8_t *block;
	size_t block_len;
	uint64_t left;

	sqfs_compressor_t plain;
	sqfs_super_t super;
	sqfs_id_table_t *ids;
	struct table owners; /* (owner, "") to its index in ids, plus one */
	sqfs_xattr_writer_t *xattrs;
	sqfs_frag_table_t *frags;
	sqfs_meta_writer_t *inode_meta, *dir_meta;
	sqfs_dir_writer_t *dirs;
};

static int check_space(struct squash *s)
{
	struct statvfs st;

	if (s->at - s->checked_at < SPACE_CHECK_BYTES && s->checked_at > 0)
		return 0;
	s->checked_at = s->at;
	if (fstatvfs(s->fd, &st) < 0)
		return err_sys(&s->io, "ask how full the disk is");
	if ((uint64_t)st.f_bavail * st.f_frsize < IMAGE_DISK_RESERVE_BYTES)
		return err_set(&s->io, -ENOSPC, "the disk of the image store is full");
	return 0;
}

static int write_at(struct squash *s, uint64_t at, const uint8_t *data, size_t len)
{
	int r = check_space(s);

	while (r == 0 && len > 0) {
		ssize_t n = pwrite(s->fd, data, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == ENOSPC || errno == EDQUOT))
			return err_set(&s->io, -ENOSPC, "the disk of the image store is full");
		if (n < 0)
			return err_sys(&s->io, "write the image");
		data += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return r;
}

static int flush(struct squash *s)
{
	int r = write_at(s, s->at, s->out, s->out_len);

	if (r < 0)
		return r;
	s->at += s->out_len;
	s->out_len = 0;
	return 0;
}

static int append(struct squash *s, const uint8_t *data, size_t len)
{
	while (len > 0) {
		size_t n = OUT_BYTES - s->out_len < len ? OUT_BYTES - s->out_len : len;
		int r;

		memcpy(s->out + s->out_len, data, n);
		s->out_len += n;
		data += n;
		len -= n;
		if (s->out_len < OUT_BYTES)
			break;
		r = flush(s);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- the file as libsquashfs sees it --- */

static struct squash *of_file(const sqfs_file_t *f)
{
	return (struct squash *)(uintptr_t)f;
}

static void file_destroy(sqfs_object_t *o)
{
	(void)o; /* it is a part of struct squash */
}

static int file_read_at(sqfs_file_t *f, sqfs_u64 off, void *ret, size_t len)
{
	struct squash *s = of_file(f);

	if (flush(s) < 0)
		return SQFS_ERROR_IO;
	while (len > 0) {
		ssize_t n = pread(s->fd, ret, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? SQFS_ERROR_IO : SQFS_ERROR_OUT_OF_BOUNDS;
		ret = (uint8_t *)ret + n;
		off += (sqfs_u64)n;
		len -= (size_t)n;
	}
	return 0;
}

static sqfs_u64 file_size(const sqfs_file_t *f)
{
	const struct squash *s = of_file(f);

	return s->at + s->out_len;
}

static int file_write_at(sqfs_file_t *f, sqfs_u64 off, const void *data, size_t len)
{
	struct squash *s = of_file(f);

	if (off == file_size(f))
		return append(s, data, len) < 0 ? SQFS_ERROR_IO : 0;
	if (flush(s) < 0 || off > s->at || len > s->at - off)
		return SQFS_ERROR_IO;
	return write_at(s, off, data, len) < 0 ? SQFS_ERROR_IO : 0;
}

static int file_truncate(sqfs_file_t *f, sqfs_u64 size)
{
	struct squash *s = of_file(f);

	if (flush(s) < 0 || ftruncate(s->fd, (off_t)size) < 0)
		return SQFS_ERROR_IO;
	s->at = size;
	return 0;
}

/* --- a compressor that never gains anything --- */

static void plain_destroy(sqfs_object_t *o)
{
	(void)o;
}

static sqfs_object_t *plain_copy(const sqfs_object_t *o)
{
	return (sqfs_object_t *)(uintptr_t)o; /* it has no state, and lives as long as the image */
}

static sqfs_s32 plain_do_block(sqfs_compressor_t *c, const sqfs_u8 *in, sqfs_u32 size, sqfs_u8 *out,
                               sqfs_u32 out_size)
{
	(void)c, (void)in, (void)size, (void)out, (void)out_size;
	return 0; /* "no smaller": the block is stored as it is */
}

/* --- */

static int failed(struct squash *s, int code, const char *what, struct err *e)
{
	if (s->io.code != 0) {
		if (e)
			*e = s->io;
		return s->io.code;
	}
	if (code == SQFS_ERROR_ALLOC)
		return err_set(e, -ENOMEM, "out of memory");
	if (code == SQFS_ERROR_OVERFLOW)
		return err_set(e, -E2BIG, "%s: more than squashfs can hold", what);
	return err_set(e, -EIO, "%s: libsquashfs error %d", what, code);
}

void squash_free(struct squash *s)
{
	if (!s)
		return;
	sqfs_destroy(s->dirs);
	sqfs_destroy(s->dir_meta);
	sqfs_destroy(s->inode_meta);
	sqfs_destroy(s->frags);
	sqfs_destroy(s->xattrs);
	sqfs_destroy(s->ids);
	table_fini(&s->owners);
	free(s->out);
	free(s->block);
	free(s);
}

int squash_new(int fd, struct squash **ret, struct err *e)
{
	_own_(squash_free) struct squash *s = calloc(1, sizeof(*s));
	uint64_t seed[2];

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	random_bytes(seed, sizeof(seed));
	table_init(&s->owners, seed);
	s->fd = fd;
	s->file = (sqfs_file_t){ .base = { .destroy = file_destroy },
		                 .read_at = file_read_at,
		                 .write_at = file_write_at,
		                 .get_size = file_size,
		                 .truncate = file_truncate };
	s->plain = (sqfs_compressor_t){ .base = { .destroy = plain_destroy, .copy = plain_copy },
		                        .do_block = plain_do_block };
	s->out = malloc(OUT_BYTES);
	s->block = malloc(SQUASH_BLOCK_BYTES);
	s->ids = sqfs_id_table_create(0);
	s->xattrs = sqfs_xattr_writer_create(0);
	s->frags = sqfs_frag_table_create(0);
	s->inode_meta = sqfs_meta_writer_create(&s->file, &s->plain, 0);
	s->dir_meta = sqfs_meta_writer_create(&s->file, &s->plain, SQFS_META_WRITER_KEEP_IN_MEMORY);
	if (s->dir_meta)
		s->dirs = sqfs_dir_writer_create(s->dir_meta, SQFS_DIR_WRITER_CREATE_EXPORT_TABLE);
	if (!s->out || !s->block || !s->ids || !s->xattrs || !s->frags || !s->inode_meta ||
	    !s->dirs)
		return err_set(e, -ENOMEM, "out of memory");
	if (sqfs_super_init(&s->super, SQUASH_BLOCK_BYTES, 0, SQFS_COMP_ZSTD) != 0 ||
	    sqfs_super_write(&s->super, &s->file) != 0)
		return failed(s, SQFS_ERROR_INTERNAL, "begin the image", e);
	*ret = steal_ptr(&s);
	return 0;
}

/* --- contents --- */

int squash_begin(struct squash *s, struct tree *t, struct tree_inode *in, uint64_t size,
                 struct err *e)
{
	uint64_t blocks = size / SQUASH_BLOCK_BYTES + (size % SQUASH_BLOCK_BYTES != 0);

	in->size = size;
	in->data_start = file_size(&s->file);
	in->block_count = 0;
	in->sparse_bytes = 0;
	if (blocks > 0) {
		in->block_sizes = tree_alloc(t, blocks * sizeof(uint32_t), e);
		if (!in->block_sizes)
			return e ? e->code : -ENOMEM;
	}
	s->in = in;
	s->left = size;
	s->block_len = 0;
	return 0;
}

static bool is_zero(const uint8_t *at, size_t len)
{
	return len == 0 || (at[0] == 0 && memcmp(at, at + 1, len - 1) == 0);
}

/* A whole block, or the last one of a file. */
static int put_block(struct squash *s, const uint8_t *data, size_t len, struct err *e)
{
	struct tree_inode *in = s->in;

	if (len == SQUASH_BLOCK_BYTES && is_zero(data, len)) {
		in->block_sizes[in->block_count++] = 0;
		in->sparse_bytes += len;
		return 0;
	}
	in->block_sizes[in->block_count++] = (uint32_t)len | BLOCK_PLAIN;
	return append(s, data, len) < 0 ? failed(s, 0, "write", e) : 0;
}

int squash_data(struct squash *s, const void *data, size_t len, struct err *e)
{
	const uint8_t *at = data;

	if (len > s->left)
		return err_set(e, -EBADMSG, "a file is longer than its header says");
	s->left -= len;
	while (len > 0) {
		size_t n = SQUASH_BLOCK_BYTES - s->block_len;
		int r = 0;

		if (s->block_len == 0 && len >= SQUASH_BLOCK_BYTES) {
			r = put_block(s, at, n, e);
		} else {
			n = n < len ? n : len;
			memcpy(s->block + s->block_len, at, n);
			s->block_len += n;
			if (s->block_len == SQUASH_BLOCK_BYTES) {
				s->block_len = 0;
				r = put_block(s, s->block, SQUASH_BLOCK_BYTES, e);
			}
		}
		if (r < 0)
			return r;
		at += n;
		len -= n;
	}
	return 0;
}

int squash_hole(struct squash *s, uint64_t len, struct err *e)
{
	static const uint8_t zeros[4096];

	if (len > s->left)
		return err_set(e, -EBADMSG, "a file is longer than its header says");
	while (len > 0) {
		uint64_t n = len < sizeof(zeros) ? len : sizeof(zeros);
		int r;

		if (s->block_len == 0 && len >= SQUASH_BLOCK_BYTES) {
			s->in->block_sizes[s->in->block_count++] = 0;
			s->in->sparse_bytes += SQUASH_BLOCK_BYTES;
			s->left -= SQUASH_BLOCK_BYTES;
			len -= SQUASH_BLOCK_BYTES;
			continue;
		}
		if (n > SQUASH_BLOCK_BYTES - s->block_len)
			n = SQUASH_BLOCK_BYTES - s->block_len;
		r = squash_data(s, zeros, (size_t)n, e);
		if (r < 0)
			return r;
		len -= n;
	}
	return 0;
}

int squash_end(struct squash *s, struct err *e)
{
	int r = squash_hole(s, s->left, e);

	if (r == 0 && s->block_len > 0)
		r = put_block(s, s->block, s->block_len, e);
	if (r < 0)
		return r;
	s->in->written = true;
	s->in = NULL;
	return 0;
}

bool squash_xattr_fits(const char *key)
{
	static const char *const prefixes[] = { "user.", "trusted.", "security." };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t len = strlen(prefixes[i]);

		if (strncmp(key, prefixes[i], len) == 0 && key[len] != '\0')
			return true;
	}
	return false;
}

int squash_xattr_begin(struct squash *s, struct err *e)
{
	int code = sqfs_xattr_writer_begin(s->xattrs, 0);

	return code != 0 ? failed(s, code, "an extended attribute", e) : 0;
}

int squash_xattr(struct squash *s, const char *key, const void *value, size_t len, struct err *e)
{
	int code = sqfs_xattr_writer_add(s->xattrs, key, value, len);

	return code != 0 ? failed(s, code, "an extended attribute", e) : 0;
}

int squash_xattr_end(struct squash *s, struct tree_inode *in, struct err *e)
{
	int code = sqfs_xattr_writer_end(s->xattrs, &in->xattr);

	return code != 0 ? failed(s, code, "an extended attribute", e) : 0;
}

/* --- tables --- */

static uint16_t type_bits(enum tree_kind k)
{
	switch (k) {
	case TREE_FILE:
		return S_IFREG;
	case TREE_DIR:
		return S_IFDIR;
	case TREE_SYMLINK:
		return S_IFLNK;
	case TREE_CHAR:
		return S_IFCHR;
	case TREE_BLOCK:
		return S_IFBLK;
	case TREE_FIFO:
		return S_IFIFO;
	case TREE_SOCKET:
		return S_IFSOCK;
	case TREE_PENDING:
		break;
	}
	return 0;
}

/* The kernel's 32-bit form. Source: linux/kdev_t.h, new_encode_dev() */
static uint32_t dev_number(uint32_t major, uint32_t minor)
{
	return (minor & 0xff) | (major & DEV_MAJOR_MAX) << 8 |
	       (minor & DEV_MINOR_MAX & ~UINT32_C(0xff)) << 12;
}

static sqfs_inode_generic_t *alloc_inode(size_t payload)
{
	sqfs_inode_generic_t *g = calloc(1, sizeof(*g) + payload);

	if (g) {
		g->payload_bytes_available = (uint32_t)payload;
		g->payload_bytes_used = (uint32_t)payload;
	}
	return g;
}

static sqfs_inode_generic_t *file_inode(const struct tree_inode *in)
{
	size_t payload = in->block_count * sizeof(uint32_t);
	sqfs_inode_generic_t *g = alloc_inode(payload);

	if (!g)
		return NULL;
	g->base.type = SQFS_INODE_EXT_FILE;
	g->data.file_ext.blocks_start = in->block_count > 0 ? in->data_start : 0;
	g->data.file_ext.file_size = in->size;
	g->data.file_ext.sparse = in->sparse_bytes;
	g->data.file_ext.nlink = in->links;
	g->data.file_ext.fragment_idx = UINT32_MAX;
	g->data.file_ext.fragment_offset = 0;
	g->data.file_ext.xattr_idx = TREE_NO_XATTR;
	if (payload > 0)
		memcpy(g->extra, in->block_sizes, payload);
	return g;
}

static sqfs_inode_generic_t *symlink_inode(const struct tree_inode *in)
{
	sqfs_inode_generic_t *g = alloc_inode(in->meta.target.len);

	if (!g)
		return NULL;
	g->base.type = SQFS_INODE_SLINK;
	g->data.slink.nlink = in->links;
	g->data.slink.target_size = (uint32_t)in->meta.target.len;
	memcpy(g->extra, in->meta.target.at, in->meta.target.len);
	return g;
}

static sqfs_inode_generic_t *special_inode(const struct tree_inode *in)
{
	sqfs_inode_generic_t *g = alloc_inode(0);
	enum tree_kind k = in->meta.kind;

	if (!g)
		return NULL;
	if (k == TREE_CHAR || k == TREE_BLOCK) {
		g->base.type = k == TREE_CHAR ? SQFS_INODE_CDEV : SQFS_INODE_BDEV;
		g->data.dev.nlink = in->links;
		g->data.dev.devno = dev_number(in->meta.dev_major, in->meta.dev_minor);
	} else {
		g->base.type = k == TREE_FIFO ? SQFS_INODE_FIFO : SQFS_INODE_SOCKET;
		g->data.ipc.nlink = in->links;
	}
	return g;
}

static sqfs_inode_generic_t *make_inode(const struct tree_inode *in)
{
	switch (in->meta.kind) {
	case TREE_FILE:
		return file_inode(in);
	case TREE_SYMLINK:
		return symlink_inode(in);
	case TREE_CHAR:
	case TREE_BLOCK:
	case TREE_FIFO:
	case TREE_SOCKET:
		return special_inode(in);
	case TREE_DIR:
	case TREE_PENDING:
		break;
	}
	return NULL;
}

/*
 * libsquashfs looks through its list, and a million files may have 65536 owners: it is asked once.
 */
static int owner_index(struct squash *s, uint32_t id, uint16_t *ret, struct err *e)
{
	const void *known = table_get(&s->owners, id, span_str(""));
	uint16_t index;
	int code;
	int r;

	if (known) {
		*ret = (uint16_t)((uintptr_t)known - 1);
		return 0;
	}
	code = sqfs_id_table_id_to_index(s->ids, id, &index);
	if (code != 0)
		return failed(s, code, "more than 65536 different owners", e);
	/* NOLINTNEXTLINE(performance-no-int-to-ptr): a number, never followed */
	r = table_put(&s->owners, id, span_str(""), (void *)((uintptr_t)index + 1), e);
	if (r < 0)
		return r;
	*ret = index;
	return 0;
}

/* Fills in what all inodes have, writes it, and notes where it is. Frees g. */
static int write_inode(struct squash *s, struct tree_inode *in, sqfs_inode_generic_t *g,
                       struct err *e)
{
	uint64_t block;
	uint32_t off;
	int code;
	int r;

	if (!g)
		return err_set(e, -ENOMEM, "out of memory");
	g->base.mode = in->meta.mode;
	g->base.mod_time = in->meta.mtime_s;
	g->base.inode_number = in->number;
	r = owner_index(s, in->meta.uid, &g->base.uid_idx, e);
	if (r == 0)
		r = owner_index(s, in->meta.gid, &g->base.gid_idx, e);
	if (r < 0) {
		free(g);
		return r;
	}
	code = sqfs_inode_set_xattr_index(g, in->xattr);
	if (code == 0)
		(void)sqfs_inode_make_basic(g); /* stays extended when it must */
	sqfs_meta_writer_get_position(s->inode_meta, &block, &off);
	in->ref = block << 16 | off;
	in->placed = true;
	if (code == 0)
		code = sqfs_meta_writer_write_inode(s->inode_meta, g);
	sqfs_free(g);
	return code != 0 ? failed(s, code, "write an inode", e) : 0;
}

static int write_dir(struct squash *s, struct tree_node *dir, uint32_t parent, struct err *e)
{
	struct tree_inode *in = dir->inode;
	int code = sqfs_dir_writer_begin(s->dirs, 0);

	for (struct tree_node *n = dir->kids; code == 0 && n; n = n->next) {
		const struct tree_inode *kid = tree_inode_of(n);

		code = sqfs_dir_writer_add_entry(
			s->dirs, (const char *)n->name.at, kid->number, kid->ref,
			(uint16_t)(type_bits(kid->meta.kind) | kid->meta.mode));
	}
	if (code == 0)
		code = sqfs_dir_writer_end(s->dirs);
	if (code != 0)
		return failed(s, code, "write a directory", e);
	return write_inode(s, in,
	                   sqfs_dir_writer_create_inode(s->dirs, in->links, in->xattr, parent), e);
}

/* Depth is bounded by TREE_DEPTH_MAX. */
static int write_tree(struct squash *s, struct tree_node *dir, uint32_t parent, struct err *e)
{
	int r = 0;

	for (struct tree_node *n = dir->kids; r == 0 && n; n = n->next) {
		struct tree_inode *in = tree_inode_of(n);

		if (in->meta.kind == TREE_DIR)
			r = write_tree(s, n, dir->inode->number, e);
		else if (in->meta.kind == TREE_FILE && !in->written)
			r = err_set(e, -EIO, "the content of a file was not written");
		else if (!in->placed)
			r = write_inode(s, in, make_inode(in), e);
	}
	return r < 0 ? r : write_dir(s, dir, parent, e);
}

static int write_tables(struct squash *s, struct tree *t, struct err *e)
{
	const struct tree_inode *root = tree_root(t)->inode;
	sqfs_compressor_t *c = &s->plain;
	int code = sqfs_meta_writer_flush(s->inode_meta);

	if (code == 0)
		code = sqfs_meta_writer_flush(s->dir_meta);
	s->super.root_inode_ref = root->ref;
	s->super.directory_table_start = file_size(&s->file);
	if (code == 0)
		code = sqfs_meta_write_write_to_file(s->dir_meta);
	s->super.inode_count = tree_inode_count(t);
	if (code == 0)
		code = sqfs_frag_table_write(s->frags, &s->file, &s->super, c);
	if (code == 0)
		code = sqfs_dir_writer_write_export_table(s->dirs, &s->file, c, root->number,
		                                          root->ref, &s->super);
	if (code == 0)
		code = sqfs_id_table_write(s->ids, &s->file, &s->super, c);
	if (code == 0)
		code = sqfs_xattr_writer_flush(s->xattrs, &s->file, &s->super, c);
	s->super.flags |= SQFS_FLAG_UNCOMPRESSED_INODES | SQFS_FLAG_UNCOMPRESSED_DATA |
	                  SQFS_FLAG_UNCOMPRESSED_XATTRS | SQFS_FLAG_UNCOMPRESSED_IDS;
	s->super.bytes_used = file_size(&s->file);
	if (code == 0)
		code = sqfs_super_write(&s->super, &s->file);
	return code != 0 ? failed(s, code, "write the image's tables", e) : 0;
}

int squash_finish(struct squash *s, struct tree *t, uint64_t *ret_bytes, struct err *e)
{
	static const uint8_t pad[PAD_BYTES];
	struct tree_node *root = tree_root(t);
	uint64_t odd;
	int r;

	s->super.inode_table_start = file_size(&s->file);
	/* the root's parent is a number no inode has */
	r = write_tree(s, root, tree_inode_count(t) + 1, e);
	if (r == 0)
		r = write_tables(s, t, e);
	if (r < 0)
		return r;
	odd = file_size(&s->file) % PAD_BYTES;
	if (odd > 0 && append(s, pad, PAD_BYTES - odd) < 0)
		return failed(s, 0, "write", e);
	if (flush(s) < 0)
		return failed(s, 0, "write", e);
	if (fdatasync(s->fd) < 0)
		return err_sys(e, "write the image to disk");
	*ret_bytes = s->at;
	return 0;
}
