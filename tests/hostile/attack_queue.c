/*
 * Attacks on the transport and on the rings. Each malformed queue or chain is to end in
 * NEEDS_RESET, and the device is to work for the driver that comes after.
 */
#include "driver.h"

enum {
	PLACES = 4,
	AHEAD_MAX = PLACES + 1,
	STORM = 20000,
	RESETS = 300,
	LIVES = 100,
	ACTS = 25, /* chains of a life */
	IN_FLIGHT = 60,
	IN_FLIGHT_ROUNDS = 30,
	IN_FLIGHT_BYTES = 48 << 10,
	BIG_QUEUE = 256,
	SETTLE = 300,
	MARK = 0xa5a5a5a5,
	TABLE_AT = DATA_AT + 0x1000, /* of indirect descriptors */
	BUF_AT = DATA_AT + 0x10000,
};
/* Stands for the end of memory, which only a run knows. */
#define RAM_END (UINT64_C(0xe0d) << 48)

static uint64_t place(uint64_t at)
{
	return at >> 48 == RAM_END >> 48 ? ram_low_end() + (uint64_t)(int16_t)at : at;
}

/* -- registers --------------------------------------------------- */

static void queue_sizes(void)
{
	static const uint32_t sizes[] = { 0,      3,       5,       513,        1024,      0x8000,
		                          0xffff, 0x10000, 0x10004, 0x80000000, UINT32_MAX };

	for (unsigned slot = 0; slot < SLOTS; slot++) {
		for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			begin(slot, 0);
			set_queue(slot, 0, sizes[i], RINGS_AT, RINGS_AT + PAGE,
			          RINGS_AT + 2 * PAGE);
			go(slot);
			expect_broken(slot, "a queue of that size is taken", sizes[i]);
		}
		expect_works(slot, "broken by sizes, slot");
	}
}

static void queue_addresses(void)
{
	static const uint64_t places[] = { ~UINT64_C(15), UINT64_C(1) << 63, UINT64_C(1) << 52,
		                           RAM_END,       RAM_END | 0xfff8,  BUS,
		                           3 * GIB,       0xfee00000,        4 * GIB - 16,
		                           RINGS_AT + 1,  UINT64_MAX,        4 * GIB };

	for (unsigned slot = 0; slot < SLOTS; slot++) {
		for (unsigned i = 0; i < 3 * sizeof(places) / sizeof(places[0]); i++) {
			uint64_t at[3] = { RINGS_AT, RINGS_AT + PAGE, RINGS_AT + 2 * PAGE };

			at[i % 3] = place(places[i / 3]);
			begin(slot, 0);
			set_queue(slot, 0, PLACES, at[0], at[1], at[2]);
			go(slot);
			expect_broken(slot, "a ring is taken at", at[i % 3]);
		}
		expect_works(slot, "broken by addresses, slot");
	}
}

/* The last bytes of memory are as good as any. */
static void rings_at_the_end(void)
{
	struct device d;

	for (unsigned slot = 0; slot < SLOTS; slot++) {
		open_at(&d, slot, 0, PLACES,
		        ram_low_end() - (uint64_t)queues_of(slot) * QUEUE_BYTES);
		expect(!broken(slot) && probe(&d), "no ring at the end of memory, slot", slot);
		reset(slot);
	}
}

static void selectors(void)
{
	static const uint32_t bad[] = { 6, 8, 255, 0x8000, 0x80000000, UINT32_MAX };

	for (unsigned slot = 0; slot < SLOTS; slot++) {
		begin(slot, 0);
		for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			set_queue(slot, bad[i], PLACES, RINGS_AT, RINGS_AT + PAGE, RINGS_AT);
			expect(reg(slot, REG_NUM_MAX) == 0 && reg(slot, REG_READY) == 0,
			       "there is a queue", bad[i]);
		}
		for (unsigned i = 0; i < queues_of(slot); i++) {
			set_reg(slot, REG_QUEUE, i);
			expect(reg(slot, REG_READY) == 0, "a queue became ready by itself", i);
		}
		go(slot);
		for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
			set_reg(slot, REG_NOTIFY, bad[i]);
		expect_works(slot, "broken by selectors, slot");
	}
}

static void disturb(unsigned slot)
{
	for (unsigned i = 0; i < queues_of(slot); i++) {
		set_queue(slot, i, 0, UINT64_MAX, 0, UINT64_MAX);
		set_queue(slot, i, BIG_QUEUE, ram_low_end(), BUS, 4 * GIB);
		set_reg(slot, REG_READY, 0);
		set_reg(slot, REG_READY, 1);
		set_reg(slot, REG_READY, UINT32_MAX);
	}
	set_reg(slot, REG_ACCEPT_SEL, 0);
	set_reg(slot, REG_ACCEPT, UINT32_MAX);
	set_reg(slot, REG_STATUS, ST_ACK);
}

/* After DRIVER_OK nothing of a queue changes. */
static void frozen_registers(void)
{
	struct device d;

	for (unsigned slot = 0; slot < SLOTS; slot++) {
		open(&d, slot);
		disturb(slot);
		expect(probe(&d), "a register was written after DRIVER_OK, slot", slot);
		disturb(slot);
		expect(probe(&d), "nor between requests, slot", slot);
		reset(slot);
	}
}

static void features(void)
{
	for (unsigned slot = 0; slot < SLOTS; slot++) {
		uint64_t none = ~offered(slot);

		for (unsigned bit = 0; bit < 64; bit++) {
			uint64_t accept = VERSION_1 | UINT64_C(1) << bit;

			if ((none >> bit & 1) == 0)
				accept = UINT64_C(1) << bit & ~VERSION_1; /* offered, and too old */
			reset(slot);
			set_reg(slot, REG_STATUS, ST_ACK);
			set_reg(slot, REG_STATUS, ST_ACK | ST_DRIVER);
			set_reg(slot, REG_ACCEPT_SEL, 0);
			set_reg(slot, REG_ACCEPT, (uint32_t)accept);
			set_reg(slot, REG_ACCEPT_SEL, 1);
			set_reg(slot, REG_ACCEPT, (uint32_t)(accept >> 32));
			set_reg(slot, REG_ACCEPT_SEL, 2);
			set_reg(slot, REG_ACCEPT, UINT32_MAX);
			set_reg(slot, REG_STATUS, ST_ACK | ST_DRIVER | ST_FEATURES);
			expect(reg(slot, REG_STATUS) == (ST_ACK | ST_DRIVER), "taken: feature",
			       bit);
			go(slot);
			expect((reg(slot, REG_STATUS) & ST_GO) == 0, "goes without features", bit);
		}
	}
}

static void status_order(void)
{
	for (unsigned slot = 0; slot < SLOTS; slot++) {
		for (uint32_t v = 1; v < 512; v++) {
			uint32_t got;

			reset(slot);
			set_reg(slot, REG_STATUS, v);
			got = reg(slot, REG_STATUS);
			expect(got == 0 || (got == v && (v == ST_ACK || v == ST_FAILED)),
			       "a step was skipped, status", v);
		}
		for (uint32_t v = 0; v < 16; v++) {
			reset(slot);
			set_reg(slot, REG_STATUS, ST_ACK);
			set_reg(slot, REG_STATUS, v);
			set_reg(slot, REG_STATUS, ST_FAILED | v);
			set_reg(slot, REG_STATUS, ST_ACK | ST_DRIVER | ST_FEATURES | ST_GO);
			expect((reg(slot, REG_STATUS) & ST_GO) == 0, "it goes after status", v);
		}
		expect_works(slot, "broken by status, slot");
	}
}

/* -- kicks and resets -------------------------------------------- */

static void storm_of_kicks(void)
{
	for (unsigned n = 0; n < STORM; n++) {
		set_reg(n % SLOTS, REG_NOTIFY, n / SLOTS % 8);
		report()->steps++;
	}
}

static void kick_storm(void)
{
	struct device d;

	for (unsigned slot = 0; slot < SLOTS; slot++)
		reset(slot);
	storm_of_kicks();
	for (unsigned slot = 0; slot < SLOTS; slot++)
		open_at(&d, slot, 0, PLACES, RINGS_AT + slot * 8ull * QUEUE_BYTES);
	storm_of_kicks();
	for (unsigned slot = 0; slot < SLOTS; slot++)
		expect_works(slot, "broken by kicks, slot");
}

static void reset_storm(void)
{
	struct device d;

	for (unsigned n = 0; n < RESETS; n++) {
		struct desc buf = { BUF_AT, PAGE, n % 2 ? F_WRITE : 0, 0 };

		open(&d, n % SLOTS);
		for (unsigned i = 0; i < d.queue_count; i++) {
			chain(&d.q[i], 0, &buf, 1);
			offer(&d.q[i], 0);
			kick(&d.q[i]);
		}
		reset(n % SLOTS);
	}
	for (unsigned slot = 0; slot < SLOTS; slot++)
		expect_works(slot, "broken by resets, slot");
}

/* Sixty reads, more than the monitor answers at once. */
static void start_reads(struct queue *q)
{
	uint64_t header = BUF_AT - 16;

	*(struct desc *)(uintptr_t)header = (struct desc){ .at = BLK_IN };
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		const struct desc pieces[] = {
			{ header, 16, 0, 0 },
			{ BUF_AT + i * (uint64_t)IN_FLIGHT_BYTES, IN_FLIGHT_BYTES, F_WRITE, 0 },
			{ BUF_AT - 32, 1, F_WRITE, 0 },
		};

		chain(q, 3 * i, pieces, 3);
		offer(q, 3 * i);
	}
	kick(q);
}

/* Every page of the buffers: to mark it, or to see that the mark is still there. */
static bool marked(bool set)
{
	for (uint64_t at = BUF_AT; at < BUF_AT + (uint64_t)IN_FLIGHT * IN_FLIGHT_BYTES;
	     at += PAGE) {
		if (set)
			store32(at, MARK);
		else if (load32(at) != MARK)
			return false;
	}
	return true;
}

/* After a reset nothing that was under way reaches memory: what a use after free would do. */
static void reset_in_flight(void)
{
	struct device d;

	for (unsigned n = 0; n < IN_FLIGHT_ROUNDS; n++) {
		unsigned slot = n % 2 ? SLOT_IMAGE : SLOT_SCRATCH;

		open_at(&d, slot, 0, BIG_QUEUE, RINGS_AT);
		start_reads(&d.q[0]);
		if (n % 3 != 0)
			let_time_pass(n);
		reset(slot);
		(void)marked(true);
		let_time_pass(SETTLE);
		expect(marked(false), "a read went on after the reset, round", n);
	}
	expect_works(SLOT_SCRATCH, "broken by resets, slot");
	expect_works(SLOT_IMAGE, "broken by resets, slot");
}

/* -- descriptors ------------------------------------------------- */

struct evil {
	const char *what;
	uint16_t head, ahead; /* ahead: how far the index jumps; 0: by one */
	bool indirect;        /* needs that feature, which the console offers */
	struct desc d[PLACES];
	struct desc table[PLACES];
};

static const struct evil evils[] = {
	{ "a descriptor that follows itself", .d = { { BUF_AT, 8, F_NEXT, 0 } } },
	{ "a loop", .d = { { BUF_AT, 8, F_NEXT, 1 }, { BUF_AT, 8, F_NEXT, 0 } } },
	{ "a loop of nothing", .d = { { BUF_AT, 0, F_NEXT, 1 }, { BUF_AT, 0, F_NEXT, 0 } } },
	{ "next behind the table", .d = { { BUF_AT, 8, F_NEXT, PLACES } } },
	{ "next far behind", .d = { { BUF_AT, 8, F_NEXT, 0xffff } } },
	{ "a head behind the table", .head = PLACES },
	{ "a head far behind", .head = 0xffff },
	{ "an index too far ahead", .ahead = AHEAD_MAX },
	{ "an index half-way round", .ahead = 0x8000 },
	{ "an index one back", .ahead = 0xffff },
	{ "to read behind to write",
	  .d = { { BUF_AT, 8, F_NEXT | F_WRITE, 1 }, { BUF_AT, 8, 0, 0 } } },
	{ "behind memory", .d = { { RAM_END, 1, 0, 0 } } },
	{ "over the end of memory", .d = { { RAM_END | 0xfff8, 16, 0, 0 } } },
	{ "in registers", .d = { { BUS, 8, 0, 0 } } },
	{ "in the hole", .d = { { 3 * GIB, 8, 0, 0 } } },
	{ "around the end of all addresses", .d = { { UINT64_MAX - 7, 16, 0, 0 } } },
	{ "with the highest bit", .d = { { UINT64_C(1) << 63, 16, F_WRITE, 0 } } },
	{ "of 4 GiB less one", .d = { { BUF_AT, UINT32_MAX, F_WRITE, 0 } } },
	{ "a table not offered", .d = { { TABLE_AT, 16, F_INDIRECT, 0 } } },
	{ "a table of no whole descriptors", .indirect = true,
	  .d = { { TABLE_AT, 17, F_INDIRECT, 0 } }, .table = { { BUF_AT, 8, 0, 0 } } },
	{ "an empty table", .indirect = true, .d = { { TABLE_AT, 0, F_INDIRECT, 0 } } },
	{ "a table that goes on outside", .indirect = true,
	  .d = { { TABLE_AT, 16, F_INDIRECT | F_NEXT, 1 }, { BUF_AT, 8, 0, 0 } },
	  .table = { { BUF_AT, 8, 0, 0 } } },
	{ "a table in a table", .indirect = true, .d = { { TABLE_AT, 16, F_INDIRECT, 0 } },
	  .table = { { TABLE_AT, 16, F_INDIRECT, 0 } } },
	{ "a table behind memory", .indirect = true, .d = { { RAM_END, 16, F_INDIRECT, 0 } } },
	{ "a table of 4 GiB", .indirect = true, .d = { { TABLE_AT, 0xfffffff0, F_INDIRECT, 0 } } },
	{ "a loop in a table", .indirect = true, .d = { { TABLE_AT, 32, F_INDIRECT, 0 } },
	  .table = { { BUF_AT, 8, F_NEXT, 1 }, { BUF_AT, 8, F_NEXT, 0 } } },
	{ "next behind a table", .indirect = true, .d = { { TABLE_AT, 16, F_INDIRECT, 0 } },
	  .table = { { BUF_AT, 8, F_NEXT, 1 } } },
};

static void offer_evil(struct queue *q, const struct evil *e)
{
	struct desc *table = (struct desc *)(uintptr_t)TABLE_AT;

	for (unsigned i = 0; i < PLACES; i++) {
		q->desc[i] = e->d[i];
		q->desc[i].at = place(e->d[i].at);
		table[i] = e->table[i];
	}
	offer(q, e->head);
	if (e->ahead > 0)
		q->avail[1] = e->ahead;
	kick(q);
}

/* The console reads what it is to write to only when it has something to say. */
static bool ever_looked_at(unsigned slot, unsigned queue)
{
	return slot != SLOT_CONSOLE || queue == LOG_TX || queue == CONTROL_RX ||
	       queue == CONTROL_TX || queue == AGENT_TX;
}

static void do_evil(unsigned slot, unsigned queue, const struct evil *e)
{
	struct device d;

	if (e->indirect && slot != SLOT_CONSOLE)
		return;
	open_at(&d, slot, e->indirect ? INDIRECT_DESC : 0, PLACES, RINGS_AT);
	if (slot == SLOT_CONSOLE && queue == CONTROL_RX)
		expect(tell_console(&d, 0, CON_DEVICE_READY, 1), "the console is deaf", 0);
	offer_evil(&d.q[queue], e);
	expect_broken(slot, e->what, (uint64_t)slot << 8 | queue);
}

static void descriptors(void)
{
	for (unsigned slot = 0; slot < SLOTS; slot++) {
		for (unsigned queue = 0; queue < queues_of(slot); queue++)
			for (unsigned i = 0; i < sizeof(evils) / sizeof(evils[0]); i++)
				if (ever_looked_at(slot, queue))
					do_evil(slot, queue, &evils[i]);
		expect_works(slot, "broken by descriptors, slot");
	}
}

/* Pieces of nothing are legal, and four together over 4 GiB are not, even where all is memory. */
static void chain_lengths(void)
{
	struct device d;
	const struct desc empty[] = { { BUF_AT, 0, F_WRITE, 0 },
		                      { 0, 0, F_WRITE, 0 },
		                      { UINT64_MAX, 0, F_WRITE, 0 },
		                      { BUF_AT, 8, F_WRITE, 0 } };
	uint32_t most = (uint32_t)(ram_low_end() - BUF_AT);
	const struct desc big[] = { { BUF_AT, most, F_WRITE, 0 },
		                    { BUF_AT, most, F_WRITE, 0 },
		                    { BUF_AT, most, F_WRITE, 0 },
		                    { BUF_AT, most, F_WRITE, 0 } };

	open(&d, SLOT_RNG);
	expect(request(&d.q[0], empty, 4), "pieces of nothing are refused", 0);
	if (4ull * most > 4 * GIB) {
		chain(&d.q[0], 0, big, 4);
		offer(&d.q[0], 0);
		kick(&d.q[0]);
		expect_broken(SLOT_RNG, "a chain of over 4 GiB is taken", most);
	} else {
		expect(request(&d.q[0], big, 4), "all of memory four times is refused", most);
	}
	expect_works(SLOT_RNG, "broken by lengths, slot");
}

/* -- two processors ---------------------------------------------- */

enum {
	ARENA_DATA = ARENA_AT + 0x400,
	ARENA_RINGS = ARENA_AT + PAGE, /* of three queues, and of those that go on behind it */
};

/* While a device reads a queue, what it reads changes between good and bad. */
static void script_for(struct peer_store list[], unsigned *ret_count)
{
	static const uint32_t heads[] = { 0, 3, 0x00020001, PLACES, 0 };
	unsigned n = 0;

	for (unsigned q = 0; q < 3; q++) {
		uint32_t rings = ARENA_RINGS - ARENA_AT + q * QUEUE_BYTES;

		for (unsigned i = 0; i < PLACES; i++) {
			uint32_t d = rings + i * 16;

			list[n++] = (struct peer_store){ d, ARENA_DATA + 64 * i };
			list[n++] = (struct peer_store){ d + 8, 0xfffffff0 };
			list[n++] = (struct peer_store){ d + 8, 1 + 15 * i };
			list[n++] = (struct peer_store){ d, 0xfffffff0 };
			list[n++] =
				(struct peer_store){ d + 12, i % 2 ? F_NEXT | i << 16 : F_WRITE };
			list[n++] = (struct peer_store){ d, ARENA_DATA };
			list[n++] = (struct peer_store){ d + 12, F_NEXT | (i + 1) << 16 };
		}
		list[n++] = (struct peer_store){ rings + PAGE + 4, heads[q] };
	}
	for (unsigned i = 0; i < 6; i++)
		list[n++] = (struct peer_store){ ARENA_DATA - ARENA_AT + 4 * i, i * 0x01010101 };
	*ret_count = n;
}

static void live_beside_peer(unsigned slot, unsigned life)
{
	static const struct desc usual[] = { { ARENA_DATA, 16, 0, 0 },
		                             { ARENA_DATA + 512, 512, F_WRITE, 0 },
		                             { ARENA_DATA + 32, 1, F_WRITE, 0 } };
	uint64_t all = life % 2 ? EVENT_IDX : EVENT_IDX | INDIRECT_DESC;
	struct device d;

	open_at(&d, slot, all, PLACES, ARENA_RINGS);
	for (unsigned n = 0; n < ACTS && !broken(slot); n++) {
		struct queue *q = &d.q[n % (d.queue_count < 3 ? d.queue_count : 3)];

		chain(q, 0, usual, 3);
		offer(q, 0);
		kick(q);
		report()->steps++;
	}
	report()->broken += broken(slot);
	reset(slot);
}

static void double_fetch(void)
{
	struct peer_store list[PEER_STORES_MAX];
	unsigned count;

	script_for(list, &count);
	peer_start_on(list, count);
	for (unsigned n = 0; n < LIVES; n++)
		live_beside_peer(n % SLOTS, n);
	peer_stop();
	expect(report()->broken > 0, "no life ended in NEEDS_RESET: there was no race", 0);
	for (unsigned slot = 0; slot < SLOTS; slot++)
		expect_works(slot, "broken by races, slot");
}

/* -- none -------------------------------------------------------- */

/* Every device used, and left open: what a good state file is made of. */
static void open_everything(void)
{
	static struct device d[SLOTS];

	for (unsigned slot = 0; slot < SLOTS; slot++) {
		open_at(&d[slot], slot, 0, PLACES, RINGS_AT + slot * 8ull * QUEUE_BYTES);
		expect(probe(&d[slot]), "it does not work, slot", slot);
	}
}

const struct attack queue_attacks[] = {
	{ "open-everything", open_everything },
	{ "queue-sizes", queue_sizes },
	{ "queue-addresses", queue_addresses },
	{ "rings-at-the-end", rings_at_the_end },
	{ "selectors", selectors },
	{ "frozen-registers", frozen_registers },
	{ "features", features },
	{ "status-order", status_order },
	{ "kick-storm", kick_storm },
	{ "reset-storm", reset_storm },
	{ "reset-in-flight", reset_in_flight },
	{ "descriptors", descriptors },
	{ "chain-lengths", chain_lengths },
	{ "double-fetch", double_fetch },
	{ NULL, NULL },
};
