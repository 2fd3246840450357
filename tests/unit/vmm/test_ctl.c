#include "guardpage.h"
#include "test.h"
#include "vmm/ctl.h"

#include <errno.h>
#include <string.h>

static struct ctl done(void)
{
	struct ctl c = { .type = CTL_DONE, .seq = 0x01020304, .code = -12 };

	for (size_t i = 0; i < CTL_STAT_COUNT; i++)
		c.a[i] = UINT64_C(0x1122334455667788) + i;
	ctl_set_text(&c, "no memory");
	return c;
}

static void check_same(const struct ctl *a, const struct ctl *b)
{
	CHECK_EQ(a->type, b->type);
	CHECK_EQ(a->seq, b->seq);
	CHECK_EQ(a->code, b->code);
	CHECK_MEM(span_of(a->a, sizeof(a->a)), span_of(b->a, sizeof(b->a)));
	CHECK_MEM(span_of(a->text, a->text_len), span_of(b->text, b->text_len));
}

TEST(what_is_put_is_read)
{
	static const uint8_t head[] = { 16, 1, 9, 0, 4, 3, 2, 1, 0xf4, 0xff, 0xff, 0xff };
	struct ctl c = done();
	struct ctl got;
	uint8_t raw[CTL_BYTES];

	ctl_put(&c, raw);
	CHECK_MEM(span_of(raw, sizeof(head)), span_of(head, sizeof(head)));
	CHECK_EQ(ctl_parse(guard_span(raw, sizeof(raw)), &got), 0);
	check_same(&c, &got);
}

TEST(every_type_goes_through)
{
	static const uint8_t types[] = { CTL_RESUME,  CTL_PAUSE, CTL_SAVE, CTL_STATS,
		                         CTL_BALLOON, CTL_QUIT,  CTL_DONE, CTL_ENDED };

	for (size_t i = 0; i < sizeof(types); i++) {
		struct ctl c = { .type = types[i] };
		struct ctl got;
		uint8_t raw[CTL_BYTES];

		ctl_put(&c, raw);
		CHECK_EQ(ctl_parse(span_of(raw, sizeof(raw)), &got), 0);
		check_same(&c, &got);
	}
}

TEST(every_other_length_is_refused)
{
	uint8_t raw[CTL_BYTES + 1] = { 0 };
	struct ctl c = done();
	struct ctl got;
	struct ctl before;

	ctl_put(&c, raw);
	memset(&got, 0xa5, sizeof(got));
	before = got;
	for (size_t n = 0; n < CTL_BYTES; n++)
		CHECK_EQ(ctl_parse(guard_span(raw, n), &got), -EBADMSG);
	CHECK_EQ(ctl_parse(guard_span(raw, sizeof(raw)), &got), -EBADMSG);
	CHECK_EQ(memcmp(&got, &before, sizeof(got)), 0);
}

TEST(lies_are_refused)
{
	static const struct {
		uint8_t type;
		size_t at;
		uint8_t byte;
	} wrong[] = {
		{ CTL_DONE, 0, 0 },   /* no type */
		{ CTL_DONE, 0, 7 },   /* a gap between them */
		{ CTL_DONE, 0, 18 },  /* past them */
		{ CTL_DONE, 0, 255 }, /* far past them */
		{ CTL_DONE, 1, 2 },   /* version */
		{ CTL_DONE, 2, 8 },   /* shorter than its text */
		{ CTL_DONE, 2, 10 },  /* longer than it */
		{ CTL_DONE, 2, 193 }, /* longer than there is room */
		{ CTL_DONE, 3, 255 }, /* the same */
		{ CTL_DONE, 8, 1 },   /* some 0xffffff01 that is under -4095 in no way: see below */
		{ CTL_DONE, 11, 0x7f },                       /* positive */
		{ CTL_DONE, 11, 0x80 },                       /* far below */
		{ CTL_DONE, 12, 1 },                          /* the gap */
		{ CTL_DONE, 64, 0 },                          /* NUL in the text */
		{ CTL_DONE, 255, 'x' },                       /* behind it */
		{ CTL_RESUME, 16, 1 },                        /* arguments it does not have */
		{ CTL_RESUME, 8, 0xff },                      /* a code */
		{ CTL_BALLOON, 24, 1 },  { CTL_ENDED, 4, 1 }, /* seq: nobody asked */
		{ CTL_ENDED, 24, 1 },
	};
	struct ctl got;
	struct ctl before;

	memset(&got, 0xa5, sizeof(got));
	before = got;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct ctl c = { .type = wrong[i].type };
		uint8_t raw[CTL_BYTES];

		if (c.type == CTL_DONE)
			c = done();
		ctl_put(&c, raw);
		raw[wrong[i].at] = wrong[i].byte;
		if (wrong[i].type == CTL_DONE && wrong[i].at == 8)
			raw[9] = 0xef; /* 0xffffef01: -4351 */
		if (ctl_parse(span_of(raw, sizeof(raw)), &got) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "took lie %zu", i);
	}
	CHECK_EQ(memcmp(&got, &before, sizeof(got)), 0);
}

TEST(long_text_is_cut)
{
	char text[CTL_TEXT_MAX + 20];
	struct ctl c = { .type = CTL_ENDED };
	struct ctl got;
	uint8_t raw[CTL_BYTES];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	ctl_set_text(&c, text);
	CHECK_EQ(c.text_len, CTL_TEXT_MAX);
	ctl_put(&c, raw);
	CHECK_EQ(ctl_parse(guard_span(raw, sizeof(raw)), &got), 0);
	check_same(&c, &got);
	ctl_set_text(&c, "a");
	CHECK_MEM(span_of(c.text, 3), span_of("a\0", 3));
}

TEST_MAIN()
