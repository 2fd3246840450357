#include "policy/tlv.h"

#include <string.h>

static void put_name(struct buf *b, struct span s)
{
	buf_put_str16(b, s);
}

/* Writes the record's head once its length is known. */
static void put_record(struct buf *b, uint16_t type, void (*put)(struct buf *, const void *),
                       const void *what)
{
	size_t head = b->len;
	uint8_t len_bytes[4];
	struct buf len;
	size_t bytes;

	buf_put_le16(b, type);
	buf_put_le32(b, 0);
	put(b, what);
	if (!buf_ok(b))
		return;
	bytes = b->len - head - TLV_RECORD_BYTES;
	buf_init(&len, len_bytes, sizeof(len_bytes));
	buf_put_le32(&len, (uint32_t)bytes);
	memcpy(b->at + head + 2, len_bytes, sizeof(len_bytes));
}

static void put_ports(struct buf *b, const struct rule_ports *ports, uint8_t count)
{
	buf_put_u8(b, count);
	for (unsigned i = 0; i < count; i++) {
		buf_put_le16(b, ports[i].lo);
		buf_put_le16(b, ports[i].hi);
	}
}

static void put_host(struct buf *b, const struct host_pattern *p)
{
	buf_put_u8(b, p->kind);
	put_name(b, host_span(&p->base));
}

static void put_http(struct buf *b, const struct rule_http *h)
{
	buf_put_le64(b, h->methods);
	put_name(b, h->path);
	buf_put_u8(b, h->query_count);
	for (unsigned i = 0; i < h->query_count; i++) {
		const struct rule_query *q = &h->query[i];

		buf_put_u8(b, q->mode);
		put_name(b, q->name);
		buf_put_u8(b, q->values_count);
		for (unsigned v = 0; v < q->values_count; v++)
			put_name(b, q->values[v]);
	}
}

static void put_rule(struct buf *b, const void *what)
{
	const struct policy_rule *r = what;

	buf_put_u8(b, r->kind);
	buf_put_u8(b, r->flags);
	buf_put_u8(b, r->proto);
	if (r->kind == RULE_HOST) {
		put_host(b, &r->host);
	} else {
		buf_put_u8(b, r->net.base.v4);
		buf_put(b, r->net.base.at, sizeof(r->net.base.at));
		buf_put_u8(b, r->net.bits);
	}
	put_ports(b, r->ports, r->ports_count);
	put_name(b, r->origin);
	buf_put_u8(b, r->http_count);
	for (unsigned i = 0; i < r->http_count; i++)
		put_http(b, &r->http[i]);
}

static void put_secret(struct buf *b, const void *what)
{
	const struct policy_secret *s = what;

	put_name(b, s->name);
	buf_put_u8(b, s->flags);
	buf_put_u8(b, s->hosts_count);
	for (unsigned i = 0; i < s->hosts_count; i++)
		put_host(b, &s->hosts[i]);
	put_ports(b, s->ports, s->ports_count);
	buf_put_u8(b, s->uses_count);
	for (unsigned i = 0; i < s->uses_count; i++) {
		buf_put_u8(b, s->uses[i].place);
		put_name(b, s->uses[i].name);
		put_name(b, s->uses[i].prefix);
	}
	buf_put_le64(b, s->methods);
	buf_put_u8(b, s->paths_count);
	for (unsigned i = 0; i < s->paths_count; i++)
		put_name(b, s->paths[i]);
	put_name(b, s->origin);
}

static void put_limits(struct buf *b, const void *what)
{
	const struct policy_limits *l = what;

	buf_put_le64(b, l->egress_bytes);
	buf_put_le64(b, l->upload_bytes);
	buf_put_le64(b, l->bandwidth_bytes);
	buf_put_le64(b, l->connections);
	buf_put_le64(b, l->host_connections);
	buf_put_le64(b, l->connection_rate);
	buf_put_le64(b, l->dns_rate);
}

static void put_default(struct buf *b, const void *what)
{
	buf_put_u8(b, *(const bool *)what);
}

static void put_workspace(struct buf *b, const void *what)
{
	const struct policy_workspace *w = what;

	put_name(b, w->skip_cost_by);
	buf_put_le16(b, (uint16_t)w->count);
	for (unsigned i = 0; i < w->count; i++) {
		put_name(b, w->left_out[i].pattern);
		put_name(b, w->left_out[i].label);
		buf_put_le32(b, w->left_out[i].line);
	}
}

void tlv_put_header(struct buf *b, const struct tlv_header *h)
{
	buf_put_le32(b, TLV_MAGIC);
	buf_put_le16(b, h->version);
	buf_put_le16(b, 0);
	buf_put_le64(b, h->generation);
	buf_put_le32(b, (uint32_t)h->body.len);
	buf_put(b, h->digest, sizeof(h->digest));
	buf_put_span(b, h->body);
}

void tlv_put_default(struct buf *b, bool allow)
{
	put_record(b, TLV_DEFAULT, put_default, &allow);
}

void tlv_put_limits(struct buf *b, const struct policy_limits *l)
{
	put_record(b, TLV_LIMITS, put_limits, l);
}

void tlv_put_rule(struct buf *b, const struct policy_rule *r)
{
	put_record(b, TLV_RULE, put_rule, r);
}

void tlv_put_secret(struct buf *b, const struct policy_secret *s)
{
	put_record(b, TLV_SECRET, put_secret, s);
}

void tlv_put_workspace(struct buf *b, const struct policy_workspace *w)
{
	put_record(b, TLV_WORKSPACE, put_workspace, w);
}
