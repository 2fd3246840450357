/*
 * berm-qemu: closes the qemu jail and becomes qemu-system-x86_64.
 *
 *	berm-qemu [--uid N] [--gid N] [--ram-fd N] --qemu PATH -- QEMU-ARGUMENT...
 *
 * Started by the supervisor with every fd already placed; nothing is opened for qemu by a path of
 * ours. --uid applies when started by root. --ram-fd is the guest's memory file: qemu 7.2 opens
 * mem-path= for writing whatever it is told, so it gets the path /dev/berm-ram, which
 * berm-qemu-ram.so answers with this fd, opened read-only when other sandboxes share the file.
 *
 * Exits 125 with a line on stderr when the jail cannot be closed or qemu cannot be started; after
 * that the process is qemu. A call the filter forbids ends it with SIGSYS.
 */
#include "base/buf.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/units.h"
#include "jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

enum {
	EXIT_BERM = 125,
	PRELOAD_FD = JAIL_EXEC_FD - 1, /* the library, open until the loader has read it */
	THREADS_MAX = 512,             /* vCPUs and up to 64 disk threads for each of two disks */
	PATH_BYTES = 4096,
	ENV_BYTES = 64,
};

struct options {
	uint64_t uid; /* 0: stay */
	uint64_t gid;
	uint64_t ram_fd;
	bool has_ram;
	const char *qemu;
	int dashes; /* index of the "--", which becomes qemu's own name */
};

static int take_option(struct options *o, const char *name, const char *value, struct err *e)
{
	if (strcmp(name, "--uid") == 0)
		return units_parse_count(value, 1, UINT32_MAX - 1, &o->uid, e);
	if (strcmp(name, "--gid") == 0)
		return units_parse_count(value, 1, UINT32_MAX - 1, &o->gid, e);
	if (strcmp(name, "--ram-fd") == 0) {
		o->has_ram = true;
		return units_parse_count(value, 3, PRELOAD_FD - 1, &o->ram_fd, e);
	}
	if (strcmp(name, "--qemu") != 0)
		return err_set(e, -EINVAL, "unknown option '%s'", name);
	if (value[0] != '/')
		return err_set(e, -EINVAL, "--qemu takes an absolute path, not '%s'", value);
	o->qemu = value;
	return 0;
}

static int parse_options(int argc, char **argv, struct options *ret, struct err *e)
{
	struct options o = { 0 };
	int i = 1;

	while (i < argc && strcmp(argv[i], "--") != 0) {
		int r;

		if (i + 1 >= argc)
			return err_set(e, -EINVAL, "'%s' needs a value", argv[i]);
		r = take_option(&o, argv[i], argv[i + 1], e);
		if (r < 0)
			return err_wrap(e, "%s", argv[i]);
		i += 2;
	}
	if (i == argc || !o.qemu)
		return err_set(e, -EINVAL, "--qemu PATH and -- are needed");
	o.dashes = i;
	if (o.gid == 0)
		o.gid = o.uid;
	*ret = o;
	return 0;
}

/* An fd at a number of our choice, kept across exec or not. */
static int place(const char *path, int flags, int at, int at_flags, struct err *e)
{
	_own_fd_ int fd = -1;
	int r = fd_open(path, flags, 0, &fd, e);

	if (r < 0)
		return r;
	if (fcntl(at, F_GETFD) >= 0)
		return err_set(e, -EBUSY, "fd %d is taken", at);
	if (dup3(fd, at, at_flags) < 0)
		return err_sys(e, "place '%s' at fd %d", path, at);
	return 0;
}

/* The library lies beside us. Its fd outlives the exec, for the loader; the library closes it. */
static int place_preload(char path[static PATH_BYTES], struct err *e)
{
	static const char name[] = "berm-qemu-ram.so";
	ssize_t n = readlink("/proc/self/exe", path, PATH_BYTES - sizeof(name));
	char *slash;

	if (n < 0)
		return err_sys(e, "readlink '/proc/self/exe'");
	path[n] = '\0';
	slash = strrchr(path, '/');
	if (!slash)
		return err_set(e, -EINVAL, "'%s' is no absolute path", path);
	memcpy(slash + 1, name, sizeof(name));
	return place(path, O_RDONLY, PRELOAD_FD, 0, e);
}

static int close_jail(const struct options *o, const char *preload, struct jail_report *ret_report,
                      struct err *e)
{
	struct jail_path paths[3] = {
		{ .path = o->qemu, .access = JAIL_READ | JAIL_EXEC, .why = "itself" },
		{ .path = preload,
		  .as = "/berm-qemu-ram.so",
		  .access = JAIL_READ,
		  .why = "berm-qemu-ram.so" },
	};
	/* the kernel counts this by uid, so it says something only of a uid of its own */
	const struct jail_limit threads = { RLIMIT_NPROC, THREADS_MAX, "threads" };
	struct jail_params params = {
		.paths = paths,
		.path_count = 2,
		.limits = &threads,
		.limit_count = o->uid >= JAIL_UID_FIRST ? 1 : 0,
		.keep_all_fds = true, /* whoever spawned us closed the others */
		.uid = (uid_t)o->uid,
		.gid = (gid_t)o->gid,
		.die_with_parent = true,
		.parent = getppid(),
		.parent_fd = STDOUT_FILENO, /* the log */
	};

	return jail_enter(&jail_profile_qemu, &params, ret_report, e);
}

static int become_qemu(const struct options *o, char **argv, struct err *e)
{
	char library[PATH_BYTES] = { 0 };
	char preload[ENV_BYTES];
	char fds[ENV_BYTES];
	char *envp[] = { preload, fds, NULL }; /* nothing of ours or the user's */
	struct jail_report report = { 0 };
	struct buf b;
	int r = place(o->qemu, O_PATH, JAIL_EXEC_FD, O_CLOEXEC, e);

	if (r == 0)
		r = place_preload(library, e);
	if (r == 0)
		r = close_jail(o, library, &report, e);
	if (r < 0)
		return r;
	buf_init(&b, preload, sizeof(preload));
	/* by its name in the new root, or where there is none by its fd */
	if (report.new_root)
		buf_put_str(&b, "LD_PRELOAD=/berm-qemu-ram.so");
	else
		buf_printf(&b, "LD_PRELOAD=/proc/self/fd/%d", PRELOAD_FD);
	(void)buf_cstr(&b);
	buf_init(&b, fds, sizeof(fds));
	buf_put_str(&b, "BERM_RAM_FD=");
	if (o->has_ram)
		buf_printf(&b, "%llu", (unsigned long long)o->ram_fd);
	buf_printf(&b, ":%d", PRELOAD_FD);
	(void)buf_cstr(&b);
	(void)syscall(SYS_execveat, JAIL_EXEC_FD, "", argv, envp, AT_EMPTY_PATH);
	return err_sys(e, "start '%s'", o->qemu);
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	struct err e = { 0 };

	log_init("berm-qemu");
	if (parse_options(argc, argv, &o, &e) == 0) {
		argv[o.dashes] = (char *)(uintptr_t)o.qemu; /* where it looks for its firmware */
		(void)become_qemu(&o, argv + o.dashes, &e);
	}
	log_error("%s", e.text);
	return EXIT_BERM;
}
