/*
 * berm-vmm: one virtual machine on KVM.
 *
 *	berm-vmm --memory MIB --cpus N [--uid N] [--host-cpu] [--net] [--workspace]
 *	         (--restore [--wset | --copied] | --cmdline TEXT [--fresh])
 *
 * Started by the supervisor with every fd placed (engine/kvm.h): /dev/kvm, memory, disks, kernel or
 * saved state, the agent's socket, the control socket, the log, with --net the gate's socket,
 * with --workspace that disk.
 * It makes an empty machine and closes its jail before it reads any of them: from here on there is
 * no path, no network of the host's, no new process. Each thread then narrows itself to the calls
 * of its own profile before the guest runs its first instruction.
 *
 * Exits 0 after an ordinary end, 1 when the machine ended for a reason of its own, 125 when it
 * could not be made; the reason is on stderr, which is the log. A forbidden call ends it with
 * SIGSYS.
 */
#include "base/fdio.h"
#include "base/log.h"
#include "base/units.h"
#include "engine/kvm.h"
#include "engine/machine.h"
#include "jail/jail.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* SPEC_DISK_MAX of state/spec.h: no file of ours is larger */
#define FILE_BYTES_MAX (UINT64_C(1) << 40)

enum { EXIT_BERM = 125, EXIT_ENDED = 1, MEMORY_MIB_MAX = 1 << 20, CPUS_MAX = 32 };

struct options {
	uint64_t memory_mib, cpus, uid;
	const char *cmdline;
	bool restore, wset, copied, host_cpu, net, workspace;
	bool fresh; /* memory is no file's */
};

static int take_option(struct options *o, const char *name, const char *value, struct err *e)
{
	if (strcmp(name, "--memory") == 0)
		return units_parse_count(value, 1, MEMORY_MIB_MAX, &o->memory_mib, e);
	if (strcmp(name, "--cpus") == 0)
		return units_parse_count(value, 1, CPUS_MAX, &o->cpus, e);
	if (strcmp(name, "--uid") == 0)
		return units_parse_count(value, 1, UINT32_MAX - 1, &o->uid, e);
	if (strcmp(name, "--cmdline") != 0)
		return err_set(e, -EINVAL, "this program is started by berm");
	o->cmdline = value;
	return 0;
}

static int parse_options(int argc, char **argv, struct options *ret, struct err *e)
{
	struct options o = { 0 };

	for (int i = 1; i < argc; i++) {
		int r = 0;

		if (strcmp(argv[i], "--restore") == 0)
			o.restore = true;
		else if (strcmp(argv[i], "--wset") == 0)
			o.wset = true;
		else if (strcmp(argv[i], "--copied") == 0)
			o.copied = true;
		else if (strcmp(argv[i], "--fresh") == 0)
			o.fresh = true;
		else if (strcmp(argv[i], "--host-cpu") == 0)
			o.host_cpu = true;
		else if (strcmp(argv[i], "--net") == 0)
			o.net = true;
		else if (strcmp(argv[i], "--workspace") == 0)
			o.workspace = true;
		else if (i + 1 < argc)
			r = take_option(&o, argv[i], argv[i + 1], e), i++;
		else
			r = err_set(e, -EINVAL, "this program is started by berm");
		if (r < 0)
			return r;
	}
	if (o.memory_mib == 0 || o.cpus == 0 || o.restore == (o.cmdline != NULL) ||
	    (o.fresh && o.restore) || ((o.wset || o.copied) && !o.restore))
		return err_set(e, -EINVAL, "this program is started by berm");
	*ret = o;
	return 0;
}

static int close_jail(const struct options *o, struct err *e)
{
	/* a saved memory file is as large as the memory, and a disk keeps the size it has */
	const struct jail_limit limits[] = {
		{ RLIMIT_FSIZE, FILE_BYTES_MAX, "the scratch disk, or saved memory" },
	};
	const struct jail_params params = {
		.limits = limits,
		.limit_count = 1,
		.keep_all_fds = true, /* whoever started us closed the others */
		.uid = (uid_t)o->uid,
		.gid = (gid_t)o->uid,
		.die_with_parent = true,
		.parent = getppid(),
		.parent_fd = STDOUT_FILENO, /* the log */
	};

	return jail_enter(&jail_profile_vmm, &params, NULL, e);
}

static int cpu_jail(void *arg, struct err *e)
{
	(void)arg;
	return jail_thread(&jail_profile_vmm_cpu, e);
}

static int io_jail(void *arg, struct err *e)
{
	(void)arg;
	return jail_thread(&jail_profile_vmm_io, e);
}

static int prepare(const struct options *o, struct machine **ret, struct err *e)
{
	static const struct machine_jails jails = { .cpu = cpu_jail, .io = io_jail };
	const struct machine_config c = {
		.ram_bytes = o->memory_mib << 20,
		.cpus = (uint32_t)o->cpus,
		.restore = o->restore,
		.copied = o->copied,
		.host_cpu = o->host_cpu,
		.kvm_fd = KVM_AT_KVM,
		.ram_fd = o->fresh ? -1 : KVM_AT_RAM,
		.image_fd = KVM_AT_IMAGE,
		.scratch_fd = KVM_AT_SCRATCH,
		.agent_fd = KVM_AT_AGENT,
		.control_fd = KVM_AT_CONTROL,
		.log_fd = STDOUT_FILENO,
		.net_fd = o->net ? KVM_AT_NET : -1,
		.workspace_fd = o->workspace ? KVM_AT_WORKSPACE : -1,
	};
	_own_(machine_free) struct machine *m = NULL;
	int r;

	for (int fd = KVM_AT_AGENT; fd < KVM_AT_COUNT; fd++)
		(void)fd_set_cloexec(fd, true);
	/* still empty: nothing of the guest's or of a saved state was read. It comes first, as
	 * saving needs /proc/self/pagemap, and the jail has no /proc */
	r = machine_new(&c, &m, e);
	if (r == 0)
		r = close_jail(o, e);
	/* before the state: its clock runs from when it is loaded */
	if (r == 0 && o->wset)
		machine_populate(m, KVM_AT_WSET);
	if (r == 0)
		r = o->restore ? machine_restore(m, KVM_AT_INCOMING, e)
		               : machine_boot(m, KVM_AT_INCOMING, KVM_AT_INITRD, o->cmdline, e);
	if (r == 0)
		r = machine_start(m, &jails, e);
	/* the main thread only pauses and saves; it gives up making threads when all are made */
	if (r == 0)
		r = jail_thread(&jail_profile_vmm_control, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&m);
	return 0;
}

int main(int argc, char **argv)
{
	struct machine *m = NULL;
	struct options o = { 0 };
	struct err e = { 0 };

	log_init("berm-vmm");
	/* nobody may read our log any more, and the guest writes to it */
	(void)sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
	if (parse_options(argc, argv, &o, &e) < 0 || prepare(&o, &m, &e) < 0) {
		log_error("%s", e.text);
		return EXIT_BERM;
	}
	if (machine_serve(m, &e) < 0) {
		log_error("%s", e.text);
		_exit(EXIT_ENDED);
	}
	_exit(0); /* the kernel ends the threads and frees what they used */
}
