#include "failalloc.h"
#include "mmio_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* -- kicks and interrupts -------------------------------------------------------------------------
 */

TEST(a_kick_arrives_by_store_and_by_eventfd)
{
	struct vdriver d;
	struct fake f;
	struct virtio_counts c;
	uint64_t before;

	start(&d, &f);
	bring_to(&d, FEATURES);
	before = refused(&d);
	vdriver_kick(&d, 0); /* too early */
	CHECK_EQ(refused(&d) - before, 1);
	vdriver_ring(&d, 0); /* KVM does not ask */
	virtio_poll_kicks(d.dev);
	CHECK_EQ(f.kicks[0], 0);
	CHECK(vdriver_queue(&d, 0, 0));
	CHECK(vdriver_queue(&d, 2, 0));
	CHECK(vdriver_ready(&d));
	virtio_poll_kicks(d.dev); /* each ready queue is looked at once */
	CHECK_EQ(f.kicks[0], 1);
	CHECK_EQ(f.kicks[1], 0);
	CHECK_EQ(f.kicks[2], 1);
	vdriver_kick(&d, 0);
	vdriver_ring(&d, 1); /* not set up */
	vdriver_ring(&d, 2);
	vdriver_ring(&d, 2);
	virtio_poll_kicks(d.dev);
	virtio_poll_kicks(d.dev);
	CHECK_EQ(f.kicks[0], 2);
	CHECK_EQ(f.kicks[1], 0);
	CHECK_EQ(f.kicks[2], 2); /* together: once */
	virtio_get_counts(d.dev, &c);
	CHECK_EQ(c.kicks, 6);
	CHECK_EQ(c.interrupts, 0);
	vdriver_fini(&d);
}

TEST(an_interrupt_is_a_bit_and_a_line)
{
	struct vdriver d;
	struct fake f;
	struct virtio_counts c;

	start(&d, &f);
	virtio_config_changed(d.dev); /* nobody to tell yet, but counted */
	CHECK_EQ(vdriver_read32(&d, MMIO_CONFIG_GENERATION), 1);
	CHECK_EQ(vdriver_read32(&d, MMIO_INTERRUPT_STATUS), 0);
	bring_to(&d, LIVE);
	CHECK_EQ(vdriver_interrupt(&d, 0), 0);
	(void)vdriver_add(&d, 2, &(struct vbuf){ .at = 64, .len = 1, .writable = true }, 1);
	virtio_poll_kicks(d.dev);
	CHECK_EQ(vdriver_read32(&d, MMIO_INTERRUPT_STATUS), ISR_USED);
	virtio_config_changed(d.dev);
	CHECK_EQ(vdriver_read32(&d, MMIO_INTERRUPT_STATUS), ISR_USED | ISR_CONFIG);
	vdriver_write32(&d, MMIO_INTERRUPT_ACK, ISR_CONFIG);
	CHECK_EQ(vdriver_read32(&d, MMIO_INTERRUPT_STATUS), ISR_USED);
	vdriver_write32(&d, MMIO_INTERRUPT_ACK, UINT32_MAX);
	CHECK_EQ(vdriver_read32(&d, MMIO_INTERRUPT_STATUS), 0);
	virtio_get_counts(d.dev, &c);
	CHECK_EQ(c.interrupts, 2);
	virtio_config_changed(d.dev);
	vdriver_reset(&d);
	CHECK_EQ(vdriver_read32(&d, MMIO_INTERRUPT_STATUS), 0);
	CHECK_EQ(vdriver_read32(&d, MMIO_CONFIG_GENERATION), 3);
	vdriver_fini(&d);
}

/* -- broken ---------------------------------------------------------------------------------------
 */

/* A request queue 2 calls malformed. */
static void lie(struct vdriver *d)
{
	(void)vdriver_add(d, 2, &(struct vbuf){ .at = 64, .len = 1 }, 1);
	vdriver_kick(d, 2);
	virtio_poll_kicks(d->dev);
}

TEST(a_broken_device_looks_at_no_queue_until_reset)
{
	struct vdriver d;
	struct fake f;
	struct vbuf b = { .at = 64, .len = 1, .writable = true };
	struct virtio_counts c;
	unsigned kicks;
	uint16_t head;
	uint32_t len;

	start(&d, &f);
	bring_to(&d, LIVE);
	lie(&d);
	CHECK_EQ(status(&d), LIVE | STATUS_NEEDS_RESET);
	CHECK_EQ(vdriver_interrupt(&d, 0), ISR_CONFIG);
	kicks = f.kicks[0];
	(void)vdriver_add(&d, 0, &b, 1);
	vdriver_kick(&d, 0);
	vdriver_ring(&d, 0);
	virtio_poll_kicks(d.dev);
	CHECK_EQ(f.kicks[0], kicks);
	CHECK(!vdriver_used(&d, 0, &head, &len));
	/* the driver writes back what it reads: that is no news, and does not wake it */
	vdriver_write32(&d, MMIO_STATUS, LIVE | STATUS_NEEDS_RESET);
	vdriver_write32(&d, MMIO_STATUS, LIVE);
	CHECK_EQ(status(&d), LIVE | STATUS_NEEDS_RESET);
	CHECK_EQ(f.resets, 0);
	bring_to(&d, LIVE);
	CHECK_EQ(f.resets, 1);
	CHECK_EQ(vdriver_request(&d, 2, &b, 1), 0);
	virtio_get_counts(d.dev, &c);
	CHECK_EQ(c.broken, 1);
	vdriver_fini(&d);
}

TEST(a_device_that_cannot_begin)
{
	struct vdriver d;
	struct fake f;

	start(&d, &f);
	f.activate_result = -EIO;
	CHECK(!vdriver_probe(&d, 0, 0));
	CHECK_EQ(status(&d), LIVE | STATUS_NEEDS_RESET);
	for (unsigned i = 0; i < FAKE_QUEUES; i++)
		vdriver_ring(&d, i);
	virtio_poll_kicks(d.dev);
	CHECK_EQ(f.kicks[0] + f.kicks[1] + f.kicks[2], 0);
	f.activate_result = 0;
	CHECK(vdriver_probe(&d, 0, 0));
	CHECK_EQ(f.resets, 1);
	vdriver_fini(&d);
	CHECK_EQ(f.resets, 2);
}

/* How often a guest breaks the rules is its choice; how much we write about it is not. */
TEST(the_log_is_bounded)
{
	struct vdriver d;
	struct fake f;
	struct virtio_counts c;
	char path[64];
	char text[8192];
	unsigned lines = 0;
	int saved = dup(2);
	int fd;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%s/log", test_tmpdir());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && dup2(fd, 2) == 2);
	start(&d, &f);
	for (unsigned i = 0; i < 200; i++) {
		bring_to(&d, LIVE);
		lie(&d);
		virtio_broken(d.dev, "again"); /* once a reset */
	}
	virtio_get_counts(d.dev, &c);
	vdriver_fini(&d);
	CHECK(dup2(saved, 2) == 2);
	n = pread(fd, text, sizeof(text), 0);
	CHECK(n > 0 && n < (ssize_t)sizeof(text));
	for (ssize_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	CHECK_EQ(lines, VIRTIO_BROKEN_LINES);
	CHECK_EQ(c.broken, 200);
}

/* -- life -----------------------------------------------------------------------------------------
 */

TEST(no_memory_and_no_fds)
{
	struct rlimit lim;
	struct rlimit few;
	struct vdriver d;
	struct err e;

	vdriver_init(&d);
	FAILALLOC_EACH()
	{
		struct virtio_dev *dev = NULL;
		struct fake f = { 0 };
		int r = fake_new(&f, &d.mem, d.loop, -1, &dev, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!dev);
		} else {
			CHECK_OK(r, &e);
			virtio_dev_free(dev);
		}
		CHECK_EQ(f.freed, 1);
	}
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &lim), 0);
	for (rlim_t n = 0; n < FAKE_QUEUES; n++) {
		struct virtio_dev *dev = NULL;
		struct fake f = { 0 };
		int next = dup(0);
		int r;

		(void)close(next);
		few = (struct rlimit){ .rlim_cur = (rlim_t)next + n, .rlim_max = lim.rlim_max };
		CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
		r = fake_new(&f, &d.mem, d.loop, -1, &dev, &e);
		CHECK_EQ(setrlimit(RLIMIT_NOFILE, &lim), 0);
		CHECK_EQ(r, -EMFILE);
		CHECK(!dev);
		CHECK_EQ(f.freed, 1);
	}
	vdriver_fini(&d);
}

/* -- two threads ----------------------------------------------------------------------------------
 */

struct slow_io {
	struct vdriver *d;
	sem_t reset_waits, io_done;
	atomic_bool touched_late, written;
};

/* What a device with I/O under way does in reset: it waits for its end. */
static void wait_for_io(void *arg)
{
	struct slow_io *s = arg;

	(void)sem_post(&s->reset_waits);
	while (sem_wait(&s->io_done) < 0)
		CHECK_EQ(errno, EINTR);
}

static void *vcpu_resets(void *arg)
{
	struct slow_io *s = arg;

	vdriver_write32(s->d, MMIO_STATUS, 0);
	atomic_store(&s->written, true);
	return NULL;
}

/* CVE-2026-45782: reset while a request is under way. The vCPU's store waits for it. */
TEST(reset_waits_for_what_is_under_way)
{
	struct vdriver d;
	struct fake f;
	struct slow_io s = { .d = &d };
	struct vbuf b = { .len = 1, .writable = true };
	pthread_t t;

	CHECK_EQ(sem_init(&s.reset_waits, 0, 0), 0);
	CHECK_EQ(sem_init(&s.io_done, 0, 0), 0);
	start(&d, &f);
	vdriver_run(&d);
	bring_to(&d, LIVE);
	b.at = vdriver_alloc(&d, 1, 1);
	(void)vdriver_add(&d, 1, &b, 1);
	vdriver_kick(&d, 1);
	(void)vdriver_add(&d, 2, &b, 1); /* served on the same thread: then 1 was, too */
	vdriver_kick(&d, 2);
	{
		uint16_t head;
		uint32_t len;

		CHECK(vdriver_wait_used(&d, 2, &head, &len));
	}
	f.in_reset = wait_for_io;
	f.arg = &s;
	CHECK_EQ(pthread_create(&t, NULL, vcpu_resets, &s), 0);
	while (sem_wait(&s.reset_waits) < 0)
		CHECK_EQ(errno, EINTR);
	CHECK(!atomic_load(&s.written));
	f.in_reset = NULL; /* of later resets */
	CHECK_EQ(sem_post(&s.io_done), 0);
	CHECK_EQ(pthread_join(t, NULL), 0);
	CHECK(atomic_load(&s.written));
	CHECK_EQ(status(&d), 0);
	CHECK_EQ(f.slow_count, 0);
	bring_to(&d, LIVE);
	CHECK_EQ(vdriver_request(&d, 2, &b, 1), 0);
	vdriver_fini(&d);
}

struct hammer {
	struct vdriver *d;
	uint32_t seed;
	unsigned rounds;
};

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* One vCPU that writes and reads anything, anywhere. */
static void *hammer(void *arg)
{
	struct hammer *h = arg;
	static const uint32_t widths[] = { 4, 4, 4, 4, 1, 2, 8 };

	for (unsigned n = 0; n < h->rounds; n++) {
		uint32_t r = next_random(&h->seed);
		uint32_t off = r % 8 == 0 ? next_random(&h->seed) % 0x120
		                          : next_random(&h->seed) % 0x48 * 4;
		uint32_t len = widths[next_random(&h->seed) % 7];
		uint64_t v = r % 5 == 0 ? states[r % STATES] : next_random(&h->seed);
		uint64_t got;

		if (r % 3 == 0)
			virtio_mmio_read(h->d->dev, off, &got, len);
		else if (r % 16 == 1)
			virtio_mmio_write(h->d->dev, MMIO_STATUS, &v, 4);
		else
			virtio_mmio_write(h->d->dev, off, &v, len);
	}
	return NULL;
}

static void disturb(void *arg)
{
	struct vdriver *d = arg;

	virtio_config_changed(d->dev);
	for (unsigned i = 0; i < FAKE_QUEUES; i++)
		virtio_notify(d->dev, &d->dev->queues[i]);
	virtio_broken(d->dev, "to see");
}

TEST(any_writes_from_many_threads)
{
	enum { THREADS = 4 };
	struct vdriver d;
	struct fake f;
	struct hammer h[THREADS];
	pthread_t t[THREADS];
	struct vbuf b = { .at = 64, .len = 1, .writable = true };

	start(&d, &f);
	vdriver_run(&d);
	for (unsigned i = 0; i < THREADS; i++) {
		h[i] = (struct hammer){ .d = &d, .seed = i + 1, .rounds = 4000 };
		CHECK_EQ(pthread_create(&t[i], NULL, hammer, &h[i]), 0);
	}
	for (unsigned i = 0; i < 50; i++) {
		uint16_t head;
		uint32_t len;

		vdriver_on_loop(&d, disturb, &d);
		if (vdriver_used(&d, 0, &head, &len))
			CHECK_EQ(head, 0); /* d.q is empty: address 0 */
	}
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
	bring_to(&d, LIVE);
	CHECK_EQ(vdriver_request(&d, 2, &b, 1), 0);
	vdriver_fini(&d);
	CHECK_EQ(f.freed, 1);
}

static void many_requests(uint64_t features)
{
	enum { REQUESTS = 70000 }; /* past the wrap */
	struct vbuf b[2] = { { .len = 4 }, { .len = 4, .writable = true } };
	struct vdriver d;
	struct fake f;
	uint32_t sent = 0;

	start(&d, &f);
	vdriver_run(&d);
	CHECK(vdriver_probe(&d, features, 8));
	b[0].at = vdriver_alloc(&d, 4 * 4, 4);
	b[1].at = vdriver_alloc(&d, 4 * 4, 4);
	for (uint32_t got = 0; got < REQUESTS; got++) {
		uint16_t head;
		uint32_t len;
		uint32_t v;

		for (; sent < REQUESTS && sent - got < 4; sent++) {
			struct vbuf one[2] = { b[0], b[1] };

			one[0].at += 4 * (sent % 4);
			one[1].at += 4 * (sent % 4);
			memcpy(vdriver_at(&d, one[0].at, 4), &sent, 4);
			(void)vdriver_add(&d, 0, one, 2);
			vdriver_kick(&d, 0);
		}
		CHECK(vdriver_wait_used(&d, 0, &head, &len));
		CHECK_EQ(len, 4);
		memcpy(&v, vdriver_at(&d, b[1].at + 4 * (got % 4), 4), 4);
		CHECK_EQ(v, got);
	}
	CHECK(!vdriver_needs_reset(&d));
	vdriver_fini(&d);
}

/* No interrupt may be lost: the driver sleeps until one comes. */
TEST(no_request_is_lost_with_flags)
{
	many_requests(0);
}

TEST(no_request_is_lost_with_event_idx)
{
	many_requests(VIRTIO_F_EVENT_IDX);
}

TEST_MAIN()
