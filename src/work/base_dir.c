#include "work/base_internal.h"

#include "base/ck.h"

#include <errno.h>
#include <string.h>

static uint64_t dir_blocks(const struct base_node *dir)
{
	return (dir->size + EROFS_BLOCK_BYTES - 1) / EROFS_BLOCK_BYTES;
}

/* Block i of a directory, or its shorter last one. Good until the next base_block(). */
static int dir_block(struct base *b, const struct base_node *dir, uint64_t i, struct span *ret,
                     struct err *e)
{
	uint64_t left = dir->size - i * EROFS_BLOCK_BYTES;
	size_t len = left < EROFS_BLOCK_BYTES ? (size_t)left : EROFS_BLOCK_BYTES;
	uint64_t at = (uint64_t)dir->where_ * EROFS_BLOCK_BYTES + i * EROFS_BLOCK_BYTES;
	const uint8_t *block = NULL;
	int r;

	if (dir->layout_ == EROFS_INLINE)
		at = base_inode_at(b, dir) + EROFS_INODE_BYTES;
	r = base_block(b, at / EROFS_BLOCK_BYTES, &block, e);
	if (r < 0)
		return r;
	/* base_node_at() saw to it that inline contents end within their block */
	*ret = span_of(block + at % EROFS_BLOCK_BYTES, len);
	return 0;
}

static int entry(struct span block, uint32_t i, struct erofs_dirent *ret, struct err *e)
{
	if (erofs_parse_dirent(block, i, ret) < 0)
		return base_damaged(e, "a directory makes no sense");
	return 0;
}

/* The last block whose first name is not behind `name`: where it stands, if anywhere. */
static int find_block(struct base *b, const struct base_node *dir, struct span name,
                      struct span *ret, struct err *e)
{
	uint64_t low = 0, high = dir_blocks(dir);
	struct erofs_dirent first;
	struct span block;
	int r;

	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;

		r = dir_block(b, dir, middle, &block, e);
		if (r == 0)
			r = entry(block, 0, &first, e);
		if (r < 0)
			return r;
		if (wpath_name_cmp(first.name, name) <= 0)
			low = middle;
		else
			high = middle;
	}
	return dir_block(b, dir, low, ret, e);
}

static int find_entry(struct span block, struct span name, struct erofs_dirent *ret, struct err *e)
{
	uint32_t low = 0, high;

	if (erofs_parse_dir(block, &high) < 0)
		return base_damaged(e, "a directory makes no sense");
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		struct erofs_dirent at;
		int r = entry(block, middle, &at, e), order;

		if (r < 0)
			return r;
		order = wpath_name_cmp(at.name, name);
		if (order == 0) {
			*ret = at;
			return 0;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -ENOENT;
}

/* The inode a name leads to, of the kind its directory says. */
static int node_of(struct base *b, const struct erofs_dirent *d, struct base_node *ret,
                   struct err *e)
{
	struct base_node got;
	uint8_t kind = d->kind;
	int r = base_node_at(b, d->nid, &got, e);

	if (r < 0)
		return r;
	if (got.kind != kind)
		return base_damaged(e, "a directory is wrong about a kind");
	*ret = got;
	return 0;
}

int base_lookup_at(struct base *b, const struct base_node *dir, struct span name,
                   struct base_node *ret, struct err *e)
{
	struct erofs_dirent found = { 0 };
	struct span block;
	int r;

	if (dir->kind != WORK_DIR)
		return err_set(e, -ENOTDIR, "not a directory in the workspace's image");
	if (!wpath_name_ok(name))
		return err_set(e, -ENOENT, "no such name in the workspace's image");
	if (dir->size == 0)
		return base_damaged(e, "a directory is empty");
	r = find_block(b, dir, name, &block, e);
	if (r == 0)
		r = find_entry(block, name, &found, e);
	if (r == -ENOENT)
		return err_set(e, r, "no such name in the workspace's image");
	return r < 0 ? r : node_of(b, &found, ret, e);
}

int base_cursor_find(struct base *b, struct base_cursor *c, struct span name, struct base_node *ret,
                     struct err *e)
{
	struct erofs_dirent at;
	struct span block;
	uint32_t count;

	for (; c->block < dir_blocks(&c->dir); c->block++, c->entry = 0) {
		int r = dir_block(b, &c->dir, c->block, &block, e);

		if (r == 0 && erofs_parse_dir(block, &count) < 0)
			r = base_damaged(e, "a directory makes no sense");
		for (; r == 0 && c->entry < count; c->entry++) {
			int order;

			r = entry(block, c->entry, &at, e);
			if (r < 0)
				return r;
			order = wpath_name_cmp(at.name, name);
			if (order == 0)
				return node_of(b, &at, ret, e);
			if (order > 0)
				return -ENOENT;
		}
		if (r < 0)
			return r;
	}
	return -ENOENT;
}

int base_lookup(struct base *b, struct span path, struct base_node *ret, struct err *e)
{
	struct base_node at = b->root;
	struct span rest = path, name;
	int r = 0;

	if (wpath_parse(path, NULL) < 0)
		return err_set(e, -ENOENT, "no path of a workspace");
	while (r == 0 && wpath_next(&rest, &name)) {
		struct base_node dir = at;

		r = base_lookup_at(b, &dir, name, &at, e);
	}
	if (r < 0)
		return r;
	*ret = at;
	return 0;
}

/* The last name seen, to hold the next one against. */
struct last_name {
	uint8_t at[WPATH_NAME_MAX];
	size_t len;
	unsigned dots;
};

static int check_order(struct last_name *last, struct span name, struct err *e)
{
	if (wpath_name_cmp(span_of(last->at, last->len), name) >= 0)
		return base_damaged(e, "a directory is out of order");
	if (!wpath_name_ok(name)) /* only "." and ".." come here */
		last->dots++;
	memcpy(last->at, name.at, name.len);
	last->len = name.len;
	return 0;
}

static int list_block(struct base *b, struct span block, struct last_name *last, base_list_fn *each,
                      void *arg, struct err *e)
{
	uint32_t count;
	int r = 0;

	if (erofs_parse_dir(block, &count) < 0)
		return base_damaged(e, "a directory makes no sense");
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		struct base_node node;
		struct erofs_dirent d;

		r = entry(block, i, &d, e);
		if (r == 0)
			r = check_order(last, d.name, e);
		if (r < 0 || !wpath_name_ok(d.name))
			continue;
		r = node_of(b, &d, &node, e);
		if (r == 0)
			r = each(arg, d.name, &node, e);
	}
	return r;
}

int base_list(struct base *b, const struct base_node *dir, base_list_fn *each, void *arg,
              struct err *e)
{
	uint8_t copy[EROFS_BLOCK_BYTES]; /* the callback may drive the block out of the cache */
	struct last_name last = { .len = 0 };
	int r = 0;

	if (dir->kind != WORK_DIR)
		return err_set(e, -ENOTDIR, "not a directory in the workspace's image");
	for (uint64_t i = 0; r == 0 && i < dir_blocks(dir); i++) {
		struct span block = { 0 };

		r = dir_block(b, dir, i, &block, e);
		if (r < 0)
			return r;
		memcpy(copy, block.at, block.len);
		r = list_block(b, span_of(copy, block.len), &last, each, arg, e);
	}
	if (r == 0 && last.dots != 2)
		return base_damaged(e, "a directory lacks itself or its parent");
	return r;
}
