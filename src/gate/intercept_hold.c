#include "gate/intercept_inner.h"

#include <string.h>

bool hold_add(struct intercepts *all, struct hold *h, struct span bytes)
{
	size_t size = h->size ? h->size : 4096;
	uint8_t *at;

	if (bytes.len == 0)
		return true;
	if (bytes.len > HOLD_MAX - h->len)
		return false;
	if (h->from > 0 && h->size - h->from - h->len < bytes.len) {
		memmove(h->at, h->at + h->from, h->len);
		h->from = 0;
	}
	while (size - h->from - h->len < bytes.len)
		size *= 2;
	if (size != h->size) {
		at = realloc(h->at, size);
		if (!at)
			return false;
		h->at = at;
		all->stats.held_bytes += size - h->size;
		h->size = size;
	}
	memcpy(h->at + h->from + h->len, bytes.at, bytes.len);
	h->len += bytes.len;
	return true;
}

void hold_drop(struct intercepts *all, struct hold *h, size_t n)
{
	h->from += n;
	h->len -= n;
	if (h->len > 0)
		return;
	all->stats.held_bytes -= h->size;
	free(h->at);
	*h = (struct hold){ 0 };
}

void hold_free(struct intercepts *all, struct hold *h)
{
	hold_drop(all, h, h->len);
}

/* Of requests it is their structs alone: what else they have are holds. */
static size_t own_bytes(const struct intercept *c)
{
	size_t bytes = sizeof(*c);

	if (c->tls)
		bytes += tls_bytes(c->tls);
	if (c->http)
		bytes += http_conn_bytes(c->http);
	for (const struct request *r = c->requests; r; r = r->next)
		bytes += sizeof(*r) + r->wish.method.len + r->wish.path.len + r->wish.query.len;
	return bytes;
}

/* And with the holds. */
static size_t all_bytes(const struct intercept *c)
{
	size_t bytes = c->held + c->plain.size + c->answer.size;

	for (const struct request *r = c->requests; r; r = r->next)
		bytes += r->ask.size + r->up.size + r->down.size + r->up_trailers.size +
		         r->down_trailers.size;
	return bytes;
}

void held_note(struct intercept *c)
{
	size_t bytes = own_bytes(c);

	c->all->stats.held_bytes = c->all->stats.held_bytes - c->held + bytes;
	c->held = bytes;
}

void held_relieve(struct intercept *c)
{
	struct intercepts *all = c->all;
	uint64_t share = all->stats.held_bytes / (all->stats.connections | 1);
	struct intercept *got = NULL;
	uint64_t got_bytes = 0;

	if (all->stats.held_bytes <= INTERCEPT_HELD_MAX)
		return;
	for (struct intercept *o = all->connections; o; o = o->next) {
		uint64_t bytes = all_bytes(o);

		if (o->abort || bytes < share)
			continue;
		if (!got || o->heard_ms < got->heard_ms ||
		    (o->heard_ms == got->heard_ms && bytes > got_bytes)) {
			got = o;
			got_bytes = bytes;
		}
	}
	if (!got)
		return;
	got->now_ms = c->now_ms;
	intercept_shed(got, POLICY_LIMIT_MEMORY);
}
