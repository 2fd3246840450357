/*
 * Escaping of outside text. For any bytes and any room: nothing is written past the room, an
 * escaped text holds no control byte and is valid UTF-8, and JSON is one string that ends where
 * it should. The first input byte chooses the room.
 */
#include "base/buf.h"

#include <assert.h>
#include <string.h>

enum { ROOM_MAX = 4096, GUARD_BYTES = 16, GROWTH_MAX = 6 /* \u00ff of one byte */ };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef void put_fn(struct buf *b, struct span s);

/* An independent, slower reading of UTF-8: decode, then look at the code point. */
static size_t decode(struct span s, uint32_t *ret)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint8_t c = s.at[0];
	size_t n = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
	uint32_t v = n == 1 ? c : c & (0x7fU >> n);

	if (n == 0 || s.len < n)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if (s.at[i] >> 6 != 2)
			return 0;
		v = v << 6 | (s.at[i] & 0x3f);
	}
	if (v < least[n] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
		return 0;
	*ret = v;
	return n;
}

static void check_clean(struct span s)
{
	while (s.len > 0) {
		uint32_t v = 0;
		size_t n = decode(s, &v);

		assert(n > 0);
		assert(v >= 0x20 && v != 0x7f && (v < 0x80 || v >= 0xa0));
		assert((v < 0x200b || v > 0x200f) && (v < 0x2028 || v > 0x202e) && v != 0xfeff);
		s.at += n;
		s.len -= n;
	}
}

static void check_json(struct span s)
{
	assert(s.len >= 2 && s.at[0] == '"' && s.at[s.len - 1] == '"');
	for (size_t i = 1; i < s.len - 1; i++) {
		assert(s.at[i] >= 0x20 && s.at[i] != '"');
		if (s.at[i] == '\\') {
			i++; /* whatever is escaped, a quote included, is not the end */
			assert(i < s.len - 1 && memchr("\"\\ntu", s.at[i], 5));
		}
	}
}

/* Returns what was put, empty if it did not fit; what lies behind the room is untouched. */
static struct span put(put_fn *f, struct span in, uint8_t *room, size_t size)
{
	struct buf b;

	memset(room, 0xa5, size + GUARD_BYTES);
	buf_init(&b, room, size);
	f(&b, in);
	assert(b.len <= size);
	for (size_t i = size; i < size + GUARD_BYTES; i++)
		assert(room[i] == 0xa5);
	assert(buf_ok(&b) || size <= in.len * GROWTH_MAX + 2);
	return buf_ok(&b) ? buf_span(&b) : span_of(NULL, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t room[ROOM_MAX + GUARD_BYTES];
	struct span in;
	struct span got;
	size_t room_bytes;

	if (size < 1 || size > 512)
		return 0;
	room_bytes = data[0] == 0xff ? ROOM_MAX : data[0];
	in = span_of(data + 1, size - 1);
	check_clean(put(buf_put_escaped, in, room, room_bytes));
	got = put(buf_put_json_str, in, room, room_bytes);
	if (got.len > 0)
		check_json(got);
	return 0;
}
