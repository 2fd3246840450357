#include "vault/content.h"

#include <brotli/decode.h>
#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum {
	WINDOW_GZIP = 15 + 16, /* zlib's number for: a gzip wrapper, the largest window */
	WINDOW_ZLIB = 15,
	WINDOW_RAW = -15,
	ZLIB_BYTES = 48 << 10, /* its state and its window, which never grow */
};

struct content {
	uint8_t coding;
	bool begun;
	bool whole; /* the stream's own end was read */
	bool raw;   /* deflate without its wrapper */
	uint64_t in, out;
	z_stream z;
	bool z_open;
	ZSTD_DCtx *zstd;
	BrotliDecoderState *br;
	size_t br_bytes; /* that it has allocated */
};

static enum content_coding coding_of(struct span word)
{
	static const struct {
		const char *word;
		enum content_coding coding;
	} words[] = {
		{ "identity", CONTENT_IDENTITY },
		{ "gzip", CONTENT_GZIP },
		{ "x-gzip", CONTENT_GZIP },
		{ "deflate", CONTENT_DEFLATE },
		{ "zstd", CONTENT_ZSTD },
		{ "br", CONTENT_BR },
		{ "aws-chunked", CONTENT_IDENTITY }, /* signatures between pieces of plain bytes */
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (field_parse_is(word, words[i].word))
			return words[i].coding;
	return CONTENT_UNKNOWN;
}

static struct span trim(struct span s)
{
	while (s.len > 0 && (s.at[0] == ' ' || s.at[0] == '\t'))
		s = span_of(s.at + 1, s.len - 1);
	while (s.len > 0 && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t'))
		s.len--;
	return s;
}

enum content_coding content_of(const struct http_head *h)
{
	enum content_coding all = CONTENT_IDENTITY;

	if (h->framing == HTTP_BODY_NONE && h->status != 0)
		return CONTENT_IDENTITY;
	for (unsigned i = 0; i < h->count; i++) {
		struct span list = h->fields[i].value;
		struct span word;

		if (!span_is(h->fields[i].name, "content-encoding"))
			continue;
		while (take_until(&list, ',', &word)) {
			enum content_coding one;

			word = trim(word);
			if (word.len == 0)
				continue;
			one = coding_of(word);
			if (one == CONTENT_IDENTITY)
				continue;
			all = all == CONTENT_IDENTITY ? one : CONTENT_UNKNOWN;
		}
	}
	if (all != CONTENT_IDENTITY && h->status == 206)
		return CONTENT_UNKNOWN;
	return all;
}

static void *br_alloc(void *user, size_t size)
{
	struct content *c = user;
	void *at = malloc(size);

	c->br_bytes += at ? malloc_usable_size(at) : 0;
	return at;
}

static void br_free(void *user, void *at)
{
	struct content *c = user;

	c->br_bytes -= at ? malloc_usable_size(at) : 0;
	free(at);
}

size_t content_bytes(const struct content *c)
{
	return sizeof(*c) + c->br_bytes + (c->z_open ? (size_t)ZLIB_BYTES : 0) +
	       (c->zstd ? ZSTD_sizeof_DCtx(c->zstd) : 0);
}

int content_new(enum content_coding coding, struct content **ret, struct err *e)
{
	_own_(content_free) struct content *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->coding = (uint8_t)coding;
	if (coding == CONTENT_GZIP || coding == CONTENT_DEFLATE) {
		if (inflateInit2(&c->z, coding == CONTENT_GZIP ? WINDOW_GZIP : WINDOW_ZLIB) != Z_OK)
			return err_set(e, -ENOMEM, "out of memory");
		c->z_open = true;
	} else if (coding == CONTENT_ZSTD) {
		c->zstd = ZSTD_createDCtx();
		if (!c->zstd)
			return err_set(e, -ENOMEM, "out of memory");
		(void)ZSTD_DCtx_setParameter(c->zstd, ZSTD_d_windowLogMax, CONTENT_ZSTD_WINDOW_LOG);
	} else if (coding == CONTENT_BR) {
		c->br = BrotliDecoderCreateInstance(br_alloc, br_free, c);
		if (!c->br)
			return err_set(e, -ENOMEM, "out of memory");
	} else {
		return err_set(e, -EINVAL, "no coding that can be read");
	}
	*ret = steal_ptr(&c);
	return 0;
}

void content_free(struct content *c)
{
	if (!c)
		return;
	if (c->z_open)
		(void)inflateEnd(&c->z);
	ZSTD_freeDCtx(c->zstd);
	if (c->br)
		BrotliDecoderDestroyInstance(c->br);
	free(c);
}

static void advance(struct span *s, size_t n)
{
	*s = span_of(s->at + n, s->len - n);
}

/*
 * "deflate" means the zlib wrapper, and some servers send none. The wrapper's first byte says
 * method 8 and a window of at most 32 KiB; raw deflate that begins so would be a stored block with
 * bits set that nobody sets.
 */
static int choose_wrapper(struct content *c, uint8_t first)
{
	if (c->coding != CONTENT_DEFLATE || ((first & 15) == 8 && first >> 4 <= 7))
		return 0;
	c->raw = true;
	return inflateReset2(&c->z, WINDOW_RAW) == Z_OK ? 0 : -ENOMEM;
}

/* gzip may have several members behind each other: RFC 1952, 2.2. */
static int step_zlib(struct content *c, struct span *in, uint8_t *room, size_t size,
                     size_t *ret_len)
{
	int r;

	if (c->whole) {
		if (c->coding != CONTENT_GZIP)
			return in->len > 0 ? -EBADMSG : 0;
		if (in->len == 0)
			return 0;
		if (inflateReset(&c->z) != Z_OK)
			return -EBADMSG;
		c->whole = false;
	}
	c->z.next_in = (z_const Bytef *)(uintptr_t)in->at;
	c->z.avail_in = (uInt)in->len;
	c->z.next_out = room;
	c->z.avail_out = (uInt)size;
	r = inflate(&c->z, Z_NO_FLUSH);
	advance(in, in->len - c->z.avail_in);
	*ret_len = size - c->z.avail_out;
	if (r == Z_STREAM_END)
		c->whole = true;
	else if (r == Z_MEM_ERROR)
		return -ENOMEM;
	else if (r != Z_OK && r != Z_BUF_ERROR)
		return -EBADMSG;
	return 0;
}

static int step_zstd(struct content *c, struct span *in, uint8_t *room, size_t size,
                     size_t *ret_len)
{
	ZSTD_inBuffer from = { .src = in->at, .size = in->len };
	ZSTD_outBuffer to = { .dst = room, .size = size };
	size_t r = ZSTD_decompressStream(c->zstd, &to, &from);

	if (ZSTD_isError(r))
		return -EBADMSG;
	if (from.pos > 0 || to.pos > 0)
		c->whole = r == 0;
	advance(in, from.pos);
	*ret_len = to.pos;
	return 0;
}

static int step_br(struct content *c, struct span *in, uint8_t *room, size_t size, size_t *ret_len)
{
	const uint8_t *next_in = in->at;
	size_t left_in = in->len;
	uint8_t *next_out = room;
	size_t left_out = size;
	BrotliDecoderResult r;

	if (c->whole)
		return in->len > 0 ? -EBADMSG : 0;
	r = BrotliDecoderDecompressStream(c->br, &left_in, &next_in, &left_out, &next_out, NULL);
	if (r == BROTLI_DECODER_RESULT_ERROR)
		return -EBADMSG;
	c->whole = r == BROTLI_DECODER_RESULT_SUCCESS;
	advance(in, in->len - left_in);
	*ret_len = size - left_out;
	return 0;
}

int content_step(struct content *c, struct span *in, uint8_t *room, size_t size, size_t *ret_len)
{
	struct span rest = *in;
	size_t len = 0;
	int r;

	if (rest.len > CONTENT_PIECE_MAX)
		rest.len = CONTENT_PIECE_MAX;
	if (size > CONTENT_PIECE_MAX)
		size = CONTENT_PIECE_MAX;
	if (!c->begun && rest.len > 0) {
		c->begun = true;
		r = choose_wrapper(c, rest.at[0]);
		if (r < 0)
			return r;
	}
	if (!c->begun || size == 0) {
		*ret_len = 0;
		return 0;
	}
	if (c->coding == CONTENT_ZSTD)
		r = step_zstd(c, &rest, room, size, &len);
	else if (c->coding == CONTENT_BR)
		r = step_br(c, &rest, room, size, &len);
	else
		r = step_zlib(c, &rest, room, size, &len);
	if (r < 0)
		return r;
	c->in += (size_t)(rest.at - in->at);
	c->out += len;
	if (c->out > c->in * CONTENT_GROWTH_MAX + CONTENT_GROWTH_FREE)
		return -E2BIG;
	advance(in, (size_t)(rest.at - in->at));
	*ret_len = len;
	return 0;
}

bool content_whole(const struct content *c)
{
	return !c->begun || c->whole;
}
