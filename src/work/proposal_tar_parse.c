#include "work/proposal_parse.h"

#include <errno.h>
#include <string.h>

/* Where things are in a header block (POSIX.1-2017, pax, "ustar Interchange Format"). */
enum {
	NAME_OFF = 0,
	NAME_BYTES = 100,
	MODE_OFF = 100,
	MODE_DIGITS = 7,
	SIZE_OFF = 124,
	SIZE_DIGITS = 11,
	SUM_OFF = 148,
	SUM_DIGITS = 6,
	TYPE_OFF = 156,
	LINK_OFF = 157,
	LINK_BYTES = 100,
	MODE_MAX = 07777,
};

/* What is the same in every header that our writer makes. */
struct constant {
	uint16_t off;
	uint16_t len;
	const char *text; /* followed by zeros */
	enum proposal_bad bad;
};

static const struct constant constants[] = {
	{ 257, 8,
	  "ustar\0"
	  "00",
	  PROPOSAL_BAD_MAGIC },
	{ 345, 155, "", PROPOSAL_BAD_NAME_FIELD },            /* prefix */
	{ 108, 8, "0000000", PROPOSAL_BAD_OTHER_FIELD },      /* uid */
	{ 116, 8, "0000000", PROPOSAL_BAD_OTHER_FIELD },      /* gid */
	{ 136, 12, "00000000000", PROPOSAL_BAD_OTHER_FIELD }, /* mtime */
	{ 265, 80, "", PROPOSAL_BAD_OTHER_FIELD },            /* uname, gname, devmajor, devminor */
	{ 500, 12, "", PROPOSAL_BAD_OTHER_FIELD },
};

bool proposal_all_zero(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.at[i] != 0)
			return false;
	return true;
}

/* Exactly so many octal digits, then a NUL. */
static bool octal(const uint8_t *at, size_t digits, uint64_t *ret)
{
	uint64_t got = 0;

	for (size_t i = 0; i < digits; i++) {
		if (at[i] < '0' || at[i] > '7')
			return false;
		got = got << 3 | (uint64_t)(at[i] - '0');
	}
	if (at[digits] != 0)
		return false;
	*ret = got;
	return true;
}

static bool sum_is_right(const uint8_t *at)
{
	uint64_t said;
	uint64_t sum = 0;

	for (unsigned i = 0; i < PROPOSAL_BLOCK_BYTES; i++)
		sum += i >= SUM_OFF && i < SUM_OFF + 8 ? ' ' : at[i];
	return octal(at + SUM_OFF, SUM_DIGITS, &said) && at[SUM_OFF + 7] == ' ' && said == sum;
}

/* The field holds the text, cut to its length, and zeros after it. */
static bool field_is(const uint8_t *at, size_t len, struct span text)
{
	size_t n = text.len < len ? text.len : len;

	return (n == 0 || memcmp(at, text.at, n) == 0) &&
	       proposal_all_zero(span_of(at + n, len - n));
}

static bool constant_is_right(const uint8_t *at, const struct constant *c)
{
	size_t n = c->bad == PROPOSAL_BAD_MAGIC ? c->len : strlen(c->text);

	return field_is(at + c->off, c->len, span_of(c->text, n));
}

static int bad(enum proposal_bad why, enum proposal_bad *ret)
{
	*ret = why;
	return -EBADMSG;
}

int proposal_parse_tar(struct span block, struct proposal_tar *ret, enum proposal_bad *ret_bad)
{
	const uint8_t *at = block.at;
	uint64_t mode;
	uint64_t size;

	if (block.len != PROPOSAL_BLOCK_BYTES || !sum_is_right(at))
		return bad(PROPOSAL_BAD_CHECKSUM, ret_bad);
	if (!memchr("x025", at[TYPE_OFF], 4))
		return bad(PROPOSAL_BAD_TYPE, ret_bad);
	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
		if (!constant_is_right(at, &constants[i]))
			return bad(constants[i].bad, ret_bad);
	if (!octal(at + MODE_OFF, MODE_DIGITS, &mode) || mode > MODE_MAX)
		return bad(PROPOSAL_BAD_MODE_FIELD, ret_bad);
	if (!octal(at + SIZE_OFF, SIZE_DIGITS, &size))
		return bad(PROPOSAL_BAD_SIZE_FIELD, ret_bad);
	*ret = (struct proposal_tar){ .type = at[TYPE_OFF], .mode = (uint16_t)mode, .size = size };
	return 0;
}

bool proposal_tar_name_is(struct span block, struct span path)
{
	return field_is(block.at + NAME_OFF, NAME_BYTES, path);
}

bool proposal_tar_link_is(struct span block, struct span target)
{
	return field_is(block.at + LINK_OFF, LINK_BYTES, target);
}
