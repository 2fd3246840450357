#include "net/udp_flows.h"

#include <assert.h>
#include <errno.h>

/*
 * Flows live in one array and are known by their index, kept plus one so that 0 is "none". One list
 * holds those in use from the longest idle to the last used; each bucket is a list of its own.
 */
struct udp_flows {
	struct siphash_key key;
	struct udp_flow *flows;
	uint32_t *buckets;
	uint32_t mask;
	uint32_t count;
	uint32_t max, used; /* of flows; those from used on were never touched */
	uint32_t free;
	uint32_t oldest;
	uint32_t newest;
};

void udp_flows_free(struct udp_flows *u)
{
	if (!u)
		return;
	free(u->flows);
	free(u->buckets);
	free(u);
}

int udp_flows_new(uint32_t max, const struct siphash_key *key, struct udp_flows **ret,
                  struct err *e)
{
	_own_(udp_flows_free) struct udp_flows *u = NULL;
	uint32_t buckets = 1;

	if (max == 0 || max > UDP_FLOWS_MAX)
		return err_set(e, -EINVAL, "%u UDP flows: from 1 to %d", max, UDP_FLOWS_MAX);
	while (buckets < max)
		buckets *= 2;
	u = calloc(1, sizeof(*u));
	if (!u)
		return err_set(e, -ENOMEM, "out of memory");
	u->key = *key;
	u->mask = buckets - 1;
	u->flows = calloc(max, sizeof(*u->flows));
	u->buckets = calloc(buckets, sizeof(*u->buckets));
	if (!u->flows || !u->buckets)
		return err_set(e, -ENOMEM, "out of memory for %u UDP flows", max);
	u->max = max;
	*ret = steal_ptr(&u);
	return 0;
}

static uint32_t index_of(const struct udp_flows *u, const struct udp_flow *f)
{
	return (uint32_t)(f - u->flows) + 1;
}

static uint32_t *bucket_of(struct udp_flows *u, const struct net_tuple *t)
{
	return &u->buckets[siphash_tuple(&u->key, t) & u->mask];
}

struct udp_flow *udp_flows_find(struct udp_flows *u, const struct net_tuple *t)
{
	for (uint32_t i = *bucket_of(u, t); i != 0; i = u->flows[i - 1].next)
		if (net_tuple_equal(&u->flows[i - 1].tuple, t))
			return &u->flows[i - 1];
	return NULL;
}

static void unlink_use(struct udp_flows *u, struct udp_flow *f)
{
	if (f->older)
		u->flows[f->older - 1].newer = f->newer;
	else
		u->oldest = f->newer;
	if (f->newer)
		u->flows[f->newer - 1].older = f->older;
	else
		u->newest = f->older;
}

static void link_newest(struct udp_flows *u, struct udp_flow *f)
{
	f->older = u->newest;
	f->newer = 0;
	if (u->newest)
		u->flows[u->newest - 1].newer = index_of(u, f);
	else
		u->oldest = index_of(u, f);
	u->newest = index_of(u, f);
}

/* NULL: all are in use. */
static struct udp_flow *take_free(struct udp_flows *u)
{
	struct udp_flow *f = NULL;

	if (u->free != 0) {
		f = &u->flows[u->free - 1];
		u->free = f->next;
	} else if (u->used < u->max) {
		f = &u->flows[u->used++];
	}
	return f;
}

struct udp_flow *udp_flows_add(struct udp_flows *u, const struct net_tuple *t, uint64_t now_ms)
{
	uint32_t *bucket = bucket_of(u, t);
	struct udp_flow *f = take_free(u);

	if (!f)
		return NULL;
	*f = (struct udp_flow){ .tuple = *t, .used_ms = now_ms, .next = *bucket };
	*bucket = index_of(u, f);
	link_newest(u, f);
	u->count++;
	return f;
}

void udp_flows_used(struct udp_flows *u, struct udp_flow *f, bool from_guest, size_t bytes,
                    uint64_t now_ms)
{
	if (from_guest)
		f->bytes_in += bytes;
	else
		f->bytes_out += bytes;
	f->used_ms = now_ms;
	unlink_use(u, f);
	link_newest(u, f);
}

void udp_flows_drop(struct udp_flows *u, struct udp_flow *f)
{
	uint32_t *at = bucket_of(u, &f->tuple);

	while (*at != index_of(u, f)) {
		assert(*at != 0);
		at = &u->flows[*at - 1].next;
	}
	*at = f->next;
	unlink_use(u, f);
	f->next = u->free;
	u->free = index_of(u, f);
	u->count--;
}

struct udp_flow *udp_flows_idle(struct udp_flows *u, uint64_t idle_ms, uint64_t now_ms)
{
	struct udp_flow *f = u->oldest ? &u->flows[u->oldest - 1] : NULL;

	if (!f || now_ms < f->used_ms || now_ms - f->used_ms < idle_ms)
		return NULL;
	return f;
}

uint32_t udp_flows_count(const struct udp_flows *u)
{
	return u->count;
}
