#include "blk_rig.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* -- many at once ---------------------------------------------------------------------------------
 */

struct many {
	uint64_t headers, data, status;
};

static struct many prepare_many(struct rig *r, unsigned n, uint32_t bytes)
{
	return (struct many){ vdriver_alloc(&r->d, 16ULL * n, 1),
		              vdriver_alloc(&r->d, (uint64_t)bytes * n, 1),
		              vdriver_alloc(&r->d, n, 1) };
}

/* Request i of `bytes` at byte i * bytes of the disk. */
static void add_many(struct rig *r, const struct many *m, uint32_t type, unsigned n, uint32_t bytes)
{
	for (unsigned i = 0; i < n; i++) {
		struct vbuf b[3] = { { m->headers + 16ULL * i, 16, false },
			             { m->data + (uint64_t)bytes * i, bytes, type == T_IN },
			             { m->status + i, 1, true } };

		put_header(r, m->headers + 16ULL * i, type, (uint64_t)i * bytes / SECTOR);
		*(uint8_t *)vdriver_at(&r->d, m->status + i, 1) = 0xa5;
		(void)vdriver_add(&r->d, 0, b, 3);
	}
}

static void wait_many(struct rig *r, const struct many *m, unsigned n, int want)
{
	uint16_t head;
	uint32_t len;

	for (unsigned i = 0; i < n; i++)
		CHECK(vdriver_wait_used(&r->d, 0, &head, &len));
	for (unsigned i = 0; i < n; i++)
		CHECK_EQ(*(uint8_t *)vdriver_at(&r->d, m->status + i, 1), want);
}

/* Waits for the interrupt, and then without asking for another, as vdriver_wait_used() would. */
static void wait_many_quietly(struct rig *r, unsigned n)
{
	uint64_t until_ms = clock_mono_ms() + VDRIVER_WAIT_MS;
	uint16_t head;
	uint32_t len;

	CHECK(vdriver_interrupt(&r->d, VDRIVER_WAIT_MS) != 0);
	for (unsigned i = 0; i < n && clock_mono_ms() < until_ms;)
		i += vdriver_used(&r->d, 0, &head, &len);
	CHECK(clock_mono_ms() < until_ms);
}

TEST(a_batch_of_cached_reads_is_one_interrupt)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		struct many m;
		struct virtio_counts c;
		uint64_t before;

		rig_start_filled(&r, no_ring);
		m = prepare_many(&r, 64, PAGE);
		for (unsigned round = 0; round < 10; round++) {
			/* first: the device looks at its queue by itself when it begins */
			virtio_get_counts(r.d.dev, &c);
			before = c.interrupts;
			vdriver_set_used_event(&r.d, 0, r.d.q[0].next_used);
			add_many(&r, &m, T_IN, 64, PAGE);
			vdriver_kick(&r.d, 0);
			wait_many_quietly(&r, 64);
			virtio_get_counts(r.d.dev, &c);
			CHECK_EQ(c.interrupts, before + 1);
			CHECK(ram_has(&r, m.data, 0, 64 * PAGE, 1));
		}
		rig_end(&r);
	}
}

TEST(many_writes_flushes_and_reads_at_once)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		struct many w;
		struct many rd;

		rig_start_filled(&r, no_ring);
		w = prepare_many(&r, 80, PAGE);
		rd = prepare_many(&r, 80, PAGE);
		for (unsigned round = 2; round < 12; round++) {
			put_pattern(&r, w.data, 0, 80 * PAGE, round);
			add_many(&r, &w, T_OUT, 80, PAGE);
			vdriver_ring(&r.d, 0);
			wait_many(&r, &w, 80, OK);
			CHECK_EQ(ask(&r, T_FLUSH, 0, NULL, 0), OK);
			add_many(&r, &rd, T_IN, 80, PAGE);
			vdriver_ring(&r.d, 0);
			wait_many(&r, &rd, 80, OK);
			CHECK(ram_has(&r, rd.data, 0, 80 * PAGE, round));
		}
		CHECK(file_has(r.fd, 0, 80 * PAGE, 11));
		rig_end(&r);
	}
}

/* Chains may share descriptors, so 255 requests can be under way: more than there are slots. */
TEST(more_requests_than_slots)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint16_t head;
		uint32_t len;
		bool seen[255];

		rig_start_filled(&r, no_ring);
		for (unsigned round = 0; round < 4; round++) {
			memset(seen, 0, sizeof(seen));
			put_header(&r, r.header, T_FLUSH, 0);
			vdriver_desc(&r.d, 0, 255, r.status, 1, 2, 0);
			for (uint16_t i = 0; i < 255; i++) {
				vdriver_desc(&r.d, 0, i, r.header, 16, 1, 255);
				vdriver_avail(&r.d, 0, i);
			}
			vdriver_kick(&r.d, 0);
			for (unsigned i = 0; i < 255; i++) {
				CHECK(vdriver_wait_used(&r.d, 0, &head, &len));
				CHECK(head < 255 && !seen[head]);
				seen[head] = true;
			}
		}
		CHECK_EQ(rig_counts(&r).flushes, 4 * 255);
		rig_end(&r);
	}
}

TEST(works_without_event_idx)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		struct many m;
		int fd = file_new(DISK_BYTES);

		file_fill(fd, DISK_BYTES, 1);
		rig_start(&r, fd, &(struct blk_config){ .no_ring = no_ring },
		          F_ALL & ~VIRTIO_F_EVENT_IDX);
		m = prepare_many(&r, 80, PAGE);
		for (unsigned round = 0; round < 10; round++) {
			add_many(&r, &m, round & 1 ? T_OUT : T_IN, 80, PAGE);
			vdriver_kick(&r.d, 0);
			wait_many(&r, &m, 80, OK);
		}
		CHECK_EQ(vdriver_used_flags(&r.d, 0), 0); /* it wants to be told again */
		CHECK(file_has(fd, 0, DISK_BYTES, 1));
		rig_end(&r);
	}
}

/* -- a disk that fails ----------------------------------------------------------------------------
 */

TEST(a_file_cut_short_gives_errors)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;

		rig_start_filled(&r, no_ring);
		at = vdriver_alloc(&r.d, 65536, 1);
		CHECK_EQ(ftruncate(r.fd, 10 * SECTOR), 0);
		CHECK_EQ(ask_one(&r, T_IN, 0, at, 10 * SECTOR), OK);
		CHECK_EQ(ask_one(&r, T_IN, 9, at, 2 * SECTOR), IOERR); /* the first half is there */
		CHECK_EQ(ask_one(&r, T_IN, 100, at, 65536), IOERR);
		CHECK_EQ(rig_counts(&r).errors, 2);
		rig_end(&r);
	}
}

TEST(a_disk_that_refuses_writes_gives_errors)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;
		int fd = file_new_tmpfs(DISK_BYTES);

		file_fill(fd, DISK_BYTES, 1);
		rig_start(&r, fd, &(struct blk_config){ .no_ring = no_ring }, F_ALL);
		CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
		at = vdriver_alloc(&r.d, PAGE, 1);
		CHECK_EQ(ask_one(&r, T_OUT, 0, at, PAGE), IOERR);
		CHECK_EQ(ask_range(&r, T_DISCARD, 0, 8, 0), IOERR);
		CHECK_EQ(ask_range(&r, T_WRITE_ZEROES, 0, 8, 0), IOERR);
		CHECK_EQ(ask_one(&r, T_IN, 8, at, PAGE), OK);
		CHECK(ram_has(&r, at, 8 * SECTOR, PAGE, 1));
		CHECK_EQ(rig_counts(&r).errors, 3);
		CHECK_EQ(rig_counts(&r).no_space, 0);
		rig_end(&r);
	}
}

/* A file system of 64 KiB that is mounted nowhere. */
static int small_file(uint64_t bytes)
{
	int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int at;
	int fd;

	if (fs < 0)
		TEST_SKIP("mounting needs root: %m");
	CHECK_EQ(fsconfig(fs, FSCONFIG_SET_STRING, "size", "65536", 0), 0);
	CHECK_EQ(fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), 0);
	at = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	CHECK(at >= 0);
	fd = openat(at, "disk", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

TEST(a_full_disk_is_counted)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;

		rig_start(&r, small_file(DISK_BYTES), &(struct blk_config){ .no_ring = no_ring },
		          F_ALL);
		at = vdriver_alloc(&r.d, 65536, 1);
		CHECK_EQ(ask_one(&r, T_OUT, 0, at, 32768), OK);
		CHECK_EQ(rig_counts(&r).no_space, 0);
		CHECK_EQ(ask_one(&r, T_OUT, 64, at, 65536), IOERR); /* half of it fits */
		CHECK_EQ(rig_counts(&r).no_space, 1);
		CHECK_EQ(ask_range(&r, T_WRITE_ZEROES, 1024, 128, 0), IOERR);
		CHECK_EQ(rig_counts(&r).no_space, 2);
		/* the guest makes room itself */
		CHECK_EQ(ask_range(&r, T_DISCARD, 0, 128, 0), OK);
		CHECK_EQ(ask_one(&r, T_OUT, 1024, at, 8192), OK);
		rig_end(&r);
	}
}

/* Whoever wants to know ends the guest, which is told nothing: what else it asked for goes on. */
TEST(a_full_disk_is_told_and_the_request_left_open)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		struct rig_loss loss = { 0 };
		uint64_t at;

		rig_start_told(&r, small_file(DISK_BYTES), no_ring, &loss);
		at = vdriver_alloc(&r.d, 65536, 1);
		CHECK_EQ(ask_one(&r, T_OUT, 0, at, 32768), OK);
		CHECK_EQ(loss.times, 0);
		put_unanswered(&r, T_OUT, 64, at, 65536);
		for (int i = 0; i < 10000 && rig_counts(&r).no_space == 0; i++)
			(void)usleep(1000);
		CHECK_EQ(rig_counts(&r).no_space, 1);
		CHECK_EQ(loss.times, 1);
		CHECK_EQ(loss.code, -ENOSPC);
		CHECK_EQ(ask_one(&r, T_IN, 0, at, PAGE), OK);
		CHECK_EQ(rig_counts(&r).errors, 0);
		rig_end(&r);
	}
}

TEST(memory_that_the_host_cannot_give_is_told)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		struct rig_loss loss = { 0 };
		int fd = file_new(DISK_BYTES);
		uint64_t at;

		file_fill(fd, DISK_BYTES, 1);
		rig_start_told(&r, fd, no_ring, &loss);
		at = vdriver_alloc(&r.d, 4 * PAGE, PAGE);
		CHECK_EQ(mprotect(vdriver_at(&r.d, at + PAGE, PAGE), PAGE, PROT_NONE), 0);
		put_unanswered(&r, T_OUT, 0, at + PAGE, PAGE);
		CHECK_EQ(ask_one(&r, T_IN, 0, at + 2 * PAGE, 2 * PAGE), OK);
		for (int i = 0; i < 10000 && rig_losses(&r, &loss) == 0; i++)
			(void)usleep(1000);
		CHECK_EQ(loss.times, 1);
		CHECK_EQ(loss.code, -EFAULT);
		CHECK_EQ(rig_counts(&r).errors, 0);
		rig_end(&r);
	}
}

TEST(memory_that_cannot_be_reached_gives_errors)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;

		rig_start_filled(&r, no_ring);
		at = vdriver_alloc(&r.d, 4 * PAGE, PAGE);
		CHECK_EQ(mprotect(vdriver_at(&r.d, at + PAGE, PAGE), PAGE, PROT_NONE), 0);
		CHECK_EQ(ask_one(&r, T_IN, 0, at, 2 * PAGE), IOERR);
		CHECK_EQ(ask_one(&r, T_OUT, 0, at, 2 * PAGE), IOERR);
		CHECK_EQ(ask_one(&r, T_IN, 0, at + 2 * PAGE, 2 * PAGE), OK);
		CHECK_EQ(rig_counts(&r).errors, 2);
		rig_end(&r);
	}
}

/* Goes when its last user does, so a test that dies leaves none behind. */
static int loop_device(int backing)
{
	struct loop_config c = { .fd = (uint32_t)backing, .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int ctl = openat(AT_FDCWD, "/dev/loop-control", O_RDWR | O_CLOEXEC);
	char path[32];

	for (unsigned tries = 0; ctl >= 0 && tries < 20; tries++) {
		int n = ioctl(ctl, LOOP_CTL_GET_FREE);
		int fd;

		(void)snprintf(path, sizeof(path), "/dev/loop%d", n);
		fd = openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &c) == 0) {
			(void)close(ctl);
			return fd;
		}
		own_close_fd(&fd); /* somebody was faster */
	}
	TEST_SKIP("no loop device to be had: %m");
}

TEST(a_block_device_is_a_disk)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;
		int backing = file_new(DISK_BYTES);

		file_fill(backing, DISK_BYTES, 1);
		rig_start(&r, loop_device(backing), &(struct blk_config){ .no_ring = no_ring },
		          F_ALL);
		at = vdriver_alloc(&r.d, DISK_BYTES, 1);
		CHECK_EQ(ask_one(&r, T_IN, 0, at, DISK_BYTES), OK);
		CHECK(ram_has(&r, at, 0, DISK_BYTES, 1));
		CHECK_EQ(ask_one(&r, T_IN, 1, at, DISK_BYTES), IOERR);
		put_pattern(&r, at, 3 * SECTOR, PAGE, 2);
		CHECK_EQ(ask_one(&r, T_OUT, 3, at, PAGE), OK);
		CHECK_EQ(ask(&r, T_FLUSH, 0, NULL, 0), OK);
		CHECK(file_has(backing, 3 * SECTOR, PAGE, 2));
		CHECK_EQ(ask_range(&r, T_WRITE_ZEROES, 99, 1001, 0), OK);
		CHECK_EQ(ask_range(&r, T_WRITE_ZEROES, 1100, 100, UNMAP), OK);
		CHECK_EQ(ask_range(&r, T_DISCARD, 1200, 100, 0), OK);
		CHECK_EQ(ask(&r, T_FLUSH, 0, NULL, 0), OK);
		CHECK(file_is(backing, 99 * SECTOR, 1101 * SECTOR, 0));
		CHECK(file_has(backing, 1300 * SECTOR, 100 * SECTOR, 1));
		rig_end(&r);
		(void)close(backing);
	}
}

/* The cache takes all writes; that the disk does not take them is the flush's to say. */
TEST(a_flush_that_fails_is_an_error)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;
		int backing = small_file(DISK_BYTES);

		rig_start(&r, loop_device(backing), &(struct blk_config){ .no_ring = no_ring },
		          F_ALL);
		at = vdriver_alloc(&r.d, DISK_BYTES, 1);
		put_pattern(&r, at, 0, DISK_BYTES, 2);
		CHECK_EQ(ask_one(&r, T_OUT, 0, at, DISK_BYTES), OK);
		CHECK_EQ(ask(&r, T_FLUSH, 0, NULL, 0), IOERR);
		rig_end(&r);
		(void)close(backing);
	}
}

/* -- where io_uring is forbidden ------------------------------------------------------------------
 */

static void forbid(unsigned nr)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { 4, code };

	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

static void works(struct rig *r)
{
	struct many m = prepare_many(r, 64, PAGE);

	for (unsigned round = 2; round < 5; round++) {
		put_pattern(r, m.data, 0, 64 * PAGE, round);
		add_many(r, &m, T_OUT, 64, PAGE);
		vdriver_kick(&r->d, 0);
		wait_many(r, &m, 64, OK);
		CHECK(file_has(r->fd, 0, 64 * PAGE, round));
		CHECK_EQ(ask(r, T_FLUSH, 0, NULL, 0), OK);
	}
}

TEST(without_io_uring_it_works_all_the_same)
{
	struct rig r;

	forbid(__NR_io_uring_setup);
	rig_start_filled(&r, false);
	CHECK(!rig_counts(&r).ring);
	works(&r);
	rig_end(&r);
}

TEST(a_ring_that_stops_working_is_given_up)
{
	struct rig r;
	int fd = file_new(DISK_BYTES);

	rig_make(&r, fd, &(struct blk_config){ 0 });
	if (!rig_counts(&r).ring)
		TEST_SKIP("no io_uring here");
	forbid(__NR_io_uring_enter);
	vdriver_run(&r.d);
	rig_probe(&r, F_ALL);
	works(&r);
	CHECK(!rig_counts(&r).ring);
	rig_end(&r);
}

/* a sanitizer's search for leaks at the end is a thread of its own */
#define NEED_THREADS_FOR_NOBODY_ELSE() ((void)0)
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#undef NEED_THREADS_FOR_NOBODY_ELSE
#define NEED_THREADS_FOR_NOBODY_ELSE() TEST_SKIP("the sanitizer needs a thread, refused here")
#endif
#endif

/* A limit of threads or a full pids cgroup: the kernel's own threads count as well. */
TEST(without_kernel_threads_it_works_all_the_same)
{
	const struct rlimit none = { 0 };
	struct rig r;

	NEED_THREADS_FOR_NOBODY_ELSE();
	rig_start_filled(&r, false);
	if (geteuid() == 0) /* to whom limits mean little */
		CHECK_EQ(setresuid(65534, 65534, 65534), 0);
	CHECK_EQ(setrlimit(RLIMIT_NPROC, &none), 0);
	works(&r);
	rig_end(&r);
}

static int ring_fd(void)
{
	char path[64];
	char to[64];

	for (int fd = 3; fd < 64; fd++) {
		ssize_t n;

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, to, sizeof(to) - 1);
		if (n > 0 && memmem(to, (size_t)n, "io_uring", 8))
			return fd;
	}
	return -1;
}

TEST(the_ring_does_nothing_else)
{
	struct rig r;
	int fd;
	int other = file_new(PAGE);

	rig_start_filled(&r, false);
	fd = ring_fd();
	if (fd < 0)
		TEST_SKIP("no io_uring here");
	/* nothing more can be registered, the file least of all */
	CHECK_EQ(syscall(__NR_io_uring_register, fd, IORING_REGISTER_FILES, &other, 1), -1);
	CHECK_EQ(errno, EACCES);
	CHECK_EQ(syscall(__NR_io_uring_register, fd, IORING_UNREGISTER_FILES, NULL, 0), -1);
	CHECK_EQ(errno, EACCES);
	CHECK_EQ(syscall(__NR_io_uring_register, fd, IORING_REGISTER_RESTRICTIONS, NULL, 0), -1);
	rig_end(&r);
}

/* -- reset, pause and snapshots with requests under way -------------------------------------------
 */

/* Memory that is not there before feed() brings it: whoever writes into it waits so long. */
struct slow_page {
	int uffd;
	void *at;
	uint64_t bytes;
};

static struct slow_page make_slow(struct rig *r, uint64_t gpa, uint64_t bytes)
{
	struct slow_page s = { .bytes = bytes };
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	s.uffd = (int)syscall(__NR_userfaultfd, O_CLOEXEC);
	if (s.uffd < 0)
		TEST_SKIP("userfaultfd needs root: %m");
	s.at = vdriver_at(&r->d, gpa, bytes);
	CHECK_EQ(madvise(s.at, bytes, MADV_DONTNEED), 0);
	CHECK_EQ(ioctl(s.uffd, UFFDIO_API, &api), 0);
	reg.range.start = (uintptr_t)s.at;
	reg.range.len = bytes;
	CHECK_EQ(ioctl(s.uffd, UFFDIO_REGISTER, &reg), 0);
	return s;
}

static void feed(const struct slow_page *s)
{
	struct uffdio_zeropage z = { .range = { (uintptr_t)s->at, s->bytes } };
	struct uffdio_range range = { (uintptr_t)s->at, s->bytes };

	CHECK_EQ(ioctl(s->uffd, UFFDIO_ZEROPAGE, &z), 0);
	CHECK_EQ(ioctl(s->uffd, UFFDIO_UNREGISTER, &range), 0);
	(void)close(s->uffd);
}

static bool wait_fault(const struct slow_page *s)
{
	struct uffd_msg msg;

	return read(s->uffd, &msg, sizeof(msg)) == sizeof(msg) && msg.event == UFFD_EVENT_PAGEFAULT;
}

struct resetter {
	struct rig *r;
	void (*fn)(void *arg);
	pthread_t thread;
	_Atomic bool done;
};

static void *run_resetter(void *arg)
{
	struct resetter *t = arg;

	if (t->fn)
		vdriver_on_loop(&t->r->d, t->fn, t->r);
	else
		vdriver_write32(&t->r->d, MMIO_STATUS, 0);
	t->done = true;
	return NULL;
}

/* A large read into memory that is not there: a kernel thread of the ring's is stuck in it. */
static struct slow_page begin_slow_read(struct rig *r)
{
	uint64_t at;
	struct slow_page s;

	rig_start_large(r, false);
	if (!rig_counts(r).ring)
		TEST_SKIP("no io_uring here");
	at = vdriver_alloc(&r->d, LARGE_BYTES, PAGE);
	s = make_slow(r, at, LARGE_BYTES);
	put_header(r, r->header, T_IN, 0);
	(void)vdriver_add(&r->d, 0,
	                  (struct vbuf[]){ { r->header, 16, false },
	                                   { at, LARGE_BYTES, true },
	                                   { r->status, 1, true } },
	                  3);
	vdriver_kick(&r->d, 0);
	CHECK(wait_fault(&s));
	return s;
}

static bool sleep_ms(int ms)
{
	return poll(NULL, 0, ms) == 0;
}

TEST(a_reset_waits_for_what_is_under_way)
{
	struct rig r;
	struct slow_page s = begin_slow_read(&r);
	struct resetter t = { .r = &r };
	uint8_t *status = vdriver_at(&r.d, r.status, 1);
	uint16_t used;

	*status = 0xa5;
	used = *(uint16_t *)vdriver_at(&r.d, r.d.q[0].used + 2, 2);
	CHECK_EQ(pthread_create(&t.thread, NULL, run_resetter, &t), 0);
	CHECK(sleep_ms(100));
	CHECK(!t.done);
	feed(&s);
	CHECK_EQ(pthread_join(t.thread, NULL), 0);
	/* it has ended, nobody was told, and nothing of it comes later */
	CHECK_EQ(*status, 0xa5);
	CHECK_EQ(*(uint16_t *)vdriver_at(&r.d, r.d.q[0].used + 2, 2), used);
	memset(s.at, 0x5a, s.bytes);
	CHECK(sleep_ms(50));
	for (uint64_t i = 0; i < s.bytes; i++)
		CHECK_EQ(((uint8_t *)s.at)[i], 0x5a);
	rig_probe(&r, F_ALL);
	CHECK_EQ(ask(&r, T_FLUSH, 0, NULL, 0), OK);
	rig_end(&r);
}

static void pause_it(void *arg)
{
	struct rig *r = arg;

	virtio_pause(r->d.dev);
}

static void resume_it(void *arg)
{
	struct rig *r = arg;

	virtio_resume(r->d.dev);
}

TEST(a_pause_finishes_what_is_under_way)
{
	struct rig r;
	struct slow_page s = begin_slow_read(&r);
	struct resetter t = { .r = &r, .fn = pause_it };
	uint16_t head;
	uint32_t len;

	CHECK_EQ(pthread_create(&t.thread, NULL, run_resetter, &t), 0);
	CHECK(sleep_ms(100));
	CHECK(!t.done);
	feed(&s);
	CHECK_EQ(pthread_join(t.thread, NULL), 0);
	CHECK(vdriver_used(&r.d, 0, &head, &len));
	CHECK_EQ(len, LARGE_BYTES + 1);
	CHECK_EQ(rig_status(&r), OK);
	CHECK(memcmp(s.at, "\0\0\0\0", 4) != 0);

	/* paused: requests stay in the queue */
	put_header(&r, r.header, T_FLUSH, 0);
	(void)vdriver_add(&r.d, 0,
	                  (struct vbuf[]){ { r.header, 16, false }, { r.status, 1, true } }, 2);
	vdriver_kick(&r.d, 0);
	CHECK(sleep_ms(50));
	CHECK(!vdriver_used(&r.d, 0, &head, &len));
	vdriver_on_loop(&r.d, resume_it, &r);
	CHECK(vdriver_wait_used(&r.d, 0, &head, &len));
	rig_end(&r);
}

TEST(the_end_waits_for_what_is_under_way)
{
	struct rig r;
	struct many m;

	rig_start_filled(&r, false);
	m = prepare_many(&r, 80, 8192);
	CHECK_EQ(fsync(r.fd), 0);
	CHECK_EQ(posix_fadvise(r.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	add_many(&r, &m, T_OUT, 80, 8192);
	vdriver_kick(&r.d, 0);
	rig_end(&r);
}

TEST(resets_in_the_middle_of_everything)
{
	EACH_WAY(no_ring)
	{
		struct rig r;

		rig_start_filled(&r, no_ring);
		for (unsigned i = 0; i < 100; i++) {
			struct many m;

			r.d.next_free = 0x1000; /* all memory anew */
			rig_probe(&r, F_ALL);
			m = prepare_many(&r, 80, PAGE);
			if (i % 8 == 0)
				CHECK_EQ(posix_fadvise(r.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
			add_many(&r, &m, i & 1 ? T_OUT : T_IN, 80, PAGE);
			vdriver_ring(&r.d, 0);
			if (i % 3 == 0)
				(void)vdriver_interrupt(&r.d, 1);
			vdriver_reset(&r.d);
		}
		rig_probe(&r, F_ALL);
		CHECK_EQ(ask(&r, T_FLUSH, 0, NULL, 0), OK);
		CHECK_EQ(rig_counts(&r).stuck, 0);
		rig_end(&r);
	}
}

struct saved {
	struct rig *r;
	struct buf b;
	uint8_t room[VIRTIO_SAVE_MAX];
};

static void save_it(void *arg)
{
	struct saved *s = arg;

	virtio_pause(s->r->d.dev);
	virtio_save(s->r->d.dev, &s->b);
}

/* A second machine with a disk of so many bytes, from what the first one saved. */
static int restore(struct saved *s, uint64_t disk_bytes, bool read_only, struct rig *second)
{
	struct blk_config c = { .fd = file_new(disk_bytes), .read_only = read_only };
	struct virtio_place at;
	struct virtio_dev *dev = NULL;
	struct err e;

	second->fd = c.fd;
	vdriver_init_over(&second->d, &s->r->d);
	at = vdriver_place(&second->d);
	CHECK_OK(blk_new(&at, &c, &dev, &e), &e);
	vdriver_attach(&second->d, dev);
	return virtio_load(dev, buf_span(&s->b), &e);
}

TEST(goes_on_where_it_was_saved)
{
	struct rig r;
	struct rig second;
	struct saved s = { .r = &r };

	rig_start_filled(&r, false);
	CHECK_EQ(ask(&r, T_FLUSH, 0, NULL, 0), OK);
	buf_init(&s.b, s.room, sizeof(s.room));
	vdriver_on_loop(&r.d, save_it, &s);
	CHECK(buf_ok(&s.b));

	CHECK_EQ(restore(&s, DISK_BYTES + SECTOR, false, &second), -EXDEV);
	rig_end(&second);
	CHECK_EQ(restore(&s, DISK_BYTES, true, &second), -EBADMSG); /* fewer features, too */
	rig_end(&second);
	CHECK_EQ(restore(&s, DISK_BYTES, false, &second), 0);
	second.header = r.header;
	second.status = r.status;
	vdriver_run(&second.d);
	vdriver_on_loop(&second.d, resume_it, &second);
	CHECK_EQ(ask_one(&second, T_OUT, 0, r.header, SECTOR), OK);
	CHECK_EQ(ask(&second, T_FLUSH, 0, NULL, 0), OK);
	rig_end(&second);
	rig_end(&r);
}

TEST_MAIN()
