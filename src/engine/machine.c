#include "engine/machine.h"

#include "base/fdio.h"
#include "base/log.h"
#include "engine/engine.h"
#include "virtio/net.h"
#include "vmm/ctl.h"
#include "vmm/memory_file.h"
#include "vmm/state.h"
#include "vmm/vm.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MACHINE_FDS_MAX = 2, NOTIFY_OFFSET = 0x50 };

struct machine {
	struct machine_config c;
	struct vm *vm;
	struct loop *loop;
	struct virtio_dev *devs[SLOT_COUNT];
	int irq_fds[SLOT_COUNT];
	int end_fd;  /* written by a vCPU's thread when the machine has ended */
	int lost_fd; /* written by the I/O thread when the network card lost its gate */
	_Atomic(const char *) lost; /* why; static */
	bool paused, started;
	pthread_t io;
	const struct machine_jails *jails;
	int io_fd; /* eventfd: the I/O thread is in its jail, or failed */
	struct err io_err;
	uint8_t *state; /* STATE_BYTES_MAX; untouched until something is saved */
};

static void on_ended(void *arg)
{
	const struct machine *m = arg;
	const uint64_t one = 1;

	if (write(m->end_fd, &one, sizeof(one)) < 0)
		log_error("cannot tell that the machine ended: %m");
}

static void on_lost(void *arg, int code)
{
	const struct machine *m = arg;

	vm_lost(m->vm, code);
}

static void bus_read(void *arg, uint32_t off, void *ret, uint32_t len)
{
	virtio_mmio_read(arg, off, ret, len);
}

static void bus_write(void *arg, uint32_t off, const void *data, uint32_t len)
{
	virtio_mmio_write(arg, off, data, len);
}

/* On the I/O thread, which may not send. */
static void on_gate_lost(void *arg, const char *why)
{
	struct machine *m = arg;
	const uint64_t one = 1;

	log_warn("the network card is dead: %s", why);
	atomic_store(&m->lost, why);
	if (write(m->lost_fd, &one, sizeof(one)) < 0)
		log_error("cannot tell that the gate is lost: %m");
}

/* Does this machine have a device there? */
static bool has_slot(const struct machine *m, unsigned slot)
{
	if (slot == SLOT_NET)
		return m->c.net_fd >= 0;
	return slot != SLOT_WORKSPACE || m->c.workspace_fd >= 0;
}

static uint64_t slot_address(unsigned slot)
{
	return MMIO_BASE + (uint64_t)slot * MMIO_WINDOW_BYTES;
}

/* Puts a made device where the guest can reach it: its window, its interrupt line, and a doorbell
 * (MMIO_QUEUE_NOTIFY, which KVM answers by itself) for each queue. */
static int plug(struct machine *m, unsigned slot, struct err *e)
{
	struct virtio_dev *dev = m->devs[slot];
	const struct vm_bus window = {
		.start = slot_address(slot),
		.bytes = MMIO_WINDOW_BYTES,
		.read = bus_read,
		.write = bus_write,
		.arg = dev,
	};
	int r = vm_add_bus(m->vm, &window, e);

	if (r == 0)
		r = vm_bind_irq(m->vm, m->irq_fds[slot], MMIO_IRQ_FIRST + slot, e);
	for (unsigned q = 0; r == 0 && q < dev->queue_count; q++)
		r = vm_bind_store(m->vm, virtio_kick_fd(dev, q),
		                  gpa_of(slot_address(slot) + NOTIFY_OFFSET), q, e);
	return r;
}

/* Is memory a private mapping of a template's? */
static bool is_private(const struct machine_config *c)
{
	return c->restore && !c->copied;
}

/* Is there no file behind memory? */
static bool is_fresh(const struct machine_config *c)
{
	return c->ram_fd < 0 || c->copied;
}

static int make_card(struct machine *m, const struct virtio_place *at, struct err *e)
{
	const struct net_config nc = { .fd = m->c.net_fd, .mac = ENGINE_MAC };
	int r = net_new(at, &nc, &m->devs[SLOT_NET], e);
	if (r == 0)
		net_on_lost(m->devs[SLOT_NET], on_gate_lost, m);
	return r;
}

static int make_disk(int fd, const char *serial, bool read_only, const struct virtio_place *at,
                     struct virtio_dev **ret, struct err *e)
{
	const struct blk_config bc = { .fd = fd, .read_only = read_only, .serial = serial };

	return blk_new(at, &bc, ret, e);
}

static int make_device(struct machine *m, unsigned slot, const struct virtio_place *at,
                       struct err *e)
{
	const struct machine_config *c = &m->c;
	struct virtio_dev **ret = &m->devs[slot];

	switch ((enum machine_slot)slot) {
	case SLOT_CONSOLE:
		return console_new(
			at,
			&(struct console_config){ .log_fd = c->log_fd, .agent_fd = c->agent_fd },
			ret, e);
	case SLOT_IMAGE:
		return make_disk(c->image_fd, "image", true, at, ret, e);
	case SLOT_SCRATCH:
		return make_disk(c->scratch_fd, "scratch", false, at, ret, e);
	case SLOT_WORKSPACE:
		return make_disk(c->workspace_fd, "workspace", true, at, ret, e);
	case SLOT_RNG:
		return rng_new(at, ret, e);
	case SLOT_BALLOON:
		return balloon_new(at,
		                   &(struct balloon_config){ .mem_private = is_private(c),
		                                             .mem_fresh = is_fresh(c) },
		                   ret, e);
	case SLOT_NET:
		return make_card(m, at, e);
	case SLOT_COUNT:
		break;
	}
	return err_set(e, -EINVAL, "no device has slot %u", slot);
}

static int make_devices(struct machine *m, struct err *e)
{
	for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
		struct virtio_place at = { .mem = vm_mem(m->vm), .loop = m->loop };
		int r;

		if (!has_slot(m, slot))
			continue;
		m->irq_fds[slot] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (m->irq_fds[slot] < 0)
			return err_sys(e, "eventfd");
		at.irq_fd = m->irq_fds[slot];
		r = make_device(m, slot, &at, e);
		if (r < 0)
			return r;
		m->devs[slot]->lost = on_lost;
		m->devs[slot]->lost_arg = m;
		r = plug(m, slot, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int machine_new(const struct machine_config *c, struct machine **ret, struct err *e)
{
	_own_(machine_free) struct machine *m = calloc(1, sizeof(*m));
	struct vm_config vc = {
		.kvm_fd = c->kvm_fd,
		.ram_fd = is_fresh(c) ? -1 : c->ram_fd,
		.ram_bytes = c->ram_bytes,
		.ram_shared = !c->restore && !is_fresh(c),
		.cpus = c->cpus,
		.host_cpu = c->host_cpu,
		.ended = on_ended,
	};
	int r;

	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	m->c = *c;
	m->end_fd = m->lost_fd = m->io_fd = -1;
	for (unsigned i = 0; i < SLOT_COUNT; i++)
		m->irq_fds[i] = -1;
	m->state = malloc(STATE_BYTES_MAX);
	if (!m->state)
		return err_set(e, -ENOMEM, "out of memory");
	m->end_fd = eventfd(0, EFD_CLOEXEC);
	m->lost_fd = eventfd(0, EFD_CLOEXEC);
	m->io_fd = eventfd(0, EFD_CLOEXEC);
	if (m->end_fd < 0 || m->lost_fd < 0 || m->io_fd < 0)
		return err_sys(e, "eventfd");
	vc.arg = m;
	r = fd_set_nonblock(c->agent_fd);
	if (r == 0)
		r = fd_set_nonblock(c->log_fd);
	if (r == 0 && c->net_fd >= 0)
		r = fd_set_nonblock(c->net_fd);
	if (r < 0)
		return err_set(e, r, "the agent's socket, the gate's or the log cannot be used");
	r = vm_new(&vc, &m->vm, e);
	if (r == 0)
		r = loop_new(&m->loop, e);
	if (r == 0)
		r = make_devices(m, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&m);
	return 0;
}

void machine_free(struct machine *m)
{
	if (!m)
		return;
	/* CPUs first: they may be waiting for the I/O thread */
	if (m->vm && m->started)
		vm_stop(m->vm);
	if (m->started) {
		loop_stop(m->loop);
		(void)pthread_join(m->io, NULL);
	}
	for (unsigned i = 0; i < SLOT_COUNT; i++) {
		virtio_dev_free(m->devs[i]);
		own_close_fd(&m->irq_fds[i]);
	}
	loop_free(m->loop);
	vm_free(m->vm);
	own_close_fd(&m->end_fd);
	own_close_fd(&m->lost_fd);
	own_close_fd(&m->io_fd);
	free(m->state);
	free(m);
}

int machine_boot(struct machine *m, int kernel_fd, int initrd_fd, const char *cmdline,
                 struct err *e)
{
	char text[VM_CMDLINE_MAX];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	buf_put_str(&b, cmdline);
	for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
		if (has_slot(m, slot))
			buf_printf(&b, " virtio_mmio.device=4K@0x%" PRIx64 ":%u",
			           slot_address(slot), MMIO_IRQ_FIRST + slot);
	(void)buf_cstr(&b);
	if (!buf_ok(&b))
		return err_set(e, -E2BIG, "the kernel command line is over %d bytes",
		               VM_CMDLINE_MAX);
	return vm_boot(m->vm, kernel_fd, initrd_fd, text, e);
}

/* --- saved state --- */

static int load_device(struct machine *m, const struct state_section *s, bool seen[SLOT_COUNT],
                       struct err *e)
{
	if (s->instance >= SLOT_COUNT || seen[s->instance] || !has_slot(m, s->instance))
		return err_set(e, -EBADMSG, "it has a device in slot %" PRIu32, s->instance);
	seen[s->instance] = true;
	return virtio_load(m->devs[s->instance], s->payload, e);
}

static bool map_for_guest(void *arg, struct gpa at, uint64_t bytes)
{
	return vm_prefault(arg, at, bytes);
}

static int bring_in(struct machine *m, struct span wset, struct err *e)
{
	const struct memory_visitor visitor = { map_for_guest, m->vm };

	return memory_populate(vm_mem(m->vm), wset, &visitor, e);
}

static int load_section(struct machine *m, const struct state_section *s, bool seen[SLOT_COUNT],
                        struct err *e)
{
	switch ((enum state_type)s->type) {
	case STATE_DEVICE:
		return load_device(m, s, seen, e);
	case STATE_HOST:
	case STATE_MACHINE:
	case STATE_VM:
	case STATE_VCPU:
		return vm_load_section(m->vm, s, e);
	case STATE_WSET:
		return bring_in(m, s->payload, e);
	case STATE_MEMORY:
	case STATE_END:
		return 0;
	case STATE_TYPE_COUNT:
		break;
	}
	if (s->flags & STATE_CRITICAL)
		return err_set(e, -ENOTSUP,
		               "it has a section %" PRIu32 " that this berm does not know",
		               s->type);
	return 0;
}

static int load_all(struct machine *m, struct span in, struct err *e)
{
	bool seen[SLOT_COUNT] = { false };
	struct state_section s = { 0 };
	uint32_t count;
	int r = state_parse_header(&in, &count);

	if (r == -ENOTSUP)
		return err_set(e, r, "it was saved by another version of berm");
	while (r == 0 && s.type != STATE_END) {
		r = state_parse_section(&in, &s);
		if (r == 0)
			r = load_section(m, &s, seen, e);
		if (r < 0 && e->code == 0)
			return err_set(e, -EBADMSG, "it is damaged");
	}
	if (r < 0)
		return e->code ? r : err_set(e, -EBADMSG, "it is no saved machine");
	if (in.len > 0)
		return err_set(e, -EBADMSG, "something follows its end");
	for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
		if (has_slot(m, slot) && !seen[slot])
			return err_set(e, -EBADMSG, "it lacks the device of slot %u", slot);
	return vm_load_done(m->vm, e);
}

int machine_restore(struct machine *m, int state_fd, struct err *e)
{
	ssize_t n = pread(state_fd, m->state, STATE_BYTES_MAX, 0);
	int r;

	if (n < 0)
		return err_sys(e, "read the saved state");
	if (n == STATE_BYTES_MAX)
		return err_set(e, -E2BIG, "the saved state is over %d bytes", STATE_BYTES_MAX);
	m->paused = true;
	/* before the state: its clock runs from when it is loaded */
	r = m->c.copied ? memory_load(vm_mem(m->vm), m->c.ram_fd, e) : 0;
	if (r < 0)
		return r;
	r = load_all(m, span_of(m->state, (size_t)n), e);
	return r < 0 ? err_wrap(e, "the saved state cannot be used") : 0;
}

void machine_populate(struct machine *m, int wset_fd)
{
	struct err e = { 0 };
	ssize_t n = pread(wset_fd, m->state, STATE_BYTES_MAX, 0);

	if (n < 0)
		(void)err_sys(&e, "read the working set");
	else if (n == 0 || bring_in(m, span_of(m->state, (size_t)n), &e) == 0)
		return;
	log_warn("the guest starts without its first pages: %s", e.text);
}

/* --- on the I/O thread, asked by control --- */

static void pause_devices(void *arg)
{
	struct machine *m = arg;

	for (unsigned i = 0; i < SLOT_COUNT; i++)
		if (has_slot(m, i))
			virtio_pause(m->devs[i]);
}

static void resume_devices(void *arg)
{
	struct machine *m = arg;

	for (unsigned i = 0; i < SLOT_COUNT; i++)
		if (has_slot(m, i))
			virtio_resume(m->devs[i]);
}

static int pause_all(struct machine *m, struct err *e)
{
	int r;

	if (m->paused)
		return 0;
	r = vm_pause(m->vm, e);
	if (r < 0)
		return r;
	loop_call(m->loop, pause_devices, m);
	m->paused = true;
	return 0;
}

static void resume_all(struct machine *m)
{
	if (!m->paused)
		return;
	loop_call(m->loop, resume_devices, m);
	vm_resume(m->vm);
	m->paused = false;
}

/* What the balloon has put in the template's place is not the template's. */
static bool page_replaced(const void *arg, struct gpa at)
{
	const struct machine *m = arg;

	return balloon_has_replaced(m->devs[SLOT_BALLOON], at);
}

static int save_all(struct machine *m, int state_fd, int memory_fd, struct err *e)
{
	const struct memory_base base = {
		.fd = m->c.ram_fd,
		.replaced = page_replaced,
		.arg = m,
	};
	char text[VM_END_TEXT_MAX];
	struct buf b;
	int r;

	if (!m->paused)
		return err_set(e, -EINVAL, "the machine runs: pause it first");
	/* its disk may have been full while it came to rest, and a request is not in the state */
	if (vm_end(m->vm, text) != VM_RUNNING)
		return err_set(e, -ESHUTDOWN, "the machine has ended: %s", text);
	buf_init(&b, m->state, STATE_BYTES_MAX);
	state_put_header(&b);
	r = vm_save(m->vm, &b, e);
	if (r < 0)
		return r;
	for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
		size_t begun;

		if (!has_slot(m, slot))
			continue;
		begun = state_begin(&b, STATE_DEVICE, STATE_CRITICAL, slot);
		virtio_save(m->devs[slot], &b);
		state_end(&b, begun);
	}
	if (!state_finish(&b))
		return err_set(e, -E2BIG, "the state is over %d bytes", STATE_BYTES_MAX);
	r = fd_write_all(state_fd, b.at, b.len, e);
	if (r == 0 && memory_fd >= 0)
		r = memory_save(vm_mem(m->vm), is_private(&m->c) ? &base : NULL, memory_fd, e);
	return r;
}

/* The guest may run on: a page used meanwhile is in it or is not. */
static int put_touched(struct machine *m, int fd, struct err *e)
{
	struct buf b;
	int r;

	buf_init(&b, m->state, STATE_BYTES_MAX);
	r = memory_touched(vm_mem(m->vm), &b, e);
	return r == 0 ? fd_write_all(fd, b.at, b.len, e) : r;
}

/* --- the control socket --- */

static void put_stats(const struct machine *m, struct ctl *answer)
{
	struct vm_counts v;

	vm_get_counts(m->vm, &v);
	answer->a[CTL_EXITS] = v.exits;
	answer->a[CTL_EXITS_MMIO] = v.exits_mmio;
	answer->a[CTL_EXITS_PIO] = v.exits_pio;
	answer->a[CTL_EXITS_HALT] = v.exits_halt;
	for (unsigned i = 0; i < SLOT_COUNT; i++) {
		struct virtio_counts d;

		if (!has_slot(m, i))
			continue;
		virtio_get_counts(m->devs[i], &d);
		answer->a[CTL_KICKS] += d.kicks;
		answer->a[CTL_INTERRUPTS] += d.interrupts;
	}
}

struct balloon_order {
	struct virtio_dev *dev;
	uint32_t pages;
};

static void order_balloon(void *arg)
{
	const struct balloon_order *o = arg;

	balloon_set_target(o->dev, o->pages);
}

static int do_request(struct machine *m, const struct ctl *c, const int fds[MACHINE_FDS_MAX],
                      struct ctl *answer, struct err *e)
{
	switch ((enum ctl_type)c->type) {
	case CTL_RESUME:
		resume_all(m);
		return 0;
	case CTL_PAUSE:
		return pause_all(m, e);
	case CTL_SAVE:
		if (fds[0] < 0)
			return err_set(e, -EINVAL, "a save needs an fd");
		return save_all(m, fds[0], fds[1], e);
	case CTL_TOUCHED:
		if (fds[0] < 0)
			return err_set(e, -EINVAL, "a working set needs an fd");
		return put_touched(m, fds[0], e);
	case CTL_STATS:
		put_stats(m, answer);
		return 0;
	case CTL_BALLOON: {
		struct balloon_order o = { m->devs[SLOT_BALLOON],
			                   (uint32_t)(c->a[0] < UINT32_MAX ? c->a[0]
			                                                   : UINT32_MAX) };

		loop_call(m->loop, order_balloon, &o);
		return 0;
	}
	case CTL_QUIT:
		return 0;
	case CTL_DONE:
	case CTL_ENDED:
	case CTL_GATE_LOST:
		break;
	}
	return err_set(e, -EINVAL, "request %u is not known", c->type);
}

/* One packet and the fds that came with it. -EAGAIN: nothing yet; -EPIPE: the starter is gone. */
static int receive(int fd, struct ctl *ret, int fds[MACHINE_FDS_MAX], struct err *e)
{
	uint8_t bytes[CTL_BYTES + 1];
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(MACHINE_FDS_MAX * sizeof(int))];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	struct msghdr msg = { .msg_iov = &iov,
		              .msg_iovlen = 1,
		              .msg_control = room,
		              .msg_controllen = sizeof(room) };
	ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return -EAGAIN;
	if (n <= 0)
		return -EPIPE;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&msg); h; h = CMSG_NXTHDR(&msg, h)) {
		size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
			memcpy(fds, CMSG_DATA(h),
			       (count < MACHINE_FDS_MAX ? count : MACHINE_FDS_MAX) * sizeof(int));
	}
	if (ctl_parse(span_of(bytes, (size_t)n), ret) < 0)
		return err_set(e, -EPROTO, "whoever started this machine broke the protocol");
	return 0;
}

/* Never waits: it is said again behind the next answer. */
static void tell_gate_lost(const struct machine *m)
{
	const char *why = atomic_load(&m->lost);
	struct ctl c = { .type = CTL_GATE_LOST };
	uint8_t bytes[CTL_BYTES];

	if (!why)
		return;
	ctl_set_text(&c, why);
	ctl_put(&c, bytes);
	(void)send(m->c.control_fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* 1: asked to quit. */
static int serve_request(struct machine *m, struct err *e)
{
	int fds[MACHINE_FDS_MAX] = { -1, -1 };
	struct ctl answer = { .type = CTL_DONE };
	struct err why = { 0 };
	uint8_t bytes[CTL_BYTES];
	struct ctl c;
	int r = receive(m->c.control_fd, &c, fds, e);

	if (r < 0)
		return r == -EAGAIN ? 0 : r;
	answer.seq = c.seq;
	answer.code = do_request(m, &c, fds, &answer, &why);
	answer.text_len = why.len < CTL_TEXT_MAX ? why.len : CTL_TEXT_MAX;
	memcpy(answer.text, why.text, answer.text_len);
	for (unsigned i = 0; i < MACHINE_FDS_MAX; i++)
		own_close_fd(&fds[i]);
	ctl_put(&answer, bytes);
	if (send(m->c.control_fd, bytes, sizeof(bytes), MSG_NOSIGNAL) < 0)
		return -EPIPE;
	if (c.type == CTL_QUIT)
		return 1;
	tell_gate_lost(m);
	return 0;
}

static int tell_end(struct machine *m, struct err *e)
{
	struct ctl c = { .type = CTL_ENDED };
	char text[VM_END_TEXT_MAX];
	char where[VM_WHERE_MAX];
	uint8_t bytes[CTL_BYTES];
	enum vm_end end = vm_end(m->vm, text);

	vm_where(m->vm, where);
	c.a[0] = end;
	c.text_len = (uint16_t)strnlen(text, sizeof(text));
	memcpy(c.text, text, c.text_len);
	ctl_put(&c, bytes);
	(void)send(m->c.control_fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
	if (end == VM_END_RESET || end == VM_END_STOPPED)
		return 0;
	return err_set(e, -EIO, "the guest's machine stopped (%s): %s%s%s", vm_end_name(end), text,
	               where[0] ? " " : "", where);
}

int machine_serve(struct machine *m, struct err *e)
{
	for (;;) {
		struct pollfd p[3] = {
			{ .fd = m->c.control_fd, .events = POLLIN },
			{ .fd = m->end_fd, .events = POLLIN },
			{ .fd = m->lost_fd, .events = POLLIN },
		};
		uint64_t once;
		int r;

		if (poll(p, 3, -1) < 0 && errno != EINTR)
			return err_sys(e, "poll");
		if (p[1].revents & POLLIN)
			return tell_end(m, e);
		if ((p[2].revents & POLLIN) && read(m->lost_fd, &once, sizeof(once)) > 0)
			tell_gate_lost(m);
		if (!p[0].revents)
			continue;
		r = serve_request(m, e);
		if (r == 1 || r == -EPIPE)
			return 0;
		if (r < 0)
			return r;
	}
}

/* --- threads --- */

static void *io_main(void *arg)
{
	struct machine *m = arg;
	const uint64_t one = 1;
	int r = m->jails->io(NULL, &m->io_err);

	if (write(m->io_fd, &one, sizeof(one)) < 0 || r < 0)
		return NULL;
	if (loop_run(m->loop, &m->io_err) < 0) {
		log_error("the I/O thread: %s", m->io_err.text);
		on_ended(m);
	}
	return NULL;
}

static int await_io_jail(struct machine *m, struct err *e)
{
	uint64_t ready;

	if (read(m->io_fd, &ready, sizeof(ready)) < 0)
		return err_sys(e, "wait for the I/O thread");
	if (m->io_err.code == 0)
		return 0;
	*e = m->io_err;
	return e->code;
}

int machine_start(struct machine *m, const struct machine_jails *jails, struct err *e)
{
	int r;

	assert(jails && jails->cpu && jails->io);
	m->jails = jails;
	if (pthread_create(&m->io, NULL, io_main, m) != 0)
		return err_set(e, -EAGAIN, "cannot start the I/O thread");
	m->started = true;
	/* a restored guest waits for CTL_RESUME: the threads may close their jails side by side */
	r = m->paused ? 0 : await_io_jail(m, e);
	if (r == 0)
		r = vm_start(m->vm, jails->cpu, NULL, m->paused, e);
	return r == 0 && m->paused ? await_io_jail(m, e) : r;
}
