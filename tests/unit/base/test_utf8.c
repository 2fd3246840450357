
#include "base/buf.h"
#include "base/utf8.h"
#include "guardpage.h"
#include "test.h"

#include <string.h>

/* Every character there is, written by hand and read back; and nothing else is one. */
static size_t put(uint32_t c, uint8_t *at)
{
	if (c < 0x80) {
		at[0] = (uint8_t)c;
		return 1;
	}
	if (c < 0x800) {
		at[0] = (uint8_t)(0xc0 | c >> 6);
		at[1] = (uint8_t)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		at[0] = (uint8_t)(0xe0 | c >> 12);
		at[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
		at[2] = (uint8_t)(0x80 | (c & 0x3f));
		return 3;
	}
	at[0] = (uint8_t)(0xf0 | c >> 18);
	at[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
	at[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
	at[3] = (uint8_t)(0x80 | (c & 0x3f));
	return 4;
}

TEST(every_character_is_read_as_it_was_written)
{
	for (uint32_t c = 0; c < 0x120000; c++) {
		bool there = c < 0x110000 && (c < 0xd800 || c > 0xdfff);
		uint8_t at[4];
		size_t len = put(c, at);
		uint32_t got = 0;

		CHECK_EQ(utf8_front(span_of(at, len), &got), there ? len : 0);
		if (there)
			CHECK_EQ(got, c);
	}
}

TEST(nothing_is_read_behind_the_end)
{
	uint8_t at[4];

	CHECK_EQ(utf8_front(span_of(NULL, 0), NULL), 0);
	for (uint32_t c = 0x80; c < 0x110000; c += 0x333) {
		size_t len = put(c, at);

		for (size_t cut = 1; cut < len; cut++)
			CHECK_EQ(utf8_front(guard_span((const char *)at, cut), NULL), 0);
	}
}

/* Terminal injection, Z2: what shows nothing or turns the line around is shown escaped. */
TEST(z2_bidi_and_zero_width_characters_are_escaped)
{
	static const uint32_t deceive[] = {
		0x00,   0x1b,   0x7f,   0x80,   0x9b,    0xad,    0x61c,  0x200b, 0x200d,
		0x200e, 0x202a, 0x202e, 0x2028, 0x2060,  0x2066,  0x2069, 0x206f, 0xfeff,
		0xfe0f, 0xfff9, 0x3164, 0x115f, 0xe0001, 0xe007f, 0x34f,  0x180e, 0x1d173,
	};
	static const uint32_t plain[] = { ' ',   'a',   0xa0,   0xe9,   0x430,
		                          0x5d0, 0x627, 0x4e2d, 0x2014, 0x1f422 };
	uint8_t room[32];
	uint8_t at[4];
	struct buf b;

	for (size_t i = 0; i < sizeof(deceive) / sizeof(deceive[0]); i++) {
		size_t len = put(deceive[i], at);

		CHECK(utf8_deceives(deceive[i]));
		buf_init(&b, room, sizeof(room));
		buf_put_escaped(&b, span_of(at, len));
		CHECK_EQ(b.len, 4 * len);
		for (size_t k = 0; k < b.len; k++)
			CHECK(room[k] > 0x20 && room[k] < 0x7f);
	}
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		size_t len = put(plain[i], at);

		CHECK(!utf8_deceives(plain[i]));
		buf_init(&b, room, sizeof(room));
		buf_put_escaped(&b, span_of(at, len));
		CHECK_MEM(buf_span(&b), span_of(at, len));
	}
}

TEST_MAIN()
