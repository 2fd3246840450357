/* Attacks on what each device makes of a request that is a proper chain. */
#include "driver.h"

enum {
	QUEUE_BIG = 16,
	DISK_SECTORS = 2048, /* of both disks */
	OK = 0,
	IOERR = 1,
	UNSUPP = 2,
	RANGE_BYTES = 16,
	RANGES_MAX = 16,
	FLOODS = 300,
	FLOOD_BYTES = 16 << 10,
	GARBAGE = 1000,
	RNG_MAX = 1024,
	PFNS = 256,
	AGAIN = 300,
	RX_AT = DATA_AT + 0x20000,
};
#define QCOW2_MAGIC UINT32_C(0xfb494651) /* big endian in the file */

/* -- block ------------------------------------------------------- */

struct blk_case {
	struct blk_request r;
	unsigned status, read_only_status;
};

static const struct blk_case blk_cases[] = {
	{ { BLK_IN, 0, 512, true, 0, false }, OK, OK },
	{ { BLK_IN, 0, 512, true, 16, false }, OK, OK },
	{ { BLK_IN, 0, 512, true, 3, true }, OK, OK },
	{ { BLK_IN, DISK_SECTORS - 1, 512, true, 0, false }, OK, OK },
	{ { BLK_IN, DISK_SECTORS, 512, true, 0, false }, IOERR, IOERR },
	{ { BLK_IN, DISK_SECTORS - 1, 1024, true, 0, false }, IOERR, IOERR },
	{ { BLK_IN, UINT64_MAX, 512, true, 0, false }, IOERR, IOERR },
	{ { BLK_IN, UINT64_C(1) << 55, 512, true, 0, false }, IOERR, IOERR },
	{ { BLK_IN, UINT64_MAX / 512, 512, true, 0, false }, IOERR, IOERR },
	{ { BLK_IN, 0, 511, true, 0, false }, IOERR, IOERR },
	{ { BLK_IN, 0, 513, true, 2, true }, IOERR, IOERR },
	{ { BLK_IN, 0, 0, true, 0, false }, OK, OK },
	{ { BLK_IN, DISK_SECTORS, 0, true, 0, false }, OK, OK },
	{ { BLK_IN, DISK_SECTORS + 1, 0, true, 0, false }, IOERR, IOERR },
	{ { BLK_IN, 0, 512, false, 0, false }, IOERR, IOERR },
	{ { BLK_OUT, 0, 512, false, 0, false }, OK, IOERR },
	{ { BLK_OUT, 0, 512, false, 16, false }, OK, IOERR },
	{ { BLK_OUT, DISK_SECTORS - 1, 512, false, 0, false }, OK, IOERR },
	{ { BLK_OUT, DISK_SECTORS, 512, false, 0, false }, IOERR, IOERR },
	{ { BLK_OUT, UINT64_MAX - 1, 1024, false, 0, false }, IOERR, IOERR },
	{ { BLK_OUT, 0, 512, true, 0, false }, IOERR, IOERR },
	{ { BLK_OUT, 0, 1, false, 0, false }, IOERR, IOERR },
	{ { BLK_FLUSH, 0, 0, false, 0, false }, OK, OK },
	{ { BLK_FLUSH, UINT64_MAX, 0, false, 5, false }, OK, OK },
	{ { BLK_FLUSH, 0, 512, false, 0, false }, IOERR, IOERR },
	{ { BLK_ID, 0, 20, true, 0, false }, OK, OK },
	{ { BLK_ID, UINT64_MAX, 3, true, 0, false }, OK, OK },
	{ { BLK_ID, 0, 0, true, 0, false }, OK, OK },
	{ { BLK_ID, 0, 4096, true, 0, true }, OK, OK },
	{ { BLK_ID, 0, 20, false, 0, false }, IOERR, IOERR },
	{ { BLK_DISCARD, 0, 0, false, 0, false }, IOERR, IOERR },
	{ { BLK_DISCARD, 0, 15, false, 0, false }, IOERR, IOERR },
	{ { BLK_ZEROES, 0, 17, false, 0, false }, IOERR, IOERR },
	{ { BLK_ZEROES, 0, RANGE_BYTES *(RANGES_MAX + 1), false, 0, false }, IOERR, IOERR },
	{ { BLK_ZEROES, 0, 512, true, 0, false }, IOERR, IOERR },
	{ { 2, 0, 512, true, 0, false }, UNSUPP, UNSUPP },
	{ { 3, 0, 0, false, 0, false }, UNSUPP, UNSUPP },
	{ { 9, 0, 512, true, 0, false }, UNSUPP, UNSUPP },
	{ { 12, 0, 512, true, 0, false }, UNSUPP, UNSUPP },
	{ { 14, 0, 16, false, 0, false }, UNSUPP, UNSUPP },
	{ { UINT32_MAX, UINT64_MAX, 512, true, 0, false }, UNSUPP, UNSUPP },
};

static void blk_requests(void)
{
	struct device d;

	for (unsigned slot = SLOT_IMAGE; slot <= SLOT_SCRATCH; slot++) {
		open_at(&d, slot, ALL_FEATURES, 2 * QUEUE_BIG, RINGS_AT);
		for (unsigned i = 0; i < sizeof(blk_cases) / sizeof(blk_cases[0]); i++) {
			const struct blk_case *c = &blk_cases[i];
			unsigned want = slot == SLOT_IMAGE ? c->read_only_status : c->status;
			unsigned got;

			memset((void *)(uintptr_t)DATA_AT, 0, 1024);
			got = blk(&d.q[0], &c->r);
			expect(got == want, "block request, slot, case, status",
			       slot << 16 | i << 8 | got);
		}
		reset(slot);
	}
}

struct range {
	uint64_t sector;
	uint32_t sectors, flags;
};

/* Below it the host has less room than the disk has sectors: its monitor ends for that. */
static void blk_full(void)
{
	const struct blk_request w = { BLK_OUT, 0, 4096, false, 0, false };
	struct device d;

	open_at(&d, SLOT_SCRATCH, 0, QUEUE_BIG, RINGS_AT);
	for (uint64_t sector = 0; sector < DISK_SECTORS; sector += 8) {
		struct blk_request r = w;

		r.sector = sector;
		report()->steps++;
		if (blk(&d.q[0], &r) != OK)
			break; /* no answer came, nor will one */
	}
}

static void blk_ranges(void)
{
	static const struct {
		struct range r;
		unsigned discard, zeroes;
	} cases[] = {
		{ { 0, 1, 0 }, OK, OK },
		{ { DISK_SECTORS - 1, 1, 0 }, OK, OK },
		{ { 0, 0, 0 }, OK, OK },
		{ { DISK_SECTORS, 1, 0 }, IOERR, IOERR },
		{ { DISK_SECTORS - 1, 2, 0 }, IOERR, IOERR },
		{ { UINT64_MAX, 1, 0 }, IOERR, IOERR },
		{ { UINT64_C(1) << 55, 1, 0 }, IOERR, IOERR },
		{ { 0, UINT32_MAX, 0 }, IOERR, IOERR },
		{ { UINT64_MAX, UINT32_MAX, 0 }, IOERR, IOERR },
		{ { 0, 1, 1 }, UNSUPP, OK },
		{ { 0, 1, 2 }, UNSUPP, UNSUPP },
		{ { 0, 1, UINT32_MAX }, UNSUPP, UNSUPP },
	};
	struct device d;

	open_at(&d, SLOT_SCRATCH, ALL_FEATURES, QUEUE_BIG, RINGS_AT);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (uint32_t n = 1; n <= RANGES_MAX; n += RANGES_MAX - 1) {
			struct blk_request r = { .type = BLK_DISCARD, .bytes = n * RANGE_BYTES };
			struct range *to = (struct range *)(uintptr_t)DATA_AT;

			for (uint32_t k = 0; k < n; k++)
				to[k] = (struct range){ 0, 1, 0 };
			to[n - 1] = cases[i].r;
			expect(blk(&d.q[0], &r) == cases[i].discard, "discard of range", i);
			r.type = BLK_ZEROES;
			expect(blk(&d.q[0], &r) == cases[i].zeroes, "zeroing of range", i);
		}
	}
	reset(SLOT_SCRATCH);
}

/* Chains without room for a status, or with half a header. */
static void blk_short(void)
{
	static const struct desc chains[][2] = {
		{ { DATA_AT, 16, 0, 0 }, { DATA_AT + 512, 0, F_WRITE, 0 } },
		{ { DATA_AT, 15, 0, 0 }, { DATA_AT + 512, 1, F_WRITE, 0 } },
		{ { DATA_AT, 16, 0, 0 }, { DATA_AT + 512, 512, 0, 0 } },
		{ { DATA_AT, 16, F_WRITE, 0 }, { DATA_AT + 512, 512, F_WRITE, 0 } },
		{ { DATA_AT, 0, 0, 0 }, { DATA_AT + 512, 0, 0, 0 } },
	};
	struct device d;

	memset((void *)(uintptr_t)DATA_AT, 0, 1024);
	for (unsigned slot = SLOT_IMAGE; slot <= SLOT_SCRATCH; slot++) {
		for (unsigned i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
			open(&d, slot);
			(void)request(&d.q[0], chains[i], 2);
			expect_broken(slot, "half a request is taken, case", i);
		}
		expect_works(slot, "broken by half requests, slot");
	}
}

/* A disk that says it is qcow2, and names a file of the host's, is bytes like any other. */
static void blk_other_format(void)
{
	struct blk_request r = { .type = BLK_IN, .bytes = 512, .to_guest = true };
	struct device d;

	for (unsigned n = 0; n < 3; n++) {
		open(&d, SLOT_SCRATCH);
		expect(load(reg_at(SLOT_SCRATCH, REG_CONFIG), 8) == DISK_SECTORS, "its size", n);
		memset((void *)(uintptr_t)DATA_AT, 0, 512);
		r.type = BLK_IN;
		r.to_guest = true;
		expect(blk(&d.q[0], &r) == OK, "it cannot be read", n);
		expect(load32(DATA_AT) == QCOW2_MAGIC, "its first bytes are not shown", n);
		r.type = BLK_OUT;
		r.to_guest = false;
		expect(blk(&d.q[0], &r) == OK, "it cannot be written", n);
		reset(SLOT_SCRATCH);
	}
}

/* -- console ----------------------------------------------------- */

static void open_console(struct device *d)
{
	open(d, SLOT_CONSOLE);
	expect(tell_console(d, 0, CON_DEVICE_READY, 1), "the console is deaf", 0);
	expect(tell_console(d, 1, CON_PORT_READY, 1), "the console is deaf", 1);
	expect(tell_console(d, 1, CON_PORT_OPEN, 1), "the console is deaf", 2);
}

/* Whether or not somebody reads the log, every chain comes back. */
static void log_flood(void)
{
	struct device d;
	const struct desc line = { DATA_AT, FLOOD_BYTES, 0, 0 };

	memset((void *)(uintptr_t)DATA_AT, 'x', FLOOD_BYTES);
	open_console(&d);
	for (unsigned n = 0; n < FLOODS; n++)
		expect(request(&d.q[LOG_TX], &line, 1), "the log stands still after", n);
	reset(SLOT_CONSOLE);
}

/* Nobody reads: the queue fills, and the rest of the console goes on. */
static void agent_flood(void)
{
	struct device d;
	struct queue *q;

	open_console(&d);
	q = &d.q[AGENT_TX];
	for (unsigned n = 0; n < FLOODS; n++) {
		const struct desc all = { DATA_AT, DATA_BYTES / 2, 0, 0 };

		chain(q, n % q->size, &all, 1);
		if ((uint16_t)(q->next - q->used[1]) < q->size)
			offer(q, n % q->size);
		kick(q);
		if (n % 16 == 0)
			expect(tell_console(&d, 0, CON_DEVICE_READY, 1), "a flood stops it all", n);
	}
	expect((uint16_t)(q->next - q->used[1]) > 0, "the flood went nowhere and was taken", 0);
	expect(!broken(SLOT_CONSOLE), "a flood breaks the console", 0);
	reset(SLOT_CONSOLE);
	expect_works(SLOT_CONSOLE, "broken by a flood, slot");
}

/* Messages of any length, of any port, of any kind; none is more than refused. */
static void control_garbage(void)
{
	uint32_t seed = 1;
	struct device d;

	open(&d, SLOT_CONSOLE);
	for (unsigned n = 0; n < GARBAGE; n++) {
		struct desc m = { DATA_AT, dice(&seed) % 40, 0, 0 };

		for (unsigned i = 0; i < 40; i += 4)
			store32(DATA_AT + i, dice(&seed) | dice(&seed) << 20);
		if (n % 2 == 0) {
			m.len = 8;
			store32(DATA_AT, n % 4 ? dice(&seed) % 4 : UINT32_MAX - dice(&seed) % 4);
			store32(DATA_AT + 4, dice(&seed) % 10 | (dice(&seed) % 3) << 16);
		}
		expect(request(&d.q[CONTROL_TX], &m, 1), "a control message breaks it", n);
	}
	expect_works(SLOT_CONSOLE, "broken by control messages, slot");
}

/* A buffer for a control message with no room for one, and to receive into one of no bytes. */
static void console_no_room(void)
{
	struct desc small = { RX_AT, 3, F_WRITE, 0 };
	struct device d;

	open_console(&d);
	chain(&d.q[CONTROL_RX], 0, &small, 1);
	offer(&d.q[CONTROL_RX], 0);
	kick(&d.q[CONTROL_RX]);
	expect_broken(SLOT_CONSOLE, "a message was put where none fits", 0);
	expect_works(SLOT_CONSOLE, "broken by small buffers, slot");
}

/* -- entropy ----------------------------------------------------- */

static void rng_huge(void)
{
	const struct desc all = { DATA_AT, DATA_BYTES, F_WRITE, 0 };
	const struct desc one = { DATA_AT, 1, F_WRITE, 0 };
	const struct desc none = { DATA_AT, 0, F_WRITE, 0 };
	const struct desc bad = { DATA_AT, 64, 0, 0 };
	struct device d;

	open(&d, SLOT_RNG);
	for (unsigned n = 0; n < GARBAGE; n++) {
		const struct desc *pieces = n % 3 == 0 ? &all : n % 3 == 1 ? &one : &none;
		uint64_t len;

		expect(request(&d.q[0], pieces, 1), "no random bytes, round", n);
		len = *(volatile uint32_t *)(uintptr_t)(d.q[0].at + 2 * PAGE + 4 + n % 4 * 8 + 4);
		expect(len <= RNG_MAX && len <= pieces->len, "more than there is room for", len);
	}
	(void)request(&d.q[0], &bad, 1);
	expect_broken(SLOT_RNG, "random bytes to where they are read", 0);
	expect_works(SLOT_RNG, "broken by requests, slot");
}

/* -- balloon ----------------------------------------------------- */

static bool give_up(struct queue *q, uint64_t from, uint64_t step, unsigned n)
{
	const struct desc d = { DATA_AT, n * 4, 0, 0 };

	for (unsigned i = 0; i < n; i++)
		store32(DATA_AT + 4 * i, (uint32_t)(from / PAGE + i * step));
	return request(q, &d, 1);
}

/* All memory that is not ours, twice over, and one page again and again. */
static void balloon_everything(void)
{
	uint64_t from = DATA_AT + DATA_BYTES;
	struct device d;

	open(&d, SLOT_BALLOON);
	for (unsigned round = 0; round < 3; round++) {
		for (uint64_t at = from; at < ram_low_end(); at += PFNS * PAGE) {
			uint64_t left = (ram_low_end() - at) / PAGE;

			store32(at, UINT32_MAX);
			expect(give_up(&d.q[0], at, 1, left < PFNS ? (unsigned)left : PFNS),
			       "pages are refused from", at);
			expect(load32(at) == 0, "a page was not given up", at);
		}
	}
	for (unsigned n = 0; n < AGAIN; n++)
		expect(give_up(&d.q[n % 2], from, 0, PFNS), "the same page is refused", n);
	reset(SLOT_BALLOON);
	expect_works(SLOT_BALLOON, "broken by pages, slot");
}

static void balloon_no_pages(void)
{
	const uint64_t bad[] = { ram_low_end() / PAGE, BUS / PAGE, 3 * GIB / PAGE,
		                 UINT32_MAX,           0x80000000, 0x40000000 };
	struct device d;

	for (unsigned queue = 0; queue < 2; queue++) {
		for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			open(&d, SLOT_BALLOON);
			(void)give_up(&d.q[queue], bad[i] * PAGE, 1, 1);
			expect_broken(SLOT_BALLOON, "it takes page", bad[i]);
		}
		for (unsigned bytes = 1; bytes < 4; bytes++) {
			const struct desc odd = { DATA_AT, bytes, 0, 0 };

			open(&d, SLOT_BALLOON);
			(void)request(&d.q[queue], &odd, 1);
			expect_broken(SLOT_BALLOON, "it takes half a number", bytes);
		}
	}
	expect_works(SLOT_BALLOON, "broken by pages that are none, slot");
}

/* The rings it is read from go, too: then they are zeros, and its index is behind. */
static void balloon_own_rings(void)
{
	struct device d;

	for (unsigned n = 0; n < 20; n++) {
		open(&d, SLOT_BALLOON);
		(void)give_up(&d.q[0], RINGS_AT, 1, 3);
		d.q[0].next = 7;
		offer(&d.q[0], 3);
		kick(&d.q[0]);
		expect_broken(SLOT_BALLOON, "it goes on with rings of zeros", n);
	}
	expect_works(SLOT_BALLOON, "broken by its own rings, slot");
}

/* Reports all of memory as free: this program, its page tables and its stack with it. */
static void balloon_suicide(void)
{
	struct desc all = { 0, (uint32_t)ram_low_end(), F_WRITE, 0 };
	struct device d;

	report()->steps++;
	open_at(&d, SLOT_BALLOON, ALL_FEATURES, 4, RINGS_AT);
	chain(&d.q[2], 0, &all, 1);
	offer(&d.q[2], 0);
	kick(&d.q[2]);
	for (;;)
		let_time_pass(1);
}

const struct attack device_attacks[] = {
	{ "blk-requests", blk_requests },
	{ "blk-ranges", blk_ranges },
	{ "blk-short", blk_short },
	{ "blk-other-format", blk_other_format },
	{ "blk-full", blk_full },
	{ "log-flood", log_flood },
	{ "agent-flood", agent_flood },
	{ "control-garbage", control_garbage },
	{ "console-no-room", console_no_room },
	{ "rng-huge", rng_huge },
	{ "balloon-everything", balloon_everything },
	{ "balloon-no-pages", balloon_no_pages },
	{ "balloon-own-rings", balloon_own_rings },
	{ "balloon-suicide", balloon_suicide },
	{ NULL, NULL },
};
