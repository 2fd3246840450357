/* One good frame of every type, for the tests of src/egress. */
#pragma once

#include "egress/order.h"
#include "test.h"

#include <string.h>

static inline void sample_request(struct egress_request *r)
{
	memset(r, 0, sizeof(*r));
	r->generation = 3;
	r->rule = 14;
	r->addr = (struct egress_addr){ .family = EGRESS_IP4, .bytes = { 192, 0, 2, 1 } };
	r->head.method = span_str("POST");
	r->head.scheme = HTTP_TLS;
	CHECK_EQ(host_parse(span_str("a.test"), &r->head.host), 0);
	r->head.host.port = 443;
	r->head.path = span_str("/x%2Fy");
	r->head.query = span_str("q=1");
	r->head.flags = HTTP_FLAG_QUERY | HTTP_FLAG_ENCODED_SLASH | HTTP_FLAG_TRAILERS;
	r->head.framing = HTTP_BODY_LENGTH;
	r->head.length = 5;
	r->head.count = 2;
	r->head.fields[0] = (struct http_field){ span_str("x-api-key"), span_str("placeholder") };
	r->head.fields[1] = (struct http_field){ span_str("cookie"), span_str("a=b") };
}

static inline void sample_response(struct http_head *h)
{
	memset(h, 0, sizeof(*h));
	h->status = 200;
	h->framing = HTTP_BODY_STREAM;
	h->count = 1;
	h->fields[0] = (struct http_field){ span_str("server"), span_str("x") };
}

/* Appends the sample of a type; false if there is no such type. */
static inline bool sample_put(struct buf *out, uint8_t type, uint32_t stream)
{
	static struct egress_request request;
	static struct http_head response;
	struct egress_stats stats = { .streams = 1, .violations = 9 };
	struct egress_resolve resolve = { .want = 3, .name = span_str("a.test") };
	struct egress_resolved resolved = { .ttl_s = 60, .count = 1, .chain_count = 1 };
	struct egress_connect to = { .generation = 1, .port = 443, .protocol = EGRESS_TLS };
	struct egress_connected done = { 0 };
	struct egress_mark mark = { span_str("KEY"), EGRESS_IN_BODY, EGRESS_BASE64, 2 };
	struct http_trailers trailers = { .count = 1 };

	resolved.addr[0].family = EGRESS_IP6;
	resolved.chain[0] = span_str("b.test");
	to.addr.family = EGRESS_IP6;
	to.name = span_str("a.test");
	trailers.fields[0] = (struct http_field){ span_str("grpc-status"), span_str("0") };
	switch (type) {
	case EGRESS_HELLO:
		egress_put_u32(out, type, stream, EGRESS_VERSION);
		return true;
	case EGRESS_POLICY_OK:
	case EGRESS_CREDIT:
	case EGRESS_REVOKED:
		egress_put_u32(out, type, stream, 7);
		return true;
	case EGRESS_REFUSE:
		egress_put_text(out, "why");
		return true;
	case EGRESS_POLICY:
		egress_put_policy(out, 3, span_str("opaque"));
		return true;
	case EGRESS_STATS:
	case EGRESS_END:
		egress_put(out, type, stream, span_of(NULL, 0));
		return true;
	case EGRESS_STATS_OK:
		egress_put_stats(out, &stats);
		return true;
	case EGRESS_RESOLVE:
		egress_put_resolve(out, stream, &resolve);
		return true;
	case EGRESS_RESOLVED:
		egress_put_resolved(out, stream, &resolved);
		return true;
	case EGRESS_CONNECT:
		egress_put_connect(out, stream, &to);
		return true;
	case EGRESS_CONNECTED:
		egress_put_connected(out, stream, &done);
		return true;
	case EGRESS_REQUEST:
		sample_request(&request);
		egress_put_request(out, stream, &request);
		return true;
	case EGRESS_RESPONSE:
		sample_response(&response);
		egress_put_response(out, stream, &response);
		return true;
	case EGRESS_BODY:
		egress_put(out, type, stream, span_str("hello"));
		return true;
	case EGRESS_TRAILERS:
		egress_put_trailers(out, stream, &trailers);
		return true;
	case EGRESS_RESET:
		egress_put_reset(out, stream, EGRESS_CANCELLED);
		return true;
	case EGRESS_SCRUBBED:
	case EGRESS_VIOLATION:
		egress_put_mark(out, type, stream, &mark);
		return true;
	default:
		return false;
	}
}

static inline uint32_t sample_stream(uint8_t type)
{
	return type >= EGRESS_RESOLVE ? 5 : 0;
}
