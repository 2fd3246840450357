#include "driver.h"

enum {
	BREAK_WAIT = 200000, /* exits until a device must have looked */
	USED_WAIT = 200000,
	SIZE_USUAL = 4, /* the smallest that any queue of ours offers */
	HEADER_AT = DATA_AT - PAGE,
	STATUS_AT = HEADER_AT + 64,
	HEADER_BYTES = 16,
	HEADER_PIECES_MAX = 16,
	RNG_BYTES = 64,
	MESSAGE_BYTES = 8,
	RING_HEAD = 6, /* flags, index, and the event behind the entries */
};

uint64_t reg_at(unsigned slot, unsigned off)
{
	return BUS + (uint64_t)slot * WINDOW + off;
}

uint32_t reg(unsigned slot, unsigned off)
{
	return load32(reg_at(slot, off));
}

void set_reg(unsigned slot, unsigned off, uint32_t v)
{
	store32(reg_at(slot, off), v);
}

unsigned queues_of(unsigned slot)
{
	return slot == SLOT_CONSOLE ? 6 : slot == SLOT_BALLOON ? 3 : 1;
}

uint64_t offered(unsigned slot)
{
	uint64_t low;

	set_reg(slot, REG_FEATURES_SEL, 0);
	low = reg(slot, REG_FEATURES);
	set_reg(slot, REG_FEATURES_SEL, 1);
	return low | (uint64_t)reg(slot, REG_FEATURES) << 32;
}

void reset(unsigned slot)
{
	set_reg(slot, REG_STATUS, 0);
	expect(reg(slot, REG_STATUS) == 0, "a reset leaves a status, slot", slot);
}

void begin(unsigned slot, uint64_t features)
{
	uint64_t accepted = (offered(slot) & features) | VERSION_1;

	reset(slot);
	set_reg(slot, REG_STATUS, ST_ACK);
	set_reg(slot, REG_STATUS, ST_ACK | ST_DRIVER);
	set_reg(slot, REG_ACCEPT_SEL, 0);
	set_reg(slot, REG_ACCEPT, (uint32_t)accepted);
	set_reg(slot, REG_ACCEPT_SEL, 1);
	set_reg(slot, REG_ACCEPT, (uint32_t)(accepted >> 32));
	set_reg(slot, REG_STATUS, ST_ACK | ST_DRIVER | ST_FEATURES);
	expect(reg(slot, REG_STATUS) == (ST_ACK | ST_DRIVER | ST_FEATURES),
	       "its own features are refused, slot", slot);
}

void set_queue(unsigned slot, unsigned index, uint32_t num, uint64_t desc, uint64_t driver,
               uint64_t device)
{
	set_reg(slot, REG_QUEUE, index);
	set_reg(slot, REG_NUM, num);
	set_reg(slot, REG_DESC, (uint32_t)desc);
	set_reg(slot, REG_DESC + 4, (uint32_t)(desc >> 32));
	set_reg(slot, REG_DRIVER, (uint32_t)driver);
	set_reg(slot, REG_DRIVER + 4, (uint32_t)(driver >> 32));
	set_reg(slot, REG_DEVICE, (uint32_t)device);
	set_reg(slot, REG_DEVICE + 4, (uint32_t)(device >> 32));
	set_reg(slot, REG_READY, 1);
}

void go(unsigned slot)
{
	set_reg(slot, REG_STATUS, ST_ACK | ST_DRIVER | ST_FEATURES | ST_GO);
}

void open_at(struct device *d, unsigned slot, uint64_t features, unsigned size, uint64_t at)
{
	begin(slot, features);
	*d = (struct device){ .slot = slot, .queue_count = queues_of(slot) };
	for (unsigned i = 0; i < d->queue_count; i++, at += QUEUE_BYTES) {
		struct queue *q = &d->q[i];

		memset((void *)at, 0, size * sizeof(struct desc));
		memset((void *)(at + PAGE), 0, RING_HEAD + size * 2ull);
		memset((void *)(at + 2 * PAGE), 0, RING_HEAD + size * 8ull);
		*q = (struct queue){ .slot = slot, .index = i, .size = size, .at = at };
		q->desc = (struct desc *)at;
		q->avail = (uint16_t *)(at + PAGE);
		q->used = (uint16_t *)(at + 2 * PAGE);
		set_queue(slot, i, size, at, at + PAGE, at + 2 * PAGE);
	}
	go(slot);
}

void open(struct device *d, unsigned slot)
{
	open_at(d, slot, 0, SIZE_USUAL, RINGS_AT);
	expect(!broken(slot), "it breaks of itself, slot", slot);
}

void chain(struct queue *q, unsigned first, const struct desc *pieces, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct desc d = pieces[i];

		if (i + 1 < n)
			d.flags |= F_NEXT;
		d.next = (uint16_t)(first + i + 1);
		q->desc[first + i] = d;
	}
}

void offer(struct queue *q, unsigned head)
{
	q->avail[2 + q->next % q->size] = (uint16_t)head;
	q->next++;
	__asm__ volatile("" ::: "memory");
	q->avail[1] = q->next;
}

void kick(const struct queue *q)
{
	set_reg(q->slot, REG_NOTIFY, q->index);
}

bool broken(unsigned slot)
{
	return (reg(slot, REG_STATUS) & ST_BROKEN) != 0;
}

bool wait_used(const struct queue *q, uint16_t index)
{
	for (unsigned n = 0; q->used[1] != index && n < USED_WAIT; n++)
		if (n % 16 == 15 && broken(q->slot))
			return false;
		else
			let_time_pass(1);
	return q->used[1] == index;
}

bool request(struct queue *q, const struct desc *pieces, unsigned n)
{
	chain(q, 0, pieces, n);
	offer(q, 0);
	kick(q);
	return wait_used(q, q->next);
}

void expect_broken(unsigned slot, const char *why, uint64_t number)
{
	for (unsigned n = 0; n < BREAK_WAIT; n++)
		if (broken(slot))
			break;
	expect(broken(slot), why, number);
	report()->broken++;
}

static bool probe_rng(struct queue *q)
{
	struct desc d = { DATA_AT, RNG_BYTES, F_WRITE, 0 };
	uint8_t all = 0;

	memset((void *)(uintptr_t)DATA_AT, 0, RNG_BYTES);
	if (!request(q, &d, 1))
		return false;
	for (unsigned i = 0; i < RNG_BYTES; i++)
		all |= ((uint8_t *)(uintptr_t)DATA_AT)[i];
	return all != 0;
}

static bool probe_console(struct device *d)
{
	struct desc line = { DATA_AT, 6, 0, 0 };

	memcpy((void *)(uintptr_t)DATA_AT, "alive\n", 6);
	return request(&d->q[LOG_TX], &line, 1) && tell_console(d, 0, CON_DEVICE_READY, 1);
}

static bool probe_balloon(struct queue *q)
{
	struct desc d = { DATA_AT, 4, 0, 0 };

	store32(DATA_AT, (DATA_AT + DATA_BYTES) / PAGE);
	return request(q, &d, 1);
}

bool probe(struct device *d)
{
	struct blk_request sector = { .type = BLK_IN, .bytes = 512, .to_guest = true };

	switch (d->slot) {
	case SLOT_CONSOLE:
		return probe_console(d);
	case SLOT_RNG:
		return probe_rng(&d->q[0]);
	case SLOT_BALLOON:
		return probe_balloon(&d->q[0]);
	default:
		return blk(&d->q[0], &sector) == 0;
	}
}

void expect_works(unsigned slot, const char *why)
{
	struct device d;

	open(&d, slot);
	expect(probe(&d), why, slot);
	reset(slot);
}

unsigned blk(struct queue *q, const struct blk_request *r)
{
	unsigned pieces = r->header_pieces ? r->header_pieces : 1;
	struct desc d[HEADER_PIECES_MAX + 2];
	uint16_t way = r->to_guest ? F_WRITE : 0;
	bool joined = r->status_joined && r->to_guest;
	uint64_t status = joined ? DATA_AT + r->bytes : STATUS_AT;
	unsigned n = 0;

	*(struct desc *)(uintptr_t)HEADER_AT = (struct desc){ .at = r->type };
	store(HEADER_AT + 8, r->sector, 8);
	store(status, 0xee, 1);
	for (unsigned at = 0; n < pieces; n++) {
		unsigned len = n + 1 < pieces ? 1 : HEADER_BYTES - at;

		d[n] = (struct desc){ HEADER_AT + at, len, 0, 0 };
		at += len;
	}
	if (r->bytes > 0 && !joined)
		d[n++] = (struct desc){ DATA_AT, r->bytes, way, 0 };
	d[n++] = joined ? (struct desc){ DATA_AT, r->bytes + 1, F_WRITE, 0 }
	                : (struct desc){ STATUS_AT, 1, F_WRITE, 0 };
	if (!request(q, d, n))
		return BLK_BROKE;
	return (unsigned)load(status, 1);
}

bool tell_console(struct device *d, uint32_t port, uint16_t event, uint16_t value)
{
	struct desc m = { HEADER_AT, MESSAGE_BYTES, 0, 0 };

	store32(HEADER_AT, port);
	store32(HEADER_AT + 4, event | (uint32_t)value << 16);
	return request(&d->q[CONTROL_TX], &m, 1);
}
