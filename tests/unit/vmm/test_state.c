#include "guardpage.h"
#include "test.h"
#include "vmm/state.h"

#include <errno.h>
#include <string.h>

enum { FILE_MAX = 1024 };

struct file {
	uint8_t bytes[FILE_MAX];
	struct buf b;
};

static void put_section(struct buf *b, uint32_t type, uint32_t flags, uint32_t instance,
                        const char *text)
{
	size_t at = state_begin(b, type, flags, instance);

	buf_put_str(b, text);
	state_end(b, at);
}

/* Header 32; HOST at 32 with 5 + 3; VCPU 0 at 56 with 8; an unknown at 80 with 0; END at 96. */
enum { AT_HOST = 32, AT_VCPU = 56, AT_UNKNOWN = 80, AT_END = 96, SAMPLE_BYTES = 112 };

static void put_sample(struct file *f)
{
	buf_init(&f->b, f->bytes, sizeof(f->bytes));
	state_put_header(&f->b);
	put_section(&f->b, STATE_HOST, STATE_CRITICAL, 0, "hello");
	put_section(&f->b, STATE_VCPU, STATE_CRITICAL, 3, "12345678");
	put_section(&f->b, 77, 0, 9, "");
	CHECK(state_finish(&f->b));
	CHECK_EQ(f->b.len, SAMPLE_BYTES);
}

static void check_section(struct span *in, uint32_t type, uint32_t flags, uint32_t instance,
                          const char *text)
{
	struct state_section s;

	CHECK_EQ(state_parse_section(in, &s), 0);
	CHECK_EQ(s.type, type);
	CHECK_EQ(s.flags, flags);
	CHECK_EQ(s.instance, instance);
	CHECK_SPAN(s.payload, text);
}

TEST(what_is_put_is_read)
{
	static const uint8_t head[STATE_HEADER_BYTES] = {
		'B', 'E', 'R', 'M', 'S', 'N', 'A', 'P', 1,   0, 0, 0, 1, 0, 0, 0,
		0,   0,   0,   0,   3,   0,   0,   0,   112, 0, 0, 0, 0, 0, 0, 0,
	};
	struct file f;
	struct span in;
	uint32_t sections = 0;

	put_sample(&f);
	CHECK_MEM(span_of(f.bytes, sizeof(head)), span_of(head, sizeof(head)));
	in = guard_span(f.bytes, f.b.len);
	CHECK_EQ(state_parse_header(&in, &sections), 0);
	CHECK_EQ(sections, 3);
	check_section(&in, STATE_HOST, STATE_CRITICAL, 0, "hello");
	check_section(&in, STATE_VCPU, STATE_CRITICAL, 3, "12345678");
	check_section(&in, 77, 0, 9, "");
	check_section(&in, STATE_END, STATE_CRITICAL, 0, "");
	CHECK_EQ(in.len, 0);
}

TEST(every_prefix_is_refused)
{
	struct file f;

	put_sample(&f);
	for (size_t n = 0; n < f.b.len; n++) {
		struct span in = guard_span(f.bytes, n);
		struct span before = in;
		uint32_t sections = 0xa5a5a5a5;

		CHECK_EQ(state_parse_header(&in, &sections), -EBADMSG);
		CHECK_EQ(sections, 0xa5a5a5a5);
		CHECK(in.at == before.at && in.len == before.len);
	}
}

TEST(every_prefix_of_a_section_is_refused)
{
	struct file f;

	put_sample(&f);
	for (size_t n = 0; n < AT_VCPU - AT_HOST; n++) {
		struct span in = guard_span(f.bytes + AT_HOST, n);
		struct state_section s;
		struct state_section before;

		memset(&s, 0xa5, sizeof(s));
		before = s;
		CHECK_EQ(state_parse_section(&in, &s), -EBADMSG);
		CHECK_EQ(memcmp(&s, &before, sizeof(s)), 0);
		CHECK_EQ(in.len, n);
	}
}

TEST(damage_is_refused)
{
	static const struct {
		size_t at;
		uint8_t byte;
		int want;
	} wrong[] = {
		{ 0, 'b', -EBADMSG },             /* magic */
		{ 7, 'Q', -EBADMSG },             /* magic */
		{ 8, 2, -ENOTSUP },               /* major */
		{ 8, 0, -ENOTSUP },               /* major */
		{ 10, 9, 0 },                     /* a later minor */
		{ 12, 2, -EXDEV },                /* architecture */
		{ 16, 1, -EBADMSG },              /* flags */
		{ 20, 2, -EBADMSG },              /* fewer sections than there are */
		{ 20, 4, -EBADMSG },              /* more */
		{ 20, 0, -EBADMSG },              /* none */
		{ 20, 129, -EBADMSG },            /* too many */
		{ 23, 0xff, -EBADMSG },           /* far too many */
		{ 24, 111, -EBADMSG },            /* total */
		{ 31, 1, -EBADMSG },              /* total */
		{ AT_HOST, 0, -EBADMSG },         /* no type */
		{ AT_HOST + 4, 3, -EBADMSG },     /* a flag nobody knows */
		{ AT_HOST + 12, 6, -EBADMSG },    /* the padding is payload, then 2 bytes */
		{ AT_HOST + 12, 9, -EBADMSG },    /* into the next section */
		{ AT_HOST + 15, 0xff, -EBADMSG }, /* past the end */
		{ AT_HOST + 23, 1, -EBADMSG },    /* padding */
		{ AT_HOST, STATE_END, -EBADMSG }, /* an end in the midst */
		{ AT_UNKNOWN + 4, 1, -ENOTSUP },  /* unknown and critical */
		{ AT_END, STATE_WSET, -EBADMSG }, /* no end */
		{ AT_END + 8, 1, -EBADMSG },      /* an end with a number */
		{ AT_END + 12, 8, -EBADMSG },     /* an end with a payload */
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct file f;
		struct span in;
		uint32_t sections;
		int r;

		put_sample(&f);
		f.bytes[wrong[i].at] = wrong[i].byte;
		if (wrong[i].at == AT_HOST + 12 && wrong[i].byte == 6)
			f.bytes[AT_HOST + 16 + 7] = 1;
		in = guard_span(f.bytes, f.b.len);
		r = state_parse_header(&in, &sections);
		if (r != wrong[i].want)
			test_fail(__FILE__, __LINE__, "damage %zu: %d", i, r);
	}
}

TEST(nothing_follows_the_end)
{
	struct file f;
	struct span in;
	uint32_t sections;

	put_sample(&f);
	f.bytes[24] += 8; /* and the total counts it */
	in = span_of(f.bytes, f.b.len + 8);
	CHECK_EQ(state_parse_header(&in, &sections), -EBADMSG);
}

TEST(two_of_one_kind_are_refused)
{
	struct file f;
	struct span in;
	uint32_t sections;

	for (uint32_t twin = 0; twin < 2; twin++) {
		buf_init(&f.b, f.bytes, sizeof(f.bytes));
		state_put_header(&f.b);
		put_section(&f.b, STATE_VCPU, STATE_CRITICAL, 0, "a");
		put_section(&f.b, STATE_DEVICE, STATE_CRITICAL, 0, "a");
		put_section(&f.b, STATE_VCPU, STATE_CRITICAL, 1 - twin, "b");
		CHECK(state_finish(&f.b));
		in = buf_span(&f.b);
		CHECK_EQ(state_parse_header(&in, &sections), twin ? -EBADMSG : 0);
	}
}

TEST(what_does_not_fit_is_not_finished)
{
	struct file whole;

	put_sample(&whole);
	for (size_t room = 0; room < SAMPLE_BYTES; room++) {
		struct file f;
		uint8_t *at = guard_copy(whole.bytes, room);

		buf_init(&f.b, at, room);
		state_put_header(&f.b);
		put_section(&f.b, STATE_HOST, STATE_CRITICAL, 0, "hello");
		put_section(&f.b, STATE_VCPU, STATE_CRITICAL, 3, "12345678");
		put_section(&f.b, 77, 0, 9, "");
		CHECK(!state_finish(&f.b));
		guard_free(at, room);
	}
}

TEST(the_number_of_sections_is_bounded)
{
	static uint8_t bytes[STATE_HEADER_BYTES + (STATE_SECTIONS_MAX + 2) * STATE_SECTION_BYTES];

	for (uint32_t extra = 0; extra < 2; extra++) {
		struct buf b;
		struct span in;
		uint32_t sections;

		buf_init(&b, bytes, sizeof(bytes));
		state_put_header(&b);
		for (uint32_t i = 0; i < STATE_SECTIONS_MAX + extra; i++)
			put_section(&b, STATE_DEVICE, 0, i, "");
		CHECK_EQ(state_finish(&b), extra == 0);
		in = buf_span(&b);
		CHECK_EQ(state_parse_header(&in, &sections), extra ? -EBADMSG : 0);
	}
}

TEST_MAIN()
