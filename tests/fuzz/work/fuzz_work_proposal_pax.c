/*
 * The records of one extended header. Contracts: a failure changes nothing; a key is seen if and
 * only if it has a value, which lies within the input and ends with its line.
 */
#include "work/proposal_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum proposal_bad bad = PROPOSAL_BAD_NONE;
	struct proposal_pax filled;
	struct proposal_pax p;
	size_t values = 0;
	int r;

	memset(&filled, 0xa5, sizeof(filled));
	p = filled;
	r = proposal_parse_pax(span_of(data, size), &p, &bad);
	if (r < 0) {
		must(r == -EBADMSG && bad != PROPOSAL_BAD_NONE);
		must(memcmp(&p, &filled, sizeof(p)) == 0);
		return 0;
	}
	must(p.seen >> PROPOSAL_KEY_COUNT == 0);
	for (unsigned i = 0; i < PROPOSAL_KEY_COUNT; i++) {
		if (!(p.seen & 1U << i)) {
			must(!p.value[i].at && p.value[i].len == 0);
			continue;
		}
		must(p.value[i].at >= data && p.value[i].at + p.value[i].len < data + size);
		must(p.value[i].at[p.value[i].len] == '\n');
		values += p.value[i].len;
	}
	must(values <= size);
	return 0;
}
