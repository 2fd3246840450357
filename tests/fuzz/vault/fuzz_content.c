/*
 * Coded bodies, whole and in pieces: the same bytes come out, never more than the bounds allow. The
 * first byte chooses the coding.
 */
#include "naive.h"
#include "vault/content.h"

enum { KEPT_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
	int r;
	bool whole;
	uint64_t out;
	uint8_t kept[KEPT_MAX];
};

static void decode(enum content_coding coding, struct span in, bool cut, struct result *ret)
{
	struct content *c;
	uint8_t room[1000];
	size_t size = cut ? 61 : sizeof(room);

	ret->r = 0;
	ret->out = 0;
	must(content_new(coding, &c, NULL) == 0);
	for (size_t at = 0; at < in.len && ret->r == 0;) {
		size_t n = cut ? naive_piece(in, at, 5) : in.len;
		struct span piece = span_of(in.at + at, n);

		at += n;
		for (;;) {
			size_t left = piece.len;
			size_t len = 0;

			ret->r = content_step(c, &piece, room, size, &len);
			must(len <= size && piece.len <= left);
			if (ret->r < 0 || (len == 0 && piece.len == left))
				break;
			for (size_t i = 0; i < len; i++, ret->out++)
				if (ret->out < KEPT_MAX)
					ret->kept[ret->out] = room[i];
			must(ret->out <= at * CONTENT_GROWTH_MAX + CONTENT_GROWTH_FREE);
		}
	}
	ret->whole = ret->r == 0 && content_whole(c);
	content_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct result a, b;
	enum content_coding coding;

	if (size < 1 || size > 20000)
		return 0;
	coding = CONTENT_GZIP + data[0] % 4;
	decode(coding, span_of(data + 1, size - 1), false, &a);
	decode(coding, span_of(data + 1, size - 1), true, &b);
	must((a.r < 0) == (b.r < 0) && a.whole == b.whole);
	if (a.r == 0) {
		must(a.out == b.out);
		must(memcmp(a.kept, b.kept, a.out < KEPT_MAX ? a.out : KEPT_MAX) == 0);
	}
	return 0;
}
