#include "engine/qemu.h"

#include "base/fdio.h"
#include "base/spawn.h"
#include "engine/qmp.h"
#include "virtio/devices.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* fd numbers inside berm-qemu and QEMU; fdset numbers are the same. 0 to 2 are stdio. */
enum {
	AT_AGENT = 3,
	AT_CONTROL = 4,
	AT_RAM = 5,
	AT_IMAGE = 6,
	AT_SCRATCH = 7,
	AT_INCOMING = QEMU_INCOMING_FD, /* or the kernel */
	AT_INITRD = 9,
	AT_NET = 10,
	AT_WORKSPACE = 11,
	AT_COUNT = 12,
};

/*
 * Translated code the software CPU keeps. A boot fills 20 MiB; Python and git stay well below 64.
 */
enum { TCG_CACHE_MIB = 64 };

/*
 * Memory is mapped from its file where that holds something: a template. A guest that boots for
 * itself, or comes from a snapshot (whose memory is in the state, see qemu_snapshot()), has plain
 * memory: in a private mapping of a hole, a page that is only read would cost one of the file.
 */
static bool ram_in_file(const struct engine_config *c)
{
	if (c->incoming_fd < 0)
		return c->ram_shared;
	return lseek(c->ram_fd, 0, SEEK_DATA) >= 0;
}

static void add_memory(struct engine_args *a, const struct engine_config *c)
{
	uint64_t mib = c->ram_bytes >> 20;

	engine_add(a, "-object");
	if (ram_in_file(c))
		engine_add(a,
		           "memory-backend-file,id=ram,size=%" PRIu64
		           "M,mem-path=/dev/berm-ram,share=%s",
		           mib, c->ram_shared ? "on" : "off");
	else
		engine_add(a, "memory-backend-ram,id=ram,size=%" PRIu64 "M", mib);
	engine_add(a, "-m");
	engine_add(a, "%" PRIu64 "M", mib);
}

static void add_machine(struct engine_args *a, const struct engine_config *c)
{

	engine_add(a, "-nodefaults");
	engine_add(a, "-no-user-config");
	engine_add(a, "-no-reboot");
	engine_add(a, "-display");
	engine_add(a, "none");
	engine_add(a, "-sandbox");
	engine_add(a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	engine_add(a, "-M");
	engine_add(a, "microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=off,memory-backend=ram");
	add_memory(a, c);
	engine_add(a, "-smp");
	engine_add(a, "%" PRIu32, c->cpus);
	engine_add(a, "-accel");
	engine_add(a, "tcg,thread=multi,tb-size=%d", TCG_CACHE_MIB);
	/*
	 * Without erms and fsrm nobody copies with "rep movsb", which is emulated byte by byte;
	 * smap would keep a second set of TLB entries. docs/internals/kernel.md has the figures.
	 */
	engine_add(a, "-cpu");
	engine_add(a, "max,-erms,-fsrm,-smap");
	engine_add(a, "-global");
	engine_add(a, "virtio-mmio.force-legacy=false");
	/* a copy of a guest that was stopped to be saved runs at once, as any restored one does */
	engine_add(a, "-global");
	engine_add(a, "migration.store-global-state=off");
}

static void add_disk(struct engine_args *a, const char *name, int fd, bool read_only)
{
	const char *ro = read_only ? "on" : "off";

	engine_add(a, "-add-fd");
	engine_add(a, "fd=%d,set=%d", fd, fd);
	/*
	 * drop-cache: a restore would have the host forget the image's pages, for all guests, and
	 * read them anew. no-flush: a disk without a name, that goes with its guest, need not
	 * survive the host; who saves a copy of it flushes that.
	 */
	engine_add(a, "-blockdev");
	engine_add(a,
	           "driver=file,node-name=%s-file,filename=/dev/fdset/%d,locking=off,read-only=%s,"
	           "discard=unmap,drop-cache=off,cache.no-flush=on",
	           name, fd, ro);
	/* the format is named, never guessed: a guest could write another format's header */
	engine_add(a, "-blockdev");
	engine_add(a,
	           "driver=raw,node-name=%s,file=%s-file,read-only=%s,discard=unmap,"
	           "cache.no-flush=on",
	           name, name, ro);
	/* no room on the host stops the guest, which we are told; other errors are the guest's */
	engine_add(a, "-device");
	engine_add(a, "virtio-blk-device,drive=%s,werror=enospc,rerror=report", name);
}

static void add_console(struct engine_args *a)
{
	engine_add(a, "-chardev");
	engine_add(a, "stdio,id=log,signal=off,mux=off");
	engine_add(a, "-chardev");
	engine_add(a, "socket,id=agent,fd=%d", AT_AGENT);
	engine_add(a, "-device");
	engine_add(a, "virtio-serial-device,max_ports=2");
	engine_add(a, "-device");
	engine_add(a, "virtconsole,chardev=log,nr=0");
	engine_add(a, "-device");
	engine_add(a, "virtserialport,chardev=agent,name=berm.agent,nr=1");
	engine_add(a, "-chardev");
	engine_add(a, "socket,id=control,fd=%d", AT_CONTROL);
	engine_add(a, "-mon");
	engine_add(a, "chardev=control,mode=control");
}

/*
 * The card is kvm's (virtio/net.c), feature for feature: MAC, MTU and STATUS, no offload, one frame
 * one chain. Without indirect descriptors 14 chains fill the queue: with them the driver would put
 * 256 buffers of 72 KiB into it, a fifth of a small guest's memory. What it is joined to is no part
 * of the saved state.
 */
static void add_card(struct engine_args *a)
{
	static const uint8_t mac[ENGINE_MAC_BYTES] = ENGINE_MAC;

	engine_add(a, "-netdev");
	engine_add(a, "stream,id=gate,server=off,addr.type=fd,addr.str=%d", AT_NET);
	engine_add(a, "-device");
	engine_add(
		a,
		"virtio-net-device,netdev=gate,mac=%02x:%02x:%02x:%02x:%02x:%02x,host_mtu=%d,"
		"indirect_desc=off,mrg_rxbuf=off,ctrl_vq=off,ctrl_rx=off,ctrl_vlan=off,ctrl_rx_extra=off,"
		"ctrl_mac_addr=off,ctrl_guest_offloads=off,guest_announce=off,mq=off,"
		"csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,"
		"guest_ufo=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off",
		mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], NET_MTU);
}

static void add_start(struct engine_args *a, const struct engine_config *c)
{
	/*
	 * A restore waits for qmp_restore(), which names the capability the stream was saved with.
	 * It needs no kernel: that is in the RAM file, and not loading it again saves 20 ms.
	 */
	if (c->incoming_fd >= 0) {
		engine_add(a, "-incoming");
		engine_add(a, "defer");
		return;
	}
	engine_add(a, "-kernel");
	engine_add(a, "/dev/berm-fd/%d", AT_INCOMING);
	engine_add(a, "-initrd");
	engine_add(a, "/dev/berm-fd/%d", AT_INITRD);
	engine_add(a, "-append");
	engine_add(a, "%s", c->cmdline);
}

static int build_args(struct engine_args *a, const struct engine_config *c, const char *launcher,
                      struct err *e)
{
	engine_add(a, "%s", launcher);
	if (ram_in_file(c)) {
		engine_add(a, "--ram-fd");
		engine_add(a, "%d", AT_RAM);
	}
	if (c->uid > 0) {
		engine_add(a, "--uid");
		engine_add(a, "%u", (unsigned)c->uid);
	}
	engine_add(a, "--qemu");
	engine_add(a, "%s", c->program);
	engine_add(a, "--");
	add_machine(a, c);
	add_console(a);
	add_disk(a, "image", AT_IMAGE, true);
	add_disk(a, "scratch", AT_SCRATCH, false);
	if (c->workspace_fd >= 0)
		add_disk(a, "workspace", AT_WORKSPACE, true);
	if (c->net_fd >= 0)
		add_card(a);
	add_start(a, c);
	a->list[a->count] = NULL;
	if (a->over)
		return err_set(e, -E2BIG, "the kernel command line is too long");
	return 0;
}

static int qemu_start(const struct engine_config *c, struct engine_vm *ret_vm, struct err *e)
{
	_own_(engine_vm_close) struct engine_vm vm;
	_own_fd_ int agent = -1;
	_own_fd_ int control = -1;
	_own_fd_ int log = -1;
	char launcher[PATH_MAX];
	struct engine_args args = { .count = 0 };
	struct spawn s = { .fd_count = AT_COUNT, .own_session = true, .own_pids = true };
	int r;

	assert(c->ram_bytes % (1 << 20) == 0);
	engine_vm_init(&vm);
	if (snprintf(launcher, sizeof(launcher), "%s/berm-qemu", c->libexec) >=
	    (int)sizeof(launcher))
		return err_set(e, -ENAMETOOLONG, "the path of berm-qemu is too long");
	r = build_args(&args, c, launcher, e);
	if (r == 0)
		r = engine_pair(SOCK_STREAM, &vm.agent_fd, &agent, e);
	if (r == 0)
		r = engine_pair(SOCK_STREAM, &vm.control_fd, &control, e);
	if (r == 0)
		r = engine_pipe(&vm.log_fd, &log, e);
	if (r == 0)
		r = qmp_greet(vm.control_fd, e);
	if (r == 0 && c->net_fd >= 0 && c->incoming_fd >= 0)
		r = qmp_announce_nothing(vm.control_fd, e);
	if (r < 0)
		return r;
	s.path = launcher;
	s.argv = args.list;
	for (int i = 0; i < AT_COUNT; i++)
		s.fds[i] = -1;
	s.fds[1] = s.fds[2] = log;
	s.fds[AT_AGENT] = agent;
	s.fds[AT_CONTROL] = control;
	s.fds[AT_RAM] = ram_in_file(c) ? c->ram_fd : -1;
	s.fds[AT_IMAGE] = c->image_fd;
	s.fds[AT_SCRATCH] = c->scratch_fd;
	s.fds[AT_INCOMING] = c->incoming_fd >= 0 ? c->incoming_fd : c->kernel_fd;
	s.fds[AT_INITRD] = c->incoming_fd >= 0 ? -1 : c->initrd_fd;
	s.fds[AT_NET] = c->net_fd;
	s.fds[AT_WORKSPACE] = c->workspace_fd;
	r = spawn_child(&s, &vm.pid, &vm.pidfd, e);
	if (r < 0)
		return r;
	vm.ops = &engine_qemu;
	*ret_vm = vm;
	engine_vm_init(&vm);
	return 0;
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

static int qemu_go(const struct engine_vm *vm, struct err *e)
{
	return qmp_restore(vm->control_fd, QEMU_INCOMING_FD, e);
}

static int qemu_save(const struct engine_vm *vm, int state_fd, uint64_t deadline_ms, struct err *e)
{
	return qmp_save(vm->control_fd, state_fd, deadline_ms, e);
}

static int qemu_pause(const struct engine_vm *vm, uint64_t deadline_ms, struct err *e)
{
	return qmp_stop(vm->control_fd, deadline_ms, e);
}

/*
 * The memory of any guest that runs is private to it, so QEMU puts all of it into the stream, and
 * the memory file stays a hole.
 */
static int qemu_snapshot(const struct engine_vm *vm, int state_fd, int ram_fd, uint64_t deadline_ms,
                         struct err *e)
{
	int r;

	(void)ram_fd;
	/* One that was saved while it stood still refuses to be saved again before it has run. Its
	 * workload is held, so the moment it gets here changes nothing a program could see. */
	r = qmp_cont(vm->control_fd, deadline_ms, e);
	if (r == 0)
		r = qmp_stop(vm->control_fd, deadline_ms, e);
	return r == 0 ? qmp_save(vm->control_fd, state_fd, deadline_ms, e) : r;
}

static int qemu_resume(const struct engine_vm *vm, uint64_t deadline_ms, struct err *e)
{
	return qmp_cont(vm->control_fd, deadline_ms, e);
}

static bool qemu_hush(const struct engine_vm *vm, struct engine_news *ret_news)
{
	return qmp_hush(vm->control_fd, ret_news);
}

const struct engine_ops engine_qemu = {
	.id = ENGINE_QEMU,
	.name = "qemu",
	.words = "QEMU",
	.overhead_bytes = QEMU_OVERHEAD_BYTES,
	.pids = QEMU_PIDS,
	.start = qemu_start,
	.go = qemu_go,
	.save = qemu_save,
	.pause = qemu_pause,
	.snapshot = qemu_snapshot,
	.resume = qemu_resume,
	.hush = qemu_hush,
};
