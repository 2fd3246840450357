/*
 * The payloads of REQUEST, RESPONSE and TRAILERS by themselves: what parses is canonical, and is
 * written again as the same bytes; as HTTP/1 it is read back as the same head.
 */
#include "egress/egress.h"
#include "http/h1.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t room[EGRESS_FRAME_MAX];
static uint8_t again[EGRESS_FRAME_MAX];
static struct h1_reader reader;

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* What the vault writes upstream is one request, and the one that was judged. */
static void as_http1(const struct egress_request *r, struct span frame)
{
	struct http_rules rules = { .scheme = r->head.scheme, .keep_slash = true };
	static struct egress_request copy;
	struct h1_event ev = { 0 };
	struct buf text;
	struct buf b;
	struct span in;

	buf_init(&text, again, sizeof(again));
	h1_put_request(&text, &r->head, 0);
	if (!buf_ok(&text) || text.len > HTTP_HEAD_MAX || http_head_find(&r->head, "cookie").at ||
	    r->head.path.len + r->head.query.len + 1 > HTTP_TARGET_MAX)
		return;
	in = buf_span(&text);
	h1_reader_init(&reader, &rules);
	must(h1_read(&reader, &in, &ev) == 0 && ev.kind == H1_HEAD);
	must(in.len == 0);
	copy.generation = r->generation;
	copy.rule = r->rule;
	copy.addr = r->addr;
	copy.head = *ev.head;
	buf_init(&b, room, sizeof(room));
	egress_put_request(&b, 1, &copy);
	must(span_equal(frame, span_of(b.at + EGRESS_HEADER_BYTES, b.len - EGRESS_HEADER_BYTES)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct egress_request r;
	static struct http_head h;
	static struct http_trailers t;
	struct span in = span_of(data, size);
	struct buf b;

	buf_init(&b, room, sizeof(room));
	if (egress_parse_request(in, &r) == 0) {
		egress_put_request(&b, 1, &r);
		must(size > EGRESS_HEAD_MAX ||
		     (buf_ok(&b) && span_equal(in, span_of(room + EGRESS_HEADER_BYTES,
		                                           b.len - EGRESS_HEADER_BYTES))));
		as_http1(&r, in);
	}
	buf_init(&b, room, sizeof(room));
	if (egress_parse_response(in, &h) == 0)
		egress_put_response(&b, 1, &h);
	else if (egress_parse_trailers(in, &t) == 0)
		egress_put_trailers(&b, 1, &t);
	else
		return 0;
	must(size > HTTP_TRAILER_BYTES_MAX ||
	     (buf_ok(&b) &&
	      span_equal(in, span_of(room + EGRESS_HEADER_BYTES, b.len - EGRESS_HEADER_BYTES))));
	return 0;
}
