/*
 * A journal's records, head and marks, of any bytes. What is accepted keeps the contract (paths of
 * the one form, NUL-ended where they lie, enums in range) and is written again as the same bytes;
 * what is refused leaves the output alone. The input's first byte chooses the part.
 */
#include "work/journal.h"

#include <assert.h>
#include <string.h>

enum { ROOM = 2 * JOURNAL_RECORD_MAX };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_step(const struct journal_step *s, struct span bytes)
{
	static uint8_t room[ROOM];
	struct buf b;

	assert(s->type > 0 && s->type < STEP_TYPES);
	assert(s->was.kind <= APPLY_OTHER && s->now.kind <= APPLY_OTHER);
	assert(*s->path && wpath_parse(span_str(s->path), NULL) == 0);
	assert(wpath_parse(span_str(s->other), NULL) == 0);
	buf_init(&b, room, sizeof(room));
	journal_put_step(&b, s);
	assert(buf_ok(&b) && span_equal(buf_span(&b), bytes));
}

static void steps(struct span in)
{
	for (;;) {
		struct journal_step s;
		struct span before = in;
		bool end = false;

		memset(&s, 0xa5, sizeof(s));
		if (journal_parse_step(&in, &s, &end) < 0) {
			assert(in.len == before.len && s.slot == 0xa5a5a5a5);
			return;
		}
		assert(in.len < before.len);
		if (!end)
			check_step(&s, span_of(before.at, before.len - in.len));
	}
}

/* The same with the checksums put right, so that what is behind them is reached. */
static void mended(struct span in)
{
	static uint8_t room[ROOM];
	struct span body;
	uint8_t sum[4];
	struct buf b;

	if (in.len == 0 || in.len > JOURNAL_RECORD_MAX)
		return;
	buf_init(&b, sum, sizeof(sum));
	buf_put_le32(&b, journal_crc(0, in));
	body = span_of(sum, sizeof(sum));
	buf_init(&b, room, sizeof(room));
	buf_put_le32(&b, (uint32_t)in.len);
	buf_put_span(&b, body);
	buf_put_span(&b, in);
	steps(buf_span(&b));
}

static void head(struct span in)
{
	static uint8_t room[JOURNAL_HEAD_BYTES];
	struct journal_head h;
	struct buf b;

	memset(room, 0, sizeof(room));
	memcpy(room, "bermjnl1", 8);
	memcpy(room + 8, in.at, in.len < sizeof(room) - 12 ? in.len : sizeof(room) - 12);
	buf_init(&b, room + sizeof(room) - 4, 4);
	buf_put_le32(&b, journal_crc(0, span_of(room, sizeof(room) - 4)));
	if (journal_parse_head(span_of(room, sizeof(room)), &h) == 0)
		assert(h.generation != 0 && strlen(h.session) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data + 1, size > 0 ? size - 1 : 0);
	struct journal_sum sum;

	if (size == 0)
		return 0;
	switch (data[0] % 4) {
	case 0:
		steps(in);
		break;
	case 1:
		mended(in);
		break;
	case 2:
		head(in);
		break;
	default:
		for (int m = 0; m < JOURNAL_MARKS; m++)
			(void)!journal_parse_mark(in, (enum journal_mark)m, &sum);
	}
	return 0;
}
