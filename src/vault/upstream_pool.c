#include "http/conn.h"
#include "http/limits.h"
#include "vault/upstream_inner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

unsigned upstream_idle(const struct vault *v)
{
	unsigned n = 0;

	for (const struct upstream *u = v->upstreams; u; u = u->next)
		n += upstream_is_idle(u);
	return n;
}

static bool same_key(const struct upstream_key *a, const struct upstream_key *b)
{
	return a->port == b->port && a->tls == b->tls && a->h1 == b->h1 &&
	       addr_equal(&a->addr, &b->addr) &&
	       span_equal(host_span(&a->name), host_span(&b->name));
}

void upstream_trim_idle(struct vault *v, const struct upstream *of)
{
	struct upstream *oldest = NULL, *oldest_here = NULL;
	unsigned all = 0, here = 0;

	for (struct upstream *u = v->upstreams; u; u = u->next) {
		if (!upstream_is_idle(u) || u->state != UP_OPEN)
			continue;
		all++;
		if (!oldest || u->until_ms < oldest->until_ms)
			oldest = u;
		if (!same_key(&u->key, &of->key))
			continue;
		here++;
		if (!oldest_here || u->until_ms < oldest_here->until_ms)
			oldest_here = u;
	}
	if (here > VAULT_IDLE_HOST_MAX)
		oldest_here->dead = true;
	else if (all > VAULT_IDLE_MAX)
		oldest->dead = true;
	else
		return;
	upstream_touch(here > VAULT_IDLE_HOST_MAX ? oldest_here : oldest);
}

/* An idle connection that the server has closed meanwhile is readable. */
static bool is_stale(const struct upstream *u)
{
	uint8_t byte;
	ssize_t n;

	if (u->requests)
		return false;
	n = recv(u->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
	/* bytes of HTTP/2 or TLS may wait there; of HTTP/1 in the clear nothing may */
	return n == 0 || (n < 0 && errno != EAGAIN) || (n > 0 && !u->tls);
}

static struct upstream *find_open(struct vault *v, const struct upstream_key *key)
{
	for (struct upstream *u = v->upstreams; u; u = u->next) {
		if (u->dead || u->eof || u->state != UP_OPEN || !same_key(&u->key, key) ||
		    !http_conn_can_open(u->conn))
			continue;
		if (!is_stale(u))
			return u;
		u->dead = true;
		upstream_touch(u);
	}
	return NULL;
}

/* One that is being made and may turn out to carry one more; of HTTP/1.1 alone none would. */
static struct upstream *find_opening(struct vault *v, const struct upstream_key *key)
{
	struct upstream *got = NULL;

	if (!key->tls || key->h1)
		return NULL;
	for (struct upstream *u = v->upstreams; u; u = u->next) {
		unsigned waiting = 0;

		if (u->dead || !same_key(&u->key, key))
			continue;
		if (u->state == UP_OPEN && !u->h2)
			return NULL;
		for (struct request *q = u->requests; q; q = request_next(q))
			waiting++;
		if (u->state != UP_OPEN && waiting < HTTP2_STREAMS_MAX)
			got = u;
	}
	return got;
}

static void tie(struct upstream *u, struct request *q)
{
	request_set_next(q, u->requests);
	u->requests = q;
	request_tie(q, u);
	if (u->state == UP_OPEN)
		u->until_ms = 0;
}

bool upstream_get(struct vault *v, const struct upstream_key *key, bool fresh, struct request *q)
{
	struct upstream *u = fresh || key->h1 ? NULL : find_open(v, key);

	if (u) {
		v->stats.reused++;
		tie(u, q);
		upstream_touch(u);
		request_ready(q);
		return true;
	}
	u = fresh ? NULL : find_opening(v, key);
	if (u) {
		v->stats.reused++;
		tie(u, q);
		return true;
	}
	if (v->upstream_count == VAULT_UPSTREAMS_MAX)
		return false;
	u = malloc(sizeof(*u));
	if (!u)
		return false;
	memset(u, 0, offsetof(struct upstream, plain)); /* the pages of the rest stay away */
	u->v = v;
	u->key = *key;
	u->fd = -1;
	u->next = v->upstreams;
	v->upstreams = u;
	v->upstream_count++;
	tie(u, q);
	upstream_dial(u);
	return true;
}

void upstream_touch_all(struct vault *v)
{
	for (struct upstream *u = v->upstreams; u; u = u->next)
		upstream_touch(u);
}

void upstream_sweep(struct vault *v)
{
	for (struct upstream *u = v->upstreams; u; u = u->next) {
		if (u->dead || u->until_ms == 0 || upstream_now_ms(u) < u->until_ms)
			continue;
		upstream_die(u, EGRESS_TIMEOUT, 0, NULL);
	}
}

void upstream_drop_idle(struct vault *v)
{
	for (struct upstream *u = v->upstreams; u; u = u->next) {
		if (!upstream_is_idle(u))
			continue;
		u->dead = true;
		upstream_touch(u);
	}
}

void upstream_free_all(struct vault *v)
{
	while (v->upstreams)
		upstream_free(v->upstreams);
}
