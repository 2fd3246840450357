#include "agent/agent.h"

#include "agent/boot.h"
#include "agent/control.h"
#include "agent/limits.h"
#include "agent/power.h"
#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>

int agent_watch(struct agent *a, int fd, uint32_t events, enum agent_event what, unsigned slot,
                unsigned sub, struct err *e)
{
	struct epoll_event ev = { .events = events | EPOLLET };

	ev.data.u32 = (uint32_t)what | sub << 8 | slot << 16;
	if (epoll_ctl(a->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return err_sys(e, "watch a file descriptor");
	return 0;
}

void agent_die(struct agent *a, uint8_t type, const char *why)
{
	log_error("%s", why);
	if (a->port.fd >= 0) {
		a->port.shut = false;
		if (port_has_room(&a->port))
			wire_put_text(port_out(&a->port), type, a->epoch, why);
		port_drain(&a->port, AGENT_DRAIN_MS);
	}
	sync();
	power_cut();
}

/* Children ended: ours, and every orphan of the guest. */
static void reap(struct agent *a)
{
	struct signalfd_siginfo drained[8];
	struct rusage ru;
	int status;
	pid_t pid;

	while (read(a->signal_fd, drained, sizeof(drained)) > 0)
		;
	while ((pid = wait4(-1, &status, WNOHANG, &ru)) > 0) {
		struct wire_exit x = { .signaled = WIFSIGNALED(status) };

		x.value = (uint32_t)(x.signaled ? WTERMSIG(status) : WEXITSTATUS(status));
		x.user_us = (uint64_t)ru.ru_utime.tv_sec * 1000000 + (uint64_t)ru.ru_utime.tv_usec;
		x.sys_us = (uint64_t)ru.ru_stime.tv_sec * 1000000 + (uint64_t)ru.ru_stime.tv_usec;
		x.maxrss_bytes = (uint64_t)ru.ru_maxrss * 1024;
		if (a->spare.pid == pid) { /* killed with the workload */
			child_close(&a->spare, &a->cg);
			a->refill_ms = clock_mono_ms() + AGENT_REFILL_MS;
		} else {
			(void)stream_reaped(a, pid, &x);
		}
	}
}

static void on_event(struct agent *a, const struct epoll_event *ev)
{
	unsigned slot = ev->data.u32 >> 16;
	unsigned sub = ev->data.u32 >> 8 & 0xff;

	switch ((enum agent_event)(ev->data.u32 & 0xff)) {
	case AGENT_EV_PORT:
		a->port.readable = a->port.writable = true;
		break;
	case AGENT_EV_SIGNAL:
		reap(a);
		break;
	case AGENT_EV_MEMORY:
		limits_on_memory(a);
		break;
	case AGENT_EV_PIDS:
		limits_on_pids(a);
		break;
	case AGENT_EV_CGROUP:
		control_on_cgroup(a);
		break;
	case AGENT_EV_STREAM:
		stream_event(a, slot, sub);
		break;
	}
}

static void sooner(uint64_t *soonest, uint64_t ms)
{
	if (ms != 0 && ms < *soonest)
		*soonest = ms;
}

/* How long epoll may wait: -1 for ever. */
static int wait_ms(const struct agent *a, uint64_t now_ms)
{
	uint64_t soonest = streams_deadline_ms(a);

	sooner(&soonest, a->refill_ms);
	sooner(&soonest, a->oom_due_ms);
	sooner(&soonest, a->lazy_ms);
	if (a->freezing)
		sooner(&soonest, a->freeze_until_ms + 1);
	if (a->hold == HOLD_ASKED)
		sooner(&soonest, a->hold_until_ms + 1);
	if (a->power != POWER_ON)
		sooner(&soonest, a->power_until_ms + 1);
	if (soonest == UINT64_MAX)
		return -1;
	return soonest <= now_ms ? 0 : (int)(soonest - now_ms);
}

static void tick(struct agent *a)
{
	uint64_t now_ms = clock_mono_ms();

	streams_tick(a, now_ms);
	control_tick(a, now_ms);
	hold_tick(a, now_ms);
	if (a->oom_due_ms != 0 && now_ms >= a->oom_due_ms)
		limits_on_memory(a);
	if (a->refill_ms != 0 && now_ms >= a->refill_ms)
		stream_refill(a);
	power_step(a, now_ms);
}

/* Is all that is pending of the kind that waits for company, and not for long yet? */
static bool may_wait(struct agent *a)
{
	uint64_t now_ms = clock_mono_ms();

	if (port_pending(&a->port) == 0 || a->port.urgent)
		return false;
	if (a->lazy_ms == 0)
		a->lazy_ms = now_ms + AGENT_LAZY_MS;
	return now_ms < a->lazy_ms;
}

/* An edge for each buffer the host has emptied would wake us for nothing while nothing waits. */
static void watch_writable(struct agent *a, bool on)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET | (on ? EPOLLOUT : 0) };

	if (a->watch_writable == on)
		return;
	ev.data.u32 = AGENT_EV_PORT;
	if (epoll_ctl(a->epoll_fd, EPOLL_CTL_MOD, a->port.fd, &ev) == 0)
		a->watch_writable = on;
}

/* Edges are told once, so what can be done is done now: until nothing moves, or the port is full,
 * which ends in an edge of its own. */
static void serve_once(struct agent *a)
{
	bool moved;

	do {
		control_pump(a);
		moved = streams_pump(a);
		control_settle(a);
		hold_settle(a);
		if (!moved && may_wait(a))
			return;
		/* what waited for room in the port gets its turn after each write */
		moved |= port_pending(&a->port) > 0;
	} while (port_flush(&a->port) && moved);
	a->lazy_ms = 0;
	watch_writable(a, port_pending(&a->port) > 0);
}

static void serve(struct agent *a)
{
	struct epoll_event events[AGENT_EPOLL_EVENTS];

	for (;;) {
		int n = epoll_wait(a->epoll_fd, events, AGENT_EPOLL_EVENTS,
		                   wait_ms(a, clock_mono_ms()));

		for (int i = 0; i < n; i++)
			on_event(a, &events[i]);
		tick(a);
		serve_once(a);
	}
}

static int say_hello(struct agent *a, struct err *e)
{
	struct wire_hello h = { .version = WIRE_VERSION, .agent_version = span_str(BERM_VERSION) };
	struct utsname uts;

	if (uname(&uts) < 0)
		return err_sys(e, "uname");
	h.kernel = span_str(uts.release);
	wire_put_hello(port_out(&a->port), a->epoch, &h);
	return 0;
}

static int watch_signals(struct agent *a, struct err *e)
{
	sigset_t all;

	(void)sigfillset(&all);
	if (sigprocmask(SIG_SETMASK, &all, NULL) < 0)
		return err_sys(e, "block signals");
	(void)sigemptyset(&all);
	(void)sigaddset(&all, SIGCHLD);
	a->signal_fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (a->signal_fd < 0)
		return err_sys(e, "signalfd");
	return agent_watch(a, a->signal_fd, EPOLLIN, AGENT_EV_SIGNAL, 0, 0, e);
}

/* The numbers children expect for their own ends (child.h) are never given to anything else. */
static int reserve_fds(struct err *e)
{
	int fd;

	do {
		int r = fd_open("/dev/null", O_RDWR, 0, &fd, e);

		if (r < 0)
			return r;
	} while (fd < CHILD_FIRST_FREE_FD - 1);
	return 0;
}

static void protect_self(void)
{
	int fd;

	if (fd_open("/proc/self/oom_score_adj", O_WRONLY, 0, &fd, NULL) == 0) {
		if (write(fd, "-1000", 5) != 5)
			log_warn("cannot protect the agent from running out of memory");
		(void)close(fd);
	}
}

static int watch_workload(struct agent *a, struct err *e)
{
	int r = cgroup_init(&a->cg, e);

	if (r == 0)
		r = cgroup_limit(&a->cg, 0, 0, e);
	if (r == 0)
		r = agent_watch(a, a->cg.memory_events_fd, EPOLLPRI, AGENT_EV_MEMORY, 0, 0, e);
	if (r == 0)
		r = agent_watch(a, a->cg.pids_events_fd, EPOLLPRI, AGENT_EV_PIDS, 0, 0, e);
	if (r == 0)
		r = agent_watch(a, a->cg.events_fd, EPOLLPRI, AGENT_EV_CGROUP, 0, 0, e);
	return r;
}

static int open_port(struct agent *a, struct err *e)
{
	int r = port_find("berm.agent", &a->port.fd, e);

	a->port.readable = a->port.writable = true;
	return r < 0 ? r : agent_watch(a, a->port.fd, EPOLLIN, AGENT_EV_PORT, 0, 0, e);
}

static int start(struct agent *a, struct err *e)
{
	int root;
	int r = port_init(&a->port, e);

	if (r == 0)
		r = boot_kernel_mounts(e);
	if (r == 0)
		r = reserve_fds(e);
	a->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (r == 0 && a->epoll_fd < 0)
		r = err_sys(e, "epoll_create1");
	if (r < 0)
		return r;
	/* the port's announcement arrives while the disks are mounted; without a port nobody can
	 * be told why they were not */
	root = a->rescue ? boot_rescue(&a->scratch_fd, e) : boot_root(&a->scratch_fd, e);
	if (root == 0 && a->rescue)
		root = workspace_find(&a->workspace, a->scratch_fd, e);
	r = open_port(a, root < 0 ? NULL : e);
	if (root < 0 || r < 0)
		return root < 0 ? root : r;
	boot_settings(a);
	protect_self();
	r = fd_open("/dev/urandom", O_RDWR, 0, &a->random_fd, e);
	if (r == 0)
		r = watch_signals(a, e);
	if (r == 0)
		r = watch_workload(a, e);
	if (r == 0)
		r = streams_init(a, e);
	if (r == 0)
		r = say_hello(a, e);
	return r;
}

/* What the kernel does not know itself of its command line. */
static bool has_word(int argc, char **argv, const char *word)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], word) == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	struct agent *a = calloc(1, sizeof(*a));
	struct err e = { 0 };

	log_init("berm-agent");
	if (!a) {
		log_error("out of memory");
		power_cut();
	}
	a->port.fd = a->epoll_fd = a->signal_fd = a->random_fd = a->scratch_fd = -1;
	a->epoch = 1;
	workspace_init(&a->workspace);
	a->rescue = has_word(argc, argv, WORKSPACE_RESCUE_WORD);
	if (start(a, &e) < 0)
		agent_die(a, WIRE_FATAL, e.text);
	stream_refill(a);
	serve(a);
}
