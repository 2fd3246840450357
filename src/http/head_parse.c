#include "http/chars.h"
#include "http/head.h"

#include <string.h>

/*
 * Theory of operation
 *
 * A field is either said by the head itself (host, length, coding, upgrade, ...), or goes into the
 * list. Connection is remembered and applied at the end, since what it names may have come before
 * it. It may only name what is for one hop: a client that has "Authorization" taken away on the
 * way would make the next server see another request than the one that was judged.
 *
 * Framing is decided from what is left: a coding and a length together, either of them twice, or
 * anything but one plain number or the one word "chunked" has more than one reading, and none of
 * them is ours.
 */

enum seen {
	SEEN_HOST = 1,
	SEEN_LENGTH = 2,
	SEEN_CODING = 4,
	SEEN_UPGRADE = 8,
	SEEN_EXPECT = 16,
	SEEN_AUTHORIZATION = 32,
	SEEN_TYPE = 64,
	SEEN_LOCATION = 128,
	SEEN_OPTION_UPGRADE = 256,
	SEEN_H2_SETTINGS = 512,
};

static bool refuse(struct head_maker *m, enum http_reason why)
{
	m->why = why;
	return false;
}

void head_parse_begin(struct head_maker *ret, const struct http_rules *rules,
                      struct http_head *head, struct buf *path)
{
	memset(ret, 0, sizeof(*ret));
	memset(head, 0, offsetof(struct http_head, fields));
	ret->rules = rules;
	ret->head = head;
	ret->path = path;
}

/* The next element of a comma-separated list, without blanks. False at the end. */
static bool next_element(struct span *list, struct span *ret)
{
	struct span s;

	if (!take_until(list, ',', &s))
		return false;
	while (s.len > 0 && (s.at[0] == ' ' || s.at[0] == '\t')) {
		s.at++;
		s.len--;
	}
	while (s.len > 0 && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t'))
		s.len--;
	*ret = s;
	return true;
}

/* True the first time only. */
static bool first(struct head_maker *m, enum seen what)
{
	if (m->seen & what)
		return false;
	m->seen |= what;
	return true;
}

/* Once only, and remembered. */
static bool single(struct head_maker *m, enum seen what, struct span value, struct span *ret,
                   enum http_reason why)
{
	if (!first(m, what))
		return refuse(m, why);
	*ret = value;
	return true;
}

static bool add_options(struct head_maker *m, struct span value)
{
	struct span option;

	while (next_element(&value, &option)) {
		if (option.len == 0)
			continue;
		if (m->option_count == HTTP_OPTIONS_MAX)
			return refuse(m, HTTP_OPTION);
		if (field_parse_is(option, "close"))
			m->close = true;
		if (field_parse_is(option, "upgrade"))
			m->seen |= SEEN_OPTION_UPGRADE;
		m->options[m->option_count++] = option;
	}
	return true;
}

static void add_te(struct head_maker *m, struct span value)
{
	struct span one;

	while (!m->rules->response && next_element(&value, &one))
		if (field_parse_is(one, "trailers"))
			m->head->flags |= HTTP_FLAG_TRAILERS;
}

static bool add_expect(struct head_maker *m, struct span value)
{
	if (!first(m, SEEN_EXPECT))
		return refuse(m, HTTP_FIELD_REPEATED);
	if (m->rules->response)
		return true; /* means nothing there */
	if (!field_parse_is(value, "100-continue"))
		return refuse(m, HTTP_EXPECT);
	if (m->version != HTTP_1_0)
		m->head->flags |= HTTP_FLAG_CONTINUE;
	return true;
}

/* Said by the head itself, or for one hop. */
static bool add_hop(struct head_maker *m, struct span name, struct span value)
{
	if (span_is(name, "host"))
		return single(m, SEEN_HOST, value, &m->host, HTTP_HOST_REPEATED);
	if (span_is(name, "content-length"))
		return single(m, SEEN_LENGTH, value, &m->length, HTTP_LENGTH_REPEATED);
	if (span_is(name, "expect"))
		return add_expect(m, value);
	if (span_is(name, "te")) {
		if (m->version == HTTP_2 && !field_parse_is(value, "trailers"))
			return refuse(m, HTTP_OPTION);
		add_te(m, value);
		return true;
	}
	if (m->version == HTTP_2) /* what is left of one hop has no place there: RFC 9113, 8.2.2 */
		return span_is(name, "proxy-authorization") ||
		       span_is(name, "proxy-authenticate") || refuse(m, HTTP_OPTION);
	if (span_is(name, "transfer-encoding"))
		return single(m, SEEN_CODING, value, &m->coding, HTTP_CODING_REPEATED);
	if (span_is(name, "upgrade"))
		return single(m, SEEN_UPGRADE, value, &m->upgrade, HTTP_UPGRADE);
	if (span_is(name, "connection"))
		return add_options(m, value);
	return true;
}

/* Twice the same name where servers take the first or the last, as they like. */
static bool may_repeat(struct head_maker *m, struct span name)
{
	if (span_is(name, "authorization"))
		return first(m, SEEN_AUTHORIZATION);
	if (span_is(name, "content-type"))
		return first(m, SEEN_TYPE);
	if (span_is(name, "location"))
		return first(m, SEEN_LOCATION);
	return true;
}

/*
 * A name that goes on where a field of framing ends. A parser that many servers had, Node's before
 * llhttp among them, takes "Transfer-Encodingx: chunked" for the field itself.
 */
static bool looks_like_framing(struct span name)
{
	static const char coding[] = "transfer-encoding", length[] = "content-length";

	return (name.len >= sizeof(coding) && memcmp(name.at, coding, sizeof(coding) - 1) == 0) ||
	       (name.len >= sizeof(length) && memcmp(name.at, length, sizeof(length) - 1) == 0);
}

bool head_parse_field(struct head_maker *m, struct span name, struct span value)
{
	struct http_head *h = m->head;

	if (!field_parse_name_ok(name) || (!m->rules->response && looks_like_framing(name)))
		return refuse(m, HTTP_FIELD_NAME);
	if (!field_parse_value_ok(value))
		return refuse(m, HTTP_FIELD_VALUE);
	if (field_parse_is_hop(name))
		return add_hop(m, name, value);
	if (!may_repeat(m, name))
		return refuse(m, HTTP_FIELD_REPEATED);
	if (h->count == HTTP_FIELDS_MAX)
		return refuse(m, HTTP_FIELDS_TOO_MANY);
	h->fields[h->count++] = (struct http_field){ .name = name, .value = value };
	return true;
}

/* What may never be taken away on the way. */
static bool option_legal(struct span option)
{
	static const char *const never[] = { "host",          "authorization", "cookie",
		                             "set-cookie",    "expect",        "date",
		                             "cache-control", "accept",        "location",
		                             "range" };

	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		if (field_parse_is(option, never[i]))
			return false;
	for (size_t i = 0; i < option.len; i++)
		if (!char_is(option.at[i], CHAR_TOKEN))
			return false;
	return option.len < 8 || !field_parse_is(span_of(option.at, 8), "content-");
}

static bool same_name(struct span lower, struct span other)
{
	if (lower.len != other.len)
		return false;
	for (size_t i = 0; i < lower.len; i++)
		if (lower.at[i] != char_lower(other.at[i]))
			return false;
	return true;
}

static bool apply_options(struct head_maker *m)
{
	struct http_head *h = m->head;
	uint16_t kept = 0;

	for (uint16_t k = 0; k < m->option_count; k++)
		if (!option_legal(m->options[k]))
			return refuse(m, HTTP_OPTION);
	for (uint16_t i = 0; i < h->count; i++) {
		bool named = false;

		for (uint16_t k = 0; k < m->option_count; k++)
			named = named || same_name(h->fields[i].name, m->options[k]);
		if (!named)
			h->fields[kept++] = h->fields[i];
	}
	h->count = kept;
	return true;
}

/* Leaves NONE where nothing was said. */
static bool read_framing(struct head_maker *m)
{
	struct http_head *h = m->head;

	if (m->seen & SEEN_CODING) {
		if (m->seen & SEEN_LENGTH)
			return refuse(m, HTTP_LENGTH_AND_CODING);
		if (m->version == HTTP_1_0 || !field_parse_is(m->coding, "chunked"))
			return refuse(m, HTTP_CODING);
		h->framing = HTTP_BODY_STREAM;
	}
	if (m->seen & SEEN_LENGTH) {
		if (!field_parse_length(m->length, &h->length))
			return refuse(m, HTTP_LENGTH);
		h->framing = HTTP_BODY_LENGTH;
		if (m->rules->body_max && h->length > m->rules->body_max && !m->rules->to_head &&
		    h->status != 304)
			return refuse(m, HTTP_BODY_TOO_LARGE);
	}
	return true;
}

/* Which of websocket's two halves is here: the field, and Connection naming it. */
static bool read_upgrade(struct head_maker *m, bool *ret)
{
	struct span list = m->upgrade;
	struct span one;
	bool websocket = false;
	size_t count = 0;

	while (next_element(&list, &one)) {
		websocket = websocket || field_parse_is(one, "websocket");
		count++;
	}
	if (websocket && count > 1)
		return refuse(m, HTTP_UPGRADE);
	*ret = websocket && (m->seen & SEEN_OPTION_UPGRADE) != 0 && m->version == HTTP_1_1;
	return true;
}

static bool set_host(struct head_maker *m, struct span text)
{
	struct http_host *host = &m->head->host;

	if (host_parse(text, host) < 0)
		return refuse(m, HTTP_HOST);
	if (host->port == 0)
		host->port = m->head->scheme == HTTP_TLS ? 443 : 80;
	return true;
}

/* The authority of the target, and Host beside it, are one. */
static bool set_authority(struct head_maker *m, struct span authority)
{
	struct http_host said;

	if (!set_host(m, authority))
		return false;
	said = m->head->host;
	if (!(m->seen & SEEN_HOST))
		return m->version == HTTP_2 || refuse(m, HTTP_HOST_MISSING);
	if (!set_host(m, m->host))
		return false;
	return host_parse_same(&said, &m->head->host) || refuse(m, HTTP_HOST_MISMATCH);
}

/* "http://authority/path": cuts the target down to what begins with '/' or '?'. */
static bool split_absolute(struct head_maker *m, struct span *target)
{
	struct span rest = *target;
	struct span scheme;
	const char *want = m->rules->scheme == HTTP_TLS ? "https" : "http";
	size_t n = 0;

	if (!take_until(&rest, ':', &scheme) || rest.len < 2 || rest.at[0] != '/' ||
	    rest.at[1] != '/')
		return refuse(m, HTTP_TARGET);
	if (!field_parse_is(scheme, want))
		return refuse(m, HTTP_SCHEME);
	rest = span_of(rest.at + 2, rest.len - 2);
	while (n < rest.len && rest.at[n] != '/' && rest.at[n] != '?' && rest.at[n] != '#')
		n++;
	if (!set_authority(m, span_of(rest.at, n)))
		return false;
	*target = span_of(rest.at + n, rest.len - n);
	return true;
}

static bool set_path(struct head_maker *m, struct span target)
{
	struct http_head *h = m->head;
	const uint8_t *mark = target.len ? memchr(target.at, '?', target.len) : NULL;
	struct span raw = span_of(target.at, mark ? (size_t)(mark - target.at) : target.len);
	size_t from = m->path->len;
	uint32_t flags = 0;

	if (mark) {
		h->flags |= HTTP_FLAG_QUERY;
		h->query = span_of(mark + 1, target.len - raw.len - 1);
		if (query_parse_check(h->query, &m->why) < 0)
			return false;
	}
	if (raw.len == 0)
		raw = span_of("/", 1); /* only after an authority */
	if (path_parse(raw, m->rules->keep_slash ? PATH_KEEP_SLASH : 0, m->path, &flags, &m->why) <
	    0)
		return false;
	h->flags |= flags;
	h->path = span_of(m->path->at + from, m->path->len - from);
	return true;
}

static bool set_target(struct head_maker *m)
{
	struct span target = m->target;
	bool options = span_is(m->head->method, "OPTIONS");

	if (target.len > HTTP_TARGET_MAX)
		return refuse(m, HTTP_TARGET_TOO_LONG);
	if (target.len == 0)
		return refuse(m, HTTP_TARGET);
	if (target.at[0] != '/' && !span_is(target, "*")) {
		if (m->version == HTTP_2 || !split_absolute(m, &target))
			return m->why ? false : refuse(m, HTTP_TARGET);
		if (target.len == 0 && options)
			target = span_of("*", 1); /* RFC 9112, 3.2.4 */
	} else if (m->has_authority) {
		if (!set_authority(m, m->authority))
			return false;
	} else if (!(m->seen & SEEN_HOST)) {
		return refuse(m, HTTP_HOST_MISSING);
	} else if (!set_host(m, m->host)) {
		return false;
	}
	if (span_is(target, "*")) {
		m->head->path = target;
		return options || refuse(m, HTTP_TARGET);
	}
	return set_path(m, target);
}

/* "host:port", the port said; no path, no body. */
static bool set_connect(struct head_maker *m)
{
	struct http_host said;

	if (!m->rules->connect || m->version == HTTP_2)
		return refuse(m, HTTP_CONNECT);
	if (m->target.len > HTTP_TARGET_MAX)
		return refuse(m, HTTP_TARGET_TOO_LONG);
	if (host_parse(m->target, &said) < 0 || said.port == 0)
		return refuse(m, HTTP_HOST);
	if (m->head->framing != HTTP_BODY_NONE)
		return refuse(m, HTTP_BODY_FORBIDDEN);
	return set_authority(m, m->target);
}

static bool finish_request(struct head_maker *m)
{
	struct http_head *h = m->head;
	bool websocket;

	h->scheme = m->rules->scheme;
	if (!field_parse_method_ok(h->method))
		return refuse(m, HTTP_METHOD);
	if (span_is(h->method, "TRACE"))
		return refuse(m, HTTP_TRACE);
	if (m->version == HTTP_2 &&
	    !field_parse_is(m->scheme, h->scheme == HTTP_TLS ? "https" : "http"))
		return refuse(m, HTTP_SCHEME);
	if (!(span_is(h->method, "CONNECT") ? set_connect(m) : set_target(m)))
		return false;
	if (!read_upgrade(m, &websocket))
		return false;
	if (websocket) {
		if (!span_is(h->method, "GET") || h->framing == HTTP_BODY_STREAM || h->length > 0)
			return refuse(m, HTTP_UPGRADE);
		h->flags |= HTTP_FLAG_WEBSOCKET;
	}
	return true;
}

/* 1xx, 204, 304 and answers to HEAD end with their head, whatever they say: RFC 9112, 6.3. */
static bool finish_response(struct head_maker *m)
{
	struct http_head *h = m->head;
	bool websocket;

	if (h->status < 100 || h->status > 599)
		return refuse(m, HTTP_STATUS);
	if (h->status < 200 || h->status == 204) {
		if (h->framing == HTTP_BODY_STREAM || h->length > 0)
			return refuse(m, HTTP_BODY_FORBIDDEN);
		h->framing = HTTP_BODY_NONE;
	} else if (h->status == 304 || m->rules->to_head) {
		if (m->seen & SEEN_LENGTH)
			h->flags |= HTTP_FLAG_DECLARED;
		h->framing = HTTP_BODY_NONE;
	} else if (h->framing == HTTP_BODY_NONE) {
		h->framing = HTTP_BODY_STREAM;
		m->until_close = m->version != HTTP_2;
	}
	if (!read_upgrade(m, &websocket))
		return false;
	if (h->status == 101) {
		if (!websocket || !m->rules->to_websocket)
			return refuse(m, HTTP_UNASKED);
		h->flags |= HTTP_FLAG_WEBSOCKET;
	}
	return true;
}

bool head_parse_finish(struct head_maker *m)
{
	m->close = m->close || m->version == HTTP_1_0;
	if (!read_framing(m) || !apply_options(m))
		return false;
	if (m->rules->response)
		return finish_response(m);
	if (!finish_request(m))
		return false;
	if (m->version == HTTP_2 && m->head->framing == HTTP_BODY_NONE)
		m->head->framing = HTTP_BODY_STREAM;
	return true;
}

bool head_parse_trailer(struct http_trailers *t, struct span name, struct span value,
                        enum http_reason *ret_why)
{
	if (!field_parse_name_ok(name))
		*ret_why = HTTP_FIELD_NAME;
	else if (!field_parse_value_ok(value))
		*ret_why = HTTP_FIELD_VALUE;
	else if (!field_parse_in_trailers(name))
		*ret_why = HTTP_TRAILER;
	else if (t->count == HTTP_TRAILER_FIELDS_MAX)
		*ret_why = HTTP_TRAILERS_TOO_LARGE;
	else {
		t->fields[t->count++] = (struct http_field){ .name = name, .value = value };
		return true;
	}
	return false;
}
