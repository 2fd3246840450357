/*
 * The jails of berm-vmm both ways: the process and each kind of its threads does its work, on a
 * real machine where there is /dev/kvm; and each thing it must not do ends it.
 */
#include "base/fdio.h"
#include "jail/bpf.h"
#include "never.h"

#include <liburing.h>
#include <linux/audit.h>
#include <linux/falloc.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>

static const struct jail_profile *const thread_profiles[] = {
	&jail_profile_vmm_cpu,
	&jail_profile_vmm_io,
	&jail_profile_vmm_control,
};
enum { THREAD_PROFILES = sizeof(thread_profiles) / sizeof(thread_profiles[0]) };

static struct jail_params as_nobody(void)
{
	struct jail_params p = { 0 };

	if (geteuid() == 0)
		p.uid = p.gid = JAIL_UID_NOBODY;
	return p;
}

struct in_thread {
	const struct jail_profile *profile;
	jailed_act *act;
	void *ctx;
};

static int close_and_act(void *ctx)
{
	const struct in_thread *t = ctx;
	struct err e = { 0 };

	if (jail_mark() != 0)
		return 201;
	if (jail_thread(t->profile, &e) < 0)
		return 202;
	if (jail_mark() != t->profile->mark)
		return 203;
	return t->act(t->ctx);
}

/* The act, under the process's jail and then the thread's. */
static int run_in_thread_jail(const struct jail_profile *p, jailed_act *act, void *ctx)
{
	struct jail_params params = as_nobody();
	struct in_thread t = { p, act, ctx };

	return jailed_run(&jail_profile_vmm, &params, close_and_act, &t);
}

static int nothing(void *ctx)
{
	(void)ctx;
	return 0;
}

static const struct call never_vmm[] = {
	{ "open", SYS_open, (long)"/", O_RDONLY, 0, 0 },
	{ "openat", SYS_openat, AT_FDCWD, (long)"/", O_RDONLY, 0 },
	{ "openat2", SYS_openat2, AT_FDCWD, (long)"/", 0, 0 },
	{ "stat", SYS_newfstatat, AT_FDCWD, (long)"/", 0, 0 },
	{ "access", SYS_access, (long)"/", 0, 0, 0 },
	{ "readlink", SYS_readlinkat, AT_FDCWD, (long)"/", 0, 0 },
	{ "unlink", SYS_unlinkat, AT_FDCWD, (long)"x", 0, 0 },
	{ "mkdir", SYS_mkdirat, AT_FDCWD, (long)"x", 0, 0 },
	{ "chmod", SYS_fchmod, 0, 0777, 0, 0 },
	{ "chown", SYS_fchown, 0, 0, 0, 0 },
	{ "unix socket", SYS_socket, AF_UNIX, SOCK_STREAM, 0, 0 },
	{ "socketpair", SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 0 },
	{ "connect", SYS_connect, 0, 0, 0, 0 },
	{ "bind", SYS_bind, 0, 0, 0, 0 },
	{ "listen", SYS_listen, 0, 0, 0, 0 },
	{ "accept", SYS_accept4, 0, 0, 0, 0 },
	{ "kill", SYS_kill, 1, 0, 0, 0 },
	{ "tkill", SYS_tkill, 1, 0, 0, 0 },
	{ "kill the group", SYS_tgkill, 0, 0, 0, 0 },
	{ "vfork", SYS_vfork, 0, 0, 0, 0 },
	{ "memfd", SYS_memfd_create, (long)"x", 0, 0, 0 },
	{ "pidfd", SYS_pidfd_open, 1, 0, 0, 0 },
	{ "pipe", SYS_pipe2, 0, 0, 0, 0 },
	{ "code", SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS },
	{ "writable code", SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
	  MAP_PRIVATE | MAP_ANONYMOUS },
	{ "memory becomes code", SYS_mprotect, 0, 0, PROT_READ | PROT_EXEC, 0 },
	{ "code by key", SYS_pkey_mprotect, 0, 0, PROT_EXEC, 0 },
	{ "steal a byte", SYS_splice, 0, 0, 0, 0 },
	{ "sendfile", SYS_sendfile, 0, 0, 0, 0 },
	{ "personality", SYS_personality, 0, 0, 0, 0 },
	{ "a narrower Landlock", SYS_landlock_restrict_self, -1, 0, 0, 0 },
	{ "allocate", SYS_fallocate, -1, 0, 0, 0 },
	{ "collapse", SYS_fallocate, -1, FALLOC_FL_COLLAPSE_RANGE, 0, 0 },
	{ "a limit", SYS_prlimit64, 0, RLIMIT_NOFILE, (long)"", 0 },
	{ "lock memory", SYS_mlock, 0, 4096, 0, 0 },
	{ "poison memory", SYS_process_madvise, 0, 0, 0, 0 },
	{ "fd flags for signals", SYS_fcntl, 0, F_SETOWN, 1, 0 },
	{ "another's terminal", SYS_ioctl, 0, 0x541d, 0, 0 }, /* TIOCCONS */
	{ "network devices", SYS_ioctl, 0, 0x8914, 0, 0 },    /* SIOCSIFFLAGS */
	{ "reflink", SYS_ioctl, 0, 0x40049409, 0, 0 },        /* FICLONE */
	{ "a new ring", SYS_io_uring_setup, 1, 0, 0, 0 },
	{ "more for a ring", SYS_io_uring_register, -1, 0, 0, 0 },
	{ "eventfd", SYS_eventfd2, 0, 0, 0, 0 },
	{ "epoll", SYS_epoll_create1, 0, 0, 0, 0 },
	{ "timerfd", SYS_timerfd_create, 0, 0, 0, 0 },
	{ "AMX", SYS_arch_prctl, 0x1025, 18, 0, 0 },
	{ "dup", SYS_dup, 0, 0, 0, 0 },
	{ "fd flags", SYS_fcntl, 0, F_SETFL, 0, 0 },
	{ "another machine", SYS_ioctl, -1, KVM_CREATE_VM, 0, 0 },
	{ "another CPU", SYS_ioctl, -1, KVM_CREATE_VCPU, 0, 0 },
	{ "other memory", SYS_ioctl, -1, KVM_SET_USER_MEMORY_REGION, 0, 0 },
	{ "a device of KVM", SYS_ioctl, -1, (long)KVM_CREATE_DEVICE, 0, 0 },
	{ "another doorbell", SYS_ioctl, -1, KVM_IOEVENTFD, 0, 0 },
	{ "another line", SYS_ioctl, -1, KVM_IRQFD, 0, 0 },
	{ "capabilities of KVM", SYS_ioctl, -1, KVM_ENABLE_CAP, 0, 0 },
	{ "a request of KVM with high bits", SYS_ioctl, -1, KVM_RUN | 0x10000, 0, 0 },
};

TEST(the_process_forbids)
{
	struct jail_params params = as_nobody();

	NEED_PLAIN_BUILD();
	check_never(&jail_profile_vmm, NULL, NULL);
	for (size_t i = 0; i < sizeof(never_vmm) / sizeof(never_vmm[0]); i++) {
		struct call k = never_vmm[i];
		int got = jailed_run(&jail_profile_vmm, &params, make_call, &k);

		if (got != JAILED_KILLED)
			test_fail(__FILE__, __LINE__, "vmm may %s: %d", k.what, got);
	}
}

/* What ends with the preparation. */
static const struct call never_thread[] = {
	{ "a thread", SYS_clone, CLONE_THREAD | CLONE_VM | CLONE_SIGHAND, 0, 0, 0 },
	{ "a thread by clone3", SYS_clone3, 0, 0, 0, 0 },
	{ "filters", SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 0, 0 },
	{ "a file as memory", SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED },
	{ "a file over memory", SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE,
	  MAP_PRIVATE | MAP_FIXED },
	{ "protect", SYS_mprotect, 0, 0, PROT_READ, 0 },
	{ "huge pages", SYS_madvise, 0, 0, MADV_HUGEPAGE, 0 },
	{ "merge pages", SYS_madvise, 0, 0, MADV_MERGEABLE, 0 },
	{ "poison", SYS_madvise, 0, 0, MADV_HWPOISON, 0 },
	{ "dump", SYS_madvise, 0, 0, MADV_DODUMP, 0 },
	{ "inherit", SYS_madvise, 0, 0, MADV_DOFORK, 0 },
	{ "signal handlers", SYS_rt_sigaction, SIGUSR1, 0, 0, 8 },
	{ "set registers", SYS_ioctl, -1, KVM_SET_REGS, 0, 0 },
	{ "set MSRs", SYS_ioctl, -1, KVM_SET_MSRS, 0, 0 },
	{ "set interrupt chips", SYS_ioctl, -1, KVM_SET_IRQCHIP, 0, 0 },
	{ "its name", SYS_prctl, PR_SET_NAME, (long)"x", 0, 0 },
};

static void check_thread_never(const struct jail_profile *p, const struct call *calls, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct call k = calls[i];
		int got = run_in_thread_jail(p, make_call, &k);

		if (got != JAILED_KILLED)
			test_fail(__FILE__, __LINE__, "%s may %s: %d", p->name, k.what, got);
	}
}

static void check_thread(const struct jail_profile *p)
{
	CHECK_EQ(run_in_thread_jail(p, nothing, NULL), 0);
	check_thread_never(p, never, sizeof(never) / sizeof(never[0]));
	check_thread_never(p, never_vmm, sizeof(never_vmm) / sizeof(never_vmm[0]));
	check_thread_never(p, never_thread, sizeof(never_thread) / sizeof(never_thread[0]));
}

TEST(a_cpu_forbids)
{
	static const struct call more[] = {
		{ "read", SYS_read, -1, 0, 0, 0 },
		{ "pwrite", SYS_pwrite64, -1, 0, 0, 0 },
		{ "recvmsg", SYS_recvmsg, -1, 0, 0, 0 },
		{ "sendmsg", SYS_sendmsg, -1, 0, 0, 0 },
		{ "close", SYS_close, -1, 0, 0, 0 },
		{ "io_uring_enter", SYS_io_uring_enter, -1, 0, 0, 0 },
		{ "epoll_ctl", SYS_epoll_ctl, -1, 0, 0, 0 },
		{ "heap", SYS_brk, 0, 0, 0, 0 },
		{ "memory", SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS },
		{ "unmap", SYS_munmap, 0, 4096, 0, 0 },
		{ "drop pages", SYS_madvise, 0, 0, MADV_REMOVE, 0 },
		{ "get MSRs", SYS_ioctl, -1, (long)KVM_GET_MSRS, 0, 0 },
		{ "poll", SYS_poll, 0, 0, 0, 0 },
		{ "getrandom", SYS_getrandom, 0, 0, 0, 0 },
	};

	NEED_PLAIN_BUILD();
	check_thread(&jail_profile_vmm_cpu);
	check_thread_never(&jail_profile_vmm_cpu, more, sizeof(more) / sizeof(more[0]));
}

TEST(the_io_thread_forbids)
{
	static const struct call more[] = {
		{ "run a CPU", SYS_ioctl, -1, KVM_RUN, 0, 0 },
		{ "get registers", SYS_ioctl, -1, (long)KVM_GET_REGS, 0, 0 },
		{ "close", SYS_close, -1, 0, 0, 0 },
		{ "heap", SYS_brk, 0, 0, 0, 0 },
		{ "memory", SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS },
		{ "memory nobody reads", SYS_mmap, 0, 4096, PROT_NONE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED },
		{ "unmap", SYS_munmap, 0, 4096, 0, 0 },
		{ "truncate", SYS_ftruncate, -1, 0, 0, 0 },
		{ "copy a file", SYS_copy_file_range, -1, 0, -1, 0 },
	};

	NEED_PLAIN_BUILD();
	check_thread(&jail_profile_vmm_io);
	check_thread_never(&jail_profile_vmm_io, more, sizeof(more) / sizeof(more[0]));
}

TEST(control_forbids)
{
	static const struct call more[] = {
		{ "run a CPU", SYS_ioctl, -1, KVM_RUN, 0, 0 },
		{ "io_uring_enter", SYS_io_uring_enter, -1, 0, 0, 0 },
		{ "epoll_ctl", SYS_epoll_ctl, -1, 0, 0, 0 },
		{ "memory in a place of its choice", SYS_mmap, 4096, 4096, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED },
		{ "drop shared pages", SYS_madvise, 0, 0, MADV_REMOVE, 0 },
		{ "getrandom", SYS_getrandom, 0, 0, 0, 0 },
	};

	NEED_PLAIN_BUILD();
	check_thread(&jail_profile_vmm_control);
	check_thread_never(&jail_profile_vmm_control, more, sizeof(more) / sizeof(more[0]));
}

/* Each rule of a thread's profile is one of the process's: else it could never be used. */
static bool process_allows(const struct jail_rule *wanted)
{
	for (size_t i = 0; i < jail_profile_vmm.rule_count; i++) {
		const struct jail_rule *r = &jail_profile_vmm.rules[i];
		bool fits = r->act == JAIL_ALLOW && r->call == wanted->call;

		for (size_t k = 0; k < JAIL_ARGS_MAX; k++) {
			const struct jail_arg *a = &r->args[k];
			bool met = !a->used;

			for (size_t n = 0; n < JAIL_ARGS_MAX; n++) {
				const struct jail_arg *b = &wanted->args[n];

				met |= b->used && b->index == a->index && b->self == a->self &&
				       (b->mask & a->mask) == a->mask &&
				       (b->value & a->mask) == a->value;
			}
			fits &= met;
		}
		if (fits)
			return true;
	}
	return false;
}

TEST(what_a_thread_may_its_process_may)
{
	for (size_t i = 0; i < THREAD_PROFILES; i++) {
		const struct jail_profile *p = thread_profiles[i];

		for (size_t k = 0; k < p->rule_count; k++)
			if (p->rules[k].act == JAIL_ALLOW && !process_allows(&p->rules[k]))
				test_fail(__FILE__, __LINE__, "%s: %s (call %d)", p->name,
				          p->rules[k].why, p->rules[k].call);
	}
}

TEST(tables_have_reasons_and_no_dead_rules)
{
	check_table(&jail_profile_vmm);
	for (size_t i = 0; i < THREAD_PROFILES; i++)
		check_table(thread_profiles[i]);
	CHECK(jail_profile_vmm_cpu.rule_count <= 16);
}

/* -- the work -- */

enum { MEM_BYTES = 64 << 10, CODE_AT = 0x1000, MMIO_AT = 0x20000, MMIO_VALUE = 0x5a };

/* Stores a byte where there is no memory, then goes round and round. */
static const uint8_t guest_code[] = {
	0xb8, 0x00, 0x20,             /* mov ax, 0x2000 */
	0x8e, 0xd8,                   /* mov ds, ax */
	0xc6, 0x06, 0x00, 0x00, 0x5a, /* mov byte [0], 0x5a */
	0xeb, 0xfe,                   /* jmp to itself */
};

struct machine {
	int kvm_fd, vm_fd, cpu_fd;
	int kick_fd;  /* the CPU tells of its store */
	int done_fd;  /* the I/O thread tells control */
	int disk_fd;  /* memfd */
	int state_fd; /* memfd */
	int control[2];
	bool has_kvm;
	uint8_t *mem;
	struct kvm_run *run;
	struct io_uring ring;
	pthread_t cpu, io;
	atomic_bool stop;
};

/* The other threads wait for this one: the process's exit code tells. */
static void *failed(const struct machine *m, int step)
{
	(void)m;
	_exit(step);
}

static void *cpu_main(void *arg)
{
	struct machine *m = arg;
	struct err e = { 0 };

	if (jail_thread(&jail_profile_vmm_cpu, &e) < 0 || jail_mark() != JAIL_MARK_VMM_CPU)
		return failed(m, 1);
	if (!m->has_kvm)
		return eventfd_write(m->kick_fd, 1) < 0 ? failed(m, 2) : NULL;
	while (!atomic_load(&m->stop)) {
		if (ioctl(m->cpu_fd, KVM_RUN, NULL) < 0) {
			if (errno != EINTR)
				return failed(m, 3);
			continue; /* control wants us out */
		}
		if (m->run->exit_reason != KVM_EXIT_MMIO || m->run->mmio.phys_addr != MMIO_AT ||
		    m->run->mmio.data[0] != MMIO_VALUE)
			return failed(m, 4);
		if (eventfd_write(m->kick_fd, 1) < 0)
			return failed(m, 5);
	}
	(void)ioctl(m->cpu_fd, KVM_KVMCLOCK_CTRL, NULL);
	return NULL;
}

static int use_ring(struct machine *m)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&m->ring);
	struct io_uring_cqe *cqe;
	char got[8] = { 0 };

	struct iovec iov = { (char[]){ "berm" }, 5 };

	if (pwritev2(m->disk_fd, &iov, 1, 4096, 0) != 5 || !sqe)
		return 20;
	io_uring_prep_read(sqe, m->disk_fd, got, 5, 4096);
	if (io_uring_submit(&m->ring) != 1 || io_uring_wait_cqe(&m->ring, &cqe) < 0)
		return 21;
	if (cqe->res != 5 || strcmp(got, "berm") != 0)
		return 22;
	io_uring_cqe_seen(&m->ring, cqe);
	if (fdatasync(m->disk_fd) < 0 ||
	    fallocate(m->disk_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8192) < 0)
		return 23;
	return preadv2(m->disk_fd, &(struct iovec){ got, 5 }, 1, 4096, 0) == 5 && !got[0] ? 0 : 24;
}

static int use_balloon(const struct machine *m)
{
	uint8_t *page = m->mem + 8 * 4096;

	page[0] = 7;
	if (madvise(page, 4096, MADV_DONTNEED) < 0)
		return 30;
	if (mmap(page, 4096, PROT_READ | PROT_WRITE,
	         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != page)
		return 31;
	return page[0] == 0 && madvise(page, 4096, MADV_DONTDUMP) == 0 ? 0 : 32;
}

static void *io_main(void *arg)
{
	struct machine *m = arg;
	struct err e = { 0 };
	char bytes[16];
	eventfd_t n;
	int r;

	if (jail_thread(&jail_profile_vmm_io, &e) < 0 || jail_mark() != JAIL_MARK_VMM_IO)
		return failed(m, 10);
	r = use_ring(m);
	if (r == 0)
		r = use_balloon(m);
	if (r)
		return failed(m, r);
	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return failed(m, 11);
	if (eventfd_read(m->kick_fd, &n) < 0 || n != 1) /* waits for the guest's store */
		return failed(m, 12);
	return eventfd_write(m->done_fd, 1) < 0 ? failed(m, 13) : NULL;
}

static int take_state(const struct machine *m)
{
	struct kvm_regs regs = { 0 };
	struct kvm_sregs sregs;
	struct kvm_xsave *xsave = calloc(1, sizeof(*xsave) + (1 << 20)); /* from mmap, so large */

	if (!xsave)
		return 40;
	if (m->has_kvm && (ioctl(m->cpu_fd, KVM_GET_REGS, &regs) < 0 ||
	                   ioctl(m->cpu_fd, KVM_GET_SREGS, &sregs) < 0 ||
	                   ioctl(m->cpu_fd, KVM_GET_XSAVE, xsave) < 0))
		return 41;
	if (m->has_kvm && regs.rip < CODE_AT)
		return 42;
	free(xsave);
	if (pwrite(m->state_fd, &regs, sizeof(regs), 0) != sizeof(regs) ||
	    lseek(m->state_fd, 0, SEEK_DATA) != 0 || ftruncate(m->state_fd, 4096) < 0)
		return 43;
	return 0;
}

/* A request with an fd, as the starter sends it, and the answer. */
static int serve_once(const struct machine *m)
{
	struct pollfd p = { .fd = m->control[0], .events = POLLIN };
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof(int))];
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov,
		              .msg_iovlen = 1,
		              .msg_control = room,
		              .msg_controllen = sizeof(room) };
	const struct cmsghdr *h;
	int fd;

	if (poll(&p, 1, 10000) != 1 || recvmsg(m->control[0], &msg, MSG_CMSG_CLOEXEC) != 1)
		return 50;
	h = CMSG_FIRSTHDR(&msg);
	if (!h || h->cmsg_type != SCM_RIGHTS)
		return 51;
	memcpy(&fd, CMSG_DATA(h), sizeof(fd));
	if (pwrite(fd, "x", 1, 0) != 1 || close(fd) < 0)
		return 52;
	return send(m->control[0], "x", 1, MSG_NOSIGNAL) == 1 ? 0 : 53;
}

static void on_kick(int number)
{
	(void)number;
}

static int set_up_kvm(struct machine *m)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEM_BYTES };
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = CODE_AT, .rflags = 2 };
	int bytes;

	m->vm_fd = ioctl(m->kvm_fd, KVM_CREATE_VM, 0);
	if (m->vm_fd < 0)
		return 60;
	region.userspace_addr = (uint64_t)(uintptr_t)m->mem;
	bytes = ioctl(m->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (bytes < 0 || ioctl(m->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return 61;
	m->cpu_fd = ioctl(m->vm_fd, KVM_CREATE_VCPU, 0);
	m->run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->cpu_fd, 0);
	if (m->cpu_fd < 0 || m->run == MAP_FAILED || ioctl(m->cpu_fd, KVM_GET_SREGS, &sregs) < 0)
		return 62;
	sregs.cs.base = sregs.cs.selector = 0;
	memcpy(m->mem + CODE_AT, guest_code, sizeof(guest_code));
	if (ioctl(m->cpu_fd, KVM_SET_SREGS, &sregs) < 0 ||
	    ioctl(m->cpu_fd, KVM_SET_REGS, &regs) < 0)
		return 63;
	return 0;
}

/* What berm-vmm makes before it closes its jail. */
static int prepare(struct machine *m)
{
	struct sigaction act = { .sa_handler = on_kick };

	m->mem = mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE,
	              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	m->kick_fd = eventfd(0, EFD_CLOEXEC);
	m->done_fd = eventfd(0, EFD_CLOEXEC);
	if (m->mem == MAP_FAILED || m->kick_fd < 0 || m->done_fd < 0)
		return 70;
	if (io_uring_queue_init(8, &m->ring, 0) < 0)
		return 71;
	if (sigaction(SIGUSR1, &act, NULL) < 0)
		return 72;
	return m->has_kvm ? set_up_kvm(m) : 0;
}

static int serve(struct machine *m)
{
	struct err e = { 0 };
	eventfd_t n;
	int r;

	if (jail_thread(&jail_profile_vmm_control, &e) < 0 || jail_mark() != JAIL_MARK_VMM_CONTROL)
		return 80;
	if (eventfd_read(m->done_fd, &n) < 0)
		return 81;
	r = serve_once(m);
	atomic_store(&m->stop, true);
	if (m->has_kvm)
		m->run->immediate_exit = 1;
	if (r == 0 && pthread_kill(m->cpu, SIGUSR1) != 0)
		return 82;
	if (pthread_join(m->cpu, NULL) != 0 || pthread_join(m->io, NULL) != 0)
		return 83;
	return r ? r : take_state(m);
}

/* The whole life of a small berm-vmm, in its jail. */
static int do_vmm_work(void *ctx)
{
	struct machine *m = ctx;
	struct kvm_regs regs;

	/* as a load does, or a boot */
	if (m->has_kvm && (ioctl(m->cpu_fd, KVM_GET_REGS, &regs) < 0 ||
	                   ioctl(m->cpu_fd, KVM_SET_REGS, &regs) < 0))
		return 85;
	if (pthread_create(&m->cpu, NULL, cpu_main, m) != 0 ||
	    pthread_create(&m->io, NULL, io_main, m) != 0)
		return 84;
	return serve(m);
}

static int make_and_work(struct machine *m, const struct jail_params *params)
{
	struct err e = { 0 };
	int r = prepare(m);

	if (r)
		return r;
	if (jail_enter(&jail_profile_vmm, params, NULL, &e) < 0)
		return JAILED_ENTER_FAILED;
	return do_vmm_work(m);
}

static void send_request(int fd, int passed)
{
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { (char[]){ "r" }, 1 };
	struct msghdr msg = { .msg_iov = &iov,
		              .msg_iovlen = 1,
		              .msg_control = room,
		              .msg_controllen = sizeof(room) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&msg);

	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &passed, sizeof(int));
	CHECK_EQ(sendmsg(fd, &msg, 0), 1);
}

static void check_work(uid_t uid)
{
	struct machine m = { .disk_fd = memfd_create("disk", MFD_CLOEXEC),
		             .state_fd = memfd_create("state", MFD_CLOEXEC),
		             .kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC) };
	struct jail_params params = { .uid = uid, .gid = uid, .keep_all_fds = true };
	int passed = memfd_create("passed", MFD_CLOEXEC);
	char got = 0;
	int status = 0;
	pid_t pid;

	CHECK(m.disk_fd >= 0 && m.state_fd >= 0 && passed >= 0);
	CHECK_EQ(ftruncate(m.disk_fd, 64 << 10), 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, m.control), 0);
	send_request(m.control[1], passed);
	m.has_kvm = m.kvm_fd >= 0;
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		_exit(make_and_work(&m, &params));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(recv(m.control[1], &got, 1, MSG_DONTWAIT), 1);
	CHECK_EQ(pread(passed, &got, 1, 0), 1);
	CHECK_EQ(got, 'x');
	CHECK_EQ(lseek(m.state_fd, 0, SEEK_END), 4096);
	if (!m.has_kvm)
		TEST_SKIP("there is no /dev/kvm: all but the CPU itself was tried");
}

TEST(it_does_its_work)
{
	NEED_PLAIN_BUILD();
	check_work(0);
}

TEST(it_does_its_work_as_nobody)
{
	NEED_PLAIN_BUILD();
	if (geteuid() != 0)
		TEST_SKIP("needs root");
	check_work(JAIL_UID_NOBODY);
}

/* -- a thread's jail is its own -- */

static void *bad_thread(void *arg)
{
	(void)arg;
	(void)raw(SYS_mprotect, 0, 0, PROT_READ, 0); /* for who has closed no jail of its own yet */
	return NULL;
}

static void *bad_cpu(void *arg)
{
	struct err e = { 0 };

	if (jail_thread(&jail_profile_vmm_cpu, &e) < 0)
		return NULL;
	return bad_thread(arg);
}

static int with_thread(void *(*run)(void *arg))
{
	pthread_t t;

	if (pthread_create(&t, NULL, run, NULL) != 0 || pthread_join(t, NULL) != 0)
		return 90;
	return jail_mark();
}

static int thread_in_no_jail(void *ctx)
{
	(void)ctx;
	return with_thread(bad_thread);
}

static int thread_in_its_jail(void *ctx)
{
	(void)ctx;
	return with_thread(bad_cpu);
}

TEST(a_forbidden_call_of_one_thread_ends_all)
{
	struct jail_params params = as_nobody();

	NEED_PLAIN_BUILD();
	CHECK_EQ(jailed_run(&jail_profile_vmm, &params, thread_in_no_jail, NULL), 0);
	CHECK_EQ(jailed_run(&jail_profile_vmm, &params, thread_in_its_jail, NULL), JAILED_KILLED);
}

static int second_jail(void *ctx)
{
	struct err e = { 0 };

	(void)ctx;
	return jail_thread(&jail_profile_vmm_control, &e) < 0 ? 0 : 91;
}

/* A CPU's thread that was taken over cannot become another, nor take its filter off. */
TEST(a_thread_has_one_jail)
{
	NEED_PLAIN_BUILD();
	CHECK_EQ(run_in_thread_jail(&jail_profile_vmm_cpu, second_jail, NULL), JAILED_KILLED);
}

/* The kernel takes a filter only from who can gain no rights, or has them all. */
TEST(a_thread_jail_outside_of_a_process_jail_fails)
{
	struct err e = { 0 };

	if (geteuid() == 0)
		CHECK_EQ(setresuid(JAIL_UID_NOBODY, JAIL_UID_NOBODY, JAIL_UID_NOBODY), 0);
	CHECK_EQ(jail_thread(&jail_profile_vmm_cpu, &e), -EACCES);
	CHECK_EQ(jail_mark(), 0);
}

static void *mark_of_a_thread(void *arg)
{
	struct err e = { 0 };

	*(int *)arg = jail_thread(&jail_profile_vmm_io, &e) < 0 ? -1 : jail_mark();
	return NULL;
}

static int mark_elsewhere(void *ctx)
{
	pthread_t t;
	int mark = 0;

	(void)ctx;
	if (pthread_create(&t, NULL, mark_of_a_thread, &mark) != 0 || pthread_join(t, NULL) != 0)
		return 92;
	if (mark != JAIL_MARK_VMM_IO)
		return 93;
	return jail_mark() == 0 ? 0 : 94;
}

TEST(a_mark_tells_of_its_own_thread_alone)
{
	struct jail_params params = as_nobody();

	NEED_PLAIN_BUILD();
	CHECK_EQ(jail_mark(), 0);
	CHECK_EQ(jailed_run(&jail_profile_vmm, &params, mark_elsewhere, NULL), 0);
}

/* -- nothing is left in view -- */

static struct jail_profile vmm_without_filter(void)
{
	struct jail_profile p = jail_profile_vmm;

	p.rules = NULL;
	p.rule_count = 0;
	return p;
}

static int look_around(bool new_root)
{
	struct rlimit l;

	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return 100;
	if (getrlimit(RLIMIT_CORE, &l) < 0 || l.rlim_max != 0)
		return 101;
	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_max > 192)
		return 102;
	if (openat(AT_FDCWD, "/", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES)
		return 103;
	if (open("/dev/kvm", O_RDWR | O_CLOEXEC) >= 0)
		return 104;
	if (new_root &&
	    (access("/dev", F_OK) == 0 || access("/proc", F_OK) == 0 || errno != ENOENT))
		return 105;
	return kill(getppid(), 0) == 0 && jail_landlock_abi() >= 6 ? 106 : 0;
}

static int enter_and_look(void)
{
	struct jail_params params = as_nobody();
	struct jail_report report;
	struct jail_profile p = vmm_without_filter();
	struct err e = { 0 };

	if (jail_enter(&p, &params, &report, &e) < 0)
		return 110;
	return look_around(report.new_root);
}

TEST(no_path_is_left)
{
	int status = 0;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0)
		_exit(enter_and_look());
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}

TEST_MAIN()
