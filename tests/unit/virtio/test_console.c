/* The console's control protocol, its ports open and closed, and its saved state. */
#include "console_rig.h"

#include "failalloc.h"

TEST(is_a_console_of_two_ports)
{
	static const uint16_t sizes[RIG_QUEUES] = { 4, 16, 16, 16, 64, 256 };
	struct rig r;
	uint8_t config[12];

	rig_init(&r, true);
	vdriver_start(&r.d, r.dev);
	CHECK_EQ(vdriver_read32(&r.d, MMIO_DEVICE_ID), 3);
	CHECK_EQ(vdriver_offered(&r.d),
	         RIG_MULTIPORT | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC);
	for (uint32_t i = 0; i < RIG_QUEUES + 2; i++) {
		vdriver_write32(&r.d, MMIO_QUEUE_SEL, i);
		CHECK_EQ(vdriver_read32(&r.d, MMIO_QUEUE_NUM_MAX), i < RIG_QUEUES ? sizes[i] : 0);
	}
	vdriver_read_config(&r.d, 0, config, sizeof(config));
	CHECK_MEM(span_of(config, 12), span_of("\0\0\0\0\2\0\0\0\0\0\0\0", 12));
	rig_fini(&r);
}

TEST(ports_are_announced_as_a_driver_expects)
{
	struct said got;
	struct rig r;

	rig_init(&r, true);
	vdriver_start(&r.d, r.dev);
	rig_probe(&r);
	rig_say(&r, UINT32_MAX, EV_DEVICE_READY, 1);
	rig_expect(&r, 0, EV_PORT_ADD, 1);
	rig_expect(&r, 1, EV_PORT_ADD, 1);
	rig_say(&r, 1, EV_PORT_READY, 1);
	got = rig_hear(&r);
	CHECK_EQ(got.port, 1);
	CHECK_EQ(got.event, EV_PORT_NAME);
	CHECK_EQ(got.len, 8 + strlen("berm.agent"));
	CHECK_SPAN(span_of(got.text, got.len - 8), "berm.agent");
	rig_expect(&r, 1, EV_PORT_OPEN, 1);
	rig_say(&r, 0, EV_PORT_READY, 1);
	rig_expect(&r, 0, EV_CONSOLE_PORT, 1);
	rig_expect(&r, 0, EV_PORT_OPEN, 1);
	CHECK(rig_silent(&r));
	CHECK_EQ(rig_counts(&r).control_refused, 0);
	rig_fini(&r);
}

TEST(a_driver_without_memory_is_told_nothing)
{
	struct rig r;

	rig_init(&r, true);
	vdriver_start(&r.d, r.dev);
	rig_probe(&r);
	rig_say(&r, UINT32_MAX, EV_DEVICE_READY, 0);
	rig_say(&r, 1, EV_PORT_READY, 0);
	CHECK(rig_silent(&r));
	CHECK_EQ(rig_counts(&r).control_refused, 0);
	rig_fini(&r);
}

TEST(control_messages_that_mean_nothing_are_counted)
{
	static const struct {
		uint32_t port;
		uint16_t event;
		uint16_t value;
	} bad[] = {
		{ 2, EV_PORT_READY, 1 },
		{ UINT32_MAX, EV_PORT_OPEN, 1 },
		{ 0x10000, EV_PORT_READY, 1 },
		{ 1, EV_PORT_ADD, 1 },
		{ 1, 2, 1 },
		{ 0, EV_CONSOLE_PORT, 1 },
		{ 0, 5, 1 },
		{ 1, EV_PORT_NAME, 1 },
		{ 1, 8, 1 },
		{ 1, 0xffff, 1 },
		{ 1, EV_PORT_OPEN, 2 },
		{ 1, EV_PORT_READY, 0xffff },
		{ UINT32_MAX, EV_DEVICE_READY, 2 },
	};
	struct rig r;
	struct vbuf b;

	rig_start(&r);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		rig_say(&r, bad[i].port, bad[i].event, bad[i].value);
	CHECK_EQ(rig_counts(&r).control_refused, sizeof(bad) / sizeof(bad[0]));

	/* too short, empty, one byte too long, one page too long; in pieces it is fine */
	b.at = vdriver_alloc(&r.d, RIG_PAGE + 16, 8);
	for (uint32_t len = 0; len < 8; len++) {
		b = (struct vbuf){ .at = b.at, .len = len };
		CHECK_EQ(rig_request(&r, RIG_CONTROL_TX, &b, 1), 0);
	}
	b.len = 9;
	CHECK_EQ(rig_request(&r, RIG_CONTROL_TX, &b, 1), 0);
	b.len = RIG_PAGE;
	CHECK_EQ(rig_request(&r, RIG_CONTROL_TX, &b, 1), 0);
	CHECK_EQ(rig_counts(&r).control_refused, sizeof(bad) / sizeof(bad[0]) + 10);
	CHECK(rig_silent(&r));
	CHECK(!vdriver_needs_reset(&r.d));
	rig_fini(&r);
}

TEST(a_flood_of_questions_gets_one_answer)
{
	struct vbuf b = { .len = 8 };
	struct rig r;
	uint16_t head;
	uint32_t len;

	rig_init(&r, true);
	vdriver_start(&r.d, r.dev);
	CHECK(vdriver_probe(&r.d, RIG_MULTIPORT, 0)); /* and no buffer to answer into */
	for (int i = 0; i < 1000; i++)
		rig_say(&r, UINT32_MAX, EV_DEVICE_READY, 1);
	b.at = vdriver_alloc(&r.d, 8, 8);
	((uint8_t *)vdriver_at(&r.d, b.at, 8))[4] = EV_PORT_READY;
	((uint8_t *)vdriver_at(&r.d, b.at, 8))[6] = 1;
	/* sixteen a time, as many as the queue holds */
	for (int i = 0; i < 1000; i++) {
		for (int n = 0; n < 16; n++)
			(void)vdriver_add(&r.d, RIG_CONTROL_TX, &b, 1);
		vdriver_kick(&r.d, RIG_CONTROL_TX);
		for (int n = 0; n < 16; n++)
			CHECK(rig_wait_used(&r, RIG_CONTROL_TX, &head, &len));
	}
	for (int i = 0; i < 8; i++)
		rig_offer(&r, RIG_CONTROL_RX, RIG_CONTROL_BYTES);
	vdriver_kick(&r.d, RIG_CONTROL_RX);
	rig_expect(&r, 0, EV_PORT_ADD, 1);
	rig_expect(&r, 0, EV_CONSOLE_PORT, 1);
	rig_expect(&r, 0, EV_PORT_OPEN, 1);
	rig_expect(&r, 1, EV_PORT_ADD, 1);
	rig_say(&r, 1, EV_PORT_OPEN, 0); /* behind it, nothing else came */
	CHECK(rig_silent(&r));
	rig_fini(&r);
}

TEST(a_short_control_buffer_breaks_the_device)
{
	struct rig r;

	rig_init(&r, true);
	vdriver_start(&r.d, r.dev);
	CHECK(vdriver_probe(&r.d, RIG_MULTIPORT, 0));
	rig_offer(&r, RIG_CONTROL_RX, 7);
	rig_say(&r, UINT32_MAX, EV_DEVICE_READY, 1);
	CHECK(vdriver_wait_needs_reset(&r.d));

	/* and comes back after a reset */
	rig_meet(&r);
	rig_expect(&r, 1, EV_PORT_OPEN, 1);
	rig_fini(&r);
}

TEST(a_driver_without_ports_has_a_console)
{
	struct rig r;

	rig_init(&r, true);
	vdriver_start(&r.d, r.dev);
	CHECK(vdriver_negotiate(&r.d, 0));
	CHECK(vdriver_queue(&r.d, RIG_LOG_RX, 0));
	CHECK(vdriver_queue(&r.d, RIG_LOG_TX, 0));
	CHECK(vdriver_ready(&r.d));
	rig_send(&r, RIG_LOG_TX, "hello");
	rig_read_text(r.log[0], "hello");
	CHECK_EQ(send(r.agent, "x", 1, 0), 1);
	rig_send(&r, RIG_LOG_TX, "again");
	rig_read_text(r.log[0], "again");
	rig_fini(&r);
}

/* -- open and closed ------------------------------------------------------------------------------
 */

TEST(the_host_going_is_told_and_its_bytes_come_first)
{
	struct rig r;
	uint16_t head;
	uint32_t len;

	rig_start(&r);
	CHECK_EQ(send(r.agent, "last words", 10, 0), 10);
	(void)close(r.agent);
	r.agent = -1;
	rig_offer(&r, RIG_AGENT_RX, RIG_PAGE);
	rig_offer(&r, RIG_AGENT_RX, RIG_PAGE);
	vdriver_kick(&r.d, RIG_AGENT_RX);
	CHECK(rig_wait_used(&r, RIG_AGENT_RX, &head, &len));
	CHECK_SPAN(span_of(vdriver_at(&r.d, r.buf[RIG_AGENT_RX][head], len), len), "last words");
	rig_expect(&r, 1, EV_PORT_OPEN, 0);

	/* what is sent to nobody is taken all the same */
	for (int i = 0; i < 600; i++)
		rig_send(&r, RIG_AGENT_TX, "to nobody");
	CHECK_EQ(rig_counts(&r).agent_dropped, 600 * 9);
	CHECK(!vdriver_needs_reset(&r.d));
	rig_fini(&r);
}

TEST(a_host_that_resets_is_gone)
{
	struct rig r;

	rig_start(&r);
	(void)close(r.agent);
	r.agent = -1;
	rig_send(&r, RIG_AGENT_TX, "EPIPE");
	rig_expect(&r, 1, EV_PORT_OPEN, 0);
	rig_fini(&r);
}

TEST(the_next_host_begins_when_the_guest_has_reopened)
{
	struct rig r;

	rig_start(&r);
	rig_send(&r, RIG_AGENT_TX, "first half of a");
	rig_read_text(r.agent, "first half of a");
	rig_new_agent(&r);
	rig_expect(&r, 1, EV_PORT_OPEN, 0);
	CHECK_EQ(send(r.agent, "hello", 5, 0), 5);
	rig_send(&r, RIG_AGENT_TX, " frame"); /* it has not seen it yet */
	CHECK(rig_silent(&r));
	rig_say(&r, 1, EV_PORT_OPEN, 0);
	rig_expect(&r, 1, EV_PORT_OPEN, 1);
	rig_say(&r, 1, EV_PORT_OPEN, 1);
	rig_send(&r, RIG_AGENT_TX, "whole");
	rig_read_text(r.agent, "whole");
	CHECK(rig_nothing_to_read(r.agent));
	CHECK_EQ(rig_counts(&r).agent_dropped, 6);
	rig_fini(&r);
}

TEST(what_was_queued_before_the_reopening_is_dropped)
{
	struct vbuf b = { .len = 4 };
	struct rig r;
	uint16_t head;
	uint32_t len;

	rig_start(&r);
	rig_new_agent(&r);
	rig_expect(&r, 1, EV_PORT_OPEN, 0);
	b.at = vdriver_alloc(&r.d, 4, 1);
	for (int i = 0; i < 200; i++) /* without a kick */
		(void)vdriver_add(&r.d, RIG_AGENT_TX, &b, 1);
	rig_say(&r, 1, EV_PORT_OPEN, 0);
	rig_expect(&r, 1, EV_PORT_OPEN, 1);
	rig_say(&r, 1, EV_PORT_OPEN, 1);
	for (int i = 0; i < 200; i++)
		CHECK(vdriver_used(&r.d, RIG_AGENT_TX, &head, &len));
	rig_send(&r, RIG_AGENT_TX, "new");
	rig_read_text(r.agent, "new");
	rig_fini(&r);
}

TEST(a_host_may_come_late)
{
	struct rig r;

	rig_init(&r, false);
	vdriver_start(&r.d, r.dev);
	rig_meet(&r);
	rig_say(&r, 1, EV_PORT_OPEN, 1);
	CHECK(rig_silent(&r));
	rig_new_agent(&r);
	rig_expect(&r, 1, EV_PORT_OPEN, 1); /* nothing was said before: no need to reopen */
	rig_send(&r, RIG_AGENT_TX, "at last");
	rig_read_text(r.agent, "at last");
	rig_fini(&r);
}

/* -- saving ---------------------------------------------------------------------------------------
 */

static void pause_job(void *arg)
{
	virtio_pause(((struct rig *)arg)->dev);
}

static void resume_job(void *arg)
{
	virtio_resume(((struct rig *)arg)->dev);
}

struct saving {
	struct rig *rig;
	struct buf b;
	uint8_t raw[VIRTIO_SAVE_MAX];
};

static void save_job(void *arg)
{
	struct saving *s = arg;

	virtio_pause(s->rig->dev);
	buf_init(&s->b, s->raw, sizeof(s->raw));
	virtio_save(s->rig->dev, &s->b);
}

TEST(paused_it_leaves_all_where_it_is)
{
	struct vbuf b = { .len = 5 };
	struct rig r;
	uint16_t head;
	uint32_t len;

	rig_start(&r);
	rig_offer(&r, RIG_AGENT_RX, RIG_PAGE);
	vdriver_kick(&r.d, RIG_AGENT_RX);
	vdriver_on_loop(&r.d, pause_job, &r);
	CHECK_EQ(send(r.agent, "later", 5, 0), 5);
	b.at = vdriver_alloc(&r.d, 5, 1);
	memcpy(vdriver_at(&r.d, b.at, 5), "paper", 5);
	(void)vdriver_add(&r.d, RIG_AGENT_TX, &b, 1);
	(void)vdriver_add(&r.d, RIG_LOG_TX, &b, 1);
	vdriver_kick(&r.d, RIG_AGENT_TX);
	vdriver_kick(&r.d, RIG_LOG_TX);
	(void)rig_counts(&r); /* the loop has been there */
	CHECK(!vdriver_used(&r.d, RIG_AGENT_RX, &head, &len));
	CHECK(rig_nothing_to_read(r.agent));
	CHECK(rig_nothing_to_read(r.log[0]));

	vdriver_on_loop(&r.d, resume_job, &r);
	CHECK(rig_wait_used(&r, RIG_AGENT_RX, &head, &len));
	CHECK_EQ(len, 5);
	rig_read_text(r.agent, "paper");
	rig_read_text(r.log[0], "paper");
	rig_fini(&r);
}

/* A second machine from what the first saved; with_agent: its socket is there when it loads. */
static void restore(struct rig *to, const struct rig *from, const struct saving *s, bool with_agent)
{
	struct err e;

	vdriver_init_over(&to->d, &from->d);
	memcpy(to->buf, from->buf, sizeof(to->buf));
	rig_fds(to);
	rig_device(to, with_agent);
	CHECK_OK(virtio_load(to->dev, buf_span(&s->b), &e), &e);
	vdriver_start(&to->d, to->dev);
}

TEST(a_restored_guest_goes_on_in_silence)
{
	struct saving s = { 0 };
	struct rig r;
	struct rig child;
	uint16_t head;
	uint32_t len;

	rig_start(&r);
	rig_offer(&r, RIG_AGENT_RX, RIG_PAGE);
	s.rig = &r;
	vdriver_on_loop(&r.d, save_job, &s);
	restore(&child, &r, &s, true);
	vdriver_on_loop(&child.d, resume_job, &child);
	CHECK_EQ(send(child.agent, "identity", 8, 0), 8);
	CHECK(rig_wait_used(&child, RIG_AGENT_RX, &head, &len));
	CHECK_EQ(len, 8);
	rig_send(&child, RIG_AGENT_TX, "identity ok");
	rig_read_text(child.agent, "identity ok");
	rig_send(&child, RIG_LOG_TX, "log");
	rig_read_text(child.log[0], "log");
	CHECK(rig_silent(&child));
	CHECK(rig_nothing_to_read(r.agent));
	rig_fini(&child);
	rig_fini(&r);
}

TEST(a_guest_saved_anywhere_begins_anew)
{
	struct saving s = { 0 };
	struct rig r;
	struct rig child;

	rig_start(&r);
	rig_send(&r, RIG_AGENT_TX, "half a fr");
	s.rig = &r;
	vdriver_on_loop(&r.d, save_job, &s);
	restore(&child, &r, &s, false);
	vdriver_on_loop(&child.d, resume_job, &child);
	rig_new_agent(&child);
	rig_expect(&child, 1, EV_PORT_OPEN, 0);
	rig_send(&child, RIG_AGENT_TX, "ame");
	rig_say(&child, 1, EV_PORT_OPEN, 0);
	rig_expect(&child, 1, EV_PORT_OPEN, 1);
	rig_say(&child, 1, EV_PORT_OPEN, 1);
	rig_send(&child, RIG_AGENT_TX, "hello");
	rig_read_text(child.agent, "hello");
	CHECK(rig_nothing_to_read(child.agent));
	rig_fini(&child);
	rig_fini(&r);
}

/* Fills the socket until a chain stays behind, sent in part. */
static void fill(struct rig *r)
{
	struct vbuf b = { .at = vdriver_alloc(&r->d, 1 << 16, 8), .len = 1 << 16 };
	uint64_t before;
	uint16_t head;
	uint32_t len;

	memset(vdriver_at(&r->d, b.at, b.len), 'f', b.len);
	do {
		before = rig_counts(r).agent_sent;
		(void)vdriver_add(&r->d, RIG_AGENT_TX, &b, 1);
		vdriver_kick(&r->d, RIG_AGENT_TX);
		vdriver_on_loop(&r->d, rig_counts_job, &(struct rig_counts_call){ .rig = r });
		if (!vdriver_used(&r->d, RIG_AGENT_TX, &head, &len))
			(void)vdriver_interrupt(&r->d, 20);
	} while (rig_counts(r).agent_sent - before == b.len);
}

TEST(a_chain_sent_in_part_is_not_sent_again)
{
	struct saving s = { 0 };
	struct rig r;
	struct rig child;
	uint64_t sent;

	rig_start(&r);
	fill(&r);
	sent = rig_counts(&r).agent_sent;
	CHECK(sent % (1 << 16) != 0);
	s.rig = &r;
	vdriver_on_loop(&r.d, save_job, &s);
	restore(&child, &r, &s, true); /* even with a host that was never away */
	vdriver_on_loop(&child.d, resume_job, &child);
	rig_expect(&child, 1, EV_PORT_OPEN, 0);
	rig_collect(&child, RIG_AGENT_TX);
	rig_say(&child, 1, EV_PORT_OPEN, 0);
	rig_expect(&child, 1, EV_PORT_OPEN, 1);
	rig_send(&child, RIG_AGENT_TX, "hello");
	rig_read_text(child.agent, "hello");
	CHECK(rig_nothing_to_read(child.agent));
	rig_fini(&child);
	rig_fini(&r);
}

TEST(a_paused_parent_goes_on_to_the_byte)
{
	struct saving s = { 0 };
	static uint8_t got[1 << 16];
	struct rig r;
	uint64_t total;

	rig_start(&r);
	fill(&r);
	total = (uint64_t)r.d.q[RIG_AGENT_TX].next_avail << 16;
	s.rig = &r;
	vdriver_on_loop(&r.d, save_job, &s);
	vdriver_on_loop(&r.d, resume_job, &r);
	for (; total > 0; total -= sizeof(got)) {
		rig_read(r.agent, got, sizeof(got));
		CHECK(got[0] == 'f' && memcmp(got, got + 1, sizeof(got) - 1) == 0);
	}
	rig_collect(&r, RIG_AGENT_TX);
	rig_send(&r, RIG_AGENT_TX, "end");
	rig_read_text(r.agent, "end");
	rig_fini(&r);
}

TEST(a_hostile_saved_state_is_refused)
{
	static const char good[] = "\1\77\17\17\0\0\0\0\0\0\0\0";
	static const struct {
		const char *raw;
		size_t len;
	} bad[] = {
		{ good, 11 },
		{ good, 13 },
		{ "", 0 },
		{ "\2\0\0\0\0\0\0\0\0\0\0\0", 12 },
		{ "\1\100\0\0\0\0\0\0\0\0\0\0", 12 },
		{ "\1\0\20\0\0\0\0\0\0\0\0\0", 12 },
		{ "\1\0\0\20\0\0\0\0\0\0\0\0", 12 },
		{ "\1\0\4\0\0\0\0\0\0\0\0\0", 12 },
		{ "\1\0\0\2\0\0\0\0\0\0\0\0", 12 },
		{ "\1\0\0\0\1\0\0\0\1\0\0\0", 12 },
		{ "\1\0\0\0\0\0\0\0\0\0\0\200", 12 },
	};
	struct rig r;

	rig_init(&r, true);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = { 0 };
		int got = r.dev->ops->load(r.dev->self, span_of(bad[i].raw, bad[i].len), &e);

		CHECK(got == -EBADMSG || got == -ENOTSUP);
		CHECK(e.len > 0);
	}
	virtio_dev_free(r.dev);
	rig_fini(&r);
}

/* -- making ---------------------------------------------------------------------------------------
 */

TEST(no_memory_is_said_and_leaks_nothing)
{
	struct vdriver d;
	struct virtio_place at;
	int pair[2];
	struct err e;

	vdriver_init(&d);
	at = vdriver_place(&d);
	CHECK_OK(fd_socketpair(pair, &e), &e);
	FAILALLOC_EACH()
	{
		const struct console_config c = { .log_fd = -1, .agent_fd = pair[0] };
		struct virtio_dev *dev = NULL;
		int r = console_new(&at, &c, &dev, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!dev);
		} else {
			CHECK_OK(r, &e);
			virtio_dev_free(dev);
		}
	}
	vdriver_fini(&d);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

TEST(a_file_is_no_socket)
{
	struct console_config c = { .log_fd = -1 };
	struct virtio_dev *dev = NULL;
	struct virtio_place at;
	struct vdriver d;
	struct err e;

	vdriver_init(&d);
	at = vdriver_place(&d);
	CHECK_OK(fd_open("/proc/self/exe", O_RDONLY, 0, &c.agent_fd, &e), &e);
	CHECK_EQ(console_new(&at, &c, &dev, &e), -EPERM);
	CHECK(!dev);
	(void)close(c.agent_fd);
	c.agent_fd = -1;
	c.log_fd = 9999;
	CHECK_EQ(console_new(&at, &c, &dev, &e), -EBADF);
	vdriver_fini(&d);
}

TEST_MAIN()
