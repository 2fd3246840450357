#include "lib/publish.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

static int wrong(const char *text, const char *why, struct err *e)
{
	return err_set(e, -EINVAL,
	               "'%.80s' %s; write [ADDRESS:]HOST:GUEST, such as 8080:80 or "
	               "127.0.0.1:8080:80",
	               text, why);
}

/* Cuts what stands behind the last colon off the end. */
static bool take_port(struct span *text, uint16_t min, uint16_t *ret)
{
	const uint8_t *colon = text->len > 0 ? memrchr(text->at, ':', text->len) : NULL;
	const uint8_t *from = colon ? colon + 1 : text->at;
	uint64_t port;

	if (!span_to_u64(span_of(from, text->len - (size_t)(from - text->at)), &port) ||
	    port < min || port > UINT16_MAX)
		return false;
	text->len = colon ? (size_t)(colon - text->at) : 0;
	*ret = (uint16_t)port;
	return true;
}

static bool take_address(struct span text, struct publish *p)
{
	char room[INET6_ADDRSTRLEN + 1];
	bool v6 = text.len > 2 && text.at[0] == '[' && text.at[text.len - 1] == ']';

	if (span_is(text, "localhost"))
		text = span_str("127.0.0.1");
	if (v6)
		text = span_of(text.at + 1, text.len - 2);
	if (text.len == 0 || text.len >= sizeof(room))
		return false;
	memcpy(room, text.at, text.len);
	room[text.len] = '\0';
	p->family = v6 ? 6 : 4;
	return inet_pton(v6 ? AF_INET6 : AF_INET, room, p->addr) == 1;
}

int publish_parse(const char *text, struct publish *ret, struct err *e)
{
	struct publish got = { .family = 4, .addr = { 127, 0, 0, 1 } };
	struct span rest = span_str(text);

	if (strstr(text, "/udp"))
		return wrong(text, "asks for UDP, and only TCP can be published", e);
	if (!take_port(&rest, 1, &got.guest_port))
		return wrong(text, "has no port of the guest, 1 to 65535, at its end", e);
	if (rest.len == 0)
		return wrong(text, "has no port of the host; 0 takes any free one", e);
	if (!take_port(&rest, 0, &got.host_port))
		return wrong(text, "has no port of the host, 0 to 65535", e);
	if (rest.len > 0 && !take_address(rest, &got))
		return wrong(text, "has no address in front: IPv4, or IPv6 in brackets", e);
	*ret = got;
	return 0;
}

bool publish_is_local(const struct publish *p)
{
	static const uint8_t local6[sizeof(p->addr)] = { [15] = 1 };

	return p->family == 6 ? memcmp(p->addr, local6, sizeof(local6)) == 0 : p->addr[0] == 127;
}

void publish_put(struct buf *b, const struct publish *p)
{
	char room[INET6_ADDRSTRLEN];

	if (!inet_ntop(p->family == 6 ? AF_INET6 : AF_INET, p->addr, room, sizeof(room)))
		return;
	buf_printf(b, p->family == 6 ? "[%s]:%u:%u" : "%s:%u:%u", room, p->host_port,
	           p->guest_port);
}
