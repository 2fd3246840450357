#include "lib/doctor.h"

#include "base/fdio.h"
#include "base/units.h"
#include "engine/host.h"
#include "engine/probe.h"
#include "engine/qemu.h"
#include "jail/cgroup.h"
#include "jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/vfs.h>

enum { PATH_BYTES = PATH_MAX + 64, MEMINFO_MAX = 8192 };

#define DEFAULT_IMAGE "default"

struct visit {
	const struct paths *paths;
	struct doctor_report *report;
	int state_fd; /* -1 when it cannot be opened */
	bool kvm_good;
};

/* A new finding, to be given its text. The table is ours: it is long enough. */
static struct doctor_finding *add(struct visit *v, const char *id, enum doctor_severity severity)
{
	struct doctor_finding *f = &v->report->findings[v->report->count];

	if (v->report->count + 1 < DOCTOR_FINDINGS_MAX)
		v->report->count++;
	*f = (struct doctor_finding){ .id = id, .severity = severity };
	return f;
}

static void say(struct visit *v, const char *id, enum doctor_severity severity, const char *remedy,
                const char *fmt, ...) _printf_(5, 6);

static void say(struct visit *v, const char *id, enum doctor_severity severity, const char *remedy,
                const char *fmt, ...)
{
	struct doctor_finding *f = add(v, id, severity);
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(f->text, sizeof(f->text), fmt, args);
	va_end(args);
	(void)snprintf(f->remedy, sizeof(f->remedy), "%s", remedy);
}

static void look_at_state(struct visit *v)
{
	struct err e = { 0 };
	_own_fd_ int probe_fd = -1;
	struct doctor_finding *f;
	struct statfs st;
	uint64_t free_bytes;
	struct buf b;

	if (paths_open_state(v->paths, &v->state_fd, &e) < 0) {
		say(v, "state", DOCTOR_FAIL,
		    "set BERM_STATE_DIR to a directory of your own on a local disk", "%s", e.text);
		return;
	}
	if (fd_tmpfile(v->state_fd, 0600, &probe_fd, &e) < 0 || fstatfs(v->state_fd, &st) < 0) {
		say(v, "state", DOCTOR_FAIL,
		    "make it writable, or set BERM_STATE_DIR to another directory",
		    "'%s' cannot be written to: %s", v->paths->state, e.text);
		return;
	}
	free_bytes = (uint64_t)st.f_bavail * (uint64_t)st.f_bsize;
	f = add(v, "state", free_bytes < DOCTOR_DISK_BYTES_LOW ? DOCTOR_WARN : DOCTOR_OK);
	buf_init(&b, f->text, sizeof(f->text));
	buf_printf(&b, "%.200s, ", v->paths->state);
	units_put_size(&b, free_bytes);
	buf_put_str(&b, " free");
	if (st.f_type == NFS_SUPER_MAGIC || st.f_type == SMB2_SUPER_MAGIC) {
		buf_put_str(&b, ", on a network file system");
		f->severity = DOCTOR_WARN;
		(void)snprintf(f->remedy, sizeof(f->remedy),
		               "set BERM_STATE_DIR to a local disk: guest disks are slow here");
	} else if (st.f_type == TMPFS_MAGIC) {
		buf_put_str(&b, ", in memory");
	}
	(void)buf_cstr(&b);
	if (free_bytes < DOCTOR_DISK_BYTES_LOW)
		(void)snprintf(f->remedy, sizeof(f->remedy),
		               "free space there (berm image prune), or set BERM_STATE_DIR");
}

static void look_at_kvm(struct visit *v)
{
	struct probe_env env = {
		.kvm_path = "/dev/kvm",
		.boot_id_path = "/proc/sys/kernel/random/boot_id",
		.state_dir_fd = v->state_fd,
	};
	struct probe_verdict verdict;
	struct doctor_finding *f;
	struct err e = { 0 };
	struct buf b;

	if (probe_kvm(&env, &verdict, &e) < 0) {
		say(v, "kvm", DOCTOR_WARN, "", "%s", e.text);
		return;
	}
	v->kvm_good = verdict.kind == PROBE_GOOD;
	f = add(v, "kvm",
	        verdict.kind == PROBE_GOOD        ? DOCTOR_OK
	        : verdict.kind == PROBE_FORBIDDEN ? DOCTOR_WARN
	                                          : DOCTOR_NOTE);
	buf_init(&b, f->text, sizeof(f->text));
	probe_put_verdict(&b, &verdict);
	(void)buf_cstr(&b);
	(void)snprintf(f->remedy, sizeof(f->remedy), "%s", probe_remedy(&verdict));
}

static void look_at_qemu(struct visit *v)
{
	const char *program = NULL;
	struct probe_qemu qemu;
	struct err e = { 0 };
	bool tested;

	if (qemu_find(&program, &e) < 0) {
		say(v, "qemu", DOCTOR_FAIL,
		    "install it: apt install --no-install-recommends qemu-system-x86", "%s",
		    e.text);
		return;
	}
	if (host_qemu_version(program, &qemu, &e) < 0) {
		say(v, "qemu", DOCTOR_FAIL, "reinstall the package qemu-system-x86", "%s", e.text);
		return;
	}
	tested = qemu.major == HOST_QEMU_TESTED_MAJOR && qemu.minor == HOST_QEMU_TESTED_MINOR;
	say(v, "qemu", tested ? DOCTOR_OK : DOCTOR_WARN,
	    tested ? "" : "berm is tested with QEMU 7.2 (Debian 12); use that if a run fails",
	    "%s, version %u.%u.%u", program, qemu.major, qemu.minor, qemu.micro);
}

static const char reinstall[] = "build or install berm again: make, make install";

static bool file_path(char *ret, const char *dir, const char *name)
{
	int n = snprintf(ret, PATH_BYTES, "%s/%s", dir, name);

	return n > 0 && n < PATH_BYTES;
}

static void look_at_kernel(struct visit *v)
{
	char path[PATH_BYTES];
	struct err e = { 0 };
	_own_fd_ int fd = -1;
	uint64_t entry = 0;
	int r = -ENAMETOOLONG;

	if (file_path(path, v->paths->share, "vmlinux"))
		r = fd_open(path, O_RDONLY, 0, &fd, &e);
	if (r == 0)
		r = host_kernel_entry(fd, &entry, &e);
	if (r < 0)
		say(v, "kernel", DOCTOR_FAIL, reinstall, "'%s' is no guest kernel: %s", path,
		    e.text);
	else
		say(v, "kernel", DOCTOR_OK, "", "%s", path);
}

static void look_at_initramfs(struct visit *v)
{
	char path[PATH_BYTES];
	struct err e = { 0 };
	_own_fd_ int fd = -1;
	char magic[6];

	if (!file_path(path, v->paths->share, "initramfs.cpio") ||
	    fd_open(path, O_RDONLY, 0, &fd, &e) < 0 ||
	    fd_read_all(fd, magic, sizeof(magic), &e) < 0)
		say(v, "agent", DOCTOR_FAIL, reinstall, "the guest agent: %s", e.text);
	else if (memcmp(magic, "070701", sizeof(magic)) != 0)
		say(v, "agent", DOCTOR_FAIL, reinstall, "'%s' is no initramfs", path);
	else
		say(v, "agent", DOCTOR_OK, "", "%s", path);
}

static void look_at_programs(struct visit *v)
{
	static const char *const names[] = { "berm-supervisor", "berm-template", "berm-qemu",
		                             "berm-unpack", "berm-qemu-ram.so" };
	char path[PATH_BYTES];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!file_path(path, v->paths->libexec, names[i]) || access(path, X_OK) < 0) {
			say(v, "programs", DOCTOR_FAIL, reinstall, "'%s/%s' is missing",
			    v->paths->libexec, names[i]);
			return;
		}
	say(v, "programs", DOCTOR_OK, "", "%s", v->paths->libexec);
}

/* What berm code and what comes after it need beside what a run needs. */
static void look_at_sessions(struct visit *v)
{
	static const char *const lists[] = { "exclude/secret.ignore", "exclude/cost.ignore",
		                             "classes.list", "agents/custom.yaml" };
	char path[PATH_BYTES];

	if (!file_path(path, v->paths->libexec, "berm-diff") || access(path, X_OK) < 0) {
		say(v, "sessions", DOCTOR_WARN, reinstall,
		    "no changes can be shown: '%s/berm-diff' is missing", v->paths->libexec);
		return;
	}
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		if (!file_path(path, v->paths->share, lists[i]) || access(path, R_OK) < 0) {
			say(v, "sessions", DOCTOR_WARN, reinstall,
			    "no agent can work on a directory: '%s/%s' is missing", v->paths->share,
			    lists[i]);
			return;
		}
	say(v, "sessions", DOCTOR_OK, "", "agents can work on directories: berm code");
}

static void look_at_network(struct visit *v)
{
	struct err e = { 0 };

	if (doctor_try_network(v->paths, &e) == 0)
		say(v, "network", DOCTOR_OK, "", "gate and vault close their jails");
	else
		say(v, "network", DOCTOR_WARN,
		    e.code == -ENOENT
		            ? reinstall
		            : "sandboxes without a network run; for the others see the reason above",
		    "no sandbox can have a network: %s", e.text);
}

static void look_at_image(struct visit *v)
{
	const char *const dirs[] = { v->paths->state, v->paths->share };
	char path[PATH_BYTES];

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (file_path(path, dirs[i], "images/names/" DEFAULT_IMAGE) &&
		    access(path, R_OK) == 0) {
			say(v, "image", DOCTOR_OK, "", "the default image is in %s/images",
			    dirs[i]);
			return;
		}
	say(v, "image", DOCTOR_WARN,
	    "make image builds it; or import one and name it: berm image import FILE",
	    "there is no default image: a run has to name one");
}

/* Debian keeps it out of an ordinary user's PATH. */
static void look_at_mke2fs(struct visit *v)
{
	static const char *const places[] = { "/usr/sbin/mke2fs", "/sbin/mke2fs" };

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (access(places[i], X_OK) == 0) {
			say(v, "mke2fs", DOCTOR_OK, "", "%s", places[i]);
			return;
		}
	say(v, "mke2fs", DOCTOR_FAIL, "install it: apt install e2fsprogs",
	    "mke2fs is not installed: it makes the guest's disk");
}

static void look_at_jail(struct visit *v)
{
	unsigned abi = jail_landlock_abi();
	bool root = geteuid() == 0;
	int r = root ? 0 : jail_userns_permitted();

	if (abi == 0)
		say(v, "landlock", DOCTOR_FAIL,
		    "boot Linux 5.13 or later with \"landlock\" in its lsm= list",
		    "this kernel has no Landlock: berm's processes could not be confined");
	else
		say(v, "landlock", abi < 4 ? DOCTOR_NOTE : DOCTOR_OK,
		    abi < 4 ? "Linux 6.7 or later adds network rights" : "", "ABI %u: files%s%s",
		    abi, abi >= 4 ? ", TCP" : "", abi >= 6 ? ", signals, abstract sockets" : "");
	if (jail_seccomp_available())
		say(v, "seccomp", DOCTOR_OK, "", "system calls are filtered");
	else
		say(v, "seccomp", DOCTOR_FAIL, "use a kernel with CONFIG_SECCOMP_FILTER",
		    "this kernel cannot filter system calls");
	if (root)
		say(v, "namespaces", DOCTOR_OK, "", "made by root; engines get uids of their own");
	else if (r == 0)
		say(v, "namespaces", DOCTOR_OK, "", "this user may make user namespaces");
	else
		say(v, "namespaces", DOCTOR_NOTE,
		    "Landlock and seccomp hold without them; sysctl user.max_user_namespaces and "
		    "kernel.unprivileged_userns_clone permit them",
		    "this user may not make user namespaces: %s", strerror(-r));
}

static void look_at_cgroup(struct visit *v)
{
	static const struct {
		unsigned bit;
		const char *name;
	} limits[] = { { CGROUP_LIMIT_CPU, "cpu" },
		       { CGROUP_LIMIT_MEMORY, "memory" },
		       { CGROUP_LIMIT_PIDS, "pids" } };
	_own_free_ struct cgroup_host *host = calloc(1, sizeof(*host));
	struct err e = { 0 };
	char names[32];
	struct buf b;

	if (!host || cgroup_host_find(NULL, host, &e) < 0) {
		say(v, "cgroup", DOCTOR_WARN, "", "control groups: %s", e.text);
		return;
	}
	if (host->mode == CGROUP_MODE_NONE) {
		say(v, "cgroup", DOCTOR_NOTE,
		    "the guest's own size and CPU count still bound it; for limits by the host "
		    "start berm with: systemd-run --user --scope -p Delegate=yes",
		    "%s", host->why);
		return;
	}
	buf_init(&b, names, sizeof(names));
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		if (host->can & limits[i].bit)
			buf_printf(&b, " %s", limits[i].name);
	say(v, "cgroup", *host->why ? DOCTOR_NOTE : DOCTOR_OK, "", "%s:%s%s%s",
	    host->mode == CGROUP_MODE_V2 ? "v2" : "v1", buf_cstr(&b), *host->why ? "; " : "",
	    host->why);
}

static bool read_available(uint64_t *ret_bytes)
{
	_own_free_ char *text = NULL;
	struct span in;
	struct span line;
	size_t len = 0;

	if (fd_read_file(AT_FDCWD, "/proc/meminfo", MEMINFO_MAX, &text, &len, NULL) < 0)
		return false;
	in = span_of(text, len);
	while (take_until(&in, '\n', &line)) {
		struct span key;
		uint64_t kib;

		if (!take_until(&line, ':', &key) || !span_is(key, "MemAvailable"))
			continue;
		while (line.len > 0 && line.at[0] == ' ')
			line = span_of(line.at + 1, line.len - 1);
		if (!take_until(&line, ' ', &key) || !span_to_u64(key, &kib))
			return false;
		*ret_bytes = kib * 1024;
		return true;
	}
	return false;
}

static void look_at_memory(struct visit *v)
{
	struct doctor_finding *f;
	uint64_t bytes = 0;
	struct buf b;

	if (!read_available(&bytes)) {
		say(v, "memory", DOCTOR_NOTE, "", "the free memory is not known");
		return;
	}
	f = add(v, "memory",
	        bytes < DOCTOR_MEMORY_BYTES_MIN   ? DOCTOR_FAIL
	        : bytes < DOCTOR_MEMORY_BYTES_LOW ? DOCTOR_WARN
	                                          : DOCTOR_OK);
	buf_init(&b, f->text, sizeof(f->text));
	units_put_size(&b, bytes);
	buf_put_str(&b, " available");
	(void)buf_cstr(&b);
	if (f->severity != DOCTOR_OK)
		(void)snprintf(f->remedy, sizeof(f->remedy),
		               "end other programs, or run with a smaller --memory");
}

static void look_at_level(struct visit *v)
{
	v->report->level = v->kvm_good ? LEVEL_MICROVM : LEVEL_EMULATED;
	say(v, "level", DOCTOR_OK, "",
	    v->kvm_good ? "runs get the level microvm: a VM on hardware virtualization"
	                : "runs get the level emulated: a VM on a software CPU");
}

int doctor_examine(const struct paths *p, struct doctor_report *ret, struct err *e)
{
	_own_free_ struct doctor_report *report = calloc(1, sizeof(*report));
	struct visit v = { .paths = p, .report = report, .state_fd = -1 };

	if (!report)
		return err_set(e, -ENOMEM, "out of memory");
	look_at_state(&v);
	look_at_kvm(&v);
	look_at_qemu(&v);
	look_at_kernel(&v);
	look_at_initramfs(&v);
	look_at_programs(&v);
	look_at_sessions(&v);
	look_at_network(&v);
	look_at_image(&v);
	look_at_mke2fs(&v);
	look_at_jail(&v);
	look_at_cgroup(&v);
	look_at_memory(&v);
	look_at_level(&v);
	if (v.state_fd >= 0)
		(void)close(v.state_fd);
	report->can_run = true;
	for (unsigned i = 0; i < report->count; i++)
		if (report->findings[i].severity == DOCTOR_FAIL)
			report->can_run = false;
	*ret = *report;
	return 0;
}

const char *doctor_severity_name(enum doctor_severity s)
{
	static const char *const names[] = { "ok", "note", "warn", "fail" };

	return names[s];
}

void doctor_put_json(struct buf *b, const struct doctor_report *r)
{
	buf_printf(b, "{\"ok\":%s,\"level\":\"%s\",\"findings\":[", r->can_run ? "true" : "false",
	           r->level == LEVEL_MICROVM ? "microvm" : "emulated");
	for (unsigned i = 0; i < r->count; i++) {
		const struct doctor_finding *f = &r->findings[i];

		buf_printf(b, "%s{\"id\":\"%s\",\"severity\":\"%s\",\"text\":", i ? "," : "", f->id,
		           doctor_severity_name(f->severity));
		buf_put_json_str(b, span_str(f->text));
		buf_put_str(b, ",\"remedy\":");
		buf_put_json_str(b, span_str(f->remedy));
		buf_put_str(b, "}");
	}
	buf_put_str(b, "]}");
}
