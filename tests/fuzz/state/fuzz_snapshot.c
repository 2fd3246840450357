/*
 * A snapshot's note: what is refused leaves the output as it was; what is taken lies within the
 * input, and is the same text when it is written again.
 */
#include "state/snapshot_note.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(struct span part, struct span whole)
{
	assert(part.at >= whole.at && part.at + part.len <= whole.at + whole.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t room[1 << 20];
	struct span in = span_of(data, size);
	struct snapshot_note got;
	struct snapshot_note before;
	struct buf b;
	int r;

	if (size > sizeof(room))
		return 0;
	memset(&got, 0xa5, sizeof(got));
	memset(&before, 0xa5, sizeof(before));
	r = snapshot_parse_note(in, &got);
	assert(r == 0 || r == -EBADMSG);
	if (r < 0) {
		assert(memcmp(&got, &before, sizeof(got)) == 0);
		return 0;
	}
	within(got.id, in);
	within(got.name, in);
	within(got.machine, in);
	within(got.spec, in);
	assert(got.id.len == SPEC_ID_LEN && got.name.len <= SPEC_NAME_MAX);
	assert(got.machine.len <= SNAPSHOT_MACHINE_MAX && got.spec.len <= SPEC_BYTES_MAX);
	buf_init(&b, room, sizeof(room));
	snapshot_put_note(&b, &got);
	/* a number may have been written with zeros in front: then once more gives the same */
	assert(buf_ok(&b) && b.len <= size);
	assert(b.len < size || memcmp(room, data, size) == 0);
	return 0;
}
