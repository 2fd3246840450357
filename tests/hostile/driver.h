/*
 * driver: as much of a virtio driver as it takes to do wrong: registers of the transport, queues
 * whose every byte the caller may change, and a request of each device by which it shows that it
 * works.
 *
 * A queue's three rings lie a page apart from each other. Source: VIRTIO 1.2, sections 2.7, 4.2.2
 */
#pragma once

#include "guest.h"

enum {
	SLOT_CONSOLE,
	SLOT_IMAGE,
	SLOT_SCRATCH,
	SLOT_RNG,
	SLOT_BALLOON,
	SLOTS,
	WINDOW = 0x1000,
	QUEUES_MAX = 6,
	QUEUE_BYTES = 3 * PAGE,
	RINGS_AT = HEAP_AT, /* of the device in use */
	DATA_AT = 0x500000, /* for what its descriptors point at; 3 MiB are ours */
	DATA_BYTES = 3 << 20,
};
#define BUS UINT64_C(0xd0000000)

enum reg {
	REG_MAGIC = 0,
	REG_FEATURES = 0x10,
	REG_FEATURES_SEL = 0x14,
	REG_ACCEPT = 0x20,
	REG_ACCEPT_SEL = 0x24,
	REG_QUEUE = 0x30,
	REG_NUM_MAX = 0x34,
	REG_NUM = 0x38,
	REG_READY = 0x44,
	REG_NOTIFY = 0x50,
	REG_ISR = 0x60,
	REG_ACK = 0x64,
	REG_STATUS = 0x70,
	REG_DESC = 0x80,
	REG_DRIVER = 0x90,
	REG_DEVICE = 0xa0,
	REG_CONFIG = 0x100,
};

enum { ST_ACK = 1, ST_DRIVER = 2, ST_GO = 4, ST_FEATURES = 8, ST_BROKEN = 64, ST_FAILED = 128 };
enum { F_NEXT = 1, F_WRITE = 2, F_INDIRECT = 4 };
#define VERSION_1     (UINT64_C(1) << 32)
#define INDIRECT_DESC (UINT64_C(1) << 28)
#define EVENT_IDX     (UINT64_C(1) << 29)
#define ALL_FEATURES  UINT64_MAX

struct desc {
	uint64_t at;
	uint32_t len;
	uint16_t flags, next;
};

struct queue {
	unsigned slot, index, size;
	uint64_t at;
	struct desc *desc;
	volatile uint16_t *avail; /* flags, index, entries */
	volatile uint16_t *used;
	uint16_t next; /* our next place in avail */
};

struct device {
	unsigned slot, queue_count;
	struct queue q[QUEUES_MAX];
};

uint64_t reg_at(unsigned slot, unsigned off);
uint32_t reg(unsigned slot, unsigned off);
void set_reg(unsigned slot, unsigned off, uint32_t v);

unsigned queues_of(unsigned slot);
uint64_t offered(unsigned slot);

void reset(unsigned slot);
/* From reset to FEATURES_OK with what it offers of `features`, and VERSION_1. */
void begin(unsigned slot, uint64_t features);
void set_queue(unsigned slot, unsigned index, uint32_t num, uint64_t desc, uint64_t driver,
               uint64_t device);
void go(unsigned slot); /* DRIVER_OK */

/* All of it, every queue of `size` places, the rings from `at` on. */
void open_at(struct device *d, unsigned slot, uint64_t features, unsigned size, uint64_t at);
void open(struct device *d, unsigned slot);

/* Puts a chain of n pieces into descriptors from `first` on; flags tell which are F_WRITE. */
void chain(struct queue *q, unsigned first, const struct desc *pieces, unsigned n);
void offer(struct queue *q, unsigned head); /* makes it available */
void kick(const struct queue *q);
/* Until the used index is `index`. False: it does not come, or the device is broken. */
bool wait_used(const struct queue *q, uint16_t index);
/* One chain, offered, kicked and used. */
bool request(struct queue *q, const struct desc *pieces, unsigned n);

bool broken(unsigned slot);
void expect_broken(unsigned slot, const char *why, uint64_t number);

/* A request of the device's own kind goes through. */
bool probe(struct device *d);
/* After a reset the device works as if nothing had been. */
void expect_works(unsigned slot, const char *why);

/* A block request of `bytes` at DATA_AT, whose header lies in `pieces` parts: its status, or 256
 * when the device broke. */
struct blk_request {
	uint32_t type;
	uint64_t sector;
	uint32_t bytes;
	bool to_guest;
	unsigned header_pieces; /* 0: one */
	bool status_joined;     /* the status byte ends the data's descriptor */
};
enum { BLK_IN = 0, BLK_OUT = 1, BLK_FLUSH = 4, BLK_ID = 8, BLK_DISCARD = 11, BLK_ZEROES = 13 };
enum { BLK_BROKE = 256 };
unsigned blk(struct queue *q, const struct blk_request *r);

/* The console's queues, and a control message to it. */
enum { LOG_RX, LOG_TX, CONTROL_RX, CONTROL_TX, AGENT_RX, AGENT_TX };
enum { CON_DEVICE_READY = 0, CON_PORT_READY = 3, CON_PORT_OPEN = 6 };
bool tell_console(struct device *d, uint32_t port, uint16_t event, uint16_t value);
