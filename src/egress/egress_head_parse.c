#include "egress/egress.h"
#include "http/head.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * The other process may be taken over, so a head is judged as one that was just read: the host is
 * parsed and must come out as it stands, the path likewise, and each field goes through the maker
 * that reads HTTP. A head that passes has one reading, whoever wrote it.
 *
 *   brief    u16 status (0: a request) | u8 framing | u8 0 | u32 flags | u64 length
 *   request  brief, then u8 scheme | u16 port | str16 method, host, path and query
 *   fields   u16 count, then str16 name | str16 value for each
 */

enum { ADDR_BYTES = 17, BEFORE_HEAD = 4 + 4 + ADDR_BYTES };

static bool take_brief(struct span *s, struct egress_brief *ret)
{
	struct egress_brief got = { 0 };
	struct span b = *s;
	uint8_t zero;

	if (!take_le16(&b, &got.status) || !take_u8(&b, &got.framing) || !take_u8(&b, &zero) ||
	    !take_le32(&b, &got.flags) || !take_le64(&b, &got.length))
		return false;
	if (zero != 0 || got.framing > HTTP_BODY_STREAM || got.flags & ~(uint32_t)HTTP_FLAGS ||
	    got.length > INT64_MAX)
		return false;
	if (got.length > 0 && got.framing != HTTP_BODY_LENGTH && !(got.flags & HTTP_FLAG_DECLARED))
		return false;
	*s = b;
	*ret = got;
	return true;
}

static bool request_brief_ok(const struct egress_brief *b)
{
	return b->status == 0 && !(b->flags & HTTP_FLAG_DECLARED) &&
	       (!(b->flags & HTTP_FLAG_WEBSOCKET) ||
	        (b->framing != HTTP_BODY_STREAM && b->length == 0));
}

static bool response_brief_ok(const struct egress_brief *b)
{
	bool bodyless = b->status < 200 || b->status == 204 || b->status == 304;

	if (b->status < 100 || b->status > 599 ||
	    b->flags & ~(uint32_t)(HTTP_FLAG_WEBSOCKET | HTTP_FLAG_DECLARED))
		return false;
	if (b->flags & HTTP_FLAG_DECLARED && (b->framing != HTTP_BODY_NONE || b->status < 200))
		return false;
	return ((b->flags & HTTP_FLAG_WEBSOCKET) != 0) == (b->status == 101) &&
	       (!bodyless || b->framing == HTTP_BODY_NONE);
}

int egress_parse_brief(const struct egress_frame *f, struct egress_brief *ret)
{
	struct span s = f->payload;
	struct egress_brief got;
	struct span skipped;
	bool request = f->type == EGRESS_REQUEST;

	if (request && !take_span(&s, BEFORE_HEAD, &skipped))
		return -EBADMSG;
	if (!take_brief(&s, &got) || !(request ? request_brief_ok(&got) : response_brief_ok(&got)))
		return -EBADMSG;
	*ret = got;
	return 0;
}

static void set_brief(struct http_head *h, const struct egress_brief *b)
{
	memset(h, 0, offsetof(struct http_head, fields));
	h->status = b->status;
	h->framing = b->framing;
	h->flags = b->flags;
	h->length = b->length;
}

static bool take_fields(struct span *s, bool response, struct http_head *h)
{
	struct http_rules rules = { .response = response };
	struct head_maker maker = { .rules = &rules, .head = h, .version = HTTP_1_1 };
	uint16_t count;

	if (!take_le16(s, &count) || count > HTTP_FIELDS_MAX)
		return false;
	for (uint16_t i = 0; i < count; i++) {
		struct span name;
		struct span value;

		if (!take_str16(s, HTTP_NAME_MAX, &name) || !take_str16(s, HTTP_HEAD_MAX, &value) ||
		    field_parse_is_hop(name) || !head_parse_field(&maker, name, value))
			return false;
	}
	return true;
}

/* As text, with the brackets an IPv6 address has in an authority. */
static bool take_host(struct span *s, uint16_t port, struct http_host *ret)
{
	uint8_t room[HTTP_HOST_MAX + 2];
	struct span text;
	struct buf b;
	bool six;

	if (!take_str16(s, HTTP_HOST_MAX, &text) || text.len == 0 || port == 0)
		return false;
	six = memchr(text.at, ':', text.len) != NULL;
	buf_init(&b, room, sizeof(room));
	if (six)
		buf_put_u8(&b, '[');
	buf_put_span(&b, text);
	if (six)
		buf_put_u8(&b, ']');
	if (host_parse(buf_span(&b), ret) < 0 || ret->port != 0 ||
	    !span_equal(text, span_of(ret->text, ret->len)))
		return false;
	ret->port = port;
	return true;
}

static bool path_ok(const struct http_head *h)
{
	uint8_t room[HTTP_TARGET_MAX];
	enum http_reason why;
	uint32_t flags = 0;
	struct buf b;

	if (span_is(h->path, "*"))
		return span_is(h->method, "OPTIONS") &&
		       !(h->flags & (HTTP_FLAG_QUERY | HTTP_FLAG_ENCODED_SLASH));
	buf_init(&b, room, sizeof(room));
	return path_parse(h->path, PATH_KEEP_SLASH, &b, &flags, &why) == 0 &&
	       span_equal(buf_span(&b), h->path) && flags == (h->flags & HTTP_FLAG_ENCODED_SLASH);
}

static bool take_request(struct span *s, struct http_head *h)
{
	enum http_reason why;
	uint16_t port;

	if (!take_u8(s, &h->scheme) || !take_le16(s, &port) ||
	    !take_str16(s, HTTP_METHOD_MAX, &h->method) || !take_host(s, port, &h->host) ||
	    !take_str16(s, HTTP_TARGET_MAX, &h->path) || !take_str16(s, HTTP_TARGET_MAX, &h->query))
		return false;
	if ((h->scheme != HTTP_PLAIN && h->scheme != HTTP_TLS) ||
	    !field_parse_method_ok(h->method) || span_is(h->method, "TRACE") ||
	    span_is(h->method, "CONNECT") || !path_ok(h))
		return false;
	if (h->flags & HTTP_FLAG_WEBSOCKET && !span_is(h->method, "GET"))
		return false;
	return (h->query.len == 0 || h->flags & HTTP_FLAG_QUERY) &&
	       query_parse_check(h->query, &why) == 0;
}

int egress_parse_request(struct span payload, struct egress_request *ret)
{
	struct egress_brief brief;
	uint8_t family;

	if (!take_le32(&payload, &ret->generation) || !take_le32(&payload, &ret->rule) ||
	    !take_u8(&payload, &family) ||
	    !take_bytes(&payload, ret->addr.bytes, sizeof(ret->addr.bytes)))
		return -EBADMSG;
	if (family != EGRESS_IP4 && family != EGRESS_IP6)
		return -EBADMSG;
	for (size_t i = 4; family == EGRESS_IP4 && i < sizeof(ret->addr.bytes); i++)
		if (ret->addr.bytes[i] != 0)
			return -EBADMSG;
	ret->addr.family = family;
	if (!take_brief(&payload, &brief) || !request_brief_ok(&brief))
		return -EBADMSG;
	set_brief(&ret->head, &brief);
	if (!take_request(&payload, &ret->head) || !take_fields(&payload, false, &ret->head))
		return -EBADMSG;
	return payload.len == 0 ? 0 : -EBADMSG;
}

int egress_parse_response(struct span payload, struct http_head *ret)
{
	struct egress_brief brief;

	if (!take_brief(&payload, &brief) || !response_brief_ok(&brief))
		return -EBADMSG;
	set_brief(ret, &brief);
	return take_fields(&payload, true, ret) && payload.len == 0 ? 0 : -EBADMSG;
}

int egress_parse_trailers(struct span payload, struct http_trailers *ret)
{
	enum http_reason why;
	uint16_t count;

	ret->count = 0;
	if (!take_le16(&payload, &count) || count == 0 || count > HTTP_TRAILER_FIELDS_MAX)
		return -EBADMSG;
	for (uint16_t i = 0; i < count; i++) {
		struct span name;
		struct span value;

		if (!take_str16(&payload, HTTP_NAME_MAX, &name) ||
		    !take_str16(&payload, HTTP_TRAILER_BYTES_MAX, &value) ||
		    !head_parse_trailer(ret, name, value, &why))
			return -EBADMSG;
	}
	return payload.len == 0 ? 0 : -EBADMSG;
}
