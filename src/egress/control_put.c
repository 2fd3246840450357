#include "egress/control.h"

/* Returns where the packet begins. */
static size_t begin(struct buf *out, uint8_t kind)
{
	size_t start = out->len;

	buf_put_u8(out, CONTROL_VERSION);
	buf_put_u8(out, kind);
	buf_put_le16(out, 0);
	return start;
}

/* All or nothing: of a packet that did not fit, or that is too long for any, nothing stays. */
static void end(struct buf *out, size_t start)
{
	if (out->len - start > CONTROL_PACKET_MAX)
		out->over = true;
	if (!buf_ok(out))
		out->len = start;
}

static void put_cut(struct buf *out, struct span s, size_t max)
{
	buf_put_str16(out, span_of(s.at, s.len < max ? s.len : max));
}

void control_put_ready(struct buf *out, const struct control_ready *r)
{
	size_t start = begin(out, CONTROL_READY);

	buf_put_le32(out, r->name_hash);
	buf_put_span(out, r->pem);
	end(out, start);
}

void control_put_u32(struct buf *out, uint8_t kind, uint32_t number)
{
	size_t start = begin(out, kind);

	buf_put_le32(out, number);
	end(out, start);
}

void control_put_text(struct buf *out, uint8_t kind, uint32_t number, struct span why)
{
	size_t start = begin(out, kind);

	buf_put_le32(out, number);
	put_cut(out, why.len > 0 ? why : span_str("no reason given"), CONTROL_WHY_MAX);
	end(out, start);
}

void control_put_secret(struct buf *out, uint8_t kind, const struct control_secret *s)
{
	size_t start = begin(out, kind);

	buf_put_le32(out, s->serial);
	buf_put_str16(out, s->name);
	if (kind == CONTROL_SECRET_OK)
		buf_put_str16(out, s->placeholder);
	end(out, start);
}

void control_put_stats(struct buf *out, const struct control_stats *s)
{
	size_t start = begin(out, CONTROL_STATS_OK);

	buf_put_le32(out, s->serial);
	buf_put_le16(out, s->count);
	for (unsigned i = 0; i < s->count && i < CONTROL_STATS_MAX; i++) {
		buf_put_str16(out, s->item[i].name);
		buf_put_le64(out, s->item[i].value);
	}
	end(out, start);
}

void control_put_accepted(struct buf *out, uint8_t kind, const struct control_accepted *a)
{
	size_t start = begin(out, kind);

	buf_put_le16(out, a->guest_port);
	buf_put_u8(out, a->family);
	buf_put(out, a->addr, sizeof(a->addr));
	buf_put_le16(out, a->port);
	end(out, start);
}

void control_put_record(struct buf *out, const struct egress_record *r)
{
	size_t start = begin(out, CONTROL_RECORD);

	buf_put_u8(out, r->event);
	buf_put_u8(out, r->layer);
	buf_put_u8(out, r->reason);
	buf_put_u8(out, r->flags);
	buf_put_le32(out, r->generation);
	buf_put_le16(out, r->rule);
	buf_put_le16(out, r->port);
	buf_put_le16(out, r->status);
	buf_put_u8(out, r->family);
	buf_put_u8(out, 0);
	buf_put(out, r->addr, sizeof(r->addr));
	buf_put_le64(out, r->flow);
	buf_put_le64(out, r->bytes_up);
	buf_put_le64(out, r->bytes_down);
	buf_put_le32(out, r->ms);
	buf_put_le32(out, r->count);
	put_cut(out, r->host, CONTROL_HOST_MAX);
	put_cut(out, r->method, CONTROL_METHOD_MAX);
	put_cut(out, r->path, CONTROL_PATH_MAX);
	put_cut(out, r->secret, CONTROL_SECRET_NAME_MAX);
	end(out, start);
}
