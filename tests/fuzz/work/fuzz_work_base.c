/*
 * An image's metadata, in 32 KiB from its second block on; the super block is right, and what lies
 * behind it is the input. Contracts: whatever it holds, opening, listing, looking up and reading
 * end, and what is found is well formed. The first byte's low bits choose the root's place.
 */
#include "work/base.h"
#include "work/erofs.h"

#include "base/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 32 << 10, BLOCKS = 16, NODES_MAX = 200, DEPTH_MAX = 8 };

struct walk {
	struct base *base;
	unsigned nodes, depth;
	uint8_t last[WPATH_NAME_MAX];
};

static void must(bool ok)
{
	if (!ok)
		abort();
}

static int each(void *arg, struct span name, const struct base_node *node, struct err *e)
{
	struct walk *w = arg;
	uint8_t bytes[64], copy[WPATH_NAME_MAX];
	struct base_node found;
	size_t len = name.len, want;

	must(wpath_name_ok(name));
	must(node->kind >= WORK_FILE && node->kind <= WORK_LINK && node->mode <= 0777);
	memcpy(copy, name.at, len);
	if (++w->nodes > NODES_MAX)
		return 1;
	want = node->size < sizeof(bytes) ? (size_t)node->size : sizeof(bytes);
	if (node->kind != WORK_DIR) {
		(void)base_read(w->base, node, node->size - want, bytes, want, e);
		return 0;
	}
	if (w->depth < DEPTH_MAX) {
		w->depth++;
		(void)base_list(w->base, node, each, w, e);
		w->depth--;
	}
	if (base_lookup_at(w->base, node, span_of(copy, len), &found, e) == 0)
		must(found.kind >= WORK_FILE && found.kind <= WORK_LINK);
	return w->nodes > NODES_MAX;
}

static int image(const uint8_t *data, size_t size)
{
	uint8_t block[EROFS_BLOCK_BYTES] = { 0 };
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct buf b;
	uint32_t sum;

	must(fd >= 0);
	buf_init(&b, block + EROFS_SUPER_AT, EROFS_SUPER_BYTES);
	buf_put_le32(&b, EROFS_MAGIC);
	buf_put_le32(&b, 0);
	buf_put_le32(&b, 3);
	buf_put_u8(&b, EROFS_BLOCK_BITS);
	buf_put_u8(&b, 0);
	buf_put_le16(&b, (uint16_t)(EROFS_BLOCK_BYTES / EROFS_SLOT_BYTES));
	buf_put_le64(&b, 5);
	b.len += 12;
	buf_put_le32(&b, BLOCKS);
	b.len += 40;
	buf_put_le32(&b, 4);
	must(buf_ok(&b));
	sum = erofs_parse_crc(span_of(block + EROFS_SUPER_AT, EROFS_BLOCK_BYTES - EROFS_SUPER_AT));
	buf_init(&b, block + EROFS_SUPER_AT + 4, 4);
	buf_put_le32(&b, sum);
	must(pwrite(fd, block, sizeof(block), 0) == (ssize_t)sizeof(block));
	must(pwrite(fd, data, size, EROFS_BLOCK_BYTES) == (ssize_t)size);
	must(ftruncate(fd, (off_t)BLOCKS * EROFS_BLOCK_BYTES) == 0);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct walk w = { .nodes = 0 };
	struct base_node root, node;
	struct err e = { 0 };
	int fd, r;

	if (size > INPUT_MAX)
		return 0;
	fd = image(data, size);
	r = base_open(fd, -1, &w.base, &e);
	(void)close(fd);
	if (r < 0) {
		must(r == -EBADMSG && e.len > 0);
		return 0;
	}
	base_root(w.base, &root);
	must(root.kind == WORK_DIR);
	(void)base_list(w.base, &root, each, &w, &e);
	(void)base_lookup(w.base, span_str("a/b"), &node, &e);
	(void)base_lookup(w.base, span_str("zz"), &node, &e);
	base_free(w.base);
	return 0;
}
