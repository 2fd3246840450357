#include "gate/hello_parse.h"

#include "http/limits.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * A ClientHello is a handshake message, cut into records as its sender likes; most come in one. The
 * records are walked first, and only when the whole message is there is it looked into: where it
 * lies if it came in one record, else in a copy without the record headers. Whoever ends the
 * connection reads it again, so nothing here repairs what another reader might see otherwise: what
 * is said twice, or left behind, is refused.
 */

enum {
	RECORD_HEAD = 5,
	RECORD_HANDSHAKE = 22,
	RECORD_MAX = 1 << 14,
	MESSAGE_HEAD = 4,
	CLIENT_HELLO = 1,
	RANDOM_BYTES = 32,
	SESSION_MAX = 32,
	NAME_HOST = 0,
	TLS_1_2 = 0x0303,
	TLS_1_3 = 0x0304,
	SSL_3 = 0x0300,
};

enum extension {
	EXT_SERVER_NAME = 0,
	EXT_ALPN = 16,
	EXT_VERSIONS = 43,
	EXT_ECH = 0xfe0d,
	EXT_ESNI = 0xffce, /* what ECH was called in its drafts */
};

/* --- records --- */

/* One fragment off the front. -EAGAIN: its header is not all there; a cut one is given as it is. */
static int take_fragment(struct span *in, bool first, struct span *ret, size_t *ret_missing)
{
	struct span s = *in;
	uint8_t type;
	uint8_t major;
	uint8_t minor;
	uint16_t len;

	if (!take_u8(&s, &type))
		return -EAGAIN;
	if (type != RECORD_HANDSHAKE)
		return first ? -EPROTO : -EBADMSG;
	if (!take_u8(&s, &major))
		return -EAGAIN;
	if (major != 3)
		return first ? -EPROTO : -EBADMSG;
	if (!take_u8(&s, &minor) || !take_be16(&s, &len))
		return -EAGAIN;
	if (len == 0 || len > RECORD_MAX)
		return -EBADMSG;
	*ret_missing = s.len < len ? len - s.len : 0;
	if (!take_span(&s, s.len < len ? s.len : len, ret))
		return -EAGAIN;
	*in = s;
	return 0;
}

struct gather {
	uint8_t room[HELLO_MAX];
	size_t len;
};

/* Type and length of the message, once four of its bytes are there. */
static int check_head(const struct gather *g, size_t *ret_len)
{
	size_t len;

	if (g->len > 0 && g->room[0] != CLIENT_HELLO)
		return -EBADMSG;
	if (g->len < MESSAGE_HEAD)
		return -EAGAIN;
	len = (size_t)g->room[1] << 16 | (size_t)g->room[2] << 8 | g->room[3];
	if (len > HELLO_MAX - RECORD_HEAD - MESSAGE_HEAD)
		return -EMSGSIZE;
	*ret_len = MESSAGE_HEAD + len;
	return 0;
}

/* The message without its records and its own header. */
static int gather(struct span in, struct gather *g, struct span *ret)
{
	bool first = true;

	g->len = 0;
	for (;;) {
		struct span part;
		size_t missing;
		size_t len;
		int r = take_fragment(&in, first, &part, &missing);

		if (r < 0)
			return r;
		if (part.len > 0)
			memcpy(g->room + g->len, part.at, part.len); /* the flight is no longer */
		g->len += part.len;
		first = false;
		r = check_head(g, &len);
		/* nothing may stand behind it in its record: no key is agreed on yet */
		if (r == 0 && g->len + missing > len)
			return -EBADMSG;
		if (r == 0 && g->len == len) {
			*ret = span_of(g->room + MESSAGE_HEAD, len - MESSAGE_HEAD);
			return 0;
		}
		if (r < 0 && r != -EAGAIN)
			return r;
	}
}

/* --- the message --- */

static bool take_u8_list(struct span *s, struct span *ret)
{
	uint8_t len;
	struct span t = *s;

	if (!take_u8(&t, &len) || !take_span(&t, len, ret))
		return false;
	*s = t;
	return true;
}

static bool take_u16_list(struct span *s, struct span *ret)
{
	uint16_t len;
	struct span t = *s;

	if (!take_be16(&t, &len) || !take_span(&t, len, ret))
		return false;
	*s = t;
	return true;
}

/* One list with one name of the one kind there is. */
static bool read_names(struct span body, struct hello *h)
{
	struct span list;
	struct span name;
	uint8_t kind;

	if (!take_u16_list(&body, &list) || body.len > 0 || !take_u8(&list, &kind) ||
	    kind != NAME_HOST || !take_u16_list(&list, &name) || list.len > 0 || name.len == 0)
		return false;
	h->sni = host_name_parse(name, &h->name) == 0 ? HELLO_SNI_NAME : HELLO_SNI_INVALID;
	return true;
}

static bool read_alpn(struct span body, struct hello *h)
{
	struct span list;
	struct span one;

	if (!take_u16_list(&body, &list) || body.len > 0 || list.len == 0)
		return false;
	while (list.len > 0) {
		if (!take_u8_list(&list, &one) || one.len == 0)
			return false;
		h->alpn_h2 |= span_is(one, "h2");
		h->alpn_http1 |= span_is(one, "http/1.1");
	}
	h->alpn = true;
	return true;
}

/* The highest that exists: among them are some that only test whether we mind unknown ones. */
static bool read_versions(struct span body, struct hello *h)
{
	struct span list;
	uint16_t v;

	if (!take_u8_list(&body, &list) || body.len > 0 || list.len == 0 || list.len % 2 != 0)
		return false;
	h->version = 0;
	while (take_be16(&list, &v))
		if (v >= SSL_3 && v <= TLS_1_3 && v > h->version)
			h->version = v;
	return true;
}

static bool read_extension(uint16_t type, struct span body, struct hello *h)
{
	switch (type) {
	case EXT_SERVER_NAME:
		return read_names(body, h);
	case EXT_ALPN:
		return read_alpn(body, h);
	case EXT_VERSIONS:
		return read_versions(body, h);
	case EXT_ECH:
	case EXT_ESNI:
		h->ech = true;
		return true;
	default:
		return true;
	}
}

static bool read_extensions(struct span list, struct hello *h)
{
	uint16_t seen[HELLO_EXTENSIONS_MAX];
	unsigned count = 0;

	while (list.len > 0) {
		struct span body;
		uint16_t type;

		if (count == HELLO_EXTENSIONS_MAX || !take_be16(&list, &type) ||
		    !take_u16_list(&list, &body))
			return false;
		for (unsigned i = 0; i < count; i++)
			if (seen[i] == type)
				return false;
		seen[count++] = type;
		if (!read_extension(type, body, h))
			return false;
	}
	return true;
}

static bool read_hello(struct span s, struct hello *h)
{
	struct span random;
	struct span session;
	struct span suites;
	struct span compressions;
	struct span extensions;
	uint16_t version;

	if (!take_be16(&s, &version) || !take_span(&s, RANDOM_BYTES, &random) ||
	    !take_u8_list(&s, &session) || session.len > SESSION_MAX ||
	    !take_u16_list(&s, &suites) || suites.len == 0 || suites.len % 2 != 0 ||
	    !take_u8_list(&s, &compressions) || compressions.len == 0)
		return false;
	h->version = version < TLS_1_2 ? version : TLS_1_2;
	if (s.len == 0)
		return true; /* before TLS 1.3 there need be no extension */
	return take_u16_list(&s, &extensions) && s.len == 0 && read_extensions(extensions, h);
}

int hello_parse(struct span flight, struct hello *ret)
{
	struct hello got = { 0 };
	struct gather g;
	struct span message;
	bool all = flight.len >= HELLO_MAX;
	int r;

	if (all)
		flight.len = HELLO_MAX;
	r = gather(flight, &g, &message);
	if (r == -EAGAIN && all)
		return -EMSGSIZE;
	if (r < 0)
		return r;
	if (!read_hello(message, &got))
		return -EBADMSG;
	*ret = got;
	return 0;
}

/* --- not TLS --- */

int hello_parse_http(struct span flight)
{
	size_t n = flight.len < HTTP_METHOD_MAX + 1 ? flight.len : HTTP_METHOD_MAX + 1;

	for (size_t i = 0; i < n; i++) {
		uint8_t c = flight.at[i];

		if (c == ' ')
			return i > 0 ? 0 : -EPROTO;
		if (!(c >= 'A' && c <= 'Z') && c != '-')
			return -EPROTO;
	}
	if (flight.len > HTTP_METHOD_MAX)
		return -EPROTO;
	return flight.len < HELLO_HTTP_MIN ? -EAGAIN : 0;
}
