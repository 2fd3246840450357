/*
 * One good packet of every kind, for the tests of control.h.
 */
#pragma once

#include "egress/control.h"

#include <string.h>

static inline struct egress_record sample_record(void)
{
	return (struct egress_record){
		.event = EGRESS_EVENT_REFUSED,
		.layer = EGRESS_LAYER_HTTP,
		.reason = 11,
		.flags = EGRESS_RECORD_INSPECTED,
		.generation = 3,
		.rule = 0xffff,
		.port = 443,
		.status = 403,
		.family = 4,
		.addr = { 203, 0, 113, 9 },
		.flow = 77,
		.bytes_up = 1000,
		.bytes_down = UINT64_MAX,
		.ms = 12,
		.count = 1,
		.host = span_str("api.example"),
		.method = span_str("DELETE"),
		.path = span_str("/v1/all"),
		.secret = span_str("API_KEY"),
	};
}

static inline struct control_stats sample_stats(void)
{
	return (struct control_stats){
		.serial = 9,
		.count = 2,
		.item = { { span_str("flows_open"), 4 }, { span_str("bytes_up"), UINT64_MAX } },
	};
}

/* False: there is no such kind. */
static inline bool sample_control(struct buf *b, uint8_t kind)
{
	const struct control_secret secret = {
		.serial = 5,
		.name = span_str("API_KEY"),
		.placeholder = span_str("sk-ant-0123456789"),
	};
	const struct control_ready ready = { .name_hash = 7, .pem = span_str("-----BEGIN") };
	const struct control_accepted accepted = {
		.guest_port = 8080, .family = 6, .addr = { [15] = 1 }, .port = 40000
	};
	const struct control_stats stats = sample_stats();
	const struct egress_record record = sample_record();

	switch (kind) {
	case CONTROL_READY:
		control_put_ready(b, &ready);
		return true;
	case CONTROL_POLICY:
	case CONTROL_POLICY_OK:
	case CONTROL_STATS:
	case CONTROL_ROOTS:
	case CONTROL_EXPORT:
	case CONTROL_IMPORT:
	case CONTROL_REST:
		control_put_u32(b, kind, 8);
		return true;
	case CONTROL_POLICY_BAD:
	case CONTROL_SECRET_BAD:
		control_put_text(b, kind, 8, span_str("there is no such secret"));
		return true;
	case CONTROL_SECRET:
	case CONTROL_SECRET_OK:
	case CONTROL_SECRET_RM:
		control_put_secret(b, kind, &secret);
		return true;
	case CONTROL_STATS_OK:
		control_put_stats(b, &stats);
		return true;
	case CONTROL_RECORD:
		control_put_record(b, &record);
		return true;
	case CONTROL_ACCEPTED:
	case CONTROL_LISTEN:
		control_put_accepted(b, kind, &accepted);
		return true;
	default:
		return false;
	}
}

/* Parses a payload by its kind and writes it again. -EBADMSG where it does not parse. */
_must_ static inline int control_again(const struct control_packet *p, struct buf *out)
{
	struct control_ready ready;
	struct control_text text;
	struct control_secret secret;
	struct control_stats stats;
	struct control_accepted accepted;
	struct egress_record record;
	uint32_t number;
	int r;

	switch (p->kind) {
	case CONTROL_READY:
		r = control_parse_ready(p->payload, &ready);
		if (r == 0)
			control_put_ready(out, &ready);
		return r;
	case CONTROL_POLICY_BAD:
	case CONTROL_SECRET_BAD:
		r = control_parse_text(p->payload, &text);
		if (r == 0)
			control_put_text(out, p->kind, text.number, text.why);
		return r;
	case CONTROL_SECRET:
	case CONTROL_SECRET_OK:
	case CONTROL_SECRET_RM:
		r = control_parse_secret(p->kind, p->payload, &secret);
		if (r == 0)
			control_put_secret(out, p->kind, &secret);
		return r;
	case CONTROL_STATS_OK:
		r = control_parse_stats(p->payload, &stats);
		if (r == 0)
			control_put_stats(out, &stats);
		return r;
	case CONTROL_RECORD:
		r = control_parse_record(p->payload, &record);
		if (r == 0)
			control_put_record(out, &record);
		return r;
	case CONTROL_ACCEPTED:
	case CONTROL_LISTEN:
		r = control_parse_accepted(p->payload, &accepted);
		if (r == 0)
			control_put_accepted(out, p->kind, &accepted);
		return r;
	default:
		r = control_parse_u32(p->payload, &number);
		if (r == 0)
			control_put_u32(out, p->kind, number);
		return r;
	}
}
