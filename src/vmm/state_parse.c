#include "vmm/state.h"

#include <errno.h>
#include <string.h>

static bool take_padding(struct span *in, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		uint8_t zero;

		if (!take_u8(in, &zero) || zero != 0)
			return false;
	}
	return true;
}

int state_parse_section(struct span *in, struct state_section *ret)
{
	struct state_section got = { 0 };
	struct span s = *in;
	uint32_t bytes;

	if (!take_le32(&s, &got.type) || !take_le32(&s, &got.flags) ||
	    !take_le32(&s, &got.instance) || !take_le32(&s, &bytes))
		return -EBADMSG;
	if (got.type == 0 || (got.flags & ~(uint32_t)STATE_CRITICAL) != 0)
		return -EBADMSG;
	if (!take_span(&s, bytes, &got.payload) || !take_padding(&s, -(size_t)bytes % 8))
		return -EBADMSG;
	if (got.type == STATE_END && (bytes != 0 || got.instance != 0 || s.len != 0))
		return -EBADMSG;
	*ret = got;
	*in = s;
	return 0;
}

/* Was there, in front of `end`, one like it? */
static bool seen(struct span sections, const uint8_t *end, const struct state_section *like)
{
	struct state_section s;

	while (sections.at != end && state_parse_section(&sections, &s) == 0)
		if (s.type == like->type && s.instance == like->instance)
			return true;
	return false;
}

static int check_sections(struct span sections, uint32_t count)
{
	struct span at = sections;
	struct state_section s;

	for (uint32_t n = 0; n <= count; n++) {
		const uint8_t *here = at.at;

		if (state_parse_section(&at, &s) < 0 || (s.type == STATE_END) != (n == count))
			return -EBADMSG;
		if (s.type >= STATE_TYPE_COUNT && s.flags & STATE_CRITICAL)
			return -ENOTSUP;
		if (seen(sections, here, &s))
			return -EBADMSG;
	}
	return 0;
}

int state_parse_header(struct span *in, uint32_t *ret_sections)
{
	static const uint8_t magic[8] = { 'B', 'E', 'R', 'M', 'S', 'N', 'A', 'P' };
	struct span s = *in;
	uint8_t got_magic[sizeof(magic)];
	uint16_t major;
	uint16_t minor;
	uint32_t arch;
	uint32_t flags;
	uint32_t count;
	uint64_t total;
	int r;

	if (!take_bytes(&s, got_magic, sizeof(got_magic)) || memcmp(got_magic, magic, 8) != 0)
		return -EBADMSG;
	if (!take_le16(&s, &major) || !take_le16(&s, &minor))
		return -EBADMSG;
	if (major != STATE_MAJOR)
		return -ENOTSUP; /* nothing behind this need mean what it means to us */
	if (!take_le32(&s, &arch) || !take_le32(&s, &flags) || !take_le32(&s, &count) ||
	    !take_le64(&s, &total))
		return -EBADMSG;
	if (flags != 0 || count > STATE_SECTIONS_MAX || total != in->len || total > STATE_BYTES_MAX)
		return -EBADMSG;
	if (arch != STATE_ARCH_X86_64)
		return -EXDEV;
	r = check_sections(s, count);
	if (r < 0)
		return r;
	*ret_sections = count;
	*in = s;
	return 0;
}
