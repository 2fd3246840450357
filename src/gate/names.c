#include "gate/names.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * Names and pins live in one array each and are known by index plus one. A name hangs in a bucket
 * by its text, a pin in a bucket by its address and in the list of its name's half. Names in use
 * are in one list from the longest unasked to the last asked, from whose front one is taken when
 * there is no free one. An expired pin stays until somebody passes by: it is skipped when looked
 * for, taken away when its half is answered anew, and gone when its name is.
 */

enum { NAME_BUCKETS = 4096, PIN_BUCKETS = 16384, HOLE = 0 };

struct pin {
	struct net_addr addr;
	bool current; /* part of the last answer, not only pinned by one before */
	uint8_t family;
	uint16_t name;
	uint32_t next;      /* in its bucket, or of the free ones */
	uint32_t next_half; /* of its name's half, in the order of the answer */
	uint64_t until_ms;
};

struct half {
	uint8_t state;
	uint32_t pins;
	uint64_t until_ms;
};

struct name {
	struct host_name host;
	struct half half[NAMES_FAMILIES];
	uint32_t holders;
	uint16_t next; /* in its bucket, or of the free ones */
	uint16_t older, newer;
};

struct names {
	struct siphash_key key;
	struct name *names;
	struct pin *pins;
	uint16_t name_buckets[NAME_BUCKETS];
	uint32_t pin_buckets[PIN_BUCKETS];
	uint16_t free_name;
	uint16_t names_used; /* of the array: those behind were never touched */
	uint16_t oldest, newest;
	uint32_t free_pin, pins_used;
	uint32_t names_count, pins_count;
};

int names_new(const struct siphash_key *key, struct names **ret, struct err *e)
{
	_own_(names_free) struct names *n = calloc(1, sizeof(*n));

	if (!n)
		return err_set(e, -ENOMEM, "out of memory");
	n->key = *key;
	n->names = calloc(GATE_NAMES_MAX, sizeof(*n->names));
	n->pins = calloc(GATE_PINS_MAX, sizeof(*n->pins));
	if (!n->names || !n->pins)
		return err_set(e, -ENOMEM, "out of memory for %d names", GATE_NAMES_MAX);
	*ret = steal_ptr(&n);
	return 0;
}

void names_free(struct names *n)
{
	if (!n)
		return;
	free(n->names);
	free(n->pins);
	free(n);
}

static struct name *at(const struct names *n, uint16_t id)
{
	assert(id != NAMES_NONE && id <= GATE_NAMES_MAX);
	return &n->names[id - 1];
}

static uint16_t *bucket_of(struct names *n, const struct host_name *host)
{
	return &n->name_buckets[siphash(&n->key, host_span(host)) % NAME_BUCKETS];
}

/* -- pins -------------------------------------------------------------------------------------- */

static uint32_t pin_bucket(const struct names *n, const struct net_addr *addr)
{
	return (uint32_t)(siphash(&n->key, span_of(addr, sizeof(*addr))) % PIN_BUCKETS);
}

static void unhash_pin(struct names *n, uint32_t i)
{
	uint32_t *link = &n->pin_buckets[pin_bucket(n, &n->pins[i - 1].addr)];

	while (*link != i)
		link = &n->pins[*link - 1].next;
	*link = n->pins[i - 1].next;
}

/* To the front: whoever is answered last is looked at first. */
static void hash_pin(struct names *n, uint32_t i)
{
	uint32_t *head = &n->pin_buckets[pin_bucket(n, &n->pins[i - 1].addr)];

	n->pins[i - 1].next = *head;
	*head = i;
}

static void drop_pin(struct names *n, uint32_t i)
{
	unhash_pin(n, i);
	n->pins[i - 1].name = NAMES_NONE;
	n->pins[i - 1].next = n->free_pin;
	n->free_pin = i;
	n->pins_count--;
}

static void drop_half(struct names *n, struct half *h)
{
	uint32_t i = h->pins;

	while (i != HOLE) {
		uint32_t next = n->pins[i - 1].next_half;

		drop_pin(n, i);
		i = next;
	}
	h->pins = HOLE;
	if (h->state != NAMES_ASKED)
		h->state = NAMES_UNKNOWN;
}

void names_drop(struct names *n, uint16_t id)
{
	for (unsigned f = 0; f < NAMES_FAMILIES; f++)
		drop_half(n, &at(n, id)->half[f]);
}

/* -- names ------------------------------------------------------------------------------------- */

static void unlist(struct names *n, uint16_t id)
{
	struct name *m = at(n, id);

	*(m->older != NAMES_NONE ? &at(n, m->older)->newer : &n->oldest) = m->newer;
	*(m->newer != NAMES_NONE ? &at(n, m->newer)->older : &n->newest) = m->older;
}

static void list_newest(struct names *n, uint16_t id)
{
	struct name *m = at(n, id);

	m->older = n->newest;
	m->newer = NAMES_NONE;
	*(n->newest != NAMES_NONE ? &at(n, n->newest)->newer : &n->oldest) = id;
	n->newest = id;
}

static bool may_go(const struct name *m)
{
	return m->holders == 0 && m->half[NAMES_IP4].state != NAMES_ASKED &&
	       m->half[NAMES_IP6].state != NAMES_ASKED;
}

static void forget(struct names *n, uint16_t id)
{
	struct name *m = at(n, id);
	uint16_t *link = bucket_of(n, &m->host);

	names_drop(n, id);
	while (*link != id)
		link = &at(n, *link)->next;
	*link = m->next;
	unlist(n, id);
	memset(m, 0, sizeof(*m));
	m->next = n->free_name;
	n->free_name = id;
	n->names_count--;
}

/* The longest unasked that nobody needs. */
static uint16_t expendable(const struct names *n)
{
	uint16_t id = n->oldest;

	while (id != NAMES_NONE && !may_go(at(n, id)))
		id = at(n, id)->newer;
	return id;
}

uint16_t names_find(struct names *n, const struct host_name *host)
{
	uint16_t id = *bucket_of(n, host);

	while (id != NAMES_NONE && !span_equal(host_span(&at(n, id)->host), host_span(host)))
		id = at(n, id)->next;
	return id;
}

static uint16_t fresh_name(struct names *n)
{
	uint16_t id = n->free_name;

	if (id == NAMES_NONE && n->names_used < GATE_NAMES_MAX)
		return ++n->names_used;
	if (id == NAMES_NONE) {
		id = expendable(n);
		if (id == NAMES_NONE)
			return NAMES_NONE;
		forget(n, id);
	}
	n->free_name = at(n, id)->next;
	return id;
}

uint16_t names_take(struct names *n, const struct host_name *host)
{
	uint16_t id = names_find(n, host);
	uint16_t *head;

	if (id != NAMES_NONE) {
		unlist(n, id);
		list_newest(n, id);
		return id;
	}
	id = fresh_name(n);
	if (id == NAMES_NONE)
		return NAMES_NONE;
	head = bucket_of(n, host);
	*at(n, id) = (struct name){ .host = *host, .next = *head };
	*head = id;
	list_newest(n, id);
	n->names_count++;
	return id;
}

const struct host_name *names_host(const struct names *n, uint16_t id)
{
	return &at(n, id)->host;
}

void names_hold(struct names *n, uint16_t id)
{
	at(n, id)->holders++;
}

void names_let_go(struct names *n, uint16_t id)
{
	assert(at(n, id)->holders > 0);
	at(n, id)->holders--;
}

uint32_t names_held(const struct names *n, uint16_t id)
{
	return at(n, id)->holders;
}

/* -- answers ----------------------------------------------------------------------------------- */

enum names_state names_state(const struct names *n, uint16_t id, enum names_family family,
                             uint64_t now_ms)
{
	const struct half *h = &at(n, id)->half[family];

	if (h->state != NAMES_ASKED && now_ms >= h->until_ms)
		return NAMES_UNKNOWN;
	return (enum names_state)h->state;
}

void names_asked(struct names *n, uint16_t id, enum names_family family)
{
	at(n, id)->half[family].state = NAMES_ASKED;
}

/*
 * A pin nobody needs. Where there is none, the name that was not asked for the longest loses its.
 */
static uint32_t fresh_pin(struct names *n, uint16_t keep)
{
	uint32_t i;

	if (n->free_pin == HOLE && n->pins_used < GATE_PINS_MAX)
		return ++n->pins_used;
	for (uint16_t id = n->oldest; n->free_pin == HOLE && id != NAMES_NONE;
	     id = at(n, id)->newer)
		if (id != keep)
			names_drop(n, id);
	i = n->free_pin;
	if (i != HOLE)
		n->free_pin = n->pins[i - 1].next;
	return i;
}

/* Takes the pin of addr out of a half's list; HOLE: there is none. */
static uint32_t take_out(struct names *n, struct half *h, const struct net_addr *addr)
{
	for (uint32_t *link = &h->pins; *link != HOLE; link = &n->pins[*link - 1].next_half) {
		uint32_t i = *link;

		if (!net_addr_equal(n->pins[i - 1].addr, *addr))
			continue;
		*link = n->pins[i - 1].next_half;
		return i;
	}
	return HOLE;
}

/* Drops what is over, and makes the rest such as an answer before the last left behind. */
static void age(struct names *n, struct half *h, uint64_t now_ms)
{
	uint32_t *link = &h->pins;

	while (*link != HOLE) {
		uint32_t i = *link;
		struct pin *p = &n->pins[i - 1];

		p->current = false;
		if (now_ms < p->until_ms) {
			link = &p->next_half;
			continue;
		}
		*link = p->next_half;
		drop_pin(n, i);
	}
}

/* Puts one address in front of the half's list. */
static void pin(struct names *n, uint16_t id, enum names_family family, const struct net_addr *addr,
                uint64_t until_ms)
{
	struct half *h = &at(n, id)->half[family];
	uint32_t i = take_out(n, h, addr);

	if (i != HOLE) {
		unhash_pin(n, i);
	} else {
		i = fresh_pin(n, id);
		if (i == HOLE) /* all belong to this one name: there are at most 32 in an answer */
			return;
		n->pins_count++;
	}
	n->pins[i - 1] = (struct pin){
		.addr = *addr,
		.current = true,
		.family = (uint8_t)family,
		.name = id,
		.next_half = h->pins,
		.until_ms = until_ms,
	};
	hash_pin(n, i);
	h->pins = i;
}

static uint32_t clamp(uint32_t v, uint32_t lo, uint32_t hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

void names_good(struct names *n, uint16_t id, enum names_family family,
                const struct net_addr *addrs, unsigned count, uint32_t ttl_s, uint64_t now_ms)
{
	struct half *h = &at(n, id)->half[family];
	uint64_t until_ms = now_ms + (uint64_t)clamp(ttl_s, GATE_TTL_MIN_S, GATE_TTL_MAX_S) * 1000;

	age(n, h, now_ms);
	for (unsigned i = count; i-- > 0;) /* the first comes to stand in front */
		pin(n, id, family, &addrs[i], until_ms + GATE_PIN_GRACE_S * 1000);
	h->state = NAMES_GOOD;
	h->until_ms = until_ms;
}

void names_bad(struct names *n, uint16_t id, enum names_family family, enum names_state what,
               uint32_t ttl_s, uint64_t now_ms)
{
	struct half *h = &at(n, id)->half[family];

	age(n, h, now_ms);
	h->state = (uint8_t)what;
	h->until_ms = now_ms + (uint64_t)clamp(ttl_s, 1, GATE_NEGATIVE_MAX_S) * 1000;
}

unsigned names_addrs(const struct names *n, uint16_t id, enum names_family family,
                     struct net_addr *ret, unsigned max)
{
	unsigned count = 0;

	for (uint32_t i = at(n, id)->half[family].pins; i != HOLE && count < max;
	     i = n->pins[i - 1].next_half)
		if (n->pins[i - 1].current)
			ret[count++] = n->pins[i - 1].addr;
	return count;
}

void names_told(struct names *n, uint16_t id, enum names_family family)
{
	for (uint32_t i = at(n, id)->half[family].pins; i != HOLE; i = n->pins[i - 1].next_half) {
		if (!n->pins[i - 1].current)
			continue;
		unhash_pin(n, i);
		hash_pin(n, i);
	}
}

uint32_t names_ttl_s(const struct names *n, uint16_t id, enum names_family family, uint64_t now_ms)
{
	const struct half *h = &at(n, id)->half[family];

	return h->until_ms > now_ms ? (uint32_t)((h->until_ms - now_ms + 999) / 1000) : 0;
}

unsigned names_pinned(const struct names *n, const struct net_addr *addr, uint64_t now_ms,
                      uint16_t ret[POLICY_CANDIDATES_MAX])
{
	unsigned count = 0;

	for (uint32_t i = n->pin_buckets[pin_bucket(n, addr)];
	     i != HOLE && count < POLICY_CANDIDATES_MAX; i = n->pins[i - 1].next) {
		const struct pin *p = &n->pins[i - 1];

		if (now_ms < p->until_ms && net_addr_equal(p->addr, *addr))
			ret[count++] = p->name;
	}
	return count;
}

bool names_is_pinned(const struct names *n, uint16_t id, const struct net_addr *addr,
                     uint64_t now_ms)
{
	for (uint32_t i = n->pin_buckets[pin_bucket(n, addr)]; i != HOLE; i = n->pins[i - 1].next) {
		const struct pin *p = &n->pins[i - 1];

		if (p->name == id && now_ms < p->until_ms && net_addr_equal(p->addr, *addr))
			return true;
	}
	return false;
}

uint16_t names_next(const struct names *n, uint16_t id)
{
	return id == NAMES_NONE ? n->oldest : at(n, id)->newer;
}

uint32_t names_count(const struct names *n)
{
	return n->names_count;
}

uint32_t names_pins(const struct names *n)
{
	return n->pins_count;
}
