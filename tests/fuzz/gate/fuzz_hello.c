/*
 * First flights: what is read does not depend on how the message is cut into records, a prefix is
 * never refused that goes on to be read, and a failure writes nothing.
 */
#include "gate/hello_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUT_MAX = 64 << 10 };

/* The handshake message of `len` bytes in records of `piece`. */
static size_t in_records(const uint8_t *at, size_t len, size_t piece, uint8_t *to)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i += piece) {
		size_t part = len - i < piece ? len - i : piece;

		to[n++] = 22;
		to[n++] = 3;
		to[n++] = 3;
		to[n++] = (uint8_t)(part >> 8);
		to[n++] = (uint8_t)part;
		memcpy(to + n, at + i, part);
		n += part;
	}
	return n;
}

static void check_prefixes(struct span flight)
{
	struct hello h;
	size_t step = flight.len / 64 + 1;

	for (size_t n = 0; n < flight.len; n += step) {
		int r = hello_parse(span_of(flight.at, n), &h);

		if (r != -EAGAIN && r != 0)
			abort();
	}
}

static bool same(const struct hello *a, const struct hello *b)
{
	return a->sni == b->sni && a->ech == b->ech && a->alpn == b->alpn &&
	       a->alpn_h2 == b->alpn_h2 && a->version == b->version &&
	       (a->sni != HELLO_SNI_NAME || span_equal(host_span(&a->name), host_span(&b->name)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t out[OUT_MAX];
	struct hello a;
	struct hello b;
	size_t len;

	memset(&a, 0xa5, sizeof(a));
	if (hello_parse(span_of(data, size), &a) == 0)
		check_prefixes(span_of(data, size));
	else if (a.sni != 0xa5 || a.version != 0xa5a5)
		abort();
	(void)!hello_parse_http(span_of(data, size));
	/* the input as the message itself, with its length made right */
	if (size < 4 || size > 2000)
		return 0;
	len = in_records(data, size, size, out);
	out[5] = 1;
	out[6] = 0;
	out[7] = (uint8_t)((size - 4) >> 8);
	out[8] = (uint8_t)(size - 4);
	if (hello_parse(span_of(out, len), &a) != 0)
		return 0;
	for (size_t piece = 1; piece < 300; piece *= 7) {
		static uint8_t message[2000];
		static uint8_t cut[OUT_MAX];

		memcpy(message, out + 5, size);
		len = in_records(message, size, piece, cut);
		if (len <= HELLO_MAX && (hello_parse(span_of(cut, len), &b) != 0 || !same(&a, &b)))
			abort();
	}
	return 0;
}
