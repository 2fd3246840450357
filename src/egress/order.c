#include "egress/order.h"

#include <assert.h>
#include <string.h>

/*
 * Theory of operation
 *
 * Streams are found by open addressing, the id times a large odd number being the hash; a slot that
 * becomes free is closed by moving what stands behind it, so there are no tombstones.
 *
 * Late messages need no memory either. A side that ended its half may only send CREDIT, for what
 * the other still sends, and RESET, to end that as well; so for an id that was used and is gone
 * those two are late and anything else is a fault. A side that reset its half goes on to read what
 * was under way and drops it, until the other's half ends; which it does, because a RESET is
 * answered.
 */

void egress_order_init(struct egress_order *o, struct egress_stream *slots, uint32_t slot_count,
                       uint32_t count_max)
{
	assert(slot_count > 0 && (slot_count & (slot_count - 1)) == 0 &&
	       count_max <= slot_count / 2);
	memset(slots, 0, slot_count * sizeof(*slots));
	*o = (struct egress_order){
		.slots = slots,
		.slot_count = slot_count,
		.count_max = count_max,
	};
}

static uint32_t home(const struct egress_order *o, uint32_t id)
{
	return (uint32_t)(id * UINT32_C(2654435761)) & (o->slot_count - 1);
}

static uint32_t slot_of(const struct egress_order *o, uint32_t id)
{
	uint32_t i = home(o, id);

	while (o->slots[i].id != 0 && o->slots[i].id != id) /* half of the slots are free */
		i = (i + 1) & (o->slot_count - 1);
	return i;
}

struct egress_stream *egress_order_find(struct egress_order *o, uint32_t id)
{
	struct egress_stream *s = &o->slots[slot_of(o, id)];

	return id != 0 && s->id == id ? s : NULL;
}

static void forget(struct egress_order *o, struct egress_stream *s)
{
	uint32_t mask = o->slot_count - 1;
	uint32_t hole = (uint32_t)(s - o->slots);

	for (uint32_t i = (hole + 1) & mask; o->slots[i].id != 0; i = (i + 1) & mask) {
		uint32_t at_home = home(o, o->slots[i].id);

		/* it may move back to the hole unless that is before its home */
		if (((i - at_home) & mask) < ((i - hole) & mask))
			continue;
		o->slots[hole] = o->slots[i];
		hole = i;
	}
	memset(&o->slots[hole], 0, sizeof(o->slots[hole]));
	o->count--;
}

static bool ended(const struct egress_flow *f)
{
	return f->half == EGRESS_HALF_ENDED || f->half == EGRESS_HALF_RESET;
}

static void open_flow(struct egress_flow *f, uint8_t framing, uint64_t length)
{
	f->half = EGRESS_HALF_OPEN;
	f->framing = framing;
	f->left = framing == HTTP_BODY_LENGTH ? length : 0;
}

static enum egress_verdict open_stream(struct egress_order *o, const struct egress_frame *f)
{
	struct egress_brief brief = { 0 };
	struct egress_stream *s;

	if (f->stream <= o->last_id)
		return EGRESS_BAD_STREAM;
	if (o->count == o->count_max)
		return EGRESS_BAD_COUNT;
	if (f->type == EGRESS_REQUEST && egress_parse_brief(f, &brief) < 0)
		return EGRESS_BAD_HEAD;
	s = &o->slots[slot_of(o, f->stream)];
	*s = (struct egress_stream){
		.id = f->stream,
		.kind = f->type,
		.websocket = (brief.flags & HTTP_FLAG_WEBSOCKET) != 0,
		.gate = { .credit = EGRESS_WINDOW_BYTES },
		.vault = { .credit = EGRESS_WINDOW_BYTES },
	};
	open_flow(&s->gate, brief.framing, brief.length);
	if (f->type == EGRESS_RESOLVE)
		s->gate.half = EGRESS_HALF_ENDED;
	o->last_id = f->stream;
	o->count++;
	return EGRESS_PASS;
}

static enum egress_verdict control(struct egress_order *o, enum egress_side from,
                                   const struct egress_frame *f)
{
	bool *hello = from == EGRESS_FROM_GATE ? &o->gate_hello : &o->vault_hello;
	uint32_t version;

	if (f->type == EGRESS_REFUSE)
		return EGRESS_PASS;
	if (f->type != EGRESS_HELLO)
		return *hello ? EGRESS_PASS : EGRESS_BAD_HELLO;
	if (*hello || egress_parse_u32(f->payload, &version) < 0 || version != EGRESS_VERSION)
		return EGRESS_BAD_HELLO;
	*hello = true;
	return EGRESS_PASS;
}

static enum egress_verdict respond(struct egress_stream *s, const struct egress_frame *f)
{
	struct egress_brief brief;

	if (s->kind != EGRESS_REQUEST || s->vault.half != EGRESS_HALF_NONE)
		return EGRESS_BAD_ORDER;
	if (egress_parse_brief(f, &brief) < 0 || (brief.status == 101 && !s->websocket))
		return EGRESS_BAD_HEAD;
	if (brief.status < 200 && brief.status != 101)
		return EGRESS_PASS;
	open_flow(&s->vault, brief.framing, brief.length);
	if (brief.status == 101) {
		s->opaque = true;
		s->vault.framing = HTTP_BODY_STREAM;
		s->gate.framing = HTTP_BODY_STREAM;
	}
	return EGRESS_PASS;
}

static enum egress_verdict answer(struct egress_stream *s, const struct egress_frame *f)
{
	uint8_t want = f->type == EGRESS_RESOLVED ? EGRESS_RESOLVE : EGRESS_CONNECT;

	if (s->kind != want || s->vault.half != EGRESS_HALF_NONE)
		return EGRESS_BAD_ORDER;
	open_flow(&s->vault, HTTP_BODY_NONE, 0);
	if (f->type == EGRESS_RESOLVED || (f->payload.len > 0 && f->payload.at[0] != EGRESS_OK))
		s->vault.half = EGRESS_HALF_ENDED;
	return EGRESS_PASS;
}

static enum egress_verdict body(struct egress_flow *own, size_t bytes)
{
	if (own->half != EGRESS_HALF_OPEN)
		return EGRESS_BAD_ORDER;
	if (own->framing == HTTP_BODY_NONE ||
	    (own->framing == HTTP_BODY_LENGTH && bytes > own->left))
		return EGRESS_BAD_LENGTH;
	if (bytes > own->credit)
		return EGRESS_BAD_CREDIT;
	own->credit -= (uint32_t)bytes;
	if (own->framing == HTTP_BODY_LENGTH)
		own->left -= bytes;
	return EGRESS_PASS;
}

static enum egress_verdict end_half(struct egress_flow *own)
{
	if (own->half != EGRESS_HALF_OPEN && own->half != EGRESS_HALF_TRAILED)
		return EGRESS_BAD_ORDER;
	if (own->left > 0)
		return EGRESS_BAD_LENGTH;
	own->half = EGRESS_HALF_ENDED;
	return EGRESS_PASS;
}

static enum egress_verdict trail(const struct egress_stream *s, struct egress_flow *own)
{
	if (own->half != EGRESS_HALF_OPEN || s->kind != EGRESS_REQUEST ||
	    own->framing != HTTP_BODY_STREAM || s->opaque)
		return EGRESS_BAD_ORDER;
	own->half = EGRESS_HALF_TRAILED;
	return EGRESS_PASS;
}

static enum egress_verdict grant(struct egress_flow *other, const struct egress_frame *f)
{
	uint32_t more;

	if (egress_parse_u32(f->payload, &more) < 0 || more == 0 || more > EGRESS_CREDIT_MAX ||
	    other->credit > EGRESS_CREDIT_MAX - more)
		return EGRESS_BAD_CREDIT;
	other->credit += more;
	return EGRESS_PASS;
}

static enum egress_verdict reset(struct egress_flow *own)
{
	if (own->half == EGRESS_HALF_RESET)
		return EGRESS_BAD_ORDER;
	own->half = EGRESS_HALF_RESET;
	return EGRESS_PASS;
}

/* On a stream that is open, by a side whose half is `own`. */
static enum egress_verdict on_stream(struct egress_stream *s, struct egress_flow *own,
                                     struct egress_flow *other, const struct egress_frame *f)
{
	if (f->type == EGRESS_RESET || f->type == EGRESS_REVOKED) {
		if (s->kind == EGRESS_RESOLVE)
			return EGRESS_BAD_ORDER; /* an answer comes soon anyway */
		return reset(own);
	}
	if (own->half == EGRESS_HALF_RESET)
		return EGRESS_BAD_ORDER;
	switch (f->type) {
	case EGRESS_RESOLVED:
	case EGRESS_CONNECTED:
		return answer(s, f);
	case EGRESS_RESPONSE:
		return respond(s, f);
	case EGRESS_BODY:
		return body(own, f->payload.len);
	case EGRESS_TRAILERS:
		return trail(s, own);
	case EGRESS_END:
		return end_half(own);
	case EGRESS_CREDIT:
		return s->kind == EGRESS_REQUEST ? grant(other, f) : EGRESS_BAD_ORDER;
	case EGRESS_SCRUBBED:
	case EGRESS_VIOLATION:
		return s->kind == EGRESS_REQUEST && !ended(own) ? EGRESS_PASS : EGRESS_BAD_ORDER;
	default:
		return EGRESS_BAD_ORDER;
	}
}

enum egress_verdict egress_order_step(struct egress_order *o, enum egress_side from,
                                      const struct egress_frame *f)
{
	struct egress_stream *s;
	enum egress_verdict v;
	bool gate = from == EGRESS_FROM_GATE;
	bool late;

	if (f->stream == 0)
		return control(o, from, f);
	if (!(gate ? o->gate_hello : o->vault_hello))
		return EGRESS_BAD_HELLO;
	if (f->type == EGRESS_RESOLVE || f->type == EGRESS_CONNECT || f->type == EGRESS_REQUEST)
		return open_stream(o, f);
	s = egress_order_find(o, f->stream);
	if (!s) {
		late = f->stream <= o->last_id &&
		       (f->type == EGRESS_CREDIT || f->type == EGRESS_RESET ||
		        f->type == EGRESS_REVOKED);
		return late ? EGRESS_DROP : EGRESS_BAD_STREAM;
	}
	late = gate ? s->vault.half == EGRESS_HALF_RESET : s->gate.half == EGRESS_HALF_RESET;
	v = on_stream(s, gate ? &s->gate : &s->vault, gate ? &s->vault : &s->gate, f);
	if (v == EGRESS_PASS && ended(&s->gate) && ended(&s->vault))
		forget(o, s);
	/* the other has reset: it takes note of an end and reads past everything else */
	return v == EGRESS_PASS && late ? EGRESS_DROP : v;
}

uint32_t egress_order_room(const struct egress_stream *s, enum egress_side from)
{
	const struct egress_flow *own = from == EGRESS_FROM_GATE ? &s->gate : &s->vault;
	uint64_t room = own->credit;

	if (s->kind != EGRESS_REQUEST || own->half != EGRESS_HALF_OPEN ||
	    own->framing == HTTP_BODY_NONE)
		return 0;
	if (own->framing == HTTP_BODY_LENGTH && own->left < room)
		room = own->left;
	return room < EGRESS_BODY_MAX ? (uint32_t)room : EGRESS_BODY_MAX;
}

const char *egress_verdict_word(enum egress_verdict v)
{
	static const char *const words[EGRESS_VERDICT_COUNT] = {
		[EGRESS_PASS] = "pass",         [EGRESS_DROP] = "drop",
		[EGRESS_BAD_HELLO] = "hello",   [EGRESS_BAD_STREAM] = "stream",
		[EGRESS_BAD_COUNT] = "count",   [EGRESS_BAD_ORDER] = "order",
		[EGRESS_BAD_CREDIT] = "credit", [EGRESS_BAD_LENGTH] = "length",
		[EGRESS_BAD_HEAD] = "head",
	};

	return v < EGRESS_VERDICT_COUNT ? words[v] : "unknown";
}
