/*
 * A state file, as it comes, and once more with its magic and total made right, for these keep
 * nearly every input from going deeper. Whatever the header answers for holds section by section,
 * and what is read is written back the same.
 */
#include "vmm/state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { AT_MINOR = 10, AT_TOTAL = 24 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_back(struct span in, uint32_t sections, uint8_t *storage, size_t size)
{
	struct state_section s = { 0 };
	struct buf b;

	buf_init(&b, storage, size);
	state_put_header(&b);
	for (uint32_t n = 0; n <= sections; n++) {
		size_t at;

		assert(state_parse_section(&in, &s) == 0);
		assert((s.type == STATE_END) == (n == sections));
		assert(s.type < STATE_TYPE_COUNT || !(s.flags & STATE_CRITICAL));
		if (s.type == STATE_END)
			break;
		at = state_begin(&b, s.type, s.flags, s.instance);
		buf_put_span(&b, s.payload);
		state_end(&b, at);
	}
	assert(in.len == 0);
	assert(state_finish(&b) && b.len == size);
}

static void try(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	uint32_t sections = 0xa5a5a5a5;
	uint8_t *again;

	if (state_parse_header(&in, &sections) != 0) {
		assert(sections == 0xa5a5a5a5 && in.at == data && in.len == size);
		return;
	}
	assert(sections <= STATE_SECTIONS_MAX && in.len == size - STATE_HEADER_BYTES);
	again = malloc(size);
	assert(again);
	write_back(in, sections, again, size);
	/* a later minor and an uncritical end are taken, but not written */
	memcpy(again + AT_MINOR, data + AT_MINOR, 2);
	again[size - 12] = data[size - 12];
	assert(memcmp(again, data, size) == 0);
	free(again);
}

static void try_section(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	struct state_section s;
	struct state_section before;

	memset(&s, 0xa5, sizeof(s));
	memcpy(&before, &s, sizeof(s));
	if (state_parse_section(&in, &s) != 0)
		assert(memcmp(&s, &before, sizeof(s)) == 0 && in.at == data && in.len == size);
	else
		assert(s.payload.at >= data && s.payload.at + s.payload.len <= data + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *fixed;

	try(data, size);
	try_section(data, size);
	if (size < STATE_HEADER_BYTES || size > STATE_BYTES_MAX)
		return 0;
	fixed = malloc(size);
	assert(fixed);
	memcpy(fixed, data, size);
	memcpy(fixed, "BERMSNAP\1\0", 10);
	for (size_t i = 0; i < 8; i++)
		fixed[AT_TOTAL + i] = (uint8_t)((uint64_t)size >> 8 * i);
	try(fixed, size);
	free(fixed);
	return 0;
}
