/*
 * A whole conversation: each piece of the input is one byte that says who speaks and how long, then
 * the bytes. Contracts: a frame that parses is written again as the same bytes wherever there is a
 * writer; a failure changes nothing; the table of streams never holds more than it may, and what is
 * open is found.
 */
#include "egress/order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SLOTS = 32 };

static uint8_t room[EGRESS_FRAME_MAX];

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void same(const struct egress_frame *f, const struct buf *b)
{
	struct span payload = span_of(b->at + EGRESS_HEADER_BYTES, b->len - EGRESS_HEADER_BYTES);

	must(buf_ok(b) && span_equal(f->payload, payload));
}

static void check_small(const struct egress_frame *f, struct buf *b)
{
	struct egress_resolve resolve;
	struct egress_resolved resolved;
	struct egress_connect to;
	struct egress_connected done;
	struct egress_mark mark;
	struct egress_stats stats;
	enum egress_fail fail;
	bool ok = true;

	if (f->type == EGRESS_RESOLVE && egress_parse_resolve(f->payload, &resolve) == 0)
		egress_put_resolve(b, f->stream, &resolve);
	else if (f->type == EGRESS_RESOLVED && egress_parse_resolved(f->payload, &resolved) == 0)
		egress_put_resolved(b, f->stream, &resolved);
	else if (f->type == EGRESS_CONNECT && egress_parse_connect(f->payload, &to) == 0)
		egress_put_connect(b, f->stream, &to);
	else if (f->type == EGRESS_CONNECTED && egress_parse_connected(f->payload, &done) == 0)
		egress_put_connected(b, f->stream, &done);
	else if ((f->type == EGRESS_SCRUBBED || f->type == EGRESS_VIOLATION) &&
	         egress_parse_mark(f->payload, &mark) == 0)
		egress_put_mark(b, f->type, f->stream, &mark);
	else if (f->type == EGRESS_STATS_OK && egress_parse_stats(f->payload, &stats) == 0)
		egress_put_stats(b, &stats);
	else if (f->type == EGRESS_RESET && egress_parse_reset(f->payload, &fail) == 0)
		egress_put_reset(b, f->stream, fail);
	else
		ok = false;
	if (ok)
		same(f, b);
}

static void check_large(const struct egress_frame *f, struct buf *b)
{
	static struct egress_request request;
	static struct http_head head;
	static struct http_trailers trailers;

	if (f->type == EGRESS_REQUEST && egress_parse_request(f->payload, &request) == 0)
		egress_put_request(b, f->stream, &request);
	else if (f->type == EGRESS_RESPONSE && egress_parse_response(f->payload, &head) == 0)
		egress_put_response(b, f->stream, &head);
	else if (f->type == EGRESS_TRAILERS && egress_parse_trailers(f->payload, &trailers) == 0)
		egress_put_trailers(b, f->stream, &trailers);
	else
		return;
	same(f, b);
}

static void read_frames(struct egress_order *o, enum egress_side from, struct span in)
{
	struct egress_frame f;
	struct egress_frame filled;
	enum egress_verdict v;
	struct buf b;

	memset(&f, 0xa5, sizeof(f));
	memset(&filled, 0xa5, sizeof(filled));
	while (egress_parse_frame(&in, from, &f) == 0) {
		must(f.type < EGRESS_TYPE_COUNT && f.payload.len <= 4 + EGRESS_POLICY_MAX);
		must(strcmp(egress_type_name(f.type), "unknown type") != 0);
		buf_init(&b, room, sizeof(room));
		check_small(&f, &b);
		buf_init(&b, room, sizeof(room));
		check_large(&f, &b);
		v = egress_order_step(o, from, &f);
		must(v < EGRESS_VERDICT_COUNT && o->count <= o->count_max);
		if (v == EGRESS_PASS && (f.type == EGRESS_CONNECT || f.type == EGRESS_REQUEST))
			must(egress_order_find(o, f.stream) != NULL);
		memset(&f, 0xa5, sizeof(f));
	}
	must(memcmp(&f, &filled, sizeof(f)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct egress_stream slots[SLOTS];
	struct egress_order o;
	uint32_t open = 0;

	egress_order_init(&o, slots, SLOTS, SLOTS / 2);
	while (size > 1) {
		size_t len = data[0] & 127;

		if (len == 127 || len > size - 1)
			len = size - 1;
		read_frames(&o, data[0] & 128 ? EGRESS_FROM_VAULT : EGRESS_FROM_GATE,
		            span_of(data + 1, len));
		data += 1 + len;
		size -= 1 + len;
	}
	for (uint32_t i = 0; i < SLOTS; i++)
		if (slots[i].id) {
			must(egress_order_find(&o, slots[i].id) == &slots[i]);
			open++;
		}
	must(open == o.count);
	return 0;
}
