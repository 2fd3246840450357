#include "work/proposal.h"

#include "base/ck.h"
#include "base/fdio.h"
#include "work/proposal_index.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct proposal {
	int spool_fd;
	uint8_t *map; /* of head.index_bytes */
	size_t map_bytes;
	struct index_head head;
};

/* The walk over all records at the beginning. */
struct judge {
	const struct proposal *p;
	struct proposal_node open[WPATH_DEPTH_MAX + 1];
	unsigned depth; /* of the directories that are open, the root first */
	struct proposal_node last;
	uint64_t stored_bytes;
	uint32_t refused;
	struct span *targets; /* of redirects */
	size_t target_count, target_room;
};

static const char *const why_texts[PROPOSAL_WHY_COUNT] = {
	[PROPOSAL_WHY_NONE] = "comes back",
	[PROPOSAL_WHY_FIFO] = "is a named pipe",
	[PROPOSAL_WHY_SOCKET] = "is a socket",
	[PROPOSAL_WHY_DEVICE] = "is a device",
	[PROPOSAL_WHY_METACOPY] = "has no content of its own",
	[PROPOSAL_WHY_DEEP] = "holds things that are too deep, or whose paths are too long",
	[PROPOSAL_WHY_NOT_IN_BASE] = "was removed, but was never there",
	[PROPOSAL_WHY_ROOT] = "is the workspace itself, which cannot be replaced",
	[PROPOSAL_WHY_NO_SOURCE] = "was renamed from a directory that was never there",
	[PROPOSAL_WHY_SOURCE_TWICE] = "was renamed from a directory that another one was, too",
	[PROPOSAL_WHY_OURS] = "has a name that berm keeps for itself",
	[PROPOSAL_WHY_SPARSE] = "has too many holes between too little data to be sent",
};

const char *proposal_why_text(enum proposal_why why)
{
	return (unsigned)why < PROPOSAL_WHY_COUNT ? why_texts[why] : "is refused";
}

static int malformed(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "the index of the proposal is malformed: %s", what);
}

static uint64_t record_at(const struct proposal *p, uint32_t index)
{
	struct span slot = span_of(p->map + p->head.table_at + (size_t)index * INDEX_SLOT_BYTES,
	                           INDEX_SLOT_BYTES);
	uint64_t at;

	return take_le64(&slot, &at) ? at : 0; /* the head's parser saw to the room */
}

/* --- judging all of it, once --- */

static int judge_target(struct judge *j, struct span target, struct err *e)
{
	if (j->target_count == PROPOSAL_REDIRECTS_MAX)
		return malformed(e, "too many renamed directories");
	if (j->target_count == j->target_room) {
		size_t room = j->target_room ? 2 * j->target_room : 64;
		struct span *more = reallocarray(j->targets, room, sizeof(*more));

		if (!more)
			return err_set(e, -ENOMEM, "out of memory");
		j->targets = more;
		j->target_room = room;
	}
	j->targets[j->target_count++] = target;
	return 0;
}

/* Is it where it says, below the directory that it says? */
static int judge_place(struct judge *j, const struct proposal_node *n, struct err *e)
{
	const struct proposal_node *dir;

	while (j->depth > 0 && j->open[j->depth - 1].end == n->index)
		j->depth--;
	if (n->index == 0)
		return index_order_ok(NULL, NULL, n) && n->end == j->p->head.entries
		               ? 0
		               : malformed(e, "it has no root");
	if (j->depth == 0)
		return malformed(e, "an entry is outside of every directory");
	dir = &j->open[j->depth - 1];
	if (n->parent != dir->index || !index_order_ok(&j->last, dir, n))
		return malformed(e, "an entry is out of order");
	if (n->end <= n->index || n->end > dir->end ||
	    (n->kind != PROPOSAL_DIR && n->end != n->index + 1))
		return malformed(e, "an entry has an end that it cannot have");
	return 0;
}

static int judge_node(struct judge *j, const struct proposal_node *n, struct err *e)
{
	int r = judge_place(j, n, e);

	if (r == 0 && n->flags & PROPOSAL_REDIRECT)
		r = judge_target(j, n->target, e);
	if (r < 0)
		return r;
	if (n->kind == PROPOSAL_DIR) {
		assert(j->depth <= WPATH_DEPTH_MAX); /* one a part of its path */
		j->open[j->depth++] = *n;
	}
	j->refused += n->why != PROPOSAL_WHY_NONE;
	j->last = *n;
	/* at most PROPOSAL_FILE_BYTES_MAX each, of which PROPOSAL_ENTRIES_MAX overflow nothing */
	if (!ck_add(j->stored_bytes, n->stored_bytes, &j->stored_bytes))
		return malformed(e, "the sizes of its files");
	return 0;
}

static int by_bytes(const void *a, const void *b)
{
	return wpath_cmp(*(const struct span *)a, *(const struct span *)b);
}

static int judge_targets(struct judge *j, struct err *e)
{
	if (j->target_count > 0)
		qsort(j->targets, j->target_count, sizeof(*j->targets), by_bytes);
	for (size_t i = 1; i < j->target_count; i++)
		if (span_equal(j->targets[i - 1], j->targets[i]))
			return malformed(e, "two directories were renamed from one");
	return 0;
}

static int judge_records(struct judge *j, struct err *e)
{
	const struct index_head *h = &j->p->head;
	struct span in =
		span_of(j->p->map + INDEX_HEAD_BYTES, (size_t)(h->table_at - INDEX_HEAD_BYTES));
	struct proposal_node n;

	for (uint32_t i = 0; i < h->entries; i++) {
		int r;

		if (record_at(j->p, i) != (uint64_t)(in.at - j->p->map))
			return malformed(e, "its table does not fit");
		if (index_parse_record(&in, h->spool_bytes, &n) < 0)
			return malformed(e, "a record");
		n.index = i;
		r = judge_node(j, &n, e);
		if (r < 0)
			return r;
	}
	if (in.len != 0 || j->refused != h->refused || j->stored_bytes != h->stored_bytes)
		return malformed(e, "its sums");
	return judge_targets(j, e);
}

static int judge_all(const struct proposal *p, struct err *e)
{
	_own_free_ struct judge *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return err_set(e, -ENOMEM, "out of memory");
	j->p = p;
	r = judge_records(j, e);
	free(j->targets);
	return r;
}

/* --- opening --- */

static int map_index(struct proposal *p, int fd, struct err *e)
{
	struct stat st;
	void *at;

	if (fstat(fd, &st) < 0)
		return err_sys(e, "look at the index of the proposal");
	if (st.st_size < INDEX_HEAD_BYTES)
		return malformed(e, "it is cut");
	if ((uint64_t)st.st_size > PROPOSAL_INDEX_BYTES_MAX)
		return err_set(e, -EFBIG, "the index of the proposal is over 1 GiB");
	at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (at == MAP_FAILED)
		return err_sys(e, "map the index of the proposal");
	p->map = at;
	p->map_bytes = (size_t)st.st_size;
	return 0;
}

static int read_head(struct proposal *p, struct err *e)
{
	int r = index_parse_head(span_of(p->map, INDEX_HEAD_BYTES), &p->head);

	if (r == -EPROTO)
		return err_set(e, r,
		               "the index of the proposal is of version %u, this berm reads %d",
		               p->head.version, PROPOSAL_VERSION);
	if (r < 0 || p->head.index_bytes != p->map_bytes)
		return malformed(e, "its head");
	return 0;
}

static int take_spool(struct proposal *p, int fd, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, "look at the proposal");
	if ((uint64_t)st.st_size != p->head.spool_bytes)
		return err_set(e, -EBADMSG, "the proposal is not the one that its index is of");
	p->spool_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return p->spool_fd < 0 ? err_sys(e, "duplicate a descriptor") : 0;
}

int proposal_open(int index_fd, int spool_fd, struct proposal **ret, struct err *e)
{
	_own_(proposal_free) struct proposal *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	p->spool_fd = -1;
	r = map_index(p, index_fd, e);
	if (r == 0)
		r = read_head(p, e);
	if (r == 0)
		r = take_spool(p, spool_fd, e);
	if (r == 0)
		r = judge_all(p, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&p);
	return 0;
}

void proposal_free(struct proposal *p)
{
	if (!p)
		return;
	if (p->map)
		(void)munmap(p->map, p->map_bytes);
	own_close_fd(&p->spool_fd);
	free(p);
}

/* --- asking --- */

void proposal_totals(const struct proposal *p, struct proposal_totals *ret)
{
	*ret = (struct proposal_totals){ .entries = p->head.entries,
		                         .refused = p->head.refused,
		                         .stored_bytes = p->head.stored_bytes,
		                         .spool_bytes = p->head.spool_bytes,
		                         .sha256 = p->head.sha256 };
}

void proposal_node(const struct proposal *p, uint32_t index, struct proposal_node *ret)
{
	struct span in;
	uint64_t at;
	int r;

	assert(index < p->head.entries);
	at = record_at(p, index);
	in = span_of(p->map + at, (size_t)(p->head.table_at - at));
	r = index_parse_record(&in, p->head.spool_bytes, ret);
	assert(r == 0); /* it was judged, and nobody writes it any more */
	ret->index = index;
}

bool proposal_child(const struct proposal *p, const struct proposal_node *dir, uint32_t *next,
                    struct proposal_node *ret)
{
	if (*next <= dir->index || *next >= dir->end)
		return false;
	proposal_node(p, *next, ret);
	*next = ret->end;
	return true;
}

bool proposal_find(const struct proposal *p, struct span path, struct proposal_node *ret)
{
	uint32_t low = 0;
	uint32_t high = p->head.entries;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		struct proposal_node n;
		int way;

		proposal_node(p, middle, &n);
		way = wpath_cmp(n.path, path);
		if (way == 0) {
			*ret = n;
			return true;
		}
		if (way < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* --- contents --- */

void proposal_extent(const struct proposal_node *n, uint32_t i, struct proposal_extent *ret)
{
	struct span in;
	bool ok;

	assert(i < n->extent_count);
	in = span_of(n->extents_ + (size_t)i * INDEX_EXTENT_BYTES, INDEX_EXTENT_BYTES);
	ok = take_le64(&in, &ret->at) && take_le64(&in, &ret->len) && take_le64(&in, &ret->spool);
	assert(ok);
}

/* The first extent that ends after `off`; extent_count if none does. */
static uint32_t extent_after(const struct proposal_node *n, uint64_t off)
{
	uint32_t low = 0;
	uint32_t high = n->extent_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		struct proposal_extent x;

		proposal_extent(n, middle, &x);
		if (x.at + x.len <= off)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int read_spool(const struct proposal *p, uint64_t off, uint8_t *at, size_t len,
                      struct err *e)
{
	size_t got;

	if (fd_read_at(p->spool_fd, off, at, len, &got) < 0)
		return err_sys(e, "read the proposal");
	if (got < len)
		return err_set(e, -EIO, "the proposal was cut after it was read");
	return 0;
}

int proposal_read(const struct proposal *p, const struct proposal_node *n, uint64_t off, void *ret,
                  size_t len, struct err *e)
{
	uint8_t *at = ret;
	uint32_t i;

	if (n->kind != PROPOSAL_FILE || !ck_range(off, len, n->size))
		return err_set(e, -EINVAL, "read beyond a file's end");
	i = extent_after(n, off);
	while (len > 0) {
		struct proposal_extent x = { .at = n->size };
		uint64_t hole;
		uint64_t have;
		int r;

		if (i < n->extent_count)
			proposal_extent(n, i++, &x);
		hole = x.at > off ? x.at - off : 0;
		if (hole > len)
			hole = len;
		memset(at, 0, (size_t)hole);
		at += hole;
		off += hole;
		len -= (size_t)hole;
		if (len == 0)
			break;
		have = x.at + x.len - off;
		if (have > len)
			have = len;
		r = read_spool(p, x.spool + (off - x.at), at, (size_t)have, e);
		if (r < 0)
			return r;
		at += have;
		off += have;
		len -= (size_t)have;
	}
	return 0;
}
