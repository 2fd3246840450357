#include "agent/collect.h"

#include "agent/agent.h"
#include "agent/export.h"
#include "agent/report.h"
#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

/* Descriptors of the agent's: a child has none of them, but may open what they are of. */
struct order {
	int events_fd, scratch_fd, upper_fd;
};

void collect_begin(struct agent *a, const struct wire_frame *f)
{
	const struct order o = { a->cg.events_fd, a->scratch_fd, a->workspace.upper_fd };
	struct wire_frame open = *f;
	struct err e = { 0 };

	a->frozen = true;
	if (cgroup_freeze(&a->cg, true, &e) < 0)
		log_warn("%s", e.text); /* the child says that it does not stop */
	open.payload = span_of(&o, sizeof(o));
	stream_open(a, &open);
}

static int open_agents(int fd, int flags, int *ret_fd, struct err *e)
{
	char path[40];

	(void)snprintf(path, sizeof(path), "/proc/1/fd/%d", fd);
	return fd_open(path, flags, 0, ret_fd, e);
}

static int await_rest(int events_fd, struct err *e)
{
	uint64_t until_ms = clock_mono_ms() + AGENT_FREEZE_MS;
	_own_fd_ int fd = -1;
	uint64_t frozen = 0;
	int r = open_agents(events_fd, O_RDONLY, &fd, e);

	while (r == 0 && cgroup_read_key(fd, "frozen", &frozen) && frozen == 0) {
		struct pollfd p = { .fd = fd, .events = POLLPRI };
		uint64_t now_ms = clock_mono_ms();

		if (now_ms >= until_ms)
			return err_set(e, -EBUSY, "a process of the workload does not stop");
		(void)poll(&p, 1, (int)(until_ms - now_ms));
	}
	return r;
}

/* Writes out all of it, and lets nobody write any more. */
static int freeze_disk(int scratch_fd, struct err *e)
{
	_own_fd_ int fd = -1;
	int r = open_agents(scratch_fd, O_RDONLY | O_DIRECTORY, &fd, e);

	if (r < 0)
		return r;
	if (ioctl(fd, (int)FIFREEZE, 0) < 0 && errno != EBUSY) /* it is, by an earlier COLLECT */
		return err_sys(e, "write out the scratch disk");
	return 0;
}

void collect_main(struct mail *mail)
{
	struct order o;
	struct err e = { 0 };

	if (mail->bytes != sizeof(o))
		report_end(EINVAL, WIRE_AT_SYSTEM, "no order that can be read");
	memcpy(&o, mail->payload, sizeof(o));
	if (o.upper_fd < 0)
		report_end(ENOENT, WIRE_AT_PATH, "this guest has no workspace");
	if (await_rest(o.events_fd, &e) < 0 || freeze_disk(o.scratch_fd, &e) < 0)
		report_err(&e, WIRE_AT_SYSTEM);
	export_main(o.upper_fd, &mail->answer);
}
