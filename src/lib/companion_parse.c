#include "lib/companion.h"

#include <errno.h>

enum { READY_VERSION = 1, KIND_READY = 1 };

int companion_parse_ready(struct span packet, struct companion_ready *ret)
{
	struct companion_ready got = { 0 };
	uint8_t version;
	uint8_t kind;
	uint16_t zero;

	if (!take_u8(&packet, &version) || version != READY_VERSION || !take_u8(&packet, &kind) ||
	    kind != KIND_READY || !take_le16(&packet, &zero) || zero != 0 ||
	    !take_le32(&packet, &got.trust.name_hash))
		return -EBADMSG;
	got.has_trust = packet.len > 0;
	got.trust.pem = packet;
	if (got.has_trust ? wire_parse_cert(packet) < 0 : got.trust.name_hash != 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}
