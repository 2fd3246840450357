#include "egress/egress.h"

#include <string.h>

enum { LENGTH_AT = 8 };

/* Returns where the frame begins; its length is written by end(). */
static size_t begin(struct buf *out, uint8_t type, uint32_t stream)
{
	size_t start = out->len;

	buf_put_le16(out, EGRESS_MAGIC);
	buf_put_u8(out, type);
	buf_put_u8(out, 0);
	buf_put_le32(out, stream);
	buf_put_le32(out, 0);
	return start;
}

/* All or nothing: of a frame that did not fit nothing stays. */
static void end(struct buf *out, size_t start)
{
	size_t bytes = out->len - start - EGRESS_HEADER_BYTES;

	if (!buf_ok(out)) {
		out->len = start;
		return;
	}
	for (size_t i = 0; i < 4; i++)
		out->at[start + LENGTH_AT + i] = (uint8_t)(bytes >> 8 * i);
}

void egress_put(struct buf *out, uint8_t type, uint32_t stream, struct span payload)
{
	size_t start = begin(out, type, stream);

	buf_put_span(out, payload);
	end(out, start);
}

void egress_put_u32(struct buf *out, uint8_t type, uint32_t stream, uint32_t v)
{
	size_t start = begin(out, type, stream);

	buf_put_le32(out, v);
	end(out, start);
}

void egress_put_text(struct buf *out, const char *text)
{
	size_t start = begin(out, EGRESS_REFUSE, 0);
	size_t len = strnlen(text, EGRESS_TEXT_MAX);

	buf_put_str16(out, span_of(text, len));
	end(out, start);
}

void egress_put_policy(struct buf *out, uint32_t generation, struct span policy)
{
	size_t start = begin(out, EGRESS_POLICY, 0);

	buf_put_le32(out, generation);
	if (policy.len > EGRESS_POLICY_MAX)
		out->over = true;
	buf_put_span(out, policy);
	end(out, start);
}

void egress_put_stats(struct buf *out, const struct egress_stats *s)
{
	size_t start = begin(out, EGRESS_STATS_OK, 0);

	buf_put_le64(out, s->streams);
	buf_put_le64(out, s->resolves);
	buf_put_le64(out, s->connects);
	buf_put_le64(out, s->requests);
	buf_put_le64(out, s->reused);
	buf_put_le64(out, s->sent_bytes);
	buf_put_le64(out, s->received_bytes);
	buf_put_le64(out, s->scrubbed);
	buf_put_le64(out, s->violations);
	end(out, start);
}

static void put_addr(struct buf *out, const struct egress_addr *a)
{
	buf_put_u8(out, a->family);
	buf_put(out, a->bytes, sizeof(a->bytes));
}

void egress_put_resolve(struct buf *out, uint32_t stream, const struct egress_resolve *r)
{
	size_t start = begin(out, EGRESS_RESOLVE, stream);

	buf_put_u8(out, r->want);
	buf_put_str16(out, r->name);
	end(out, start);
}

void egress_put_resolved(struct buf *out, uint32_t stream, const struct egress_resolved *r)
{
	size_t start = begin(out, EGRESS_RESOLVED, stream);

	buf_put_u8(out, r->fail);
	buf_put_le32(out, r->ttl_s);
	buf_put_u8(out, r->count);
	buf_put_u8(out, r->chain_count);
	for (uint8_t i = 0; i < r->count && i < EGRESS_ADDRESSES_MAX; i++)
		put_addr(out, &r->addr[i]);
	for (uint8_t i = 0; i < r->chain_count && i < EGRESS_CHAIN_MAX; i++)
		buf_put_str16(out, r->chain[i]);
	end(out, start);
}

void egress_put_connect(struct buf *out, uint32_t stream, const struct egress_connect *c)
{
	size_t start = begin(out, EGRESS_CONNECT, stream);

	buf_put_le32(out, c->generation);
	buf_put_le32(out, c->rule);
	put_addr(out, &c->addr);
	buf_put_le16(out, c->port);
	buf_put_u8(out, c->protocol);
	buf_put_str16(out, c->name);
	end(out, start);
}

void egress_put_connected(struct buf *out, uint32_t stream, const struct egress_connected *c)
{
	size_t start = begin(out, EGRESS_CONNECTED, stream);

	buf_put_u8(out, c->fail);
	end(out, start);
}

static void put_brief(struct buf *out, const struct http_head *h)
{
	buf_put_le16(out, h->status);
	buf_put_u8(out, h->framing);
	buf_put_u8(out, 0);
	buf_put_le32(out, h->flags);
	buf_put_le64(out, h->length);
}

static void put_fields(struct buf *out, const struct http_field *fields, uint16_t count)
{
	buf_put_le16(out, count);
	for (uint16_t i = 0; i < count; i++) {
		buf_put_str16(out, fields[i].name);
		buf_put_str16(out, fields[i].value);
	}
}

/* What the reader would refuse for its length does not fit either. */
static void end_within(struct buf *out, size_t start, size_t payload_max)
{
	if (out->len - start - EGRESS_HEADER_BYTES > payload_max)
		out->over = true;
	end(out, start);
}

void egress_put_request(struct buf *out, uint32_t stream, const struct egress_request *r)
{
	const struct http_head *h = &r->head;
	size_t start = begin(out, EGRESS_REQUEST, stream);

	buf_put_le32(out, r->generation);
	buf_put_le32(out, r->rule);
	put_addr(out, &r->addr);
	put_brief(out, h);
	buf_put_u8(out, h->scheme);
	buf_put_le16(out, h->host.port);
	buf_put_str16(out, h->method);
	buf_put_str16(out, span_of(h->host.text, h->host.len));
	buf_put_str16(out, h->path);
	buf_put_str16(out, h->query);
	put_fields(out, h->fields, h->count);
	end_within(out, start, EGRESS_HEAD_MAX);
}

void egress_put_response(struct buf *out, uint32_t stream, const struct http_head *h)
{
	size_t start = begin(out, EGRESS_RESPONSE, stream);

	put_brief(out, h);
	put_fields(out, h->fields, h->count);
	end_within(out, start, EGRESS_HEAD_MAX);
}

void egress_put_trailers(struct buf *out, uint32_t stream, const struct http_trailers *t)
{
	size_t start = begin(out, EGRESS_TRAILERS, stream);

	put_fields(out, t->fields, t->count);
	end_within(out, start, 2 + HTTP_TRAILER_BYTES_MAX);
}

void egress_put_reset(struct buf *out, uint32_t stream, enum egress_fail why)
{
	size_t start = begin(out, EGRESS_RESET, stream);

	buf_put_u8(out, (uint8_t)why);
	end(out, start);
}

void egress_put_mark(struct buf *out, uint8_t type, uint32_t stream, const struct egress_mark *m)
{
	size_t start = begin(out, type, stream);

	buf_put_str16(out, m->secret);
	buf_put_u8(out, m->where);
	buf_put_u8(out, m->form);
	buf_put_le32(out, m->count);
	end(out, start);
}
