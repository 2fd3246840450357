#include "agent/boot.h"

#include "agent/agent.h"
#include "agent/workspace.h"
#include "base/clock.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

/* Source: fs/ext4/ext4.h: the superblock's place, and a field of it */
enum {
	EXT4_COMPAT_AT = 1024 + 0x5c,
	EXT4_COMPAT_HAS_JOURNAL = 4,
	POLL_STEP_NS = 500000,
	NOFILE_SOFT = 1024,
	NOFILE_HARD = 524288, /* what systemd gives, and build tools rely on */
};

struct boot_mount {
	const char *from, *at, *type;
	unsigned long flags;
	const char *options;
	bool needed;
};

static const struct boot_mount kernel_mounts[] = {
	{ "devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755", true },
	{ "proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "", true },
	{ "sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "", true },
};

static const struct boot_mount root_mounts[] = {
	{ "cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "", true },
	{ "devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666",
	  false },
	{ "shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777", false },
	{ "mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, "", false },
	{ "run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755", false },
};

/* What programs expect of a machine: watchers for editors, ping without root, low ports. */
static const struct {
	const char *path, *value;
} sysctls[] = {
	{ "/proc/sys/fs/inotify/max_user_watches", "524288" },
	{ "/proc/sys/fs/inotify/max_user_instances", "1024" },
	{ "/proc/sys/vm/max_map_count", "262144" },
	{ "/proc/sys/net/ipv4/ping_group_range", "0 2147483647" },
	{ "/proc/sys/net/ipv4/ip_unprivileged_port_start", "0" },
};

static int mount_one(const struct boot_mount *m, struct err *e)
{
	if (mount(m->from, m->at, m->type, m->flags, m->options) == 0)
		return 0;
	if (m->needed)
		return err_sys(e, "mount %s on %s", m->type, m->at);
	log_warn("mount %s on %s: %s", m->type, m->at, strerror(errno));
	return 0;
}

int boot_kernel_mounts(struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(kernel_mounts) / sizeof(kernel_mounts[0]); i++)
		r = mount_one(&kernel_mounts[i], e);
	return r;
}

/* Disks are found while the kernel boots, but nothing promises that they are there already. */
static int open_disk(const char *path, int *ret_fd, struct err *e)
{
	const struct timespec step = { .tv_nsec = POLL_STEP_NS };
	uint64_t until_ms = clock_mono_ms() + BOOT_DISK_WAIT_MS;
	int r;

	while ((r = fd_open(path, O_RDONLY, 0, ret_fd, e)) < 0) {
		if (clock_mono_ms() > until_ms)
			return err_set(e, r, "the disk %s did not appear", path);
		(void)nanosleep(&step, NULL);
	}
	return 0;
}

static int mount_image(struct err *e)
{
	_own_fd_ int fd = -1;
	int r = open_disk("/dev/vda", &fd, e);

	if (r < 0)
		return r;
	if (mount("/dev/vda", "/image", "squashfs", MS_RDONLY | MS_NODEV, "") < 0)
		return err_sys(e, "mount the image (vda, squashfs)");
	return 0;
}

/* ret_kept: the disk outlives its guest. */
static int mount_scratch(bool *ret_kept, struct err *e)
{
	const char *options = "nobarrier,noinit_itable";
	_own_fd_ int fd = -1;
	uint8_t compat = 0;
	bool kept;
	int r = open_disk("/dev/vdb", &fd, e);

	if (r < 0)
		return r;
	/*
	 * a journal is on a disk that outlives its guest; the option is refused where there is none
	 */
	kept = pread(fd, &compat, 1, EXT4_COMPAT_AT) == 1 && compat & EXT4_COMPAT_HAS_JOURNAL;
	if (kept)
		options = "nobarrier,noinit_itable,data=ordered";
	if (mount("/dev/vdb", "/scratch", "ext4", MS_NOATIME, options) < 0)
		return err_sys(e, "mount the scratch disk (vdb, ext4)");
	if ((mkdir("/scratch/upper", 0755) < 0 || mkdir("/scratch/work", 0755) < 0) &&
	    errno != EEXIST)
		return err_sys(e, "make directories on the scratch disk");
	*ret_kept = kept;
	return 0;
}

/*
 * A directory of that name in the new root, whatever is there. Nothing is followed: a name of one
 * part in a directory fd.
 */
static int make_mount_point(int root_fd, const char *name, mode_t mode, struct err *e)
{
	struct stat st;

	if (fstatat(root_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (S_ISDIR(st.st_mode))
			return 0;
		if (unlinkat(root_fd, name, 0) < 0)
			return err_sys(e, "replace /%s of the image by a directory", name);
	}
	if (mkdirat(root_fd, name, mode) < 0)
		return err_sys(e, "make the directory /%s", name);
	if (fchmodat(root_fd, name, mode, 0) < 0)
		return err_sys(e, "set the mode of /%s", name);
	return 0;
}

static int move_mount_to(int root_fd, const char *name, struct err *e)
{
	char from[16];
	char to[32];
	int r = make_mount_point(root_fd, name, 0755, e);

	if (r < 0)
		return r;
	(void)snprintf(from, sizeof(from), "/%s", name);
	(void)snprintf(to, sizeof(to), "/root/%s", name);
	if (mount(from, to, NULL, MS_MOVE, NULL) < 0)
		return err_sys(e, "move %s into the image", from);
	return 0;
}

static int enter_root(struct err *e)
{
	_own_fd_ int root_fd = -1;
	int r = fd_open("/root", O_RDONLY | O_DIRECTORY, 0, &root_fd, e);

	if (r == 0)
		r = move_mount_to(root_fd, "dev", e);
	if (r == 0)
		r = move_mount_to(root_fd, "proc", e);
	if (r == 0)
		r = move_mount_to(root_fd, "sys", e);
	if (r == 0)
		r = make_mount_point(root_fd, "run", 0755, e);
	if (r == 0)
		r = make_mount_point(root_fd, "tmp", 01777, e);
	if (r < 0)
		return r;
	/* an image of one static program has none; names and users are looked for there */
	(void)mkdirat(root_fd, "etc", 0755);
	if (fchdir(root_fd) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		return err_sys(e, "enter the image");
	return 0;
}

static void make_dev(void)
{
	static const char *const dirs[] = { "/dev/pts", "/dev/shm", "/dev/mqueue" };
	static const struct {
		const char *to, *at;
	} links[] = {
		{ "/proc/self/fd", "/dev/fd" },
		{ "/proc/self/fd/0", "/dev/stdin" },
		{ "/proc/self/fd/1", "/dev/stdout" },
		{ "/proc/self/fd/2", "/dev/stderr" },
	};

	/* a fresh devtmpfs: nothing of the image is in it */
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (mkdir(dirs[i], 0755) < 0 && errno != EEXIST)
			log_warn("make %s: %s", dirs[i], strerror(errno));
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		if (symlink(links[i].to, links[i].at) < 0 && errno != EEXIST)
			log_warn("make %s: %s", links[i].at, strerror(errno));
}

int boot_root(int *ret_scratch_fd, struct err *e)
{
	_own_fd_ int scratch_fd = -1;
	bool kept = false;
	int r = mount_image(e);

	if (r == 0)
		r = mount_scratch(&kept, e);
	if (r == 0)
		r = fd_open("/scratch", O_RDONLY | O_DIRECTORY, 0, &scratch_fd, e);
	if (r == 0 && kept)
		r = workspace_prepare(scratch_fd, e);
	if (r < 0)
		return r;
	if (mount("overlay", "/root", "overlay", 0,
	          "lowerdir=/image,upperdir=/scratch/upper,workdir=/scratch/work,volatile") < 0)
		return err_sys(e, "mount the overlay");
	r = enter_root(e);
	if (r < 0)
		return r;
	make_dev();
	for (size_t i = 0; r == 0 && i < sizeof(root_mounts) / sizeof(root_mounts[0]); i++)
		r = mount_one(&root_mounts[i], e);
	if (r == 0)
		*ret_scratch_fd = steal_fd(&scratch_fd);
	return r;
}

int boot_rescue(int *ret_scratch_fd, struct err *e)
{
	static const struct boot_mount cgroup = { "cgroup2", "/sys/fs/cgroup",
		                                  "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		                                  "",        true };
	bool kept;
	int r = mount_scratch(&kept, e);

	if (r == 0)
		r = fd_open("/scratch", O_RDONLY | O_DIRECTORY, 0, ret_scratch_fd, e);
	return r == 0 ? mount_one(&cgroup, e) : r;
}

static void loopback_up(void)
{
	_own_fd_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		log_warn("no loopback: %s", strerror(errno));
}

void boot_settings(struct agent *a)
{
	struct rlimit files = { .rlim_cur = NOFILE_SOFT, .rlim_max = NOFILE_HARD };

	loopback_up();
	for (size_t i = 0; i < sizeof(sysctls) / sizeof(sysctls[0]); i++) {
		_own_fd_ int fd = -1;
		size_t len = strlen(sysctls[i].value);

		/* a kernel without the feature has no need of the setting */
		if (fd_open(sysctls[i].path, O_WRONLY, 0, &fd, NULL) == 0 &&
		    write(fd, sysctls[i].value, len) != (ssize_t)len)
			log_warn("set %s: %s", sysctls[i].path, strerror(errno));
	}
	(void)setrlimit(RLIMIT_NOFILE, &files);
	(void)sethostname("berm", 4);
	identity_init(&a->names);
	network_init(&a->network);
	trust_init(&a->trust);
	if (a->rescue) /* there is no root whose files could be set */
		return;
	identity_open(&a->names);
	identity_write_names(&a->names, "berm");
	network_prepare(&a->network);
	if (a->network.netlink_fd >= 0)
		trust_prepare(&a->trust);
}
