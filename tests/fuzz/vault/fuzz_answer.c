/*
 * A resolver's answer. What is read has its chain and addresses within bounds, and each name of the
 * chain in canonical form; what is refused leaves nothing.
 */
#include "vault/answer_parse.h"

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
	struct host_name name = { .len = 6, .at = "a.test" };
	uint16_t type = size > 0 && (data[0] & 1) ? ANSWER_AAAA : ANSWER_A;
	struct answer a, blank;

	memset(&blank, 0xa5, sizeof(blank));
	a = blank;
	if (answer_parse(span_of(data, size), &name, type, &a) < 0) {
		must(memcmp(&a, &blank, sizeof(a)) == 0);
		return 0;
	}
	must(a.count <= EGRESS_ADDRESSES_MAX && a.chain_count <= EGRESS_CHAIN_MAX);
	for (unsigned i = 0; i < a.count; i++)
		must(a.addr[i].v4 == (type == ANSWER_A));
	for (unsigned i = 0; i < a.chain_count; i++) {
		struct host_name again;

		must(host_name_parse(host_span(&a.chain[i]), &again) == 0);
		must(span_equal(host_span(&again), host_span(&a.chain[i])));
	}
	return 0;
}
