#include "samples.h"

static struct egress_stream slots[64];
static struct egress_order order;
static uint8_t room[EGRESS_FRAME_MAX];

enum { G = EGRESS_FROM_GATE, V = EGRESS_FROM_VAULT };

static void begin(void)
{
	egress_order_init(&order, slots, 64, 32);
	order.gate_hello = true;
	order.vault_hello = true;
}

static enum egress_verdict step_frame(int from, struct buf *b)
{
	struct span in = buf_span(b);
	struct egress_frame f;

	CHECK_EQ(egress_parse_frame(&in, (enum egress_side)from, &f), 0);
	return egress_order_step(&order, (enum egress_side)from, &f);
}

static enum egress_verdict step(int from, uint8_t type, uint32_t stream)
{
	struct buf b;

	buf_init(&b, room, sizeof(room));
	CHECK(sample_put(&b, type, stream));
	return step_frame(from, &b);
}

static enum egress_verdict send_request(uint32_t stream, uint8_t framing, uint64_t length,
                                        uint32_t flags)
{
	static struct egress_request r;
	struct buf b;

	sample_request(&r);
	r.head.method = span_str("GET");
	r.head.framing = framing;
	r.head.length = length;
	r.head.flags |= flags;
	buf_init(&b, room, sizeof(room));
	egress_put_request(&b, stream, &r);
	return step_frame(G, &b);
}

static enum egress_verdict respond(uint32_t stream, uint16_t status, uint8_t framing)
{
	static struct http_head h;
	struct buf b;

	sample_response(&h);
	h.status = status;
	h.framing = framing;
	h.flags = status == 101 ? HTTP_FLAG_WEBSOCKET : 0;
	buf_init(&b, room, sizeof(room));
	egress_put_response(&b, stream, &h);
	return step_frame(V, &b);
}

static enum egress_verdict body(int from, uint32_t stream, size_t len)
{
	static uint8_t zeros[EGRESS_BODY_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	egress_put(&b, EGRESS_BODY, stream, span_of(zeros, len));
	return step_frame(from, &b);
}

static enum egress_verdict credit(int from, uint32_t stream, uint32_t n)
{
	struct buf b;

	buf_init(&b, room, sizeof(room));
	egress_put_u32(&b, EGRESS_CREDIT, stream, n);
	return step_frame(from, &b);
}

TEST(hello_comes_first_and_once)
{
	struct buf b;

	egress_order_init(&order, slots, 64, 32);
	CHECK_EQ(step(G, EGRESS_STATS, 0), EGRESS_BAD_HELLO);
	CHECK_EQ(step(G, EGRESS_RESOLVE, 1), EGRESS_BAD_HELLO);
	CHECK_EQ(step(G, EGRESS_REFUSE, 0), EGRESS_PASS);
	CHECK_EQ(step(G, EGRESS_HELLO, 0), EGRESS_PASS);
	CHECK_EQ(step(G, EGRESS_HELLO, 0), EGRESS_BAD_HELLO);
	CHECK_EQ(step(G, EGRESS_RESOLVE, 1), EGRESS_PASS);
	CHECK_EQ(step(V, EGRESS_RESOLVED, 1), EGRESS_BAD_HELLO);
	buf_init(&b, room, sizeof(room));
	egress_put_u32(&b, EGRESS_HELLO, 0, EGRESS_VERSION + 1);
	CHECK_EQ(step_frame(V, &b), EGRESS_BAD_HELLO);
	CHECK_EQ(step(V, EGRESS_HELLO, 0), EGRESS_PASS);
	CHECK_EQ(step(V, EGRESS_RESOLVED, 1), EGRESS_PASS);
	CHECK_EQ(order.count, 0);
}

TEST(a_name_is_resolved_once)
{
	begin();
	CHECK_EQ(step(G, EGRESS_RESOLVE, 3), EGRESS_PASS);
	CHECK_EQ(step(G, EGRESS_END, 3), EGRESS_BAD_ORDER);
	CHECK_EQ(step(V, EGRESS_CONNECTED, 3), EGRESS_BAD_ORDER);
	CHECK_EQ(step(V, EGRESS_RESOLVED, 4), EGRESS_BAD_STREAM);
	CHECK_EQ(step(V, EGRESS_RESOLVED, 3), EGRESS_PASS);
	CHECK_EQ(step(V, EGRESS_RESOLVED, 3), EGRESS_BAD_STREAM);
	CHECK_EQ(step(G, EGRESS_RESOLVE, 3), EGRESS_BAD_STREAM);
	CHECK_EQ(step(G, EGRESS_RESOLVE, 2), EGRESS_BAD_STREAM);
	CHECK_EQ(step(G, EGRESS_RESOLVE, 4), EGRESS_PASS);
}

TEST(a_connection_lives_until_both_end_it)
{
	struct egress_connected failed = { .fail = EGRESS_TIMEOUT };
	struct buf b;

	begin();
	CHECK_EQ(step(G, EGRESS_CONNECT, 1), EGRESS_PASS);
	CHECK_EQ(body(G, 1, 1), EGRESS_BAD_LENGTH);
	CHECK_EQ(credit(V, 1, 1), EGRESS_BAD_ORDER);
	CHECK_EQ(step(V, EGRESS_END, 1), EGRESS_BAD_ORDER);
	CHECK_EQ(step(V, EGRESS_CONNECTED, 1), EGRESS_PASS);
	CHECK_EQ(step(V, EGRESS_CONNECTED, 1), EGRESS_BAD_ORDER);
	CHECK_EQ(step(V, EGRESS_REVOKED, 1), EGRESS_PASS);
	CHECK_EQ(order.count, 1);
	CHECK_EQ(step(G, EGRESS_END, 1), EGRESS_DROP);
	CHECK_EQ(order.count, 0);

	/* cancelled while the vault dials: what comes is dropped, its descriptor closed */
	CHECK_EQ(step(G, EGRESS_CONNECT, 2), EGRESS_PASS);
	CHECK_EQ(step(G, EGRESS_RESET, 2), EGRESS_PASS);
	CHECK_EQ(step(V, EGRESS_CONNECTED, 2), EGRESS_DROP);
	CHECK_EQ(step(V, EGRESS_RESET, 2), EGRESS_DROP);
	CHECK_EQ(order.count, 0);

	CHECK_EQ(step(G, EGRESS_CONNECT, 3), EGRESS_PASS);
	buf_init(&b, room, sizeof(room));
	egress_put_connected(&b, 3, &failed);
	CHECK_EQ(step_frame(V, &b), EGRESS_PASS);
	CHECK_EQ(step(G, EGRESS_END, 3), EGRESS_PASS);
	CHECK_EQ(order.count, 0);
}

TEST(a_request_has_its_length)
{
	begin();
	CHECK_EQ(send_request(1, HTTP_BODY_LENGTH, 5, 0), EGRESS_PASS);
	CHECK_EQ(egress_order_room(egress_order_find(&order, 1), EGRESS_FROM_GATE), 5);
	CHECK_EQ(body(G, 1, 6), EGRESS_BAD_LENGTH);
	CHECK_EQ(body(G, 1, 4), EGRESS_PASS);
	CHECK_EQ(step(G, EGRESS_END, 1), EGRESS_BAD_LENGTH);
	CHECK_EQ(step(G, EGRESS_TRAILERS, 1), EGRESS_BAD_ORDER);
	CHECK_EQ(body(G, 1, 1), EGRESS_PASS);
	CHECK_EQ(step(G, EGRESS_END, 1), EGRESS_PASS);
	CHECK_EQ(body(G, 1, 1), EGRESS_BAD_ORDER);
	CHECK_EQ(step(G, EGRESS_END, 1), EGRESS_BAD_ORDER);
	CHECK_EQ(body(V, 1, 1), EGRESS_BAD_ORDER);
	CHECK_EQ(respond(1, 103, HTTP_BODY_NONE), EGRESS_PASS);
	CHECK_EQ(respond(1, 200, HTTP_BODY_STREAM), EGRESS_PASS);
	CHECK_EQ(respond(1, 200, HTTP_BODY_STREAM), EGRESS_BAD_ORDER);
	CHECK_EQ(step(V, EGRESS_SCRUBBED, 1), EGRESS_PASS);
	CHECK_EQ(body(V, 1, 1), EGRESS_PASS);
	CHECK_EQ(step(V, EGRESS_TRAILERS, 1), EGRESS_PASS);
	CHECK_EQ(body(V, 1, 1), EGRESS_BAD_ORDER);
	CHECK_EQ(step(V, EGRESS_END, 1), EGRESS_PASS);
	CHECK_EQ(order.count, 0);
	CHECK_EQ(credit(G, 1, 1), EGRESS_DROP);
	CHECK_EQ(step(G, EGRESS_RESET, 1), EGRESS_DROP);
	CHECK_EQ(body(V, 1, 1), EGRESS_BAD_STREAM);
	CHECK_EQ(send_request(2, HTTP_BODY_NONE, 0, 0), EGRESS_PASS);
	CHECK_EQ(body(G, 2, 1), EGRESS_BAD_LENGTH);
	CHECK_EQ(respond(2, 101, HTTP_BODY_NONE), EGRESS_BAD_HEAD);
}

TEST(bytes_cost_credit)
{
	begin();
	CHECK_EQ(send_request(1, HTTP_BODY_STREAM, 0, 0), EGRESS_PASS);
	for (unsigned i = 0; i < EGRESS_WINDOW_BYTES / EGRESS_BODY_MAX; i++)
		CHECK_EQ(body(G, 1, EGRESS_BODY_MAX), EGRESS_PASS);
	CHECK_EQ(body(G, 1, 1), EGRESS_BAD_CREDIT);
	CHECK_EQ(egress_order_room(egress_order_find(&order, 1), EGRESS_FROM_GATE), 0);
	CHECK_EQ(credit(V, 1, 10), EGRESS_PASS);
	CHECK_EQ(body(G, 1, 11), EGRESS_BAD_CREDIT);
	CHECK_EQ(body(G, 1, 10), EGRESS_PASS);
	CHECK_EQ(credit(V, 1, 0), EGRESS_BAD_CREDIT);
	CHECK_EQ(credit(V, 1, EGRESS_CREDIT_MAX), EGRESS_PASS);
	CHECK_EQ(credit(V, 1, 1), EGRESS_BAD_CREDIT);
	CHECK_EQ(credit(G, 1, EGRESS_CREDIT_MAX - EGRESS_WINDOW_BYTES + 1), EGRESS_BAD_CREDIT);
	CHECK_EQ(credit(G, 1, EGRESS_CREDIT_MAX - EGRESS_WINDOW_BYTES), EGRESS_PASS);
}

TEST(after_an_upgrade_bytes_go_both_ways)
{
	begin();
	CHECK_EQ(send_request(1, HTTP_BODY_NONE, 0, HTTP_FLAG_WEBSOCKET), EGRESS_PASS);
	CHECK_EQ(body(G, 1, 1), EGRESS_BAD_LENGTH);
	CHECK_EQ(respond(1, 101, HTTP_BODY_NONE), EGRESS_PASS);
	CHECK_EQ(body(G, 1, 1), EGRESS_PASS);
	CHECK_EQ(body(V, 1, 1), EGRESS_PASS);
	CHECK_EQ(step(V, EGRESS_TRAILERS, 1), EGRESS_BAD_ORDER);
	CHECK_EQ(step(V, EGRESS_END, 1), EGRESS_PASS);
	CHECK_EQ(body(G, 1, 1), EGRESS_PASS);
	CHECK_EQ(step(G, EGRESS_END, 1), EGRESS_PASS);
	CHECK_EQ(order.count, 0);
}

TEST(a_reset_is_answered_and_what_crosses_it_dropped)
{
	begin();
	CHECK_EQ(send_request(1, HTTP_BODY_NONE, 0, 0), EGRESS_PASS);
	CHECK_EQ(step(G, EGRESS_END, 1), EGRESS_PASS);
	CHECK_EQ(step(G, EGRESS_RESET, 1), EGRESS_PASS);
	CHECK_EQ(step(G, EGRESS_RESET, 1), EGRESS_BAD_ORDER);
	CHECK_EQ(credit(G, 1, 1), EGRESS_BAD_ORDER);
	CHECK_EQ(respond(1, 200, HTTP_BODY_STREAM), EGRESS_DROP);
	CHECK_EQ(body(V, 1, 100), EGRESS_DROP);
	CHECK_EQ(body(V, 1, EGRESS_BODY_MAX), EGRESS_DROP);
	CHECK_EQ(order.count, 1);
	CHECK_EQ(step(V, EGRESS_RESET, 1), EGRESS_DROP);
	CHECK_EQ(order.count, 0);
}

TEST(streams_are_counted)
{
	begin();
	for (uint32_t i = 1; i <= 32; i++)
		CHECK_EQ(step(G, EGRESS_RESOLVE, i), EGRESS_PASS);
	CHECK_EQ(step(G, EGRESS_RESOLVE, 33), EGRESS_BAD_COUNT);
	CHECK_EQ(step(V, EGRESS_RESOLVED, 9), EGRESS_PASS);
	CHECK_EQ(step(G, EGRESS_RESOLVE, 33), EGRESS_PASS);
}

/* The table finds what is open, and only that, whatever came and went. */
TEST(streams_are_found_among_many)
{
	uint32_t open[32];
	uint32_t count = 0;
	uint32_t next = 1;
	uint32_t random = 1;

	begin();
	for (int round = 0; round < 20000; round++) {
		random = random * 1664525U + 1013904223U;
		if (count < 32 && (random >> 20) % 2) {
			next += 1 + (random >> 8) % 97;
			CHECK_EQ(step(G, EGRESS_RESOLVE, next), EGRESS_PASS);
			open[count++] = next;
		} else if (count > 0) {
			uint32_t i = (random >> 10) % count;

			CHECK_EQ(step(V, EGRESS_RESOLVED, open[i]), EGRESS_PASS);
			CHECK(!egress_order_find(&order, open[i]));
			open[i] = open[--count];
		}
		CHECK_EQ(order.count, count);
		for (uint32_t i = 0; i < count; i++)
			CHECK(egress_order_find(&order, open[i])->id == open[i]);
	}
	CHECK(!egress_order_find(&order, 0));
}

TEST_MAIN()
