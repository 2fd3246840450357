#include "http/chars.h"
#include "http/h1.h"

#include <string.h>

static void put_crlf(struct buf *out)
{
	buf_put(out, "\r\n", 2);
}

static void put_decimal(struct buf *out, uint64_t v)
{
	uint8_t digits[20];
	size_t n = sizeof(digits);

	do {
		digits[--n] = (uint8_t)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	buf_put(out, digits + n, sizeof(digits) - n);
}

static void put_field(struct buf *out, struct span name, struct span value)
{
	buf_put_span(out, name);
	buf_put(out, ": ", 2);
	buf_put_span(out, value);
	put_crlf(out);
}

static void put_length(struct buf *out, uint64_t length)
{
	buf_put_str(out, "content-length: ");
	put_decimal(out, length);
	put_crlf(out);
}

static void put_host(struct buf *out, const struct http_head *h)
{
	bool six = h->host.kind == HTTP_HOST_IP6;

	if (six)
		buf_put_u8(out, '[');
	buf_put(out, h->host.text, h->host.len);
	if (six)
		buf_put_u8(out, ']');
	if (span_is(h->method, "CONNECT") || h->host.port != (h->scheme == HTTP_TLS ? 443 : 80)) {
		buf_put_u8(out, ':');
		put_decimal(out, h->host.port);
	}
}

/* Several cookie fields are how HTTP/2 writes one: RFC 9113, 8.2.3. */
static void put_cookies(struct buf *out, const struct http_head *h, uint16_t from)
{
	buf_put_str(out, "cookie: ");
	buf_put_span(out, h->fields[from].value);
	for (uint16_t i = (uint16_t)(from + 1); i < h->count; i++)
		if (span_is(h->fields[i].name, "cookie")) {
			buf_put(out, "; ", 2);
			buf_put_span(out, h->fields[i].value);
		}
	put_crlf(out);
}

static void put_fields(struct buf *out, const struct http_head *h, bool request)
{
	bool cookie = false;

	for (uint16_t i = 0; i < h->count; i++) {
		if (request && span_is(h->fields[i].name, "cookie")) {
			if (!cookie)
				put_cookies(out, h, i);
			cookie = true;
			continue;
		}
		put_field(out, h->fields[i].name, h->fields[i].value);
	}
}

/* Connection, and what it has to name. */
static void put_connection(struct buf *out, const struct http_head *h, unsigned flags)
{
	bool upgrade = (h->flags & HTTP_FLAG_WEBSOCKET) != 0;
	bool te = h->status == 0 && (h->flags & HTTP_FLAG_TRAILERS) != 0;
	bool some = false;

	if (upgrade)
		buf_put_str(out, "upgrade: websocket\r\n");
	if (te)
		buf_put_str(out, "te: trailers\r\n");
	if (!upgrade && !te && !(flags & H1_PUT_CLOSE))
		return;
	buf_put_str(out, "connection: ");
	if (upgrade)
		buf_put_str(out, "upgrade");
	some = upgrade;
	if (te)
		buf_put_str(out, some ? ", te" : "te");
	some = some || te;
	if (flags & H1_PUT_CLOSE)
		buf_put_str(out, some ? ", close" : "close");
	put_crlf(out);
}

void h1_put_request(struct buf *out, const struct http_head *h, unsigned flags)
{
	bool connect = span_is(h->method, "CONNECT");

	buf_put_span(out, h->method);
	buf_put_u8(out, ' ');
	if (connect) {
		put_host(out, h);
	} else {
		buf_put_span(out, h->path);
		if (h->flags & HTTP_FLAG_QUERY) {
			buf_put_u8(out, '?');
			buf_put_span(out, h->query);
		}
	}
	buf_put_str(out, " HTTP/1.1\r\nhost: ");
	put_host(out, h);
	put_crlf(out);
	put_fields(out, h, true);
	if (h->framing == HTTP_BODY_LENGTH)
		put_length(out, h->length);
	if (h->framing == HTTP_BODY_STREAM)
		buf_put_str(out, "transfer-encoding: chunked\r\n");
	if (h->flags & HTTP_FLAG_CONTINUE)
		buf_put_str(out, "expect: 100-continue\r\n");
	put_connection(out, h, flags);
	put_crlf(out);
}

/* What clients print beside the number; others get none, which is legal. */
static const char *phrase(uint16_t status)
{
	static const struct {
		uint16_t status;
		const char *text;
	} phrases[] = {
		{ 100, "Continue" },
		{ 101, "Switching Protocols" },
		{ 200, "OK" },
		{ 201, "Created" },
		{ 204, "No Content" },
		{ 206, "Partial Content" },
		{ 301, "Moved Permanently" },
		{ 302, "Found" },
		{ 304, "Not Modified" },
		{ 307, "Temporary Redirect" },
		{ 308, "Permanent Redirect" },
		{ 400, "Bad Request" },
		{ 401, "Unauthorized" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 408, "Request Timeout" },
		{ 413, "Content Too Large" },
		{ 414, "URI Too Long" },
		{ 417, "Expectation Failed" },
		{ 421, "Misdirected Request" },
		{ 429, "Too Many Requests" },
		{ 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" },
		{ 502, "Bad Gateway" },
		{ 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" },
		{ 505, "HTTP Version Not Supported" },
	};

	for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
		if (phrases[i].status == status)
			return phrases[i].text;
	return "";
}

void h1_put_response(struct buf *out, const struct http_head *h, unsigned flags)
{
	buf_put_str(out, "HTTP/1.1 ");
	put_decimal(out, h->status);
	buf_put_u8(out, ' ');
	buf_put_str(out, phrase(h->status));
	put_crlf(out);
	put_fields(out, h, false);
	if (h->framing == HTTP_BODY_LENGTH || h->flags & HTTP_FLAG_DECLARED)
		put_length(out, h->length);
	if (h->framing == HTTP_BODY_STREAM && !(flags & H1_PUT_UNTIL_CLOSE))
		buf_put_str(out, "transfer-encoding: chunked\r\n");
	put_connection(out, h, flags);
	put_crlf(out);
}

void h1_put_chunk_size(struct buf *out, size_t len)
{
	uint8_t digits[16];
	size_t n = sizeof(digits);

	do {
		digits[--n] = (uint8_t) "0123456789abcdef"[len & 15];
		len >>= 4;
	} while (len > 0);
	buf_put(out, digits + n, sizeof(digits) - n);
	put_crlf(out);
}

void h1_put_last_chunk(struct buf *out, const struct http_trailers *t)
{
	buf_put_str(out, "0\r\n");
	for (uint16_t i = 0; t && i < t->count; i++)
		put_field(out, t->fields[i].name, t->fields[i].value);
	put_crlf(out);
}
