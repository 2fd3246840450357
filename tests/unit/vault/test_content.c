#include "test.h"

#include "forms.h"
#include "vault/content.h"

#include <brotli/encode.h>
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

static struct err e;

static size_t pack(int window, struct span in, uint8_t *out, size_t size)
{
	z_stream z = { 0 };

	CHECK_EQ(deflateInit2(&z, 6, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (Bytef *)(uintptr_t)in.at;
	z.avail_in = (uInt)in.len;
	z.next_out = out;
	z.avail_out = (uInt)size;
	CHECK_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
	size -= z.avail_out;
	deflateEnd(&z);
	return size;
}

/* Decodes in pieces of that size into `got`. 0, or what content_step() said. */
static int unpack(enum content_coding coding, struct span in, size_t piece, struct buf *got,
                  bool *ret_whole)
{
	struct content *c;
	uint8_t room[777];
	int r = 0;

	CHECK_OK(content_new(coding, &c, &e), &e);
	buf_reset(got);
	while (in.len > 0 && r == 0) {
		struct span part = span_of(in.at, piece < in.len ? piece : in.len);
		size_t n = 1;

		in = span_of(in.at + part.len, in.len - part.len);
		while (r == 0 && (part.len > 0 || n > 0)) {
			size_t left = part.len;

			r = content_step(c, &part, room, sizeof(room), &n);
			if (r == 0)
				buf_put(got, room, n);
			if (r == 0 && n == 0 && part.len == left)
				break;
		}
	}
	*ret_whole = content_whole(c);
	content_free(c);
	return r;
}

static void check_coding(enum content_coding coding, struct span packed, struct span plain)
{
	static uint8_t room[200000];
	struct buf got;
	bool is_whole;

	buf_init(&got, room, sizeof(room));
	for (size_t piece = 1; piece < packed.len + 7; piece += 1 + packed.len / 9) {
		CHECK_EQ(unpack(coding, packed, piece, &got, &is_whole), 0);
		CHECK(is_whole && buf_ok(&got));
		CHECK_EQ(got.len, plain.len);
		CHECK(memcmp(got.at, plain.at, plain.len) == 0);
	}
	CHECK_EQ(unpack(coding, span_of(packed.at, packed.len - 1), 1000, &got, &is_whole), 0);
	CHECK(!is_whole);
	CHECK_EQ(unpack(coding, span_of(packed.at, 0), 1, &got, &is_whole), 0);
	CHECK(is_whole);
}

TEST(each_coding)
{
	static uint8_t plain[100000], packed[120000];
	uint32_t seed = 3;
	size_t len;

	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)("aaabcd\n"[form_random(&seed) % 7]);
	len = pack(15 + 16, span_of(plain, sizeof(plain)), packed, sizeof(packed));
	check_coding(CONTENT_GZIP, span_of(packed, len), span_of(plain, sizeof(plain)));
	len = pack(15, span_of(plain, sizeof(plain)), packed, sizeof(packed));
	check_coding(CONTENT_DEFLATE, span_of(packed, len), span_of(plain, sizeof(plain)));
	len = pack(-15, span_of(plain, sizeof(plain)), packed, sizeof(packed));
	check_coding(CONTENT_DEFLATE, span_of(packed, len), span_of(plain, sizeof(plain)));
	len = ZSTD_compress(packed, sizeof(packed), plain, sizeof(plain), 3);
	check_coding(CONTENT_ZSTD, span_of(packed, len), span_of(plain, sizeof(plain)));
	len = sizeof(packed);
	CHECK(BrotliEncoderCompress(4, 22, BROTLI_MODE_GENERIC, sizeof(plain), plain, &len,
	                            packed));
	check_coding(CONTENT_BR, span_of(packed, len), span_of(plain, sizeof(plain)));
}

TEST(gzip_of_two_members)
{
	uint8_t packed[300];
	uint8_t room[100];
	struct buf got;
	bool is_whole;
	size_t len = pack(15 + 16, span_str("one "), packed, sizeof(packed));

	len += pack(15 + 16, span_str("two"), packed + len, sizeof(packed) - len);
	buf_init(&got, room, sizeof(room));
	for (size_t piece = 1; piece < len; piece++) {
		CHECK_EQ(unpack(CONTENT_GZIP, span_of(packed, len), piece, &got, &is_whole), 0);
		CHECK(is_whole);
		CHECK_SPAN(buf_span(&got), "one two");
	}
}

TEST(damaged_and_trailing_bytes)
{
	uint8_t packed[300];
	uint8_t room[100];
	struct buf got;
	bool is_whole;
	size_t len = pack(15 + 16, span_str("some text"), packed, sizeof(packed));

	buf_init(&got, room, sizeof(room));
	packed[len] = 'x';
	CHECK_EQ(unpack(CONTENT_GZIP, span_of(packed, len + 1), 1000, &got, &is_whole) < 0 ||
	                 !is_whole,
	         true);
	packed[len - 6] ^= 1;
	CHECK_EQ(unpack(CONTENT_GZIP, span_of(packed, len), 1000, &got, &is_whole), -EBADMSG);
	len = pack(15, span_str("some text"), packed, sizeof(packed));
	packed[len] = 'x';
	CHECK_EQ(unpack(CONTENT_DEFLATE, span_of(packed, len + 1), 1000, &got, &is_whole),
	         -EBADMSG);
	CHECK_EQ(unpack(CONTENT_ZSTD, span_str("no zstd at all"), 1000, &got, &is_whole), -EBADMSG);
	CHECK_EQ(unpack(CONTENT_BR, span_str("\x91\xff\xff\xff\xff"), 1000, &got, &is_whole),
	         -EBADMSG);
}

TEST(growth_is_bounded)
{
	enum { BYTES = 8 << 20 };
	static uint8_t plain[BYTES], packed[BYTES / 500], room[1];
	struct buf got;
	bool is_whole;
	size_t len;
	int r;

	buf_init(&got, room, 0);
	/* zstd packs zeros by far more than 1100 */
	len = ZSTD_compress(packed, sizeof(packed), plain, sizeof(plain), 3);
	CHECK(!ZSTD_isError(len) && len < BYTES / 2000);
	r = unpack(CONTENT_ZSTD, span_of(packed, len), 65536, &got, &is_whole);
	CHECK_EQ(r, -E2BIG);
	/* and gzip never does */
	len = pack(15 + 16, span_of(plain, sizeof(plain)), packed, sizeof(packed));
	CHECK_EQ(unpack(CONTENT_GZIP, span_of(packed, len), 65536, &got, &is_whole), 0);
	CHECK(is_whole);
}

TEST(what_a_head_says)
{
	static struct http_head h;
	static const struct {
		const char *value;
		enum content_coding coding;
	} cases[] = {
		{ "gzip", CONTENT_GZIP },
		{ "X-GZip", CONTENT_GZIP },
		{ "deflate", CONTENT_DEFLATE },
		{ "br", CONTENT_BR },
		{ "zstd", CONTENT_ZSTD },
		{ "identity", CONTENT_IDENTITY },
		{ "", CONTENT_IDENTITY },
		{ " , gzip ,", CONTENT_GZIP },
		{ "gzip, identity", CONTENT_GZIP },
		{ "gzip, br", CONTENT_UNKNOWN },
		{ "compress", CONTENT_UNKNOWN },
		{ "dcb", CONTENT_UNKNOWN },
		{ "aws-chunked", CONTENT_IDENTITY },
		{ "gzip;q=1", CONTENT_UNKNOWN },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		h = (struct http_head){ .status = 200, .framing = HTTP_BODY_STREAM, .count = 2 };
		h.fields[0] = (struct http_field){ span_str("vary"), span_str("accept-encoding") };
		h.fields[1] = (struct http_field){ span_str("content-encoding"),
			                           span_str(cases[i].value) };
		CHECK_EQ(content_of(&h), cases[i].coding);
	}
	h.fields[1].value = span_str("gzip");
	h.fields[0] = h.fields[1];
	CHECK_EQ(content_of(&h), CONTENT_UNKNOWN);
	h.count = 1;
	h.status = 206;
	CHECK_EQ(content_of(&h), CONTENT_UNKNOWN);
	h.status = 304;
	h.framing = HTTP_BODY_NONE;
	CHECK_EQ(content_of(&h), CONTENT_IDENTITY);
	CHECK_EQ(content_new(CONTENT_UNKNOWN, &(struct content *){ NULL }, &e), -EINVAL);
}

TEST_MAIN()
