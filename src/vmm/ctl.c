#include "vmm/ctl.h"

#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum {
	TYPE_COUNT = CTL_GATE_LOST + 1,
	ERRNO_MAX = 4095, /* the kernel's MAX_ERRNO */
	HEAD_BYTES = CTL_BYTES - CTL_TEXT_MAX,
};
_Static_assert((int)HEAD_BYTES == 16 + 8 * (int)CTL_STAT_COUNT, "the fields fill a packet");

/* Which fields a type has; the others are 0. */
static const struct rule {
	bool known;
	bool seq;
	bool code;
	bool text;
	uint8_t a_count;
} rules[TYPE_COUNT] = {
	/* clang-format off: a table is read by its columns */
	/*               known seq    code   text   a_count */
	[CTL_RESUME] = { true, true, false, false, 0 },
	[CTL_PAUSE] = { true, true, false, false, 0 },
	[CTL_SAVE] = { true, true, false, false, 0 },
	[CTL_STATS] = { true, true, false, false, 0 },
	[CTL_BALLOON] = { true, true, false, false, 1 },
	[CTL_QUIT] = { true, true, false, false, 0 },
	[CTL_TOUCHED] = { true, true, false, false, 0 },
	[CTL_DONE] = { true, true, true, true, CTL_STAT_COUNT },
	[CTL_ENDED] = { true, false, false, true, 1 },
	[CTL_GATE_LOST] = { true, false, false, true, 0 },
	/* clang-format on */
};

void ctl_set_text(struct ctl *c, const char *text)
{
	size_t len = strnlen(text, CTL_TEXT_MAX);

	memset(c->text, 0, sizeof(c->text));
	memcpy(c->text, text, len);
	c->text_len = (uint16_t)len;
}

static bool fields_legal(const struct ctl *c)
{
	const struct rule *r = c->type < TYPE_COUNT ? &rules[c->type] : &rules[0];

	if (!r->known || (c->seq && !r->seq) || (c->code && !r->code) || (c->text_len && !r->text))
		return false;
	for (size_t i = r->a_count; i < CTL_STAT_COUNT; i++)
		if (c->a[i])
			return false;
	return c->code <= 0 && c->code >= -ERRNO_MAX && c->text_len <= CTL_TEXT_MAX;
}

void ctl_put(const struct ctl *c, uint8_t ret[CTL_BYTES])
{
	struct buf b;

	assert(fields_legal(c));
	memset(ret, 0, CTL_BYTES);
	buf_init(&b, ret, CTL_BYTES);
	buf_put_u8(&b, c->type);
	buf_put_u8(&b, CTL_VERSION);
	buf_put_le16(&b, c->text_len);
	buf_put_le32(&b, c->seq);
	buf_put_le32(&b, (uint32_t)c->code);
	buf_put_le32(&b, 0);
	for (size_t i = 0; i < CTL_STAT_COUNT; i++)
		buf_put_le64(&b, c->a[i]);
	buf_put(&b, c->text, c->text_len);
	assert(buf_ok(&b));
}

static bool take_head(struct span *in, struct ctl *ret)
{
	uint8_t version;
	uint32_t code;
	uint32_t zero;

	if (!take_u8(in, &ret->type) || !take_u8(in, &version) || !take_le16(in, &ret->text_len) ||
	    !take_le32(in, &ret->seq) || !take_le32(in, &code) || !take_le32(in, &zero))
		return false;
	for (size_t i = 0; i < CTL_STAT_COUNT; i++)
		if (!take_le64(in, &ret->a[i]))
			return false;
	ret->code = (int32_t)code;
	return version == CTL_VERSION && zero == 0;
}

/* No NUL within the text, nothing but NULs behind it. */
static bool text_legal(const struct ctl *c)
{
	for (size_t i = 0; i < CTL_TEXT_MAX; i++)
		if ((c->text[i] != '\0') != (i < c->text_len))
			return false;
	return true;
}

int ctl_parse(struct span in, struct ctl *ret)
{
	struct ctl got = { 0 };

	if (in.len != CTL_BYTES || !take_head(&in, &got) ||
	    !take_bytes(&in, got.text, sizeof(got.text)))
		return -EBADMSG;
	if (!fields_legal(&got) || !text_legal(&got))
		return -EBADMSG;
	*ret = got;
	return 0;
}
