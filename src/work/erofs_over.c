#include "work/erofs_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

/* Contents grow upwards from image to image; one that is over this far is packed anew some day. */
#define OLD_DATA_MAX (EROFS_DATA_AT + (UINT64_C(448) << 30))

enum { ZEROS_BYTES = 64 << 10 };

bool erofs_over_ok(const struct erofs_places *p)
{
	uint64_t meta_max = p->meta_at == 0 ? EROFS_OTHER_AT : EROFS_DATA_AT;

	return (p->meta_at == 0 || p->meta_at == EROFS_OTHER_AT) && p->meta_end > p->meta_at &&
	       p->meta_end <= meta_max && p->data_end >= EROFS_DATA_AT &&
	       p->data_end <= OLD_DATA_MAX && p->data_end % EROFS_BLOCK_BYTES == 0;
}

/* The bytes read as zeros from now on; whole blocks. */
static int punch(struct erofs *w, uint64_t from, uint64_t end, struct err *e)
{
	static const uint8_t zeros[ZEROS_BYTES];
	int r = 0;

	if (end <= from || fallocate(w->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
	                             (off_t)(end - from)) == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return err_sys(e, "take what has gone out of the workspace's image");
	while (r == 0 && from < end) {
		size_t n = end - from < sizeof(zeros) ? (size_t)(end - from) : sizeof(zeros);

		r = erofs_pwrite(w, zeros, n, from, e);
		from += n;
	}
	return r;
}

int erofs_new_over(int fd, uint64_t disk_bytes, uint32_t uid, uint32_t gid,
                   const struct erofs_places *old, struct erofs **ret, struct err *e)
{
	_own_(erofs_free) struct erofs *w = NULL;
	int r;

	if (!erofs_over_ok(old) || old->data_end > disk_bytes)
		return err_set(e, -E2BIG, "the earlier image leaves no room for another");
	r = erofs_new(fd, disk_bytes, uid, gid, &w, e);
	if (r < 0)
		return r;
	w->over.old = *old;
	w->over.blocks = (old->data_end - EROFS_DATA_AT) / EROFS_BLOCK_BYTES;
	w->over.kept = calloc(1, (size_t)(w->over.blocks / 8) + 1);
	w->over.taken = calloc(1, (size_t)(w->over.blocks / 8) + 1);
	if (!w->over.kept || !w->over.taken)
		return err_set(e, -ENOMEM, "out of memory");
	w->meta_at = old->meta_at == 0 ? EROFS_OTHER_AT : 0;
	w->meta_max = old->meta_at == 0 ? EROFS_DATA_AT : EROFS_OTHER_AT;
	w->meta.base += w->meta_at;
	w->data_at = w->data.base = w->data_end = old->data_end;
	*ret = steal_ptr(&w);
	return 0;
}

static bool has(const uint8_t *bits, uint64_t i)
{
	return bits[i / 8] & 1u << i % 8;
}

static void set(struct erofs_over *o, uint8_t *bits, uint64_t i)
{
	if (!has(o->kept, i) && !has(o->taken, i))
		o->kept_bytes += EROFS_BLOCK_BYTES;
	bits[i / 8] |= (uint8_t)(1u << i % 8);
}

/* The blocks of a content, counted from the first of all. False: they are no content's. */
static bool place_of(const struct erofs_over *o, const struct erofs_content *c, uint64_t *ret_first,
                     uint64_t *ret_count)
{
	uint64_t first = (uint64_t)c->block - EROFS_DATA_AT / EROFS_BLOCK_BYTES;
	uint64_t count = (c->size + EROFS_BLOCK_BYTES - 1) / EROFS_BLOCK_BYTES;

	if (c->block < EROFS_DATA_AT / EROFS_BLOCK_BYTES || first > o->blocks ||
	    count > o->blocks - first)
		return false;
	*ret_first = first;
	*ret_count = count;
	return true;
}

int erofs_keep(struct erofs *w, const struct erofs_content *c, struct err *e)
{
	uint64_t first, count;

	assert(w->over.kept);
	if (!place_of(&w->over, c, &first, &count))
		return err_set(e, -EBADMSG, "the earlier image is damaged: a content is outside");
	for (uint64_t i = first; i < first + count; i++)
		if (has(w->over.taken, i))
			return err_set(e, -ESTALE, "a content of the earlier image is gone");
	for (uint64_t i = first; i < first + count; i++)
		set(&w->over, w->over.kept, i);
	return 0;
}

int erofs_begin_over(struct erofs *w, uint64_t size, const struct erofs_content *old,
                     bool *ret_begun, struct err *e)
{
	uint64_t first, count;
	int r;

	assert(w->over.away == 0 && w->data.len % EROFS_BLOCK_BYTES == 0);
	*ret_begun = false;
	if (!w->over.kept || size <= EROFS_INLINE_MAX || !place_of(&w->over, old, &first, &count) ||
	    size > count * EROFS_BLOCK_BYTES)
		return 0;
	for (uint64_t i = first; i < first + count; i++)
		if (has(w->over.kept, i) || has(w->over.taken, i))
			return 0;
	r = erofs_flush(w, &w->data, e);
	if (r < 0)
		return r;
	w->over.away = w->data.base;
	w->data.base = EROFS_DATA_AT + first * EROFS_BLOCK_BYTES;
	erofs_begin(w, size);
	*ret_begun = true;
	return 0;
}

int erofs_over_end(struct erofs *w, bool enters, struct err *e)
{
	uint64_t first = (w->file_at - EROFS_DATA_AT) / EROFS_BLOCK_BYTES;
	uint64_t end;
	int r = 0;

	if (enters)
		r = erofs_flush(w, &w->data, e);
	end = (w->data.base - EROFS_DATA_AT) / EROFS_BLOCK_BYTES;
	/* what does not enter is of blocks that nobody names, and goes with those */
	for (uint64_t i = first; enters && i < end; i++)
		set(&w->over, w->over.taken, i);
	w->data.len = 0;
	w->data.base = w->over.away;
	w->over.away = 0;
	return r;
}

int erofs_punch_rest(struct erofs *w, struct err *e)
{
	const struct erofs_over *o = &w->over;
	uint64_t first = 0;
	int r;

	if (!o->kept)
		return 0;
	r = punch(w, o->old.meta_at == 0 ? EROFS_BLOCK_BYTES : o->old.meta_at, o->old.meta_end, e);
	for (uint64_t i = 0; r == 0 && i <= o->blocks; i++) {
		if (i < o->blocks && !has(o->kept, i) && !has(o->taken, i))
			continue;
		/* [first, i) is nobody's */
		r = punch(w, EROFS_DATA_AT + first * EROFS_BLOCK_BYTES,
		          EROFS_DATA_AT + i * EROFS_BLOCK_BYTES, e);
		first = i + 1;
	}
	return r;
}
