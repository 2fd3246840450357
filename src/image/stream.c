#include "image/stream.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

struct stream {
	struct job *job;
	struct blob blob;
	unsigned flags;
	struct archive *raw; /* libarchive's filters without a format: bytes in, bytes out */
	EVP_MD_CTX *packed_md, *plain_md;
	uint64_t at;      /* bytes of the blob read */
	uint64_t counted; /* of these, how many the job knows of */
	uint64_t out_bytes;
	bool packed, at_end;
	struct err err; /* of the read callback: libarchive would lose it */
	uint8_t chunk[ARCHIVE_READ_BYTES];
};

static int md_new(EVP_MD_CTX **ret, struct err *e)
{
	*ret = EVP_MD_CTX_new();
	if (!*ret || EVP_DigestInit_ex(*ret, EVP_sha256(), NULL) != 1)
		return err_set(e, -ENOMEM, "sha256 is not available");
	return 0;
}

static int md_hex(EVP_MD_CTX *md, char ret[IMAGE_ID_LEN + 1], struct err *e)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char raw[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (EVP_DigestFinal_ex(md, raw, &len) != 1 || len * 2 != IMAGE_ID_LEN)
		return err_set(e, -EIO, "sha256 failed");
	for (unsigned i = 0; i < len; i++) {
		ret[2 * i] = digits[raw[i] >> 4];
		ret[2 * i + 1] = digits[raw[i] & 15];
	}
	ret[IMAGE_ID_LEN] = '\0';
	return 0;
}

int digest_bytes(const void *data, size_t len, char ret[IMAGE_ID_LEN + 1], struct err *e)
{
	EVP_MD_CTX *md = NULL;
	int r = md_new(&md, e);

	if (r == 0 && EVP_DigestUpdate(md, data, len) != 1)
		r = err_set(e, -EIO, "sha256 failed");
	if (r == 0)
		r = md_hex(md, ret, e);
	EVP_MD_CTX_free(md);
	return r;
}

/* Reads the next bytes of the blob into the chunk. 0 at its end; -1 with s->err set. */
static ssize_t read_chunk(struct stream *s)
{
	uint64_t left = s->blob.size - s->at;
	size_t want = left < sizeof(s->chunk) ? (size_t)left : sizeof(s->chunk);
	ssize_t n;

	if (want == 0)
		return 0;
	do
		n = pread(s->blob.fd, s->chunk, want, (off_t)(s->blob.off + s->at));
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		(void)err_sys(&s->err, "read the archive");
		return -1;
	}
	if (n == 0) {
		(void)err_set(&s->err, -EBADMSG, "the archive ends too early");
		return -1;
	}
	s->at += (uint64_t)n;
	if (s->packed_md && EVP_DigestUpdate(s->packed_md, s->chunk, (size_t)n) != 1) {
		(void)err_set(&s->err, -EIO, "sha256 failed");
		return -1;
	}
	return n;
}

static la_ssize_t on_read(struct archive *a, void *arg, const void **ret)
{
	struct stream *s = arg;
	ssize_t n = read_chunk(s);

	if (n < 0) {
		archive_set_error(a, EIO, "%s", s->err.text);
		return -1;
	}
	*ret = s->chunk;
	return (la_ssize_t)n;
}

/* What libarchive says is about bytes it did not like, unless our own callback failed first. */
static int archive_failed(struct stream *s, struct err *e)
{
	const char *why = archive_error_string(s->raw);

	if (s->err.code != 0) {
		if (e)
			*e = s->err;
		return s->err.code;
	}
	return err_set(e, -EBADMSG, "its compressed data is damaged: %s", why ? why : "unknown");
}

static int open_filters(struct stream *s, struct err *e)
{
	struct archive_entry *entry;
	int r;

	s->raw = archive_read_new();
	if (!s->raw)
		return err_set(e, -ENOMEM, "out of memory");
	/* each by name: "all" includes helpers that are started as programs */
	if (archive_read_support_filter_gzip(s->raw) != ARCHIVE_OK ||
	    archive_read_support_filter_bzip2(s->raw) != ARCHIVE_OK ||
	    archive_read_support_filter_xz(s->raw) != ARCHIVE_OK ||
	    archive_read_support_filter_zstd(s->raw) != ARCHIVE_OK ||
	    archive_read_support_format_raw(s->raw) != ARCHIVE_OK ||
	    archive_read_support_format_empty(s->raw) != ARCHIVE_OK)
		return err_set(e, -ENOSYS, "this libarchive lacks one of gzip, bzip2, xz and zstd");
	r = archive_read_open(s->raw, s, NULL, on_read, NULL);
	if (r != ARCHIVE_OK)
		return archive_failed(s, e);
	r = archive_read_next_header(s->raw, &entry);
	if (r == ARCHIVE_EOF)
		s->at_end = true;
	else if (r != ARCHIVE_OK)
		return archive_failed(s, e);
	/* the count includes the one that does nothing */
	if (archive_filter_count(s->raw) > 1 + ARCHIVE_FILTERS_MAX)
		return err_set(e, -E2BIG, "it is compressed more than %d time",
		               ARCHIVE_FILTERS_MAX);
	s->packed = archive_filter_count(s->raw) > 1;
	return 0;
}

int stream_open(struct job *j, struct blob b, unsigned flags, struct stream **ret, struct err *e)
{
	_own_(stream_free) struct stream *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->job = j;
	s->blob = b;
	s->flags = flags;
	if (flags & STREAM_DIGEST) {
		r = md_new(&s->packed_md, e);
		if (r == 0)
			r = md_new(&s->plain_md, e);
	}
	if (r == 0)
		r = open_filters(s, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&s);
	return 0;
}

void stream_free(struct stream *s)
{
	if (!s)
		return;
	archive_read_free(s->raw);
	EVP_MD_CTX_free(s->packed_md);
	EVP_MD_CTX_free(s->plain_md);
	free(s);
}

bool stream_packed(const struct stream *s)
{
	return s->packed;
}

static int count(struct stream *s, size_t len, struct err *e)
{
	uint64_t in_bytes = s->at - s->counted;

	s->counted = s->at;
	s->out_bytes += len;
	if (s->out_bytes > ARCHIVE_RATIO_FREE_BYTES && s->out_bytes / ARCHIVE_RATIO_MAX > s->at)
		return err_set(e, -E2BIG,
		               "it unpacks to more than %d times its size: a decompression bomb",
		               ARCHIVE_RATIO_MAX);
	return job_count(s->job, in_bytes, s->flags & STREAM_UNCOUNTED ? 0 : len, e);
}

int stream_next(struct stream *s, const void **ret_data, size_t *ret_len, struct err *e)
{
	const void *data = NULL;
	la_int64_t offset;
	size_t len = 0;
	int r;

	while (!s->at_end && len == 0) {
		r = archive_read_data_block(s->raw, &data, &len, &offset);
		if (r == ARCHIVE_EOF)
			s->at_end = true;
		else if (r != ARCHIVE_OK)
			return archive_failed(s, e);
	}
	if (s->at_end)
		len = 0;
	r = count(s, len, e);
	if (r < 0)
		return r;
	/* unpacked as it came: the digests are the same, and one is enough */
	if (s->plain_md && s->packed && len > 0 && EVP_DigestUpdate(s->plain_md, data, len) != 1)
		return err_set(e, -EIO, "sha256 failed");
	*ret_data = data;
	*ret_len = len;
	return 0;
}

int stream_finish(struct stream *s, char ret_packed[IMAGE_ID_LEN + 1],
                  char ret_plain[IMAGE_ID_LEN + 1], struct err *e)
{
	char packed[IMAGE_ID_LEN + 1];
	char plain[IMAGE_ID_LEN + 1];
	const void *data;
	size_t len;
	int r;

	do {
		r = stream_next(s, &data, &len, e);
		if (r != 0)
			return r;
	} while (len > 0);
	/* what follows the compressed data is part of the blob */
	for (;;) {
		ssize_t n = read_chunk(s);

		if (n < 0)
			return archive_failed(s, e);
		if (n == 0)
			break;
	}
	r = md_hex(s->packed_md, packed, e);
	if (r == 0 && s->packed)
		r = md_hex(s->plain_md, plain, e);
	if (r < 0)
		return r;
	memcpy(ret_packed, packed, sizeof(packed));
	memcpy(ret_plain, s->packed ? plain : packed, sizeof(packed));
	return 0;
}
