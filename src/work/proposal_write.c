#include "work/proposal_write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER_BYTES = 512 << 10 }; /* a record always fits */

struct index_writer {
	int fd;
	uint64_t at; /* of the buffer's first byte in the file */
	struct buf out;
	uint64_t *table;
	uint32_t count;
	size_t room;
	uint8_t storage[BUFFER_BYTES];
};

_Static_assert(INDEX_RECORD_MAX <= (size_t)BUFFER_BYTES, "a record fits into the buffer");

static int write_at(int fd, const uint8_t *at, size_t len, uint64_t off, struct err *e)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, at, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "write the index of the proposal");
		at += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int index_writer_new(int fd, struct index_writer **ret, struct err *e)
{
	struct index_writer *w = malloc(sizeof(*w));

	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	w->fd = fd;
	w->at = INDEX_HEAD_BYTES; /* the head is written last: without it there is no index */
	w->table = NULL;
	w->count = 0;
	w->room = 0;
	buf_init(&w->out, w->storage, sizeof(w->storage));
	*ret = w;
	return 0;
}

void index_writer_free(struct index_writer *w)
{
	if (w)
		free(w->table);
	free(w);
}

static int flush(struct index_writer *w, struct err *e)
{
	int r = write_at(w->fd, w->out.at, w->out.len, w->at, e);

	if (r < 0)
		return r;
	w->at += w->out.len;
	buf_reset(&w->out);
	return 0;
}

static int remember(struct index_writer *w, struct err *e)
{
	if (w->count == w->room) {
		size_t room = w->room ? 2 * w->room : 256;
		uint64_t *more = reallocarray(w->table, room, sizeof(*more));

		if (!more)
			return err_set(e, -ENOMEM, "out of memory");
		w->table = more;
		w->room = room;
	}
	w->table[w->count++] = w->at + w->out.len;
	return 0;
}

int index_writer_add(struct index_writer *w, const struct proposal_node *n, struct span extents,
                     uint32_t *ret_index, struct err *e)
{
	struct proposal_node got = *n;
	uint64_t bytes_max = PROPOSAL_INDEX_BYTES_MAX -
	                     (uint64_t)PROPOSAL_ENTRIES_MAX * INDEX_SLOT_BYTES - INDEX_RECORD_MAX;
	int r = 0;

	if (w->at + w->out.len > bytes_max)
		return err_set(e, -E2BIG, "the proposal's index would be over 1 GiB");
	if (w->out.size - w->out.len < INDEX_RECORD_MAX)
		r = flush(w, e);
	if (r == 0)
		r = remember(w, e);
	if (r < 0)
		return r;
	got.end = w->count; /* of a directory: until index_writer_end() */
	index_put_record(&w->out, &got, extents);
	*ret_index = w->count - 1;
	return 0;
}

int index_writer_end(struct index_writer *w, uint32_t index, struct err *e)
{
	uint64_t at = w->table[index] + INDEX_END_OFF;
	uint8_t raw[4];
	struct buf b;

	buf_init(&b, raw, sizeof(raw));
	buf_put_le32(&b, w->count);
	if (at < w->at)
		return write_at(w->fd, raw, sizeof(raw), at, e);
	memcpy(w->out.at + (at - w->at), raw, sizeof(raw));
	return 0;
}

static int write_table(struct index_writer *w, struct err *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < w->count; i++) {
		if (w->out.size - w->out.len < INDEX_SLOT_BYTES)
			r = flush(w, e);
		buf_put_le64(&w->out, w->table[i]);
	}
	return r == 0 ? flush(w, e) : r;
}

int index_writer_finish(struct index_writer *w, struct index_head *h, struct err *e)
{
	uint8_t raw[INDEX_HEAD_BYTES];
	struct buf b;
	int r;

	h->entries = w->count;
	h->table_at = w->at + w->out.len;
	r = write_table(w, e);
	if (r < 0)
		return r;
	h->index_bytes = w->at;
	buf_init(&b, raw, sizeof(raw));
	index_put_head(&b, h);
	return write_at(w->fd, raw, sizeof(raw), 0, e);
}
