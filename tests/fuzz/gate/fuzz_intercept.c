/*
 * A whole conversation: the guest's bytes, plain or HTTP/2, any cut; a vault that says anything its
 * order permits, time that passes, a link without room, a policy that changes. Every frame of the
 * gate's has to be one that the vault would take, and at the end nothing may be left.
 */
#include "egress/control.h"
#include "egress/order.h"
#include "gate/intercept.h"
#include "policy/draft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SLOTS = 512, OPEN_MAX = 64 };

struct world {
	struct ca *ca;
	struct intercepts *all;
	struct policy *policies[2];
	unsigned policy;
	struct host_name pin;
	const struct host_name *pins[1];
	struct egress_order order;
	struct egress_stream slots[SLOTS];
	uint32_t next;
	bool full, over;
	struct buf frame;
	uint8_t bytes[EGRESS_HEADER_BYTES + EGRESS_HEAD_MAX + EGRESS_BODY_MAX];
	uint32_t open[OPEN_MAX]; /* streams that were opened, in a ring */
	unsigned opened;
	struct http_head head;
};

static void must(bool ok)
{
	if (!ok)
		abort();
}

static const struct policy *op_policy(void *flow)
{
	const struct world *w = flow;

	return w->policies[w->policy];
}

static bool op_over(void *flow)
{
	const struct world *w = flow;

	return w->over;
}

static void op_ask(void *flow, struct policy_ask *ret)
{
	static const uint8_t addr[4] = { 192, 0, 3, 7 };
	struct world *w = flow;

	ret->addr = addr_of_v4(addr);
	ret->port = 80;
	ret->transport = POLICY_TCP;
	ret->names = w->pins;
	ret->names_count = 1;
}

static uint32_t op_number(void *flow)
{
	return ++((struct world *)flow)->next;
}

static void op_record(void *flow, const struct egress_record *r)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_packet p;
	struct egress_record back;
	struct buf b;

	(void)flow;
	buf_init(&b, room, sizeof(room));
	control_put_record(&b, r);
	must(buf_ok(&b) && control_parse_packet(buf_span(&b), CONTROL_FROM_GATE, &p) == 0 &&
	     control_parse_record(p.payload, &back) == 0);
}

static struct buf *op_frame(void *flow, size_t bytes)
{
	struct world *w = flow;

	if (w->full && bytes > INTERCEPT_SMALL)
		return NULL;
	buf_init(&w->frame, w->bytes, bytes);
	return &w->frame;
}

static int op_send(void *flow)
{
	struct world *w = flow;
	struct span s = buf_span(&w->frame);
	struct egress_frame f;
	enum egress_verdict v;

	must(buf_ok(&w->frame) && egress_parse_frame(&s, EGRESS_FROM_GATE, &f) == 0 && s.len == 0);
	if (f.type == EGRESS_REQUEST && w->order.count == w->order.count_max)
		return -EMFILE;
	v = egress_order_step(&w->order, EGRESS_FROM_GATE, &f);
	must(v == EGRESS_PASS || v == EGRESS_DROP);
	if (f.type == EGRESS_REQUEST) {
		struct egress_request *q = malloc(sizeof(*q));

		must(q && egress_parse_request(f.payload, q) == 0);
		free(q);
		w->open[w->opened++ % OPEN_MAX] = f.stream;
	}
	return 0;
}

static uint32_t op_room(void *flow, uint32_t stream)
{
	struct world *w = flow;
	struct egress_stream *s = egress_order_find(&w->order, stream);

	return s ? egress_order_room(s, EGRESS_FROM_GATE) : 0;
}

static struct policy *make_policy(const char *text)
{
	struct policy_draft *d;
	struct policy *p;
	uint8_t *tlv;
	size_t len;

	must(policy_draft_new(NULL, NULL, &d, NULL) == 0);
	must(policy_draft_file(d, "p", span_str(text), NULL) == 0);
	must(policy_draft_compile(d, 1, &tlv, &len, NULL) == 0);
	must(policy_load(span_of(tlv, len), &p, NULL) == 0);
	free(tlv);
	policy_draft_free(d);
	return p;
}

static struct world *world(void)
{
	static const struct intercept_ops ops = {
		.policy = op_policy,
		.over = op_over,
		.ask = op_ask,
		.number = op_number,
		.record = op_record,
		.frame = op_frame,
		.send = op_send,
		.room = op_room,
	};
	static struct world *w;

	if (w)
		return w;
	w = calloc(1, sizeof(*w));
	must(w != NULL);
	w->policies[0] = make_policy("version: 1\nnetwork:\n  rules:\n"
	                             "    - { host: a.test, port: 80 }\n");
	w->policies[1] = make_policy(
		"version: 1\nnetwork:\n  rules:\n"
		"    - { host: a.test, port: 80, http: [ { method: GET, path: \"/a/**\" } ] }\n");
	must(host_name_parse(span_str("a.test"), &w->pin) == 0);
	w->pins[0] = &w->pin;
	must(ca_new(1800000000, false, &w->ca, NULL) == 0);
	must(intercepts_new(w->ca, &ops, &w->all, NULL) == 0);
	return w;
}

static void begin(struct world *w)
{
	struct egress_frame hello = { .type = EGRESS_HELLO };
	static const uint8_t one[4] = { EGRESS_VERSION };

	hello.payload = span_of(one, sizeof(one));
	egress_order_init(&w->order, w->slots, SLOTS, 40);
	must(egress_order_step(&w->order, EGRESS_FROM_GATE, &hello) == EGRESS_PASS);
	must(egress_order_step(&w->order, EGRESS_FROM_VAULT, &hello) == EGRESS_PASS);
	w->next = 0;
	w->opened = 0;
	w->policy = 0;
	w->full = w->over = false;
}

static void put_response(struct world *w, struct buf *b, uint32_t stream, uint8_t kind)
{
	static const uint16_t statuses[] = { 200, 204, 304, 101, 100, 103, 404, 500 };
	struct http_head *h = &w->head;

	memset(h, 0, sizeof(*h));
	h->status = statuses[kind & 7];
	h->framing = kind >> 4 & 3;
	h->length = h->framing == HTTP_BODY_LENGTH ? kind : 0;
	h->flags = h->status == 101 ? HTTP_FLAG_WEBSOCKET : 0;
	if (kind & 8)
		h->fields[h->count++] =
			(struct http_field){ span_str("alt-svc"), span_str("h3=\":443\"") };
	egress_put_response(b, stream, h);
}

/* The vault says something; what its order does not permit is not said. */
static void vault_says(struct world *w, struct intercept *c, uint64_t now, uint8_t what,
                       uint8_t which, struct span more)
{
	static uint8_t room[EGRESS_HEADER_BYTES + EGRESS_HEAD_MAX + EGRESS_BODY_MAX];
	uint32_t stream =
		w->opened ? w->open[which % (w->opened < OPEN_MAX ? w->opened : OPEN_MAX)] : 1;
	struct http_trailers t = { .count = 1 };
	struct egress_frame f;
	struct span s;
	struct buf b;
	enum egress_verdict v;

	buf_init(&b, room, sizeof(room));
	switch (what & 7) {
	case 0:
	case 1:
		put_response(w, &b, stream, more.len ? more.at[0] : 0x20);
		break;
	case 2:
		egress_put(&b, EGRESS_BODY, stream, more.len ? more : span_str("body"));
		break;
	case 3:
		t.fields[0] = (struct http_field){ span_str("grpc-status"), span_str("0") };
		egress_put_trailers(&b, stream, &t);
		break;
	case 4:
		egress_put(&b, EGRESS_END, stream, span_of(NULL, 0));
		break;
	case 5:
		egress_put_reset(&b, stream,
		                 (enum egress_fail)(1 + which % (EGRESS_FAIL_COUNT - 1)));
		break;
	case 6:
		egress_put_u32(&b, EGRESS_CREDIT, stream, 1 + (uint32_t)which * 256);
		break;
	default:
		egress_put_u32(&b, EGRESS_REVOKED, stream, 2);
		break;
	}
	s = buf_span(&b);
	if (!buf_ok(&b) || egress_parse_frame(&s, EGRESS_FROM_VAULT, &f) < 0)
		return;
	v = egress_order_step(&w->order, EGRESS_FROM_VAULT, &f);
	if (v == EGRESS_PASS)
		intercept_frame(c, now, &f);
}

static void take_output(struct intercept *c, uint64_t now, size_t most)
{
	struct span out;

	while (most > 0 && (out = intercept_output(c, now)).len > 0) {
		size_t n = out.len < most ? out.len : most;

		intercept_sent(c, now, n);
		most -= n;
	}
}

static void step(struct world *w, struct intercept *c, uint64_t *now, struct span *in)
{
	struct span part;
	uint8_t op;
	uint8_t arg;
	size_t len;

	if (!take_u8(in, &op) || !take_u8(in, &arg))
		return;
	len = arg < in->len ? arg : in->len;
	switch (op >> 5) {
	case 0:
	case 1:
	case 2: /* bytes of the guest */
		must(take_span(in, len, &part));
		intercept_recv(c, *now, &part);
		break;
	case 3:
	case 4:
		len = len < 4 ? len : op & 3;
		must(take_span(in, len, &part));
		vault_says(w, c, *now, op, arg, part);
		break;
	case 5:
		take_output(c, *now, op & 1 ? SIZE_MAX : arg);
		break;
	case 6:
		*now += (uint64_t)arg * arg * 16;
		w->full = op & 1;
		intercept_run(c, *now);
		break;
	default:
		if (op & 1) {
			intercept_recv_eof(c, *now);
			break;
		}
		if (op & 2) {
			w->over = true;
			intercept_over(c, *now);
			break;
		}
		w->over = false;
		w->policy ^= 1;
		intercept_reload(c, *now);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world *w = world();
	struct intercept_start start = { .flow = w, .now_ms = 1, .real_s = 1800000000 };
	const struct intercept_stats *s = intercepts_stats(w->all);
	struct span in = span_of(data, size);
	struct intercept *c;
	uint64_t now = 1;

	begin(w);
	must(intercept_new(w->all, &start, &c, NULL) == 0);
	while (in.len > 1 && !(intercept_state(c) & (INTERCEPT_DONE | INTERCEPT_ABORT)))
		step(w, c, &now, &in);
	take_output(c, now, SIZE_MAX);
	w->full = false;
	intercept_free(c, now);
	must(s->connections == 0 && s->requests_open == 0 && s->held_bytes == 0);
	for (unsigned i = 0; i < SLOTS; i++) /* what is open still is so by the vault alone */
		must(w->slots[i].id == 0 || w->slots[i].gate.half >= EGRESS_HALF_ENDED);
	return 0;
}
