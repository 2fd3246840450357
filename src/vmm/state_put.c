#include "vmm/state.h"

#include <assert.h>
#include <string.h>

enum {
	AT_COUNT = 20, /* of the header: section_count */
	AT_TOTAL = 24, /* total_bytes */
	AT_BYTES = 12, /* of a section: bytes */
};

static const uint8_t magic[8] = { 'B', 'E', 'R', 'M', 'S', 'N', 'A', 'P' };

/* Number of so many bytes over what stands there. */
static void patch(struct buf *b, size_t at, uint64_t v, size_t bytes)
{
	assert(at <= b->len && bytes <= b->len - at);
	for (size_t i = 0; i < bytes; i++)
		b->at[at + i] = (uint8_t)(v >> 8 * i);
}

/* The count is kept where it belongs, in the header. */
static uint32_t section_count(const struct buf *b)
{
	struct span s = span_of(b->at + AT_COUNT, 4);
	uint32_t n = 0;
	bool ok = take_le32(&s, &n);

	assert(ok);
	return n;
}

void state_put_header(struct buf *b)
{
	assert(b->len == 0);
	buf_put(b, magic, sizeof(magic));
	buf_put_le16(b, STATE_MAJOR);
	buf_put_le16(b, STATE_MINOR);
	buf_put_le32(b, STATE_ARCH_X86_64);
	buf_put_le32(b, 0);
	buf_put_le32(b, 0);
	buf_put_le64(b, 0);
}

size_t state_begin(struct buf *b, uint32_t type, uint32_t flags, uint32_t instance)
{
	size_t begun = b->len;

	buf_put_le32(b, type);
	buf_put_le32(b, flags);
	buf_put_le32(b, instance);
	buf_put_le32(b, 0);
	return begun;
}

void state_end(struct buf *b, size_t begun)
{
	static const uint8_t zeros[8];
	size_t bytes;

	if (!buf_ok(b))
		return;
	bytes = b->len - begun - STATE_SECTION_BYTES;
	if (bytes > STATE_BYTES_MAX) {
		b->over = true;
		return;
	}
	buf_put(b, zeros, -bytes % 8);
	patch(b, begun + AT_BYTES, bytes, 4);
	patch(b, AT_COUNT, section_count(b) + 1, 4);
}

bool state_finish(struct buf *b)
{
	uint32_t sections;

	if (!buf_ok(b))
		return false;
	sections = section_count(b);
	state_end(b, state_begin(b, STATE_END, STATE_CRITICAL, 0));
	if (!buf_ok(b) || sections > STATE_SECTIONS_MAX || b->len > STATE_BYTES_MAX)
		return false;
	patch(b, AT_COUNT, sections, 4); /* STATE_END is not counted */
	patch(b, AT_TOTAL, b->len, 8);
	return true;
}
