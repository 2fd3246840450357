/*
 * A line of decisions.jsonl, of any bytes. What is accepted is written again as the same bytes, so
 * there is one way to say a thing; what is refused leaves the output alone.
 */
#include "review/decision.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t room[DECISION_LINE_MAX], raw[WPATH_MAX + 1];
	struct decision d, before;
	struct buf path, line;

	memset(&d, 0xa5, sizeof(d));
	before = d;
	if (decision_parse(span_of(data, size), &d) < 0) {
		assert(memcmp(&d, &before, sizeof(d)) == 0);
		return 0;
	}
	assert(d.choice <= DECISION_HUNKS);
	assert((d.choice == DECISION_HUNKS) == (d.hunks.len > 0));
	buf_init(&path, raw, sizeof(raw));
	if (!decision_path(d.path, &path))
		return 0;
	assert(wpath_parse(buf_span(&path), NULL) == 0);
	buf_init(&line, room, sizeof(room));
	decision_put(&line, buf_span(&path), &d);
	assert(buf_ok(&line) && line.len == size + 1 && memcmp(line.at, data, size) == 0);
	return 0;
}
