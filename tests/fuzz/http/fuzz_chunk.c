/* Chunked bodies: the same data, end and fault whether given at once or byte by byte. */
#include "http/h1.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct got {
	uint64_t hash;
	size_t len;
	size_t used;
	int r;
	enum http_reason why;
};

static void decode(const uint8_t *data, size_t size, size_t piece, struct got *g)
{
	struct chunk c = { 0 };

	*g = (struct got){ .r = -EAGAIN };
	for (size_t at = 0; at < size && g->r == -EAGAIN; at += piece) {
		size_t n = size - at < piece ? size - at : piece;
		struct span s = span_of(data + at, n);
		struct span bytes;

		while ((g->r = chunk_parse(&c, &s, &bytes)) == 0 && bytes.len > 0) {
			for (size_t i = 0; i < bytes.len; i++)
				g->hash = g->hash * 31 + bytes.at[i];
			g->len += bytes.len;
		}
		g->used = at + n - s.len;
	}
	g->why = c.why;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct got a;
	struct got b;

	decode(data, size, size ? size : 1, &a);
	for (size_t piece = 1; piece < 8; piece += 3) {
		decode(data, size, piece, &b);
		if (a.r != b.r || a.hash != b.hash || a.len != b.len || a.used != b.used ||
		    a.why != b.why || a.len > size)
			abort();
	}
	return 0;
}
