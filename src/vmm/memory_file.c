#include "vmm/memory_file.h"

#include "base/ck.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	PAGE = GUEST_PAGE_BYTES,
	WINDOW_PAGES = 4096, /* of pagemap read at a time: 32 KiB of it, 16 MiB of memory */
	COPY_BYTES = 1 << 17,
	EXTENT_BYTES = 16,
	CLUSTER_GAP = 8,   /* pages: see take_cluster() */
	GAP_MAX = 1 << 20, /* pages; merging over it leaves one extent a GiB or fewer */
};
#define PM_PRESENT (UINT64_C(1) << 63)
#define PM_SWAPPED (UINT64_C(1) << 62)
#define PM_FILE    (UINT64_C(1) << 61) /* the file's page, or shared */

enum page_kind { PAGE_ABSENT, PAGE_READ, PAGE_OWN };

static bool is_zero(const uint8_t *page)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < PAGE && sum == 0; i += 64) {
		uint64_t v[8];

		memcpy(v, page + i, sizeof(v));
		for (unsigned k = 0; k < 8; k++)
			sum |= v[k];
	}
	return sum == 0;
}

static int write_at(int fd, const uint8_t *data, uint64_t len, uint64_t off, struct err *e)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "save memory");
		data += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* Writes the pages that are not all zeros; the file has holes for the others. */
static int save_pages(int out_fd, const uint8_t *at, uint64_t pages, uint64_t off, struct err *e)
{
	uint64_t begun = 0;
	uint64_t i;

	for (i = 0; i < pages; i++) {
		int r;

		if (!is_zero(at + i * PAGE))
			continue;
		r = write_at(out_fd, at + begun * PAGE, (i - begun) * PAGE, off + begun * PAGE, e);
		if (r < 0)
			return r;
		begun = i + 1;
	}
	return write_at(out_fd, at + begun * PAGE, (i - begun) * PAGE, off + begun * PAGE, e);
}

/* What copy_file_range() cannot do between two files. */
static int copy_by_hand(int from, int to, uint64_t off, uint64_t len, struct err *e)
{
	_own_free_ uint8_t *room = malloc(COPY_BYTES);

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	while (len > 0) {
		ssize_t n = pread(from, room, len < COPY_BYTES ? len : COPY_BYTES, (off_t)off);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "read the base of memory");
		if (n == 0)
			return err_set(e, -ENODATA, "the base of memory has become shorter");
		r = write_at(to, room, (uint64_t)n, off, e);
		if (r < 0)
			return r;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int copy_data(int from, int to, uint64_t off, uint64_t len, struct err *e)
{
	while (len > 0) {
		off_t in = (off_t)off;
		off_t out = (off_t)off;
		ssize_t n = copy_file_range(from, &in, to, &out, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <=
		    0) /* another file system, or a kernel that does not: the error comes again */
			return copy_by_hand(from, to, off, len, e);
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* The next extent of data in [*at, end): false when there is none. */
static bool next_data(int fd, uint64_t *at, uint64_t end, uint64_t *ret_end)
{
	off_t data = lseek(fd, (off_t)*at, SEEK_DATA);
	off_t hole;

	if (data < 0 && errno == ENXIO)
		return false;
	if (data < 0) /* a file system without holes: all is data */
		data = (off_t)*at;
	if ((uint64_t)data >= end)
		return false;
	hole = lseek(fd, data, SEEK_HOLE);
	*at = (uint64_t)data;
	*ret_end = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
	return true;
}

static int copy_base(int base_fd, int out_fd, uint64_t off, uint64_t end, struct err *e)
{
	uint64_t data_end = 0;

	for (; next_data(base_fd, &off, end, &data_end); off = data_end) {
		int r = copy_data(base_fd, out_fd, off, data_end - off, e);

		if (r < 0)
			return r;
	}
	return 0;
}

static enum page_kind kind_of(uint64_t entry)
{
	if (!(entry & (PM_PRESENT | PM_SWAPPED)))
		return PAGE_ABSENT;
	return entry & PM_FILE ? PAGE_READ : PAGE_OWN;
}

/* Looks at the pages of a slot, a window at a time. */
struct walk {
	const struct guest_mem *m;
	const struct guest_slot *slot;
	uint64_t first; /* page of the slot the window begins with */
	uint64_t count;
	uint64_t *entries; /* WINDOW_PAGES of them */
};

static int read_window(struct walk *w, uint64_t first, struct err *e)
{
	uint64_t pages = w->slot->bytes / PAGE - first;
	uint64_t at = ((uintptr_t)w->slot->base / PAGE + first) * sizeof(uint64_t);
	uint8_t *to = (uint8_t *)w->entries;
	uint64_t len;

	w->first = first;
	w->count = pages < WINDOW_PAGES ? pages : WINDOW_PAGES;
	len = w->count * sizeof(uint64_t);
	while (len > 0) {
		ssize_t n = pread(w->m->pagemap_fd, to, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "read pagemap");
		if (n == 0)
			return err_set(e, -EIO, "pagemap ends early");
		to += n;
		at += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* Is the page to be taken from memory, not from the base? */
static bool is_own(const struct walk *w, const struct memory_base *base, uint64_t i)
{
	enum page_kind kind = kind_of(w->entries[i]);

	return kind == PAGE_OWN ||
	       (kind == PAGE_ABSENT && base && base->replaced &&
	        base->replaced(base->arg, gpa_of(w->slot->start + (w->first + i) * PAGE)));
}

/* The pages from `i` on that are of one kind. */
static uint64_t run_length(const struct walk *w, const struct memory_base *base, uint64_t i,
                           bool own)
{
	uint64_t n = 0;

	while (i + n < w->count && is_own(w, base, i + n) == own)
		n++;
	return n;
}

static int save_window(const struct walk *w, const struct memory_base *base, int out_fd,
                       struct err *e)
{
	uint64_t n;

	for (uint64_t i = 0; i < w->count; i += n) {
		bool own = is_own(w, base, i);
		uint64_t page = w->first + i;
		uint64_t off = w->slot->file_off + page * PAGE;
		int r = 0;

		n = run_length(w, base, i, own);
		if (own)
			r = save_pages(out_fd, w->slot->base + page * PAGE, n, off, e);
		else if (base)
			r = copy_base(base->fd, out_fd, off, off + n * PAGE, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int save_private(const struct guest_mem *m, const struct guest_slot *s,
                        const struct memory_base *base, int out_fd, struct err *e)
{
	_own_free_ uint64_t *entries = calloc(WINDOW_PAGES, sizeof(*entries));
	struct walk w = { .m = m, .slot = s, .entries = entries };

	if (!entries)
		return err_set(e, -ENOMEM, "out of memory");
	for (uint64_t page = 0; page < s->bytes / PAGE; page += w.count) {
		int r = read_window(&w, page, e);

		if (r == 0)
			r = save_window(&w, base, out_fd, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The mapping and the file are one: where the file has a hole, memory was never touched. */
static int save_shared(const struct guest_mem *m, const struct guest_slot *s, int out_fd,
                       struct err *e)
{
	uint64_t off = s->file_off;
	uint64_t end = s->file_off + s->bytes;
	uint64_t data_end = 0;

	for (; next_data(m->file_fd, &off, end, &data_end); off = data_end) {
		/* a file system may cut its holes finer than pages */
		uint64_t from = off / PAGE * PAGE;
		uint64_t pages = (data_end - from + PAGE - 1) / PAGE;
		int r = save_pages(out_fd, s->base + (from - s->file_off), pages, from, e);

		if (r < 0)
			return r;
		data_end = from + pages * PAGE;
	}
	return 0;
}

int memory_save(const struct guest_mem *m, const struct memory_base *base, int out_fd,
                struct err *e)
{
	if (ftruncate(out_fd, 0) < 0 || ftruncate(out_fd, (off_t)m->bytes) < 0)
		return err_sys(e, "size the file of memory");
	for (unsigned i = 0; i < m->slot_count; i++) {
		const struct guest_slot *s = &m->slots[i];
		int r;

		if (m->pagemap_fd >= 0 && (base || m->file_fd < 0))
			r = save_private(m, s, base, out_fd, e);
		else if (!base && m->file_fd >= 0 && m->pagemap_fd < 0)
			r = save_shared(m, s, out_fd, e);
		else
			r = save_pages(out_fd, s->base, s->bytes / PAGE, s->file_off, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int load_slot(const struct guest_mem *m, const struct guest_slot *s, int fd, struct err *e)
{
	uint64_t off = s->file_off;
	uint64_t end = s->file_off + s->bytes;
	uint64_t data_end = 0;

	for (; next_data(fd, &off, end, &data_end); off = data_end) {
		int r = guest_mem_load(m, gpa_of(s->start + off - s->file_off), fd, off,
		                       data_end - off, e);

		if (r < 0)
			return r;
	}
	return 0;
}

int memory_load(const struct guest_mem *m, int fd, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, "the saved memory");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < m->bytes)
		return err_set(e, -EINVAL, "the saved memory has fewer than %ju bytes",
		               (uintmax_t)m->bytes);
	for (unsigned i = 0; i < m->slot_count; i++) {
		int r = load_slot(m, &m->slots[i], fd, e);

		if (r < 0)
			return err_wrap(e, "the saved memory");
	}
	return 0;
}

/* --- the working set --- */

struct extent {
	uint64_t first; /* page of the file */
	uint64_t pages;
	bool written;
};

struct wset {
	struct extent *extents; /* WSET_EXTENTS_MAX */
	uint32_t count;
	uint64_t gap; /* pages nobody touched that an extent may span */
	bool full;
};

static void wset_add(struct wset *s, uint64_t page, bool written)
{
	struct extent *last = s->count > 0 ? &s->extents[s->count - 1] : NULL;
	uint64_t end = last ? last->first + last->pages : 0;

	/* over a gap only what is read: nothing is copied that was not needed */
	if (last && last->written == written && page == end) {
		last->pages++;
		return;
	}
	if (last && s->gap > 0 && page - end <= s->gap) {
		last->written = last->written && written && page == end;
		last->pages = page + 1 - last->first;
		return;
	}
	if (s->count == WSET_EXTENTS_MAX) {
		s->full = true;
		return;
	}
	s->extents[s->count++] = (struct extent){ page, 1, written };
}

static int collect_slot(const struct guest_mem *m, const struct guest_slot *slot, struct wset *s,
                        struct err *e)
{
	_own_free_ uint64_t *entries = calloc(WINDOW_PAGES, sizeof(*entries));
	struct walk w = { .m = m, .slot = slot, .entries = entries };

	if (!entries)
		return err_set(e, -ENOMEM, "out of memory");
	for (uint64_t page = 0; page < slot->bytes / PAGE; page += w.count) {
		int r = read_window(&w, page, e);

		if (r < 0)
			return r;
		for (uint64_t i = 0; i < w.count; i++) {
			enum page_kind kind = kind_of(entries[i]);

			if (kind != PAGE_ABSENT)
				wset_add(s, slot->file_off / PAGE + page + i, kind == PAGE_OWN);
		}
	}
	return 0;
}

static int collect(const struct guest_mem *m, struct wset *s, struct err *e)
{
	s->count = 0;
	s->full = false;
	for (unsigned i = 0; i < m->slot_count; i++) {
		int r = collect_slot(m, &m->slots[i], s, e);

		if (r < 0)
			return r;
	}
	return 0;
}

int memory_touched(const struct guest_mem *m, struct buf *b, struct err *e)
{
	_own_free_ struct extent *extents = calloc(WSET_EXTENTS_MAX, sizeof(*extents));
	struct wset s = { .extents = extents };

	if (!extents)
		return err_set(e, -ENOMEM, "out of memory");
	if (m->pagemap_fd < 0)
		return err_set(e, -ENOTSUP, "/proc/self/pagemap could not be opened");
	do {
		int r = collect(m, &s, e);

		if (r < 0)
			return r;
		s.gap = s.gap == 0 ? 4 : s.gap * 4;
	} while (s.full && s.gap <= GAP_MAX);
	assert(!s.full); /* 1 TiB over such gaps are 256 extents */
	buf_put_le32(b, s.count);
	for (uint32_t i = 0; i < s.count; i++) {
		buf_put_le64(b, extents[i].first);
		buf_put_le32(b, (uint32_t)extents[i].pages); /* at most 2^28: GUEST_MEM_MAX */
		buf_put_le32(b, extents[i].written ? WSET_WRITTEN : 0);
	}
	return 0;
}

static void touch(uint8_t *at, uint64_t bytes, bool written)
{
	for (uint64_t off = 0; off < bytes; off += PAGE) {
		volatile uint8_t *byte = at + off;
		uint8_t v = *byte;

		if (written)
			*byte = v;
	}
}

static int populate(uint8_t *at, uint64_t bytes, bool written, struct err *e)
{
	int r;

	do
		r = madvise(at, bytes, written ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return 0;
	if (errno != EINVAL)
		return err_sys(e, "bring memory in");
	touch(at, bytes, written); /* before Linux 5.14 */
	return 0;
}

static bool take_extent(struct span *in, uint64_t pages, uint64_t *after, struct extent *ret)
{
	uint32_t count;
	uint32_t flags;
	uint64_t first;

	if (!take_le64(in, &first) || !take_le32(in, &count) || !take_le32(in, &flags) ||
	    flags & ~(uint32_t)WSET_WRITTEN || count == 0 || first < *after ||
	    !ck_range(first, count, pages))
		return false;
	*after = first + count;
	*ret = (struct extent){ first, count, flags & WSET_WRITTEN };
	return true;
}

/* All of it is judged before any of it is done. */
static bool is_sound(struct span in, uint64_t pages)
{
	struct extent x;
	uint64_t after = 0;
	uint32_t count;

	if (!take_le32(&in, &count) || count > WSET_EXTENTS_MAX ||
	    in.len != (size_t)count * EXTENT_BYTES)
		return false;
	while (in.len > 0)
		if (!take_extent(&in, pages, &after, &x))
			return false;
	return true;
}

/* Brings in each part of an extent that lies in a slot, if the visitor does not. */
static int in_slots(const struct guest_mem *m, const struct extent *x,
                    const struct memory_visitor *visitor, struct err *e)
{
	for (unsigned i = 0; i < m->slot_count; i++) {
		const struct guest_slot *s = &m->slots[i];
		uint64_t first = s->file_off / PAGE;
		uint64_t end = first + s->bytes / PAGE;
		uint64_t from = x->first > first ? x->first : first;
		uint64_t to = x->first + x->pages < end ? x->first + x->pages : end;
		int r;

		if (from >= to)
			continue;
		if (visitor && visitor->in(visitor->arg, gpa_of(s->start + (from - first) * PAGE),
		                           (to - from) * PAGE))
			continue;
		r = populate(s->base + (from - first) * PAGE, (to - from) * PAGE, x->written, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Extents with little between them: a page more is read for less than a system call more. */
static bool take_cluster(struct span *in, uint64_t pages, struct extent *ret)
{
	struct span at = *in;
	uint64_t after = 0;
	struct extent x;

	if (!take_extent(&at, pages, &after, ret))
		return false;
	ret->written = false;
	for (*in = at; take_extent(&at, pages, &after, &x); *in = at) {
		if (x.first - (ret->first + ret->pages) > CLUSTER_GAP)
			break;
		ret->pages = after - ret->first;
	}
	return true;
}

int memory_populate(const struct guest_mem *m, struct span in, const struct memory_visitor *visitor,
                    struct err *e)
{
	uint64_t pages = m->bytes / PAGE;
	uint64_t after = 0;
	struct span written;
	struct extent x;
	uint32_t count;
	int r = 0;

	if (!is_sound(in, pages))
		return err_set(e, -EBADMSG, "it is damaged: the pages needed first");
	if (!take_le32(&in, &count))
		return -EBADMSG;
	/* first the copies: whoever maps all of it then finds the page that stays */
	written = in;
	while (r == 0 && take_extent(&written, pages, &after, &x))
		if (x.written)
			r = in_slots(m, &x, NULL, e);
	while (r == 0 && take_cluster(&in, pages, &x))
		r = in_slots(m, &x, visitor, e);
	return r;
}
