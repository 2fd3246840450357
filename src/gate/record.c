#include "gate/gate_inner.h"

#include <errno.h>
#include <string.h>

/*
 * Nothing here waits. What the socket has no room for is counted, and so is what comes faster than
 * GATE_RECORDS_PER_S: the file that records end in is bounded, and a guest that could fill it could
 * wash out what it did before. The count is said as soon as a record can be sent again.
 */

static bool send_record(struct gate *g, const struct egress_record *r)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf out;
	int e;

	buf_init(&out, room, sizeof(room));
	control_put_record(&out, r);
	if (!buf_ok(&out))
		return false;
	e = control_send(g->config.control_fd, buf_span(&out), -1);
	if (e == -EAGAIN)
		gate_watch_room(g, g->config.control_fd, SOURCE_CONTROL, true, &g->control_wakes);
	return e == 0;
}

void gate_record_lost(struct gate *g)
{
	struct egress_record r = {
		.event = EGRESS_EVENT_LOST,
		.layer = EGRESS_LAYER_TCP,
		.generation = g->generation,
		.count = g->records_lost,
	};

	if (g->records_lost > 0 && bucket_take(&g->record_bucket, 1, g->now_ms) &&
	    send_record(g, &r))
		g->records_lost = 0;
}

void gate_record(struct gate *g, const struct egress_record *r)
{
	struct egress_record copy = *r;

	if (copy.generation == 0)
		copy.generation = g->generation;
	g->stats.refused += r->event == EGRESS_EVENT_REFUSED;
	gate_record_lost(g);
	if (g->records_lost == 0 && bucket_take(&g->record_bucket, 1, g->now_ms) &&
	    send_record(g, &copy)) {
		g->stats.records++;
		return;
	}
	g->stats.records_lost++;
	if (g->records_lost < UINT32_MAX)
		g->records_lost++;
}

void record_address(struct egress_record *r, const struct net_addr *a)
{
	r->family = a->family;
	memcpy(r->addr, a->at, sizeof(r->addr));
}

/* The name it is about: its own, or if it has none the first of those it could have had. */
static struct span host_of(const struct gate *g, const struct flow *f)
{
	uint16_t id = f->name;

	if (g->record_host.len > 0)
		return g->record_host;
	if (id == NAMES_NONE && f->names_count > 0)
		id = f->names[0];
	return id == NAMES_NONE ? span_of(NULL, 0) : host_span(names_host(g->names, id));
}

void record_flow(struct gate *g, const struct flow *f, enum egress_event event,
                 enum egress_layer layer, enum policy_reason why)
{
	const struct net_tuple *t = tcp_flow_tuple(f->tcp);
	struct egress_record r = {
		.event = (uint8_t)event,
		.layer = (uint8_t)layer,
		.reason = (uint8_t)why,
		.flags = (uint8_t)((f->inspected ? EGRESS_RECORD_INSPECTED : 0) |
		                   (f->pin_only ? EGRESS_RECORD_PIN_ONLY : 0)),
		.generation = f->generation,
		.rule = f->rule,
		.port = t->remote_port,
		.flow = f->number,
		.host = host_of(g, f),
	};

	record_address(&r, &t->remote);
	if (event == EGRESS_EVENT_ENDED) {
		uint64_t ms = g->now_ms - f->began_ms;

		r.bytes_up = f->bytes_up;
		r.bytes_down = f->bytes_down;
		r.ms = ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
	}
	gate_record(g, &r);
}
