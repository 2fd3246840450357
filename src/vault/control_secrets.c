#include "vault/inner.h"

#include <errno.h>

int control_secrets(struct vault *v, const struct control_packet *p, int fd)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_secret s = { 0 };
	struct buf b;

	(void)fd;
	if (p->kind == CONTROL_SECRET || p->kind == CONTROL_SECRET_RM) {
		if (control_parse_secret(p->kind, p->payload, &s) < 0)
			return -EBADMSG;
	} else if (control_parse_u32(p->payload, &s.serial) < 0) {
		return -EBADMSG;
	}
	buf_init(&b, room, sizeof(room));
	control_put_text(&b, CONTROL_SECRET_BAD, s.serial, span_str("this vault keeps no secrets"));
	control_say(v, buf_span(&b));
	return 0;
}
