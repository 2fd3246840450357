/* ClientHellos of a real client, cut in every way, and such as no honest client sends. */
#include "gate/hello_parse.h"
#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <string.h>

enum { FLIGHT_MAX = 64 << 10 };

static uint8_t flight[FLIGHT_MAX];
static uint8_t cut[FLIGHT_MAX];

/* What a client with these settings says first. */
static size_t client_hello(const char *name, const char *alpn, int max_version)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);
	BIO *in = BIO_new(BIO_s_mem());
	BIO *out = BIO_new(BIO_s_mem());
	int n;

	SSL_set_bio(ssl, in, out);
	CHECK(SSL_set_max_proto_version(ssl, max_version));
	if (name)
		CHECK(SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
		               (void *)(uintptr_t)name)); /* OpenSSL's macro casts const away */
	if (alpn)
		CHECK_EQ(SSL_set_alpn_protos(ssl, (const uint8_t *)alpn, (unsigned)strlen(alpn)),
		         0);
	CHECK_EQ(SSL_connect(ssl), -1);
	n = BIO_read(out, flight, sizeof(flight));
	CHECK(n > 0);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	return (size_t)n;
}

static void put16(uint8_t *at, size_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

/* The same message in records of `piece` bytes. */
static size_t in_records(size_t len, size_t piece)
{
	size_t to = 0;

	for (size_t at = 5; at < len; at += piece) {
		size_t n = len - at < piece ? len - at : piece;

		cut[to] = 22;
		cut[to + 1] = 3;
		cut[to + 2] = 1;
		put16(cut + to + 3, n);
		memcpy(cut + to + 5, flight + at, n);
		to += 5 + n;
	}
	return to;
}

static void reads_well(const uint8_t *at, size_t len, const char *name)
{
	struct hello h;

	for (size_t n = 0; n < len; n++) {
		uint8_t *copy = guard_copy(at, n);

		memset(&h, 0xa5, sizeof(h));
		CHECK_EQ(hello_parse(span_of(copy, n), &h), -EAGAIN);
		CHECK_EQ(h.sni, 0xa5);
		guard_free(copy, n);
	}
	CHECK_EQ(hello_parse(guard_span(at, len), &h), 0);
	CHECK_EQ(h.sni, HELLO_SNI_NAME);
	CHECK(span_is(host_span(&h.name), name));
	CHECK(h.alpn && h.alpn_h2 && h.alpn_http1 && !h.ech);
}

TEST(TLS_8_any_cut_is_one_hello)
{
	static const size_t pieces[] = { 1 << 14, 200, 7, 1 };
	size_t len = client_hello("Api.Example.test", "\x02h2\x08http/1.1", 0);

	reads_well(flight, len, "api.example.test");
	for (size_t i = 0; i < 4; i++) {
		size_t n = in_records(len, pieces[i]);

		reads_well(cut, n, "api.example.test");
	}
}

TEST(what_follows_in_the_flight_is_not_looked_at)
{
	size_t len = client_hello("a.test", NULL, 0);
	struct hello h;

	memset(flight + len, 0x17, 100); /* early data, say */
	CHECK_EQ(hello_parse(span_of(flight, len + 100), &h), 0);
	CHECK(!h.alpn);
}

TEST(versions_and_names)
{
	struct hello h;
	size_t len = client_hello("a.test", NULL, TLS1_2_VERSION);

	CHECK_EQ(hello_parse(span_of(flight, len), &h), 0);
	CHECK_EQ(h.version, 0x0303);
	len = client_hello("a.test", "\x08http/1.1", 0);
	CHECK_EQ(hello_parse(span_of(flight, len), &h), 0);
	CHECK_EQ(h.version, 0x0304);
	CHECK(h.alpn && !h.alpn_h2 && h.alpn_http1);
	len = client_hello(NULL, NULL, 0);
	CHECK_EQ(hello_parse(span_of(flight, len), &h), 0);
	CHECK_EQ(h.sni, HELLO_SNI_NONE);
	len = client_hello("192.0.2.1", NULL, 0);
	CHECK_EQ(hello_parse(span_of(flight, len), &h), 0);
	CHECK_EQ(h.sni, HELLO_SNI_INVALID);
	len = client_hello("a_b..test", NULL, 0);
	CHECK_EQ(hello_parse(span_of(flight, len), &h), 0);
	CHECK_EQ(h.sni, HELLO_SNI_INVALID);
}

/* --- hellos made by hand --- */

/* A hello with these extensions; they are what is at fault. */
static size_t with_extensions(const void *ext, size_t len)
{
	size_t body = 2 + 32 + 1 + 2 + 2 + 2 + 2 + len;

	memset(flight, 0, 128);
	flight[0] = 22;
	flight[1] = 3;
	flight[2] = 1;
	put16(flight + 3, body + 4);
	flight[5] = 1;
	put16(flight + 7, body);
	put16(flight + 9, 0x0303);
	put16(flight + 44, 2); /* suites, after random and an empty session */
	put16(flight + 46, 0x1301);
	flight[48] = 1; /* one compression: none */
	put16(flight + 50, len);
	memcpy(flight + 52, ext, len);
	return 52 + len;
}

#define EXT(bytes) with_extensions(bytes, sizeof(bytes) - 1)

static int parse(size_t len)
{
	struct hello h;

	return hello_parse(guard_span(flight, len), &h);
}

#define SNI_A                                                                                      \
	"\0\0\0\x0b\0\x09\0\0\x06"                                                                 \
	"a.test"

TEST(extensions_that_are_well)
{
	struct hello h;

	CHECK_EQ(parse(EXT("")), 0);
	CHECK_EQ(parse(EXT(SNI_A)), 0);
	CHECK_EQ(hello_parse(span_of(flight, EXT(SNI_A "\xfe\x0d\0\x01\0")), &h), 0);
	CHECK(h.ech);
	/* values that test whether we mind what we do not know */
	CHECK_EQ(hello_parse(span_of(flight, EXT("\0\x2b\0\x05\x04\x7a\x7a\x03\x04")), &h), 0);
	CHECK_EQ(h.version, 0x0304);
	CHECK_EQ(hello_parse(span_of(flight, EXT("\0\x2b\0\x03\x02\x03\x02")), &h), 0);
	CHECK_EQ(h.version, 0x0302);
}

TEST(extensions_that_are_refused)
{
	CHECK_EQ(parse(EXT(SNI_A SNI_A)), -EBADMSG);                   /* twice */
	CHECK_EQ(parse(EXT("\0\0\0\0")), -EBADMSG);                    /* no list */
	CHECK_EQ(parse(EXT("\0\0\0\x02\0\0")), -EBADMSG);              /* an empty list */
	CHECK_EQ(parse(EXT("\0\0\0\x05\0\x03\0\0\0")), -EBADMSG);      /* an empty name */
	CHECK_EQ(parse(EXT("\0\0\0\x06\0\x04\x01\0\x01x")), -EBADMSG); /* another kind */
	CHECK_EQ(parse(EXT("\0\0\0\x0a\0\x08\0\0\x01"
	                   "a\0\0\x01"
	                   "b")),
	         -EBADMSG); /* two names */
	CHECK_EQ(parse(EXT("\0\0\0\x07\0\x04\0\0\x01"
	                   "ab")),
	         -EBADMSG);                                     /* bytes behind the list */
	CHECK_EQ(parse(EXT("\0\x10\0\x02\0\0")), -EBADMSG);     /* no protocol */
	CHECK_EQ(parse(EXT("\0\x10\0\x03\0\x01\0")), -EBADMSG); /* an empty one */
	CHECK_EQ(parse(EXT("\0\x2b\0\x02\x01\x03")), -EBADMSG); /* half a version */
	CHECK_EQ(parse(EXT("\0\x2b\0\x09\x01")), -EBADMSG);     /* cut */
	CHECK_EQ(parse(EXT("\0")), -EBADMSG);
}

TEST(too_many_extensions)
{
	uint8_t many[(HELLO_EXTENSIONS_MAX + 1) * 4] = { 0 };

	for (size_t i = 0; i <= HELLO_EXTENSIONS_MAX; i++)
		put16(many + i * 4, 0x1000 + i);
	CHECK_EQ(parse(with_extensions(many, sizeof(many) - 4)), 0);
	CHECK_EQ(parse(with_extensions(many, sizeof(many))), -EBADMSG);
}

TEST(broken_records)
{
	size_t len = EXT(SNI_A);

	put16(flight + 3, len); /* bytes behind the message, in its record */
	CHECK_EQ(parse(len), -EBADMSG);
	len = EXT(SNI_A);
	put16(flight + 3, 0);
	CHECK_EQ(parse(len), -EBADMSG);
	put16(flight + 3, (1 << 14) + 1);
	CHECK_EQ(parse(len), -EBADMSG);
	len = EXT(SNI_A);
	flight[5] = 2; /* a ServerHello */
	CHECK_EQ(parse(len), -EBADMSG);
	len = EXT(SNI_A);
	in_records(len, 20);
	cut[25] = 23; /* the second record is of another kind */
	memcpy(flight, cut, len);
	CHECK_EQ(parse(len), -EBADMSG);
	len = EXT(SNI_A);
	flight[48] = 2; /* and a length within that is wrong */
	CHECK_EQ(parse(len), -EBADMSG);
}

TEST(TLS_8_over_16_KiB)
{
	size_t len = EXT(SNI_A);

	put16(flight + 7, HELLO_MAX);
	put16(flight + 3, 1 << 14);
	CHECK_EQ(parse(len), -EMSGSIZE); /* as soon as it says so */
	put16(flight + 7, HELLO_MAX - 9);
	put16(flight + 3, HELLO_MAX - 5);
	CHECK_EQ(parse(len), -EAGAIN);
	memset(flight + len, 0, HELLO_MAX);
	CHECK_EQ(parse(HELLO_MAX), -EBADMSG);
	for (size_t i = 0; i < HELLO_MAX / 6; i++) { /* in records of one byte it never fits */
		memcpy(cut + i * 6, "\x16\x03\x01\0\x01", 5);
		cut[i * 6 + 5] = i == 0 ? 1 : i == 2 ? 0x20 : 0;
	}
	memcpy(cut + HELLO_MAX / 6 * 6, "\x16\x03\x01\0", 4);
	memcpy(flight, cut, HELLO_MAX);
	CHECK_EQ(parse(HELLO_MAX - 6), -EAGAIN);
	CHECK_EQ(parse(HELLO_MAX), -EMSGSIZE);
}

TEST(BYP_3_other_protocols)
{
	struct hello h;
	static const char *const others[] = {
		"SSH-2.0-x\r\n", "GET / HTTP/1.1\r\n", "\x05\x01\x00",
		"\x17\x03\x03",  "\x16\x02\x00",       "\x80\x2e\x01"
	};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		CHECK_EQ(hello_parse(span_str(others[i]), &h), -EPROTO);
	CHECK_EQ(hello_parse(span_of(NULL, 0), &h), -EAGAIN);
	CHECK_EQ(hello_parse(span_str("\x16"), &h), -EAGAIN);
}

TEST(what_looks_like_http)
{
	CHECK_EQ(hello_parse_http(span_of(NULL, 0)), -EAGAIN);
	CHECK_EQ(hello_parse_http(span_str("G")), -EAGAIN);
	CHECK_EQ(hello_parse_http(span_str("GE")), 0);
	CHECK_EQ(hello_parse_http(span_str("GET / HTTP/1.1\r\n")), 0);
	CHECK_EQ(hello_parse_http(span_str("PRI * HTTP/2.0\r\n")), 0);
	CHECK_EQ(hello_parse_http(span_str("SSH-2.0-x")), -EPROTO);
	CHECK_EQ(hello_parse_http(span_str(" GET")), -EPROTO);
	CHECK_EQ(hello_parse_http(span_str("\x16\x03")), -EPROTO);
	CHECK_EQ(hello_parse_http(span_str("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")), -EPROTO);
}

TEST_MAIN()
