/*
 * The frame parser, as each of the four sides: the input's first byte picks one, the rest is the
 * stream. Contracts: a failure changes neither the span nor the output; a success takes exactly
 * header and payload, within the input; -EAGAIN stays -EAGAIN for every prefix; a frame never
 * needs more than WIRE_FRAME_MAX bytes.
 */
#include "wire/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static int step(struct span *in, enum wire_side from)
{
	struct wire_frame f;
	struct wire_frame filled;
	struct span before = *in;
	int r;

	memset(&filled, 0xa5, sizeof(filled));
	f = filled;
	memset(&f, 0xa5, sizeof(f));
	r = wire_parse_frame(in, from, &f);
	if (r < 0) {
		must(r == -EAGAIN || r == -EBADMSG);
		must(in->at == before.at && in->len == before.len);
		must(memcmp(&f, &filled, sizeof(f)) == 0);
		must(r != -EAGAIN || before.len < WIRE_FRAME_MAX);
		return r;
	}
	must(f.type < WIRE_TYPE_COUNT && f.channel < WIRE_CHANNEL_COUNT);
	must(f.payload.len <= WIRE_EXEC_MAX);
	must(in->at == before.at + WIRE_HEADER_BYTES + f.payload.len);
	must(in->len == before.len - WIRE_HEADER_BYTES - f.payload.len);
	must(f.payload.len == 0 || f.payload.at == before.at + WIRE_HEADER_BYTES);
	must(wire_type_name(f.type)[0] != '\0');
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in;
	struct span prefix;
	enum wire_side from;

	if (size < 1)
		return 0;
	from = (enum wire_side)(1U << (data[0] & 3));
	in = span_of(data + 1, size - 1);
	/*
	 * a legal start is never refused for being short, nor a bad one forgiven for being longer
	 */
	prefix = span_of(in.at, in.len / 2);
	if (step(&prefix, from) == -EBADMSG) {
		prefix = in;
		must(step(&prefix, from) == -EBADMSG);
	}
	while (step(&in, from) == 0)
		;
	return 0;
}
