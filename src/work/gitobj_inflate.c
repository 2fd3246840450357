#include "work/gitobj_store.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

enum { WINDOW_BYTES = 32 << 10 };

struct gitobj_inflate {
	const struct gitobj_file *file;
	struct gitobj_budget *budget;
	uint64_t at, end; /* of the file: what was not read yet */
	z_stream z;
	bool begun, ended;
	uint8_t window[WINDOW_BYTES];
};

int gitobj_inflate_new(const struct gitobj_file *f, uint64_t at, uint64_t end,
                       struct gitobj_budget *budget, struct gitobj_inflate **ret, struct err *e)
{
	_own_(gitobj_inflate_free) struct gitobj_inflate *z = calloc(1, sizeof(*z));

	if (!z)
		return err_set(e, -ENOMEM, "out of memory");
	if (end > f->size || at >= end)
		return err_set(e, -EBADMSG, "an object is cut");
	z->file = f;
	z->budget = budget;
	z->at = at;
	z->end = end;
	if (inflateInit(&z->z) != Z_OK)
		return err_set(e, -ENOMEM, "out of memory");
	z->begun = true;
	*ret = steal_ptr(&z);
	return 0;
}

void gitobj_inflate_free(struct gitobj_inflate *z)
{
	if (!z)
		return;
	if (z->begun)
		(void)inflateEnd(&z->z);
	free(z);
}

static int refill(struct gitobj_inflate *z, struct err *e)
{
	uint64_t left = z->end - z->at;
	size_t n = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES;
	int r;

	if (n == 0)
		return err_set(e, -EBADMSG, "an object's data is cut");
	r = gitobj_file_read(z->file, z->at, z->window, n, e);
	if (r < 0)
		return r;
	z->at += n;
	z->z.next_in = z->window;
	z->z.avail_in = (uInt)n;
	return 0;
}

/* One call of zlib into the room that is there. */
static int turn(struct gitobj_inflate *z, struct err *e)
{
	uInt room = z->z.avail_out;
	int r = z->z.avail_in == 0 ? refill(z, e) : 0;
	int code;
	uint64_t made;

	if (r < 0)
		return r;
	code = inflate(&z->z, Z_NO_FLUSH);
	made = room - z->z.avail_out;
	if (code == Z_MEM_ERROR)
		return err_set(e, -ENOMEM, "out of memory");
	if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
		return err_set(e, -EBADMSG, "an object's data is no zlib stream");
	if (made > z->budget->bytes)
		return err_set(e, -E2BIG, "the objects are too large together");
	z->budget->bytes -= made;
	z->ended = code == Z_STREAM_END;
	return 0;
}

int gitobj_inflate_read(struct gitobj_inflate *z, uint8_t *ret, size_t len, size_t *ret_got,
                        struct err *e)
{
	/* objects are below GITOBJ_BYTES_MAX, which a uInt holds */
	z->z.next_out = ret;
	z->z.avail_out = (uInt)len;
	while (z->z.avail_out > 0 && !z->ended) {
		int r = turn(z, e);

		if (r < 0)
			return r;
	}
	*ret_got = len - z->z.avail_out;
	return 0;
}

int gitobj_inflate_end(struct gitobj_inflate *z, bool whole, struct err *e)
{
	uint8_t more;
	size_t got = 0;
	int r = z->ended ? 0 : gitobj_inflate_read(z, &more, 1, &got, e);

	if (r < 0)
		return r;
	if (got > 0)
		return err_set(e, -EBADMSG, "an object is larger than it says");
	if (whole && (z->z.avail_in > 0 || z->at != z->end))
		return err_set(e, -EBADMSG, "something follows an object in its file");
	return 0;
}
