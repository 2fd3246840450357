#include "engine/qemu.h"

#include "base/buf.h"
#include "base/fdio.h"
#include "base/spawn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>

/* fd numbers inside berm-qemu and QEMU; fdset numbers are the same. 0 to 2 are stdio. */
enum {
	AT_AGENT = 3,
	AT_CONTROL = 4,
	AT_RAM = 5,
	AT_IMAGE = 6,
	AT_SCRATCH = 7,
	AT_INCOMING = QEMU_INCOMING_FD, /* or the kernel */
	AT_INITRD = 9,
	AT_COUNT = 10,
};

/*
 * Translated code the software CPU keeps. A boot fills 20 MiB; Python and git stay well below 64.
 */
enum { TCG_CACHE_MIB = 64 };

struct args {
	const char *list[QEMU_ARGS_MAX + 1];
	size_t count;
	struct buf text;
	char storage[QEMU_ARG_BYTES_MAX];
};

static void add(struct args *a, const char *fmt, ...) _printf_(2, 3);

static void add(struct args *a, const char *fmt, ...)
{
	char word[QEMU_CMDLINE_MAX + 64];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(word, sizeof(word), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(word) || a->count >= QEMU_ARGS_MAX) {
		a->text.over = true;
		return;
	}
	a->list[a->count++] = (const char *)a->text.at + a->text.len;
	buf_put(&a->text, word, (size_t)n + 1);
}

static void add_machine(struct args *a, const struct qemu_config *c)
{
	uint64_t mib = c->ram_bytes >> 20;

	add(a, "-nodefaults");
	add(a, "-no-user-config");
	add(a, "-no-reboot");
	add(a, "-display");
	add(a, "none");
	add(a, "-sandbox");
	add(a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	add(a, "-M");
	add(a, "microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=off,memory-backend=ram");
	add(a, "-object");
	add(a, "memory-backend-file,id=ram,size=%" PRIu64 "M,mem-path=/dev/berm-ram,share=%s", mib,
	    c->ram_shared ? "on" : "off");
	add(a, "-m");
	add(a, "%" PRIu64 "M", mib);
	add(a, "-smp");
	add(a, "%" PRIu32, c->cpus);
	add(a, "-accel");
	if (c->kvm)
		add(a, "kvm");
	else
		add(a, "tcg,thread=multi,tb-size=%d", TCG_CACHE_MIB);
	/*
	 * Without erms and fsrm nobody copies with "rep movsb", which is emulated byte by byte;
	 * smap would keep a second set of TLB entries. docs/internals/kernel.md has the figures.
	 */
	add(a, "-cpu");
	add(a, "%s", c->kvm ? "host" : "max,-erms,-fsrm,-smap");
	add(a, "-global");
	add(a, "virtio-mmio.force-legacy=false");
}

static void add_disk(struct args *a, const char *name, int fd, bool read_only)
{
	add(a, "-add-fd");
	add(a, "fd=%d,set=%d", fd, fd);
	add(a, "-blockdev");
	add(a,
	    "driver=file,node-name=%s-file,filename=/dev/fdset/%d,locking=off,read-only=%s,"
	    "discard=unmap",
	    name, fd, read_only ? "on" : "off");
	/* the format is named, never guessed: a guest could write another format's header */
	add(a, "-blockdev");
	add(a, "driver=raw,node-name=%s,file=%s-file,read-only=%s,discard=unmap", name, name,
	    read_only ? "on" : "off");
	add(a, "-device");
	add(a, "virtio-blk-device,drive=%s", name);
}

/* Saving and restoring are told over QMP; a plain boot has no control socket at all. */
static bool wants_control(const struct qemu_config *c)
{
	return c->ram_shared || c->incoming_fd >= 0;
}

static void add_console(struct args *a, const struct qemu_config *c)
{
	add(a, "-chardev");
	add(a, "stdio,id=log,signal=off,mux=off");
	add(a, "-chardev");
	add(a, "socket,id=agent,fd=%d", AT_AGENT);
	add(a, "-device");
	add(a, "virtio-serial-device,max_ports=2");
	add(a, "-device");
	add(a, "virtconsole,chardev=log,nr=0");
	add(a, "-device");
	add(a, "virtserialport,chardev=agent,name=berm.agent,nr=1");
	if (wants_control(c)) {
		add(a, "-chardev");
		add(a, "socket,id=control,fd=%d", AT_CONTROL);
		add(a, "-mon");
		add(a, "chardev=control,mode=control");
	}
}

static void add_start(struct args *a, const struct qemu_config *c)
{
	/*
	 * A restore waits for qmp_restore(), which names the capability the stream was saved with.
	 * It needs no kernel: that is in the RAM file, and not loading it again saves 20 ms.
	 */
	if (c->incoming_fd >= 0) {
		add(a, "-incoming");
		add(a, "defer");
		return;
	}
	add(a, "-kernel");
	add(a, "/dev/berm-fd/%d", AT_INCOMING);
	add(a, "-initrd");
	add(a, "/dev/berm-fd/%d", AT_INITRD);
	add(a, "-append");
	add(a, "%s", c->cmdline);
}

static int build_args(struct args *a, const struct qemu_config *c, const char *launcher,
                      struct err *e)
{
	buf_init(&a->text, a->storage, sizeof(a->storage));
	add(a, "%s", launcher);
	add(a, "--ram-fd");
	add(a, "%d", AT_RAM);
	if (c->uid > 0) {
		add(a, "--uid");
		add(a, "%u", (unsigned)c->uid);
	}
	if (c->kvm)
		add(a, "--kvm");
	add(a, "--qemu");
	add(a, "%s", c->program);
	add(a, "--");
	add_machine(a, c);
	add_console(a, c);
	add_disk(a, "image", AT_IMAGE, true);
	add_disk(a, "scratch", AT_SCRATCH, false);
	add_start(a, c);
	a->list[a->count] = NULL;
	if (!buf_ok(&a->text))
		return err_set(e, -E2BIG, "the kernel command line is too long");
	return 0;
}

static int make_pipe(int *ret_read, int *ret_write, struct err *e)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, "pipe");
	*ret_read = fds[0];
	*ret_write = fds[1];
	return 0;
}

static int make_pair(int *ret_ours, int *ret_theirs, struct err *e)
{
	int fds[2];
	int r = fd_socketpair(fds, e);

	if (r < 0)
		return r;
	*ret_ours = fds[0];
	*ret_theirs = fds[1];
	return 0;
}

int qemu_start(const struct qemu_config *c, struct qemu_vm *ret_vm, struct err *e)
{
	_own_(qemu_vm_close) struct qemu_vm vm;
	_own_fd_ int agent = -1;
	_own_fd_ int control = -1;
	_own_fd_ int log = -1;
	char launcher[PATH_MAX];
	struct args args = { .count = 0 };
	struct spawn s = { .fd_count = AT_COUNT, .own_session = true };
	int r;

	assert(c->ram_bytes % (1 << 20) == 0);
	qemu_vm_init(&vm);
	if (snprintf(launcher, sizeof(launcher), "%s/berm-qemu", c->libexec) >=
	    (int)sizeof(launcher))
		return err_set(e, -ENAMETOOLONG, "the path of berm-qemu is too long");
	r = build_args(&args, c, launcher, e);
	if (r == 0)
		r = make_pair(&vm.agent_fd, &agent, e);
	if (r == 0 && wants_control(c))
		r = make_pair(&vm.control_fd, &control, e);
	if (r == 0)
		r = make_pipe(&vm.log_fd, &log, e);
	if (r < 0)
		return r;
	s.path = launcher;
	s.argv = args.list;
	for (int i = 0; i < AT_COUNT; i++)
		s.fds[i] = -1;
	s.fds[1] = s.fds[2] = log;
	s.fds[AT_AGENT] = agent;
	s.fds[AT_CONTROL] = control;
	s.fds[AT_RAM] = c->ram_fd;
	s.fds[AT_IMAGE] = c->image_fd;
	s.fds[AT_SCRATCH] = c->scratch_fd;
	s.fds[AT_INCOMING] = c->incoming_fd >= 0 ? c->incoming_fd : c->kernel_fd;
	s.fds[AT_INITRD] = c->incoming_fd >= 0 ? -1 : c->initrd_fd;
	r = spawn_child(&s, &vm.pid, &vm.pidfd, e);
	if (r < 0)
		return r;
	*ret_vm = vm;
	qemu_vm_init(&vm);
	return 0;
}

void qemu_vm_init(struct qemu_vm *vm)
{
	*vm = (struct qemu_vm){
		.pid = -1, .pidfd = -1, .agent_fd = -1, .control_fd = -1, .log_fd = -1
	};
}

static void close_one(int *fd)
{
	if (*fd >= 0)
		(void)close(steal_fd(fd));
}

void qemu_vm_close(struct qemu_vm *vm)
{
	if (vm->pid > 0) {
		(void)kill(vm->pid, SIGKILL);
		while (waitpid(vm->pid, NULL, 0) < 0 && errno == EINTR)
			;
		vm->pid = -1;
	}
	close_one(&vm->pidfd);
	close_one(&vm->agent_fd);
	close_one(&vm->control_fd);
	close_one(&vm->log_fd);
}

void qemu_vm_close_scope(struct qemu_vm *vm)
{
	qemu_vm_close(vm);
}

const char *qemu_death(const struct qemu_vm *vm)
{
	struct pollfd p = { .fd = vm->pidfd, .events = POLLIN };
	siginfo_t si = { 0 };

	if (vm->pid <= 0 || poll(&p, 1, QEMU_DEATH_MS) <= 0 ||
	    waitid(P_PID, (id_t)vm->pid, &si, WEXITED | WNOWAIT | WNOHANG) < 0 || si.si_pid == 0 ||
	    si.si_code == CLD_EXITED)
		return "";
	/* a page of a mapped file that cannot be had: on tmpfs even a read of a hole takes one */
	if (si.si_status == SIGBUS)
		return ", as the disk with berm's state is full or failing";
	return si.si_status == SIGKILL ? ", killed by the host" : ", of a crash";
}

int qemu_find(const char **ret_program, struct err *e)
{
	static const char *const places[] = { "/usr/bin/qemu-system-x86_64",
		                              "/usr/local/bin/qemu-system-x86_64" };

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (access(places[i], X_OK) == 0) {
			*ret_program = places[i];
			return 0;
		}
	}
	return err_set(e, -ENOENT,
	               "qemu-system-x86_64 is not installed: apt install qemu-system-x86");
}
