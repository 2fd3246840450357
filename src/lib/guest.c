#include "lib/guest.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "base/spawn.h"
#include "engine/probe.h"
#include "engine/qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

enum { TSC_REST_NS = 6000000 }; /* over the 5 ms that clock_tsc_khz() wants */

static int ask_probe(int state_fd, struct probe_verdict *ret, struct err *e)
{
	const struct probe_env env = {
		.kvm_path = "/dev/kvm",
		.boot_id_path = "/proc/sys/kernel/random/boot_id",
		.state_dir_fd = state_fd,
	};

	return probe_kvm(&env, ret, e);
}

int guest_pick_engine(const struct spec *spec, int state_fd, const struct engine_ops **ret,
                      struct err *e)
{
	struct probe_verdict v;
	char text[ERR_TEXT_MAX];
	struct buf b;
	int r;

	if (spec->engine == SPEC_ENGINE_QEMU) {
		*ret = &engine_qemu;
		return 0;
	}
	r = ask_probe(state_fd, &v, e);
	if (r < 0 && spec->engine == SPEC_ENGINE_KVM)
		return r;
	*ret = r == 0 && v.kind == PROBE_GOOD ? &engine_kvm : &engine_qemu;
	if ((spec->engine == SPEC_ENGINE_AUTO && !spec->host_cpu) || *ret == &engine_kvm)
		return 0;
	buf_init(&b, text, sizeof(text));
	probe_put_verdict(&b, &v);
	return err_set(e, -ENOTSUP, "%s cannot work here: %s%s%s",
	               spec->host_cpu ? "--host-cpu" : "--engine kvm", buf_cstr(&b),
	               *probe_remedy(&v) ? "; " : "", probe_remedy(&v));
}

/*
 * Waits for a child of ours with a deadline. Returns its wait status, or -ETIMEDOUT after killing
 * it.
 */
static int wait_child(pid_t pid, int pidfd, int timeout_ms, int *ret_status)
{
	uint64_t deadline = clock_mono_ms() + (uint64_t)timeout_ms;
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int r = 0;

	while (clock_mono_ms() < deadline) {
		int n = poll(&p, 1, timeout_ms);

		if (n > 0 || (n < 0 && errno != EINTR))
			break;
	}
	if (!(p.revents & POLLIN)) {
		(void)kill(pid, SIGKILL);
		r = -ETIMEDOUT;
	}
	while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
		;
	return r;
}

int guest_empty_workspace(int *ret_fd, struct err *e)
{
	_own_fd_ int fd = memfd_create("berm-workspace", MFD_CLOEXEC);
	char path[40];

	if (fd < 0 || ftruncate(fd, (off_t)GUEST_WORKSPACE_BYTES) < 0)
		return err_sys(e, "make an empty workspace");
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return fd_open(path, O_RDONLY, 0, ret_fd, e);
}

int guest_format_scratch(int fd, bool kept, struct err *e)
{
	/*
	 * As a rule the disk dies with the guest, so it needs no journal and no backup of anything;
	 * what is not laid out now need not be copied at each start. Without uninit_bg mke2fs
	 * writes every inode table, lazy or not: 64 MiB of zeros.
	 */
	const char *const argv[] = {
		"mke2fs",
		"-q",
		"-F",
		"-t",
		"ext4",
		"-m",
		"0",
		"-b",
		"4096",
		"-O",
		kept ? "has_journal,^resize_inode,^metadata_csum,uninit_bg,sparse_super2"
		     : "^has_journal,^resize_inode,^metadata_csum,uninit_bg,sparse_super2",
		"-E",
		"lazy_itable_init=1,lazy_journal_init=1,nodiscard,num_backup_sb=0",
		"-i",
		"16384",
		"/proc/self/fd/3",
		NULL
	};
	static const char *const envp[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	static const char *const places[] = { "/usr/sbin/mke2fs", "/sbin/mke2fs" };
	struct spawn s = { .argv = argv, .envp = envp, .fds = { -1, -1, -1, fd }, .fd_count = 4 };
	_own_fd_ int pidfd = -1;
	int status = 0;
	pid_t pid;
	int r;

	s.path = access(places[0], X_OK) == 0 ? places[0] : places[1];
	r = spawn_child(&s, &pid, &pidfd, e);
	if (r == -ENOENT)
		return err_set(e, r, "mke2fs is not installed: apt install e2fsprogs");
	if (r < 0)
		return r;
	r = wait_child(pid, pidfd, GUEST_MKFS_MS, &status);
	if (r < 0)
		return err_set(e, r, "mke2fs did not finish in %d s", GUEST_MKFS_MS / 1000);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(e, -EIO,
		               "mke2fs could not make the scratch disk (status %d): is the "
		               "state directory's disk full?",
		               status);
	return 0;
}

static struct engine_config config(const struct paths *p, const struct guest_files *g,
                                   const struct spec *spec, int image_fd, uid_t uid)
{
	return (struct engine_config){
		.libexec = p->libexec,
		.program = g->qemu,
		.kvm_fd = g->kvm_fd,
		.cmdline = g->cmdline,
		.kernel_fd = g->kernel_fd,
		.initrd_fd = g->initrd_fd,
		.image_fd = image_fd,
		.scratch_fd = -1,
		.ram_fd = -1,
		.ram_bytes = spec->limits.memory_bytes,
		.incoming_fd = -1,
		.wset_fd = -1,
		.net_fd = g->net_fd,
		.workspace_fd = g->workspace_fd,
		.cpus = spec->limits.cpus,
		.host_cpu = spec->host_cpu,
		.uid = uid,
	};
}

/*
 * The guest of a software CPU sees the host's time stamp counter and, on a busy host, has nothing
 * sound to measure it with; so it is told. `first` was taken before the scratch disk was made,
 * which takes long enough as a rule.
 */
static void put_cmdline(struct buf *b, const struct guest_files *g, bool rescue,
                        const struct clock_tsc *first)
{
	const struct timespec rest = { .tv_nsec = TSC_REST_NS };
	struct clock_tsc second;
	uint64_t khz;

	clock_tsc_take(&second);
	if (first->ticks > 0 && clock_tsc_khz(first, &second) == 0) {
		(void)nanosleep(&rest, NULL);
		clock_tsc_take(&second);
	}
	khz = clock_tsc_khz(first, &second);
	buf_put_str(b, g->cmdline);
	if (g->engine->id == ENGINE_QEMU && khz > 0)
		buf_printf(b, " tsc_early_khz=%" PRIu64, khz);
	if (rescue)
		buf_put_str(b, " " GUEST_RESCUE_WORD);
	(void)buf_cstr(b);
}

int guest_boot_draft(const struct paths *p, const struct guest_files *g, const struct spec *spec,
                     int image_fd, const struct draft *d, uid_t uid, struct engine_vm *ret,
                     struct err *e)
{
	struct engine_config c = config(p, g, spec, image_fd, uid);
	char cmdline[ENGINE_CMDLINE_MAX + 64];
	struct clock_tsc first;
	struct buf b;
	int r;

	clock_tsc_take(&first);
	r = guest_format_scratch(d->scratch_fd, spec->workspace != NULL, e);
	if (r < 0)
		return r;
	buf_init(&b, cmdline, sizeof(cmdline));
	put_cmdline(&b, g, false, &first);
	c.cmdline = cmdline;
	c.scratch_fd = d->scratch_fd;
	c.ram_fd = d->ram_fd;
	c.ram_shared = true;
	return g->engine->start(&c, ret, e);
}

/* The file for the guest's disk: a session's own, which stays, or one that goes with the guest. */
static int scratch_file(const struct guest_files *g, int dir_fd, int *ret_fd, struct err *e)
{
	int fd;

	if (g->scratch_fd < 0)
		return fd_tmpfile(dir_fd, 0600, ret_fd, e);
	fd = fcntl(g->scratch_fd, F_DUPFD_CLOEXEC, 3); /* its lock goes along */
	if (fd < 0)
		return err_sys(e, "hold the scratch disk");
	*ret_fd = fd;
	return 0;
}

static int fresh_scratch(int fd, const struct spec *spec, struct err *e)
{
	if (spec->rescue)
		return 0;
	if (ftruncate(fd, (off_t)spec->limits.disk_bytes) < 0)
		return err_sys(e, "size the scratch disk");
	return guest_format_scratch(fd, spec->workspace != NULL, e);
}

int guest_boot(const struct paths *p, const struct guest_files *g, const struct spec *spec,
               int image_fd, int dir_fd, uid_t uid, struct engine_vm *ret, int *ret_scratch_fd,
               struct err *e)
{
	struct engine_config c = config(p, g, spec, image_fd, uid);
	char cmdline[ENGINE_CMDLINE_MAX + 64];
	_own_fd_ int scratch = -1;
	_own_fd_ int ram = -1;
	struct clock_tsc first;
	struct buf b;
	int r = scratch_file(g, dir_fd, &scratch, e);

	clock_tsc_take(&first);
	if (r == 0)
		r = fresh_scratch(scratch, spec, e);
	if (r < 0)
		return r;
	if (g->engine->id != ENGINE_KVM) {
		ram = memfd_create("berm-ram", MFD_CLOEXEC);
		if (ram < 0 || ftruncate(ram, (off_t)spec->limits.memory_bytes) < 0)
			return err_sys(e, "make the guest's memory");
	}
	buf_init(&b, cmdline, sizeof(cmdline));
	put_cmdline(&b, g, spec->rescue, &first);
	c.cmdline = cmdline;
	c.scratch_fd = scratch;
	c.ram_fd = ram;
	r = g->engine->start(&c, ret, e);
	if (r == 0)
		*ret_scratch_fd = steal_fd(&scratch);
	return r;
}

/*
 * Who works in a tree of files soon has them all in memory, and gets that faster. A copy of a guest
 * that ran may be one of many, or large; and what a guest uses first is learned page by page.
 */
static bool is_to_work(const struct guest_files *g, const struct spec *spec,
                       const struct saved *from)
{
	struct stat st;

	return spec->workspace && !spec_is_copy(spec) && !g->learns &&
	       fstat(from->ram_fd, &st) == 0 && st.st_blocks <= GUEST_COPIED_BYTES_MAX / 512;
}

int guest_restore(const struct paths *p, const struct guest_files *g, const struct spec *spec,
                  int image_fd, int dir_fd, const struct saved *from, uid_t uid,
                  struct engine_vm *ret, int *ret_scratch_fd, struct err *e)
{
	struct engine_config c = config(p, g, spec, image_fd, uid);
	_own_fd_ int scratch = -1;
	int r = scratch_file(g, dir_fd, &scratch, e);

	if (r == 0)
		r = fd_copy_sparse(from->scratch_fd, scratch, e);
	if (r < 0)
		return err_wrap(e, "copy the saved disk");
	c.scratch_fd = scratch;
	c.ram_fd = from->ram_fd;
	c.incoming_fd = from->state_fd;
	c.wset_fd = from->wset_fd;
	c.ram_copied = is_to_work(g, spec, from);
	r = g->engine->start(&c, ret, e);
	if (r == 0)
		*ret_scratch_fd = steal_fd(&scratch);
	return r;
}
