/*
 * queue_fixture: a queue in a little memory of its own, and a driver's part of it by hand.
 */
#pragma once

#include "test.h"
#include "virtio/queue.h"

#include <errno.h>
#include <string.h>

enum {
	RAM_BYTES = 1 << 16,
	AT_DESC = 0x1000,
	AT_AVAIL = 0x3000, /* behind QUEUE_SIZE_MAX descriptors */
	AT_USED = 0x4000,
	AT_DATA = 0x6000,
	NEXT = 1,
	WRITE = 2,
	INDIRECT = 4,
};

struct fixture {
	struct guest_mem mem;
	struct virtqueue q;
	uint16_t avail; /* what the driver put into avail->idx */
	_Alignas(16) uint8_t ram[RAM_BYTES];
};

static inline void put16(struct fixture *f, uint64_t at, uint16_t v)
{
	CHECK(guest_mem_store16(&f->mem, gpa_of(at), v));
}

static inline uint16_t get16(struct fixture *f, uint64_t at)
{
	uint16_t v = 0;

	CHECK(guest_mem_load16(&f->mem, gpa_of(at), &v));
	return v;
}

static inline uint32_t get32(const struct fixture *f, uint64_t at)
{
	uint32_t v;

	memcpy(&v, f->ram + at, sizeof(v));
	return v;
}

static inline void init(struct fixture *f, uint16_t size)
{
	memset(f, 0, sizeof(*f));
	guest_mem_over(f->ram, RAM_BYTES, &f->mem);
	f->q = (struct virtqueue){
		.size = size,
		.size_max = QUEUE_SIZE_MAX,
		.desc = gpa_of(AT_DESC),
		.avail = gpa_of(AT_AVAIL),
		.used = gpa_of(AT_USED),
		.mem = &f->mem,
		.ready = true,
	};
	CHECK(virtqueue_valid(&f->q));
}

static inline void desc(struct fixture *f, unsigned i, uint64_t at, uint32_t len, unsigned flags,
                        unsigned next)
{
	uint8_t *to = f->ram + AT_DESC + 16u * i;
	uint16_t rest[2] = { (uint16_t)flags, (uint16_t)next };

	memcpy(to, &at, 8);
	memcpy(to + 8, &len, 4);
	memcpy(to + 12, rest, 4);
}

static inline void offer(struct fixture *f, uint16_t head)
{
	put16(f, AT_AVAIL + 4 + 2u * (f->avail & (f->q.size - 1u)), head);
	f->avail++;
	put16(f, AT_AVAIL + 2, f->avail);
}

/* A pop that must be refused: nothing written, nothing held, and the same again. */
static inline void refused(struct fixture *f)
{
	static struct chain got;
	static uint8_t before[sizeof(got)];
	struct virtqueue was = f->q;

	memset(&got, 0xa5, sizeof(got));
	memset(before, 0xa5, sizeof(before));
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(virtqueue_pop(&f->q, &got), -EBADMSG);
		CHECK_MEM(span_of(&got, sizeof(got)), span_of(before, sizeof(before)));
	}
	CHECK_EQ(f->q.next_avail, was.next_avail);
	CHECK_EQ(f->q.held_count, was.held_count);
}
