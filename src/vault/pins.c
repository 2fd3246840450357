#include "vault/pins.h"

#include "base/clock.h"
#include "vault/limits.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { BUCKETS = 4096 };

struct pin {
	struct pin *next;          /* in the bucket */
	struct pin *newer, *older; /* by use */
	uint32_t bucket;
	struct host_name name;
	unsigned count, at; /* addresses; where the next one goes */
	struct policy_addr addr[VAULT_PIN_ADDRESSES_MAX];
};

struct pins {
	uint64_t seed; /* a guest chooses names below a wildcard */
	unsigned count, max;
	struct pin *newest, *oldest;
	struct pin *buckets[BUCKETS];
};

int pins_new(unsigned names_max, struct pins **ret, struct err *e)
{
	struct pins *p = calloc(1, sizeof(*p));

	assert(names_max > 0);
	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	random_bytes(&p->seed, sizeof(p->seed));
	p->max = names_max;
	*ret = p;
	return 0;
}

static uint32_t bucket_of(const struct pins *p, const struct host_name *name)
{
	uint64_t h = p->seed;

	for (unsigned i = 0; i < name->len; i++)
		h = (h ^ name->at[i]) * UINT64_C(0x9e3779b97f4a7c15) ^ h >> 29;
	return (uint32_t)(h >> 32) % BUCKETS;
}

static void unlink_use(struct pins *p, struct pin *x)
{
	*(x->newer ? &x->newer->older : &p->newest) = x->older;
	*(x->older ? &x->older->newer : &p->oldest) = x->newer;
	x->newer = x->older = NULL;
}

static void put_first(struct pins *p, struct pin *x)
{
	x->older = p->newest;
	*(p->newest ? &p->newest->newer : &p->oldest) = x;
	p->newest = x;
}

static void forget(struct pins *p, struct pin *x)
{
	struct pin **at = &p->buckets[x->bucket];

	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	unlink_use(p, x);
	p->count--;
	free(x);
}

void pins_free(struct pins *p)
{
	if (!p)
		return;
	while (p->oldest)
		forget(p, p->oldest);
	free(p);
}

static struct pin *find(struct pins *p, const struct host_name *name)
{
	struct pin *x = p->buckets[bucket_of(p, name)];

	while (x && !span_equal(host_span(&x->name), host_span(name)))
		x = x->next;
	if (x && x != p->newest) {
		unlink_use(p, x);
		put_first(p, x);
	}
	return x;
}

static struct pin *add(struct pins *p, const struct host_name *name)
{
	struct pin *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	if (p->count == p->max)
		forget(p, p->oldest);
	x->name = *name;
	x->bucket = bucket_of(p, name);
	x->next = p->buckets[x->bucket];
	p->buckets[x->bucket] = x;
	put_first(p, x);
	p->count++;
	return x;
}

static bool has(const struct pin *x, const struct policy_addr *addr)
{
	for (unsigned i = 0; i < x->count; i++)
		if (addr_equal(&x->addr[i], addr))
			return true;
	return false;
}

int pins_give(struct pins *p, const struct host_name *name, const struct policy_addr *addr,
              unsigned count)
{
	struct pin *x = find(p, name);

	if (!x)
		x = add(p, name);
	if (!x)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		if (has(x, &addr[i]))
			continue;
		x->addr[x->at] = addr[i];
		x->at = (x->at + 1) % VAULT_PIN_ADDRESSES_MAX;
		if (x->count < VAULT_PIN_ADDRESSES_MAX)
			x->count++;
	}
	return 0;
}

bool pins_have(struct pins *p, const struct host_name *name, const struct policy_addr *addr)
{
	const struct pin *x = find(p, name);

	return x && has(x, addr);
}

void pins_sweep(struct pins *p, const struct policy *policy)
{
	struct pin *newer;

	for (struct pin *x = p->oldest; x; x = newer) {
		newer = x->newer;
		if (policy_name_verdict(policy, &x->name).act != POLICY_ALLOW)
			forget(p, x);
	}
}

unsigned pins_count(const struct pins *p)
{
	return p->count;
}
