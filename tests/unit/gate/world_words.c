/* The words of the world: questions, answers and first flights, byte by byte. */
#include "world.h"

#include <arpa/inet.h>
#include <string.h>

/* -- questions --------------------------------------------------------------------------------- */

size_t world_question(uint8_t *at, uint16_t id, const char *name, uint16_t type)
{
	size_t len = 12;

	memset(at, 0, 12);
	put_be16(at, id);
	at[2] = 1; /* recursion wanted */
	put_be16(at + 4, 1);
	while (*name) {
		size_t n = strcspn(name, ".");

		at[len++] = (uint8_t)n;
		memcpy(at + len, name, n);
		len += n;
		name += n + (name[n] == '.');
	}
	at[len++] = 0;
	put_be16(at + len, type);
	put_be16(at + len + 2, 1);
	return len + 4;
}

int world_ask(struct world *w, const char *server, const char *name, uint16_t type)
{
	static uint16_t id = 100;
	uint8_t at[DNS_QUERY_MAX];
	size_t len = world_question(at, ++id, name, type);
	unsigned before = w->datagrams;

	world_send(w, server, 53, 5353, span_of(at, len));
	if (w->datagrams == before)
		return -1;
	CHECK_EQ(w->last.at[0] << 8 | w->last.at[1], id);
	CHECK(net_addr_equal(w->last.tuple.guest, world_addr(server)));
	return w->last.at[3] & 15;
}

const char *world_answer(const struct world *w)
{
	static char text[INET6_ADDRSTRLEN];
	const uint8_t *at = w->last.at + 12;
	uint16_t answers = (uint16_t)(w->last.at[6] << 8 | w->last.at[7]);
	uint16_t type;

	text[0] = 0;
	while (*at)
		at += *at + 1;
	at += 5;
	if (answers == 0)
		return text;
	CHECK(*at >= 0xc0); /* the asked name again */
	type = (uint16_t)(at[2] << 8 | at[3]);
	(void)inet_ntop(type == DNS_AAAA ? AF_INET6 : AF_INET, at + 12, text, sizeof(text));
	return text;
}

void world_pin(struct world *w, const char *name, const char *addr)
{
	CHECK_EQ(world_ask(w, "100.96.0.1", name, strchr(addr, ':') ? DNS_AAAA : DNS_A),
	         DNS_NOERROR);
	CHECK_STR(world_answer(w), addr);
}

/* -- a first flight ---------------------------------------------------------------------------- */

static size_t put_sni(uint8_t *at, const char *sni)
{
	size_t len = strlen(sni);

	put_be16(at, 0);
	put_be16(at + 2, (uint16_t)(len + 5));
	put_be16(at + 4, (uint16_t)(len + 3));
	at[6] = 0;
	put_be16(at + 7, (uint16_t)len);
	memcpy(at + 9, sni, len);
	return 9 + len;
}

size_t world_hello(uint8_t *at, const char *sni)
{
	static const uint8_t versions[] = { 0, 43, 0, 3, 2, 3, 4 };
	uint8_t body[1024] = { 3, 3 };
	size_t len = 34, extensions;

	body[len++] = 0;         /* no session */
	put_be16(body + len, 2); /* one suite */
	put_be16(body + len + 2, 0x1301);
	len += 4;
	body[len++] = 1; /* one compression: none */
	body[len++] = 0;
	extensions = len;
	len += 2;
	memcpy(body + len, versions, sizeof(versions));
	len += sizeof(versions);
	if (sni)
		len += put_sni(body + len, sni);
	put_be16(body + extensions, (uint16_t)(len - extensions - 2));
	at[0] = 22;
	put_be16(at + 1, 0x0301);
	put_be16(at + 3, (uint16_t)(len + 4));
	at[5] = 1;
	at[6] = 0;
	put_be16(at + 7, (uint16_t)len);
	memcpy(at + 9, body, len);
	return 9 + len;
}
