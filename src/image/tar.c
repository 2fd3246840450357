#include "image/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { SEEK_READ_BYTES = 64 << 10 };

struct tar {
	struct archive *a;
	struct archive_entry *first; /* read ahead by tar_open() */
	bool have_first, at_end;
	struct stream *in; /* or NULL, and then: */
	struct blob blob;
	uint64_t at;
	uint8_t *chunk;
	struct err err; /* of a callback: libarchive would lose it */
};

static la_ssize_t fail(struct tar *t, struct archive *a)
{
	archive_set_error(a, EIO, "%s", t->err.text);
	return -1;
}

static la_ssize_t read_stream(struct archive *a, void *arg, const void **ret)
{
	struct tar *t = arg;
	size_t len;

	if (stream_next(t->in, ret, &len, &t->err) < 0)
		return fail(t, a);
	return (la_ssize_t)len;
}

static la_ssize_t read_blob(struct archive *a, void *arg, const void **ret)
{
	struct tar *t = arg;
	uint64_t left = t->blob.size - t->at;
	size_t want = left < SEEK_READ_BYTES ? (size_t)left : SEEK_READ_BYTES;
	ssize_t n;

	do
		n = pread(t->blob.fd, t->chunk, want, (off_t)(t->blob.off + t->at));
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		(void)err_sys(&t->err, "read the archive");
		return fail(t, a);
	}
	t->at += (uint64_t)n;
	*ret = t->chunk;
	return (la_ssize_t)n;
}

/* May skip less than asked: past the end, the next read says so. */
static la_int64_t skip_blob(struct archive *a, void *arg, la_int64_t request)
{
	struct tar *t = arg;
	uint64_t left = t->blob.size - t->at;
	uint64_t step = (uint64_t)request < left ? (uint64_t)request : left;

	(void)a;
	t->at += step;
	return (la_int64_t)step;
}

static int failed(struct tar *t, struct err *e)
{
	const char *why = archive_error_string(t->a);

	if (t->err.code != 0) {
		if (e)
			*e = t->err;
		return t->err.code;
	}
	return err_set(e, -EBADMSG, "the archive is damaged: %s", why ? why : "unknown");
}

static int read_header(struct tar *t, struct archive_entry **ret, struct err *e)
{
	int r = archive_read_next_header(t->a, ret);

	if (r == ARCHIVE_EOF) {
		*ret = NULL;
		return 0;
	}
	/* a warning is about a name it could not convert; one that is there is taken as it is */
	if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
		return failed(t, e);
	if (!archive_entry_pathname(*ret))
		return err_set(e, -EBADMSG, "a file name in the archive is not readable");
	return 0;
}

/* Takes `in` or `b`. */
static int open_common(struct tar *t, struct err *e)
{
	int r;

	t->a = archive_read_new();
	if (!t->a)
		return err_set(e, -ENOMEM, "out of memory");
	if (archive_read_support_format_tar(t->a) != ARCHIVE_OK ||
	    archive_read_support_format_empty(t->a) != ARCHIVE_OK)
		return err_set(e, -ENOSYS, "this libarchive cannot read tar");
	r = archive_read_open2(t->a, t, NULL, t->in ? read_stream : read_blob,
	                       t->in ? NULL : skip_blob, NULL);
	if (r != ARCHIVE_OK)
		return failed(t, e);
	r = read_header(t, &t->first, e);
	if (r < 0)
		return r;
	t->have_first = true;
	return 0;
}

int tar_open(struct stream *in, struct tar **ret, struct err *e)
{
	_own_(tar_free) struct tar *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	t->in = in;
	r = open_common(t, e);
	if (r == 0)
		*ret = steal_ptr(&t);
	return r;
}

int tar_open_blob(struct blob b, struct tar **ret, struct err *e)
{
	_own_(tar_free) struct tar *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	t->blob = b;
	t->chunk = malloc(SEEK_READ_BYTES);
	if (!t->chunk)
		return err_set(e, -ENOMEM, "out of memory");
	r = open_common(t, e);
	if (r == 0)
		*ret = steal_ptr(&t);
	return r;
}

void tar_free(struct tar *t)
{
	if (!t)
		return;
	archive_read_free(t->a);
	free(t->chunk);
	free(t);
}

int tar_next(struct tar *t, struct archive_entry **ret, struct err *e)
{
	if (t->have_first) {
		t->have_first = false;
		*ret = t->first;
		t->at_end = !t->first;
		return 0;
	}
	if (t->at_end) {
		*ret = NULL;
		return 0;
	}
	return read_header(t, ret, e);
}

int tar_data(struct tar *t, const void **ret_data, size_t *ret_len, uint64_t *ret_off,
             struct err *e)
{
	la_int64_t off = 0;
	int r;

	do
		r = archive_read_data_block(t->a, ret_data, ret_len, &off);
	while (r == ARCHIVE_OK && *ret_len == 0);
	if (r == ARCHIVE_EOF) {
		*ret_len = 0;
		return 0;
	}
	if (r != ARCHIVE_OK || off < 0)
		return failed(t, e);
	*ret_off = (uint64_t)off;
	return 0;
}

uint64_t tar_data_offset(const struct tar *t)
{
	return (uint64_t)archive_filter_bytes(t->a, 0);
}
