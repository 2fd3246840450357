#include "work/erofs_internal.h"

#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int erofs_reserve(struct erofs *w, uint64_t names_bytes, uint64_t count, struct erofs_slot *ret,
                  struct err *e)
{
	/* "." and ".." with their heads */
	uint64_t bytes = names_bytes + count * EROFS_DIRENT_BYTES + 2 * EROFS_DIRENT_BYTES + 3;
	struct erofs_slot slot = { 0 };
	uint64_t at;
	int r;

	if (bytes <= EROFS_DIR_INLINE_MAX)
		slot.room = (uint32_t)bytes;
	r = erofs_take_meta(w, EROFS_INODE_BYTES + slot.room, &at, e);
	if (r < 0)
		return r;
	slot.nid = (at - w->meta_at) / EROFS_SLOT_BYTES;
	if (w->root_nid == 0)
		w->root_nid = slot.nid;
	*ret = slot;
	return 0;
}

void erofs_dir_begin(struct erofs *w, const struct erofs_slot *slot, uint64_t parent_nid)
{
	assert(w->data.len % EROFS_BLOCK_BYTES == 0);
	w->slot = *slot;
	w->parent_nid = parent_nid;
	w->dir_at = window_end(&w->data);
	w->dir_size = 0;
	w->dots = 0;
	w->block.count = 0;
	w->block.names_len = 0;
}

/* Heads, then names. The heads' offsets are known only now. */
static size_t close_block(struct erofs_dir_block *b)
{
	size_t heads = (size_t)b->count * EROFS_DIRENT_BYTES;

	for (uint32_t i = 0; i < b->count; i++) {
		uint8_t *at = b->heads + (size_t)i * EROFS_DIRENT_BYTES + 8;
		size_t off = heads + (size_t)(at[0] | at[1] << 8);

		at[0] = (uint8_t)off;
		at[1] = (uint8_t)(off >> 8);
	}
	memcpy(b->heads + heads, b->names, b->names_len);
	return heads + b->names_len;
}

static int put_block(struct erofs *w, struct err *e)
{
	size_t len = close_block(&w->block);
	int r;

	memset(w->block.heads + len, 0, EROFS_BLOCK_BYTES - len);
	if (EVP_DigestUpdate(w->sha, w->block.heads, EROFS_BLOCK_BYTES) != 1)
		return err_set(e, -ENOMEM, "out of memory");
	r = erofs_put_data(w, w->block.heads, EROFS_BLOCK_BYTES, e);
	w->dir_size += EROFS_BLOCK_BYTES;
	w->block.count = 0;
	w->block.names_len = 0;
	return r;
}

static int add(struct erofs *w, struct span name, uint64_t nid, uint8_t type, struct err *e)
{
	struct erofs_dir_block *d = &w->block;
	size_t len = (size_t)(d->count + 1) * EROFS_DIRENT_BYTES + d->names_len + name.len;
	struct buf b;
	int r = 0;

	if (len > EROFS_BLOCK_BYTES)
		r = put_block(w, e);
	if (r < 0)
		return r;
	buf_init(&b, d->heads + (size_t)d->count * EROFS_DIRENT_BYTES, EROFS_DIRENT_BYTES);
	buf_put_le64(&b, nid);
	buf_put_le16(&b, (uint16_t)d->names_len);
	buf_put_u8(&b, type);
	buf_put_u8(&b, 0);
	memcpy(d->names + d->names_len, name.at, name.len);
	d->names_len += name.len;
	d->count++;
	return 0;
}

/* "." and ".." stand among the others by their bytes. `before`: NULL for all that is left. */
static int add_dots(struct erofs *w, const struct span *before, struct err *e)
{
	static const uint8_t dots[] = { '.', '.' };
	int r = 0;

	while (r == 0 && w->dots < 2) {
		struct span dot = span_of(dots, w->dots + 1);

		if (before && wpath_name_cmp(dot, *before) > 0)
			break;
		r = add(w, dot, w->dots == 0 ? w->slot.nid : w->parent_nid, 2, e);
		w->dots++;
	}
	return r;
}

int erofs_dir_add(struct erofs *w, struct span name, uint64_t nid, enum work_kind kind,
                  struct err *e)
{
	int r = add_dots(w, &name, e);

	assert(wpath_name_ok(name));
	if (r < 0)
		return r;
	return add(w, name, nid, kind == WORK_LINK ? 7 : kind == WORK_DIR ? 2 : 1, e);
}

int erofs_dir_end(struct erofs *w, const struct erofs_attr *a, uint32_t dirs_in_it, struct err *e)
{
	struct erofs_inode in = { .mtime_s = a->mtime_s,
		                  .mtime_ns = a->mtime_ns,
		                  .index = a->index,
		                  .where = (uint32_t)(w->dir_at / EROFS_BLOCK_BYTES),
		                  .nlink = dirs_in_it + 2,
		                  .mode = a->mode,
		                  .kind = WORK_DIR,
		                  .layout = EROFS_PLAIN };
	uint8_t inode[EROFS_INODE_BYTES];
	uint64_t at = w->meta_at + w->slot.nid * EROFS_SLOT_BYTES;
	size_t last;
	int r = add_dots(w, NULL, e);

	if (r < 0)
		return r;
	last = (size_t)w->block.count * EROFS_DIRENT_BYTES + w->block.names_len;
	in.size = w->dir_size + last;
	if (w->dir_size == 0 && last <= w->slot.room) {
		in.layout = EROFS_INLINE;
		in.where = EROFS_NO_BLOCK;
		(void)close_block(&w->block);
		r = erofs_set_meta(w, at + EROFS_INODE_BYTES, w->block.heads, last, e);
	} else {
		r = put_block(w, e);
	}
	if (r < 0)
		return r;
	erofs_fill_inode(w, &in, inode);
	w->inodes++;
	return erofs_set_meta(w, at, inode, sizeof(inode), e);
}
