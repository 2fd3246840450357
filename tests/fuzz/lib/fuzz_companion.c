/*
 * What a gate says when it is ready. Contracts: 0 or -EBADMSG; untouched on failure; a certificate
 * that is accepted is the rest of the packet, and one that the wire takes.
 */
#include "lib/companion.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { HASH_BYTES = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct companion_ready filled;
	struct companion_ready got;
	int r;

	memset(&filled, 0xa5, sizeof(filled));
	memset(&got, 0xa5, sizeof(got));
	r = companion_parse_ready(span_of(data, size), &got);
	must(r == 0 || r == -EBADMSG);
	if (r < 0) {
		must(memcmp(&got, &filled, sizeof(got)) == 0);
		return 0;
	}
	must(size >= HASH_BYTES && size <= HASH_BYTES + WIRE_CERT_MAX);
	must(got.has_trust == (size > HASH_BYTES));
	must(got.trust.pem.len == size - HASH_BYTES);
	must(!got.has_trust ||
	     (got.trust.pem.at == data + HASH_BYTES && wire_parse_cert(got.trust.pem) == 0));
	return 0;
}
