#include "engine/kvm.h"

#include "base/clock.h"
#include "base/spawn.h"
#include "vmm/ctl.h"
#include "vmm/vm.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CTL_FDS_MAX = 2 };

static int build_args(struct engine_args *a, const struct engine_config *c, const char *program,
                      struct err *e)
{
	engine_add(a, "%s", program);
	engine_add(a, "--memory");
	engine_add(a, "%" PRIu64, c->ram_bytes >> 20);
	engine_add(a, "--cpus");
	engine_add(a, "%" PRIu32, c->cpus);
	if (c->host_cpu)
		engine_add(a, "--host-cpu");
	if (c->net_fd >= 0)
		engine_add(a, "--net");
	if (c->workspace_fd >= 0)
		engine_add(a, "--workspace");
	if (c->uid > 0) {
		engine_add(a, "--uid");
		engine_add(a, "%u", (unsigned)c->uid);
	}
	if (c->incoming_fd >= 0) {
		engine_add(a, "--restore");
		if (c->ram_copied)
			engine_add(a, "--copied");
		else if (c->wset_fd >= 0)
			engine_add(a, "--wset");
	} else {
		if (c->ram_fd < 0)
			engine_add(a, "--fresh");
		engine_add(a, "--cmdline");
		/* our monitor has a keyboard controller's reset line, and no other reset */
		engine_add(a, "%s reboot=k", c->cmdline);
	}
	a->list[a->count] = NULL;
	if (a->over)
		return err_set(e, -E2BIG, "the kernel command line is too long");
	return 0;
}

static void place_fds(struct spawn *s, const struct engine_config *c)
{
	bool restore = c->incoming_fd >= 0;

	for (int i = 0; i < KVM_AT_COUNT; i++)
		s->fds[i] = -1;
	s->fds[KVM_AT_RAM] = c->ram_fd;
	s->fds[KVM_AT_IMAGE] = c->image_fd;
	s->fds[KVM_AT_SCRATCH] = c->scratch_fd;
	s->fds[KVM_AT_INCOMING] = restore ? c->incoming_fd : c->kernel_fd;
	s->fds[KVM_AT_INITRD] = restore ? -1 : c->initrd_fd;
	s->fds[KVM_AT_KVM] = c->kvm_fd;
	s->fds[KVM_AT_WSET] = restore ? c->wset_fd : -1;
	s->fds[KVM_AT_NET] = c->net_fd;
	s->fds[KVM_AT_WORKSPACE] = c->workspace_fd;
}

static int kvm_start(const struct engine_config *c, struct engine_vm *ret_vm, struct err *e)
{
	_own_(engine_vm_close) struct engine_vm vm;
	_own_fd_ int agent = -1;
	_own_fd_ int control = -1;
	_own_fd_ int log = -1;
	char program[PATH_MAX];
	struct engine_args args = { .count = 0 };
	struct spawn s = { .fd_count = KVM_AT_COUNT, .own_session = true, .own_pids = true };
	int r;

	assert(c->ram_bytes % (1 << 20) == 0);
	engine_vm_init(&vm);
	if (snprintf(program, sizeof(program), "%s/berm-vmm", c->libexec) >= (int)sizeof(program))
		return err_set(e, -ENAMETOOLONG, "the path of berm-vmm is too long");
	r = build_args(&args, c, program, e);
	if (r == 0)
		r = engine_pair(SOCK_STREAM, &vm.agent_fd, &agent, e);
	if (r == 0)
		r = engine_pair(SOCK_SEQPACKET, &vm.control_fd, &control, e);
	if (r == 0)
		r = engine_pipe(&vm.log_fd, &log, e);
	if (r < 0)
		return r;
	place_fds(&s, c);
	s.path = program;
	s.argv = args.list;
	s.fds[1] = s.fds[2] = log;
	s.fds[KVM_AT_AGENT] = agent;
	s.fds[KVM_AT_CONTROL] = control;
	r = spawn_child(&s, &vm.pid, &vm.pidfd, e);
	if (r < 0)
		return r;
	vm.ops = &engine_kvm;
	*ret_vm = vm;
	engine_vm_init(&vm);
	return 0;
}

static int send_request(const struct engine_vm *vm, const struct ctl *c, const int *fds,
                        unsigned fd_count, struct err *e)
{
	uint8_t bytes[CTL_BYTES];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(CTL_FDS_MAX * sizeof(int))] = { 0 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	assert(fd_count <= CTL_FDS_MAX);
	ctl_put(c, bytes);
	if (fd_count > 0) {
		struct cmsghdr *h;

		m.msg_control = room;
		m.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(h), fds, fd_count * sizeof(int));
	}
	if (sendmsg(vm->control_fd, &m, MSG_NOSIGNAL) < 0)
		return errno == EPIPE || errno == ECONNRESET
		               ? err_set(e, -EPIPE, "the machine ended")
		               : err_sys(e, "tell the machine");
	return 0;
}

/* The answer to `seq`. The machine's own word of its end stays there, for kvm_hush(). */
static int await_answer(const struct engine_vm *vm, uint32_t seq, uint64_t deadline_ms,
                        struct ctl *ret, struct err *e)
{
	for (;;) {
		struct pollfd p = { .fd = vm->control_fd, .events = POLLIN };
		uint64_t now = clock_mono_ms();
		uint8_t bytes[CTL_BYTES + 1];
		ssize_t n;

		if (now >= deadline_ms || poll(&p, 1, (int)(deadline_ms - now)) == 0)
			return err_set(e, -ETIMEDOUT, "the machine does not answer");
		n = recv(vm->control_fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_TRUNC | MSG_PEEK);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			return err_set(e, -EPIPE, "the machine ended");
		if ((size_t)n > sizeof(bytes) || ctl_parse(span_of(bytes, (size_t)n), ret) < 0)
			return err_set(e, -EPROTO, "the machine's monitor broke the protocol");
		if (ret->type == CTL_ENDED)
			return err_set(e, -EPIPE, "the machine ended");
		(void)recv(vm->control_fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (ret->type == CTL_DONE && ret->seq == seq)
			return ret->code < 0 ? err_set(e, ret->code, "%.*s", (int)ret->text_len,
			                               ret->text)
			                     : 0;
	}
}

static int ask(const struct engine_vm *vm, uint8_t type, const int *fds, unsigned fd_count,
               uint64_t deadline_ms, struct err *e)
{
	const struct ctl c = { .type = type, .seq = type };
	struct ctl answer;
	int r = send_request(vm, &c, fds, fd_count, e);

	return r == 0 ? await_answer(vm, c.seq, deadline_ms, &answer, e) : r;
}

static int kvm_go(const struct engine_vm *vm, struct err *e)
{
	const struct ctl c = { .type = CTL_RESUME, .seq = 0 };

	return send_request(vm, &c, NULL, 0, e);
}

static int kvm_pause(const struct engine_vm *vm, uint64_t deadline_ms, struct err *e)
{
	return ask(vm, CTL_PAUSE, NULL, 0, deadline_ms, e);
}

static int kvm_resume(const struct engine_vm *vm, uint64_t deadline_ms, struct err *e)
{
	return ask(vm, CTL_RESUME, NULL, 0, deadline_ms, e);
}

static int kvm_save(const struct engine_vm *vm, int state_fd, uint64_t deadline_ms, struct err *e)
{
	int r = kvm_pause(vm, deadline_ms, e);

	return r == 0 ? ask(vm, CTL_SAVE, &state_fd, 1, deadline_ms, e) : r;
}

static int kvm_snapshot(const struct engine_vm *vm, int state_fd, int ram_fd, uint64_t deadline_ms,
                        struct err *e)
{
	const int fds[CTL_FDS_MAX] = { state_fd, ram_fd };

	return ask(vm, CTL_SAVE, fds, CTL_FDS_MAX, deadline_ms, e);
}

static int kvm_touched(const struct engine_vm *vm, int fd, uint64_t deadline_ms, struct err *e)
{
	return ask(vm, CTL_TOUCHED, &fd, 1, deadline_ms, e);
}

/* Answers to what nobody waits for, the machine's end, and that of its card. */
static bool kvm_hush(const struct engine_vm *vm, struct engine_news *ret_news)
{
	uint8_t bytes[CTL_BYTES + 1];
	struct ctl c;
	ssize_t n = recv(vm->control_fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n <= 0)
		return false;
	if (ctl_parse(span_of(bytes, (size_t)n), &c) < 0)
		return true;
	if (c.type == CTL_ENDED && c.a[0] == VM_END_FULL)
		ret_news->full = true;
	if (c.type == CTL_GATE_LOST)
		ret_news->gate_lost = true;
	return true;
}

const struct engine_ops engine_kvm = {
	.id = ENGINE_KVM,
	.name = "kvm",
	.words = "berm-vmm",
	.hardware = true,
	.overhead_bytes = KVM_OVERHEAD_BYTES,
	.pids = KVM_PIDS,
	.start = kvm_start,
	.go = kvm_go,
	.save = kvm_save,
	.pause = kvm_pause,
	.snapshot = kvm_snapshot,
	.resume = kvm_resume,
	.touched = kvm_touched,
	.hush = kvm_hush,
};
