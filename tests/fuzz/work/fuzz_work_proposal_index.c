/*
 * An index as a writer that was taken over may have left it. What proposal_open() takes is asked
 * everything: each node, its children, its extents, its content; nothing may lead outside the
 * index or the spool, no walk may go on for ever, and every node is found by its path.
 */
#include "work/path.h"
#include "work/proposal_index.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SPOOL_BYTES = 4096, READ_MAX = 64 };

static void must(bool ok)
{
	if (!ok)
		abort();
}

static int file_of(const void *data, size_t len)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	must(fd >= 0 && (len == 0 || pwrite(fd, data, len, 0) == (ssize_t)len));
	return fd;
}

static void ask_node(const struct proposal *p, const struct proposal_node *n)
{
	uint8_t got[READ_MAX];
	struct proposal_node child;
	struct proposal_node found;
	uint32_t next = n->index + 1;
	uint32_t below = n->index + 1;

	must(n->index == 0 ? n->parent == 0 : n->parent < n->index);
	must(wpath_parse(n->path, NULL) == 0);
	must(proposal_find(p, n->path, &found) && found.index == n->index);
	while (n->kind == PROPOSAL_DIR && proposal_child(p, n, &next, &child)) {
		must(child.index == below && child.parent == n->index);
		must(span_equal(wpath_parent(child.path), n->path));
		below = child.end;
	}
	must(below == n->end);
	for (uint32_t i = 0; i < n->extent_count; i++) {
		struct proposal_extent x;

		proposal_extent(n, i, &x);
		must(x.spool <= SPOOL_BYTES && x.len <= SPOOL_BYTES - x.spool);
	}
	if (n->kind != PROPOSAL_FILE)
		return;
	for (unsigned part = 0; part < 3; part++) {
		size_t len = n->size < READ_MAX ? (size_t)n->size : READ_MAX;

		must(proposal_read(p, n, (n->size - len) / 2 * part, got, len, NULL) == 0);
	}
}

/* Most of a fuzzer's inputs are small changes; the sums of the head are made right for them. */
static void mend(uint8_t *at, size_t len)
{
	struct buf b;

	if (len < INDEX_HEAD_BYTES)
		return;
	buf_init(&b, at + 8 + 4 + 4 + 8, 8 + 8); /* index_bytes and spool_bytes */
	buf_put_le64(&b, len);
	buf_put_le64(&b, SPOOL_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t zeros[SPOOL_BYTES];
	struct proposal_totals t;
	struct proposal *p = NULL;
	int spool_fd = file_of(zeros, sizeof(zeros));
	uint8_t *copy = malloc(size + 1);
	int index_fd;

	must(copy != NULL);
	memcpy(copy, data, size);
	mend(copy, size);
	index_fd = file_of(copy, size);
	free(copy);
	if (proposal_open(index_fd, spool_fd, &p, NULL) == 0) {
		proposal_totals(p, &t);
		for (uint32_t i = 0; i < t.entries; i++) {
			struct proposal_node n;

			proposal_node(p, i, &n);
			must(n.index == i);
			ask_node(p, &n);
		}
	}
	proposal_free(p);
	(void)close(index_fd);
	(void)close(spool_fd);
	return 0;
}
