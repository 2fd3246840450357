#include "lib/companion.h"

#include <errno.h>

int companion_parse_ready(struct span payload, struct companion_ready *ret)
{
	struct companion_ready got = { 0 };
	struct control_ready ready;

	if (control_parse_ready(payload, &ready) < 0)
		return -EBADMSG;
	got.has_trust = ready.pem.len > 0;
	got.trust.name_hash = ready.name_hash;
	got.trust.pem = ready.pem;
	if (got.has_trust && wire_parse_cert(ready.pem) < 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}
