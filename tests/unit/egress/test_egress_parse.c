#include "guardpage.h"
#include "samples.h"

#include <errno.h>

static uint8_t room[EGRESS_FRAME_MAX];

static struct span sample(uint8_t type)
{
	struct buf b;

	buf_init(&b, room, sizeof(room));
	if (!sample_put(&b, type, sample_stream(type)))
		return span_of(NULL, 0);
	CHECK(buf_ok(&b));
	return buf_span(&b);
}

static int parse(struct span bytes, enum egress_side from, struct egress_frame *ret)
{
	uint8_t *at = guard_copy(bytes.at, bytes.len);
	struct span in = span_of(at, bytes.len);
	struct egress_frame f;
	struct egress_frame before;
	int r;

	memset(&f, 0xa5, sizeof(f));
	memset(&before, 0xa5, sizeof(before));
	r = egress_parse_frame(&in, from, &f);
	if (r < 0)
		CHECK(in.at == at && memcmp(&f, &before, sizeof(f)) == 0);
	else if (ret)
		*ret = (struct egress_frame){
			f.type, f.stream, span_of(bytes.at + EGRESS_HEADER_BYTES, f.payload.len)
		};
	guard_free(at, bytes.len);
	return r;
}

/* Each type by one side only, but for seven; every prefix asks for more. */
TEST(every_frame_has_its_sender)
{
	unsigned types = 0;
	unsigned both = 0;

	for (unsigned type = 0; type < 256; type++) {
		struct span s = sample((uint8_t)type);
		int gate;
		int vault;

		CHECK_EQ(s.len > 0, strcmp(egress_type_name((uint8_t)type), "unknown type") != 0);
		if (s.len == 0)
			continue;
		types++;
		gate = parse(s, EGRESS_FROM_GATE, NULL);
		vault = parse(s, EGRESS_FROM_VAULT, NULL);
		CHECK(gate == 0 || gate == -EBADMSG);
		CHECK(gate == 0 || vault == 0);
		both += gate == 0 && vault == 0;
		for (size_t len = 0; len < s.len; len++)
			CHECK_EQ(parse(span_of(s.at, len),
			               gate ? EGRESS_FROM_VAULT : EGRESS_FROM_GATE, NULL),
			         -EAGAIN);
	}
	CHECK_EQ(types, 20);
	CHECK_EQ(both, 7);
}

TEST(a_bad_header_is_bad_at_once)
{
	uint8_t bytes[EGRESS_HEADER_BYTES];
	struct buf b;

	for (int i = 0; i < 5; i++) {
		static const struct {
			size_t at;
			uint8_t byte;
		} faults[] = { { 0, 0 }, { 3, 1 }, { 2, 15 }, { 4, 0 }, { 10, 2 } };

		buf_init(&b, bytes, sizeof(bytes));
		egress_put(&b, EGRESS_END, 1, span_of(NULL, 0));
		CHECK_EQ(parse(buf_span(&b), EGRESS_FROM_GATE, NULL), 0);
		bytes[faults[i].at] = faults[i].byte;
		CHECK_EQ(parse(buf_span(&b), EGRESS_FROM_GATE, NULL), -EBADMSG);
	}
	buf_init(&b, bytes, sizeof(bytes));
	egress_put(&b, EGRESS_END, 0, span_of(NULL, 0));
	CHECK_EQ(parse(buf_span(&b), EGRESS_FROM_GATE, NULL), -EBADMSG);
}

/* Cut or lengthened payloads are refused by every parser. */
static int parse_payload(uint8_t type, struct span p)
{
	static struct egress_request request;
	static struct http_head head;
	struct http_trailers trailers;
	struct egress_resolved resolved;
	struct egress_stats stats;
	struct egress_resolve resolve;
	struct egress_connect to;
	struct egress_connected done;
	struct egress_mark mark;
	enum egress_fail fail;
	struct span text;
	uint32_t n;

	switch (type) {
	case EGRESS_REFUSE:
		return egress_parse_text(p, &text);
	case EGRESS_STATS_OK:
		return egress_parse_stats(p, &stats);
	case EGRESS_RESOLVE:
		return egress_parse_resolve(p, &resolve);
	case EGRESS_RESOLVED:
		return egress_parse_resolved(p, &resolved);
	case EGRESS_CONNECT:
		return egress_parse_connect(p, &to);
	case EGRESS_CONNECTED:
		return egress_parse_connected(p, &done);
	case EGRESS_REQUEST:
		return egress_parse_request(p, &request);
	case EGRESS_RESPONSE:
		return egress_parse_response(p, &head);
	case EGRESS_TRAILERS:
		return egress_parse_trailers(p, &trailers);
	case EGRESS_RESET:
		return egress_parse_reset(p, &fail);
	case EGRESS_SCRUBBED:
	case EGRESS_VIOLATION:
		return egress_parse_mark(p, &mark);
	default:
		return egress_parse_u32(p, &n);
	}
}

TEST(every_payload_is_used_to_the_last_byte)
{
	static const uint8_t types[] = {
		EGRESS_HELLO,   EGRESS_REFUSE,    EGRESS_STATS_OK, EGRESS_RESOLVE,  EGRESS_RESOLVED,
		EGRESS_CONNECT, EGRESS_CONNECTED, EGRESS_REQUEST,  EGRESS_RESPONSE, EGRESS_TRAILERS,
		EGRESS_RESET,   EGRESS_CREDIT,    EGRESS_SCRUBBED, EGRESS_REVOKED,
	};

	for (size_t i = 0; i < sizeof(types); i++) {
		struct span s = sample(types[i]);
		struct span p = span_of(s.at + EGRESS_HEADER_BYTES, s.len - EGRESS_HEADER_BYTES);

		for (size_t len = 0; len <= p.len + 1; len++) {
			uint8_t *at = guard_copy(p.at, len);

			CHECK_EQ(parse_payload(types[i], span_of(at, len)),
			         len == p.len ? 0 : -EBADMSG);
			guard_free(at, len);
		}
	}
}

static struct egress_request request;
static struct egress_request again;

static int through(void)
{
	struct buf b;
	struct egress_frame f;
	struct span in;

	buf_init(&b, room, sizeof(room));
	egress_put_request(&b, 1, &request);
	CHECK(buf_ok(&b));
	in = buf_span(&b);
	CHECK_EQ(egress_parse_frame(&in, EGRESS_FROM_GATE, &f), 0);
	return egress_parse_request(f.payload, &again);
}

TEST(a_request_comes_through_whole)
{
	sample_request(&request);
	CHECK_EQ(through(), 0);
	CHECK_EQ(again.generation, 3);
	CHECK_EQ(again.rule, 14);
	CHECK_EQ(again.addr.bytes[3], 1);
	CHECK_SPAN(again.head.method, "POST");
	CHECK_SPAN(again.head.path, "/x%2Fy");
	CHECK_SPAN(again.head.query, "q=1");
	CHECK(host_parse_same(&again.head.host, &request.head.host));
	CHECK_EQ(again.head.flags, request.head.flags);
	CHECK_EQ(again.head.length, 5);
	CHECK_EQ(again.head.count, 2);
	CHECK_SPAN(again.head.fields[0].name, "x-api-key");
	CHECK_SPAN(again.head.fields[1].value, "a=b");
	CHECK_EQ(host_parse(span_str("[2001:db8::1]"), &request.head.host), 0);
	request.head.host.port = 8443;
	CHECK_EQ(through(), 0);
	CHECK(host_parse_same(&again.head.host, &request.head.host));
}

#define REFUSED(change)                                                                            \
	do {                                                                                       \
		sample_request(&request);                                                          \
		change;                                                                            \
		CHECK_EQ(through(), -EBADMSG);                                                     \
	} while (0)

/* A gate that was taken over sends what no parser of ours would have made. */
TEST(ssrf_3_a_request_is_judged_anew)
{
	struct http_head *h = &request.head;

	REFUSED(h->method = span_str("post"));
	REFUSED(h->method = span_str("TRACE"));
	REFUSED(h->method = span_str("CONNECT"));
	REFUSED(h->method = span_str("A B"));
	REFUSED(h->scheme = 0);
	REFUSED(h->host.port = 0);
	REFUSED(h->host.text[0] = 'A');
	REFUSED(h->host.text[1] = '_');
	REFUSED(h->host.text[0] = '.');
	REFUSED(h->host.len = 0);
	REFUSED(h->path = span_str("/x/../y"));
	REFUSED(h->path = span_str("/x%2fy"));
	REFUSED(h->path = span_str("/x%41%2F"));
	REFUSED(h->path = span_str("/x"));
	REFUSED(h->path = span_str(""));
	REFUSED(h->path = span_str("*"));
	REFUSED(h->path = span_str("/x%2Fy HTTP/1.1\r\nX: y"));
	REFUSED(h->query = span_str("a b"));
	REFUSED(h->flags &= ~(uint32_t)HTTP_FLAG_QUERY);
	REFUSED(h->flags |= HTTP_FLAG_WEBSOCKET);
	REFUSED(h->flags |= HTTP_FLAG_DECLARED);
	REFUSED(h->flags |= 1U << 30);
	REFUSED(h->framing = 3);
	REFUSED(h->framing = HTTP_BODY_NONE);
	REFUSED(h->status = 200);
	REFUSED(h->fields[0].name = span_str("X-Api-Key"));
	REFUSED(h->fields[0].name = span_str("content-length"));
	REFUSED(h->fields[0].name = span_str("content_length"));
	REFUSED(h->fields[0].name = span_str("host"));
	REFUSED(h->fields[0].name = span_str("transfer-encoding"));
	REFUSED(h->fields[0].name = span_str("connection"));
	REFUSED(h->fields[0].name = span_str(""));
	REFUSED(h->fields[0].value = span_str("a\r\nb: c"));
	REFUSED(h->fields[0].value = span_str(" a"));
	REFUSED(h->fields[0].name = h->fields[1].name = span_str("authorization"));
	REFUSED(request.addr.family = 0);
	REFUSED(request.addr.bytes[4] = 1);
}

TEST(http_2_a_response_is_judged_anew)
{
	static const struct {
		uint16_t status;
		uint8_t framing;
		uint32_t flags;
		uint64_t length;
		bool good;
	} rows[] = {
		{ 200, HTTP_BODY_STREAM, 0, 0, true },
		{ 200, HTTP_BODY_LENGTH, 0, 9, true },
		{ 200, HTTP_BODY_NONE, HTTP_FLAG_DECLARED, 9, true },
		{ 100, HTTP_BODY_NONE, 0, 0, true },
		{ 101, HTTP_BODY_NONE, HTTP_FLAG_WEBSOCKET, 0, true },
		{ 304, HTTP_BODY_NONE, HTTP_FLAG_DECLARED, 9, true },
		{ 99, HTTP_BODY_NONE, 0, 0, false },
		{ 600, HTTP_BODY_NONE, 0, 0, false },
		{ 200, HTTP_BODY_STREAM, 0, 9, false },
		{ 200, HTTP_BODY_STREAM, HTTP_FLAG_DECLARED, 9, false },
		{ 200, HTTP_BODY_STREAM, HTTP_FLAG_WEBSOCKET, 0, false },
		{ 200, HTTP_BODY_STREAM, HTTP_FLAG_QUERY, 0, false },
		{ 101, HTTP_BODY_NONE, 0, 0, false },
		{ 204, HTTP_BODY_LENGTH, 0, 0, false },
		{ 304, HTTP_BODY_STREAM, 0, 0, false },
		{ 100, HTTP_BODY_LENGTH, 0, 0, false },
		{ 200, HTTP_BODY_LENGTH, 0, UINT64_MAX, false },
	};
	static struct http_head h;
	static struct http_head got;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf b;

		sample_response(&h);
		h.status = rows[i].status;
		h.framing = rows[i].framing;
		h.flags = rows[i].flags;
		h.length = rows[i].length;
		buf_init(&b, room, sizeof(room));
		egress_put_response(&b, 1, &h);
		CHECK_EQ(egress_parse_response(
				 span_of(room + EGRESS_HEADER_BYTES, b.len - EGRESS_HEADER_BYTES),
				 &got),
		         rows[i].good ? 0 : -EBADMSG);
	}
}

TEST(what_does_not_fit_leaves_nothing)
{
	for (unsigned type = 0; type < EGRESS_TYPE_COUNT; type++) {
		size_t len = sample((uint8_t)type).len;
		uint8_t small[1024];
		struct buf b;

		for (size_t size = 0; size < len; size++) {
			buf_init(&b, small, size);
			CHECK(sample_put(&b, (uint8_t)type, 1));
			CHECK(!buf_ok(&b));
			CHECK_EQ(b.len, 0);
		}
	}
}

TEST_MAIN()
