#include "net/tcp_internal.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

/*
 * Theory of operation
 *
 * Flows live in one array and are known by index plus one. They hang in a hash keyed with a seed of
 * the caller's, so that no guest can make one bucket long; in a heap by the time when something is
 * due; and in lists while they wait. The heap is lazy: moving a deadline further away, which each
 * acknowledgement does, leaves the heap alone, and the flow is put back when its old time comes.
 *
 * Flows and blocks that were used last are used next, so of the address space set aside only as
 * much is ever touched as was in use at once. A table of 16384 flows is 5 MiB: to write a list of
 * free ones into it would be a quarter of what it takes the gate to start.
 */

static size_t blocks_bytes(const struct tcp_table *t)
{
	return (size_t)(t->config.blocks - t->config.wide) * TCP_BLOCK_BYTES +
	       (size_t)t->config.wide * TCP_WIDE_BYTES;
}

void tcp_table_free(struct tcp_table *t)
{
	if (!t)
		return;
	if (t->blocks)
		(void)munmap(t->blocks, blocks_bytes(t));
	free(t->free_blocks);
	free(t->flows);
	free(t->buckets);
	free(t->heap);
	free(t);
}

static void make_pool(struct tcp_pool *p, uint8_t *at, uint32_t *free, uint32_t count,
                      uint32_t bytes)
{
	*p = (struct tcp_pool){ .at = at, .free = free, .free_count = count, .bytes = bytes };
	for (uint32_t i = 0; i < count; i++)
		p->free[i] = count - 1 - i;
}

static int make_blocks(struct tcp_table *t, struct err *e)
{
	uint32_t narrow = t->config.blocks - t->config.wide;
	uint8_t *at = mmap(NULL, blocks_bytes(t), PROT_READ | PROT_WRITE,
	                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return err_sys(e, "room for %u TCP rings", t->config.blocks);
	t->blocks = at;
	t->free_blocks = calloc(t->config.blocks, sizeof(*t->free_blocks));
	if (!t->free_blocks)
		return err_set(e, -ENOMEM, "out of memory");
	make_pool(&t->pools[TCP_NARROW], at, t->free_blocks, narrow, TCP_BLOCK_BYTES);
	make_pool(&t->pools[TCP_WIDE], at + (size_t)narrow * TCP_BLOCK_BYTES,
	          t->free_blocks + narrow, t->config.wide, TCP_WIDE_BYTES);
	return 0;
}

static int check_config(const struct tcp_config *c, struct err *e)
{
	if (c->flows_max == 0 || c->flows_max > TCP_FLOWS_MAX)
		return err_set(e, -EINVAL, "%u TCP flows: from 1 to %d", c->flows_max,
		               TCP_FLOWS_MAX);
	if (c->half_open_max == 0 || c->half_open_max > TCP_HALF_OPEN_MAX)
		return err_set(e, -EINVAL, "%u half-open TCP flows: from 1 to %d", c->half_open_max,
		               TCP_HALF_OPEN_MAX);
	if (c->blocks < 2 || c->blocks > TCP_BLOCKS_MAX)
		return err_set(e, -EINVAL, "%u TCP rings: from 2 to %d", c->blocks, TCP_BLOCKS_MAX);
	if (c->wide > c->blocks)
		return err_set(e, -EINVAL, "%u wide TCP rings of %u", c->wide, c->blocks);
	return 0;
}

int tcp_table_new(const struct tcp_config *config, struct tcp_table **ret, struct err *e)
{
	_own_(tcp_table_free) struct tcp_table *t = NULL;
	uint32_t buckets = 1;
	int r = check_config(config, e);

	if (r < 0)
		return r;
	while (buckets < config->flows_max)
		buckets *= 2;
	t = calloc(1, sizeof(*t));
	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	t->config = *config;
	t->mask = buckets - 1;
	t->flows = calloc(config->flows_max, sizeof(*t->flows));
	t->buckets = calloc(buckets, sizeof(*t->buckets));
	t->heap = calloc((size_t)config->flows_max + 1, sizeof(*t->heap));
	if (!t->flows || !t->buckets || !t->heap)
		return err_set(e, -ENOMEM, "out of memory for %u TCP flows", config->flows_max);
	r = make_blocks(t, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&t);
	return 0;
}

const struct tcp_stats *tcp_table_stats(const struct tcp_table *t)
{
	return &t->stats;
}

/* -- flows ------------------------------------------------------------------------------------- */

static uint32_t index_of(const struct tcp_table *t, const struct tcp_flow *f)
{
	return (uint32_t)(f - t->flows) + 1;
}

static bool is_full(const struct tcp_table *t)
{
	return t->free == 0 && t->flows_used == t->config.flows_max;
}

static struct tcp_flow *take_free(struct tcp_table *t)
{
	struct tcp_flow *f;

	if (t->free == 0)
		return &t->flows[t->flows_used++];
	f = &t->flows[t->free - 1];
	t->free = f->hash_next;
	return f;
}

static uint32_t *bucket_of(struct tcp_table *t, const struct net_tuple *tuple)
{
	return &t->buckets[siphash_tuple(&t->config.hash_key, tuple) & t->mask];
}

struct tcp_flow *tcp_find(struct tcp_table *t, const struct net_tuple *tuple)
{
	for (uint32_t i = *bucket_of(t, tuple); i != 0; i = t->flows[i - 1].hash_next)
		if (net_tuple_equal(&t->flows[i - 1].tuple, tuple))
			return &t->flows[i - 1];
	return NULL;
}

/* A flow of nobody's. In a full table the oldest that only waits in TIME_WAIT makes room. */
struct tcp_flow *tcp_take(struct tcp_table *t, const struct net_tuple *tuple, uint64_t now_ms)
{
	uint32_t *bucket;
	struct tcp_flow *f;

	if (is_full(t) && t->time_waits.count > 0) {
		f = &t->flows[t->time_waits.first - 1];
		tcp_unhash(t, f);
		tcp_release(t, f);
	}
	if (is_full(t))
		return NULL;
	f = take_free(t);
	bucket = bucket_of(t, tuple);
	*f = (struct tcp_flow){
		.tuple = *tuple,
		.hash_next = *bucket,
		.mss = TCP_MSS_DEFAULT,
		.burst = TCP_WIDE_BYTES,
		.rto_ms = TCP_RTO_FIRST_MS,
		.began_ms = now_ms,
		.heard_ms = now_ms,
		.acked_ms = now_ms,
		.retry_ms = TCP_NEVER,
		.ack_ms = TCP_NEVER,
		.life_ms = TCP_NEVER,
		.due_ms = TCP_NEVER,
	};
	*bucket = index_of(t, f);
	net_link_head(t->config.link, tuple, NET_PROTO_TCP, &f->head);
	t->stats.flows++;
	return f;
}

void tcp_unhash(struct tcp_table *t, struct tcp_flow *f)
{
	uint32_t *at = bucket_of(t, &f->tuple);

	while (*at != index_of(t, f)) {
		assert(*at != 0);
		at = &t->flows[*at - 1].hash_next;
	}
	*at = f->hash_next;
}

static bool is_half_open(enum tcp_state state)
{
	return state == ST_ASKED || state == ST_SYN_SENT || state == ST_SYN_RCVD;
}

void tcp_set_state(struct tcp_table *t, struct tcp_flow *f, enum tcp_state state)
{
	t->stats.half_open += is_half_open(state);
	t->stats.half_open -= is_half_open((enum tcp_state)f->state);
	f->state = (uint8_t)state;
}

/* -- lists ------------------------------------------------------------------------------------- */

static struct tcp_link *link_in(const struct tcp_table *t, const struct tcp_list *list,
                                struct tcp_flow *f)
{
	return list == &t->blocked ? &f->blocked : &f->waiting;
}

void tcp_list_add(struct tcp_table *t, struct tcp_list *list, struct tcp_flow *f)
{
	struct tcp_link *link = link_in(t, list, f);

	if (link->in)
		return;
	*link = (struct tcp_link){ .prev = list->last, .in = true };
	if (list->last)
		link_in(t, list, &t->flows[list->last - 1])->next = index_of(t, f);
	else
		list->first = index_of(t, f);
	list->last = index_of(t, f);
	list->count++;
}

void tcp_list_drop(struct tcp_table *t, struct tcp_list *list, struct tcp_flow *f)
{
	struct tcp_link *link = link_in(t, list, f);

	if (!link->in)
		return;
	if (link->prev)
		link_in(t, list, &t->flows[link->prev - 1])->next = link->next;
	else
		list->first = link->next;
	if (link->next)
		link_in(t, list, &t->flows[link->next - 1])->prev = link->prev;
	else
		list->last = link->prev;
	link->in = false;
	list->count--;
}

/* -- timers ------------------------------------------------------------------------------------ */

static void heap_place(struct tcp_table *t, uint32_t at, uint32_t index)
{
	t->heap[at] = index;
	t->flows[index - 1].heap_at = at + 1;
}

static uint64_t heap_key(const struct tcp_table *t, uint32_t at)
{
	return t->flows[t->heap[at] - 1].heap_ms;
}

static void heap_sift(struct tcp_table *t, uint32_t at)
{
	uint32_t index = t->heap[at];
	uint64_t key = t->flows[index - 1].heap_ms;

	while (at > 0 && heap_key(t, (at - 1) / 2) > key) {
		heap_place(t, at, t->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child >= t->heap_count)
			break;
		if (child + 1 < t->heap_count && heap_key(t, child + 1) < heap_key(t, child))
			child++;
		if (heap_key(t, child) >= key)
			break;
		heap_place(t, at, t->heap[child]);
		at = child;
	}
	heap_place(t, at, index);
}

static void heap_drop(struct tcp_table *t, struct tcp_flow *f)
{
	uint32_t at = f->heap_at;

	if (at == 0)
		return;
	f->heap_at = 0;
	t->heap_count--;
	if (at - 1 == t->heap_count)
		return;
	heap_place(t, at - 1, t->heap[t->heap_count]);
	heap_sift(t, at - 1);
}

void tcp_rearm(struct tcp_table *t, struct tcp_flow *f)
{
	uint64_t due = f->retry_ms;

	if (f->ack_ms < due)
		due = f->ack_ms;
	if (f->life_ms < due)
		due = f->life_ms;
	f->due_ms = due;
	if (due == TCP_NEVER || (f->heap_at != 0 && f->heap_ms <= due))
		return;
	f->heap_ms = due;
	if (f->heap_at == 0)
		heap_place(t, t->heap_count++, index_of(t, f));
	heap_sift(t, f->heap_at - 1);
}

/* A flow with something due, which has left the heap. NULL: none now. */
struct tcp_flow *tcp_due(struct tcp_table *t, uint64_t now_ms)
{
	while (t->heap_count > 0 && heap_key(t, 0) <= now_ms) {
		struct tcp_flow *f = &t->flows[t->heap[0] - 1];

		heap_drop(t, f);
		if (f->due_ms <= now_ms)
			return f;
		tcp_rearm(t, f);
	}
	return NULL;
}

uint64_t tcp_next_ms(const struct tcp_table *t)
{
	if (t->waiters.count > 0 && tcp_ring_is_free(t))
		return 0;
	return t->heap_count > 0 ? heap_key(t, 0) : TCP_NEVER;
}

/* -- rings ------------------------------------------------------------------------------------- */

bool tcp_ring_is_free(const struct tcp_table *t)
{
	return t->pools[TCP_NARROW].free_count > 0 || t->pools[TCP_WIDE].free_count > 0;
}

bool tcp_ring_take(struct tcp_table *t, struct tcp_ring *r, enum tcp_width width)
{
	struct tcp_pool *p = &t->pools[width];

	if (r->at)
		return true;
	if (p->free_count == 0)
		p = &t->pools[width == TCP_WIDE ? TCP_NARROW : TCP_WIDE];
	if (p->free_count == 0)
		return false;
	r->at = p->at + (size_t)p->free[--p->free_count] * p->bytes;
	r->head = 0;
	r->len = 0;
	r->size = p->bytes;
	t->stats.blocks_used++;
	return true;
}

void tcp_ring_drop(struct tcp_table *t, struct tcp_ring *r)
{
	struct tcp_pool *p = &t->pools[r->size == TCP_WIDE_BYTES ? TCP_WIDE : TCP_NARROW];

	if (!r->at || r->len > 0)
		return;
	p->free[p->free_count++] = (uint32_t)((size_t)(r->at - p->at) / p->bytes);
	r->at = NULL;
	t->stats.blocks_used--;
}

/* `len` bytes from the place `at` on, round the end. */
static unsigned pieces(const struct tcp_ring *r, uint32_t at, uint32_t len, struct iovec iov[2])
{
	uint32_t first;

	if (len == 0)
		return 0;
	at %= r->size;
	first = r->size - at;
	if (first > len)
		first = len;
	iov[0] = (struct iovec){ .iov_base = r->at + at, .iov_len = first };
	if (first == len)
		return 1;
	iov[1] = (struct iovec){ .iov_base = r->at, .iov_len = len - first };
	return 2;
}

unsigned tcp_ring_data(const struct tcp_ring *r, uint32_t skip, uint32_t len, struct iovec iov[2])
{
	assert(skip <= r->len && len <= r->len - skip);
	return pieces(r, r->head + skip, len, iov);
}

unsigned tcp_ring_space(const struct tcp_ring *r, struct iovec iov[2])
{
	return pieces(r, r->head + r->len, r->size - r->len, iov);
}

void tcp_ring_put(struct tcp_ring *r, struct span data)
{
	struct iovec iov[2];
	unsigned n = tcp_ring_space(r, iov);

	assert(data.len <= r->size - r->len);
	r->len += (uint32_t)data.len;
	for (unsigned i = 0; i < n && data.len > 0; i++) {
		size_t len = data.len < iov[i].iov_len ? data.len : iov[i].iov_len;

		memcpy(iov[i].iov_base, data.at, len);
		data.at += len;
		data.len -= len;
	}
}

void tcp_ring_cut(struct tcp_ring *r, uint32_t len)
{
	assert(len <= r->len);
	r->len -= len;
	r->head = r->len == 0 ? 0 : (r->head + len) % r->size;
}

void tcp_release(struct tcp_table *t, struct tcp_flow *f)
{
	f->snd.len = 0;
	f->rcv.len = 0;
	tcp_ring_drop(t, &f->snd);
	tcp_ring_drop(t, &f->rcv);
	tcp_list_drop(t, f->state == ST_TIME_WAIT ? &t->time_waits : &t->waiters, f);
	tcp_list_drop(t, &t->blocked, f);
	heap_drop(t, f);
	tcp_set_state(t, f, ST_FREE);
	f->hash_next = t->free;
	t->free = index_of(t, f);
	t->stats.flows--;
}
