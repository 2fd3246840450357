#include "agent/workspace.h"

#include "base/fdio.h"
#include "base/own.h"
#include "base/span.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	OPTIONS_MAX = 256,
	BLOCK = 4096,
	/* What of EROFS's super block says where inodes are: how many, and from which block on. */
	SUPER_AT = 1024,
	SUPER_INODES_AT = 16,
	SUPER_BLOCK_AT = 40,
	SUPER_BYTES = 48,
	/* Inode, name, and content where it is tiny; what is read too much is zeros. */
	INODE_BYTES = 128,
	AHEAD_MAX = 32 << 20,  /* 250,000 files; page cache, which the kernel can take back */
	AHEAD_PIECE = 1 << 20, /* what the kernel takes at one call: see max_sectors_kb */
};

static const char disk[] = "/dev/vdc";
static const char base[] = "/run/berm/base";

void workspace_init(struct workspace *w)
{
	*w = (struct workspace){ .upper_fd = -1 };
}

/* A guest of a template looked at an empty disk, and its kernel may still know what it saw. */
static int forget_disk(struct err *e)
{
	_own_fd_ int fd = -1;
	int r = fd_open(disk, O_RDONLY, 0, &fd, e);

	if (r < 0)
		return r;
	if (ioctl(fd, BLKFLSBUF, 0) < 0)
		return err_sys(e, "forget what was read of %s", disk);
	return 0;
}

static int make_dir(int dir_fd, const char *name, struct err *e)
{
	if (mkdirat(dir_fd, name, 0755) < 0 && errno != EEXIST)
		return err_sys(e, "make %s", name);
	return 0;
}

/* From where on, and how many bytes; false: no image that we know. */
static bool find_inodes(int fd, uint64_t *ret_at, uint64_t *ret_bytes)
{
	uint8_t super[SUPER_BYTES];
	struct span inodes = span_of(super + SUPER_INODES_AT, 8);
	struct span block = span_of(super + SUPER_BLOCK_AT, 4);
	uint64_t count;
	uint32_t first;

	if (pread(fd, super, sizeof(super), SUPER_AT) != (ssize_t)sizeof(super) ||
	    !take_le64(&inodes, &count) || !take_le32(&block, &first))
		return false;
	*ret_at = (uint64_t)first * BLOCK;
	*ret_bytes = AHEAD_MAX;
	if (count < AHEAD_MAX / INODE_BYTES - BLOCK / INODE_BYTES)
		*ret_bytes = count * INODE_BYTES + BLOCK;
	return true;
}

/*
 * EROFS reads inodes block by block, each when it is asked for, and waits. They lie together, so
 * all of them are asked for at once, in large pieces; the kernel brings them in while others work.
 * What fails here fails again, with a word, where it matters.
 */
static void read_inodes_ahead(void)
{
	_own_fd_ int fd = -1;
	uint64_t at, bytes;

	if (fd_open(disk, O_RDONLY, 0, &fd, NULL) < 0 || !find_inodes(fd, &at, &bytes))
		return;
	for (uint64_t done = 0; done < bytes; done += AHEAD_PIECE)
		(void)readahead(fd, (off_t)(at + done),
		                bytes - done < AHEAD_PIECE ? bytes - done : AHEAD_PIECE);
}

static int mount_base(struct err *e)
{
	int r = make_dir(AT_FDCWD, "/run/berm", e);

	if (r == 0)
		r = make_dir(AT_FDCWD, base, e);
	if (r == 0)
		r = forget_disk(e);
	if (r < 0)
		return r;
	if (mount(disk, base, "erofs", MS_RDONLY | MS_NODEV | MS_NOSUID, "") < 0)
		return err_sys(e, "mount the workspace's image (vdc, erofs)");
	read_inodes_ahead();
	return 0;
}

static int make_layers(int scratch_fd, struct err *e)
{
	int r = make_dir(scratch_fd, "workspace", e);

	if (r == 0)
		r = make_dir(scratch_fd, "workspace/upper", e);
	return r == 0 ? make_dir(scratch_fd, "workspace/work", e) : r;
}

static int open_upper(int scratch_fd, int *ret_fd, struct err *e)
{
	return fd_openat(scratch_fd, "workspace/upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
	                 ret_fd, e);
}

/*
 * A guest can be killed before its disk writes anything by itself, which takes seconds. Whoever
 * rescues its work finds an upper layer, then, with nothing in it: there is no work, and no damage.
 */
int workspace_prepare(int scratch_fd, struct err *e)
{
	_own_fd_ int upper_fd = -1;
	int r = make_layers(scratch_fd, e);

	if (r == 0)
		r = open_upper(scratch_fd, &upper_fd, e);
	if (r == 0 && fsync(upper_fd) < 0)
		r = err_sys(e, "write the workspace's upper layer to the disk");
	return r;
}

/* The next directory of the path, made if there is none. A link of the image is not followed. */
static int enter(int *dir_fd, const char *name, const char *path, struct err *e)
{
	_own_fd_ int fd = -1;
	int r;

	if (mkdirat(*dir_fd, name, 0755) < 0 && errno != EEXIST)
		return err_sys(e, "make '%s' for the workspace '%s'", name, path);
	r = fd_openat(*dir_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0, &fd, NULL);
	if (r == -ENOTDIR || r == -ELOOP)
		return err_set(e, r,
		               "the workspace cannot be at '%s': the image has a file or a link in "
		               "the place of the directory '%s'",
		               path, name);
	if (r < 0)
		return err_set(e, r, "the workspace cannot be at '%s': %s", path, strerror(-r));
	(void)close(*dir_fd);
	*dir_fd = steal_fd(&fd);
	return 0;
}

static int open_place(const char *path, int *ret_fd, struct err *e)
{
	char part[WIRE_NAME_MAX + 1];
	const char *at = path;
	_own_fd_ int fd = -1;
	int r = fd_open("/", O_PATH | O_DIRECTORY, 0, &fd, e);

	while (r == 0 && *at) {
		size_t len;

		/* its slash; wire_parse_mount_point() saw to it that there is one, and a part */
		at++;
		len = strcspn(at, "/");
		(void)snprintf(part, sizeof(part), "%.*s", (int)len, at);
		at += len;
		r = enter(&fd, part, path, e);
	}
	if (r == 0)
		*ret_fd = steal_fd(&fd);
	return r;
}

/*
 * Without metacopy a file whose mode was changed is in the upper layer with its data. A renamed
 * directory is there as a name and where it came from, not as a copy of all in it. Not volatile:
 * what a program has synced is on the disk when the guest dies.
 */
static int mount_overlay(int scratch_fd, int at_fd, struct err *e)
{
	char options[OPTIONS_MAX];
	char at[40];

	(void)snprintf(options, sizeof(options),
	               "lowerdir=%s,upperdir=/proc/self/fd/%d/workspace/upper,"
	               "workdir=/proc/self/fd/%d/workspace/work,"
	               "metacopy=off,redirect_dir=on,xino=on,index=off",
	               base, scratch_fd, scratch_fd);
	(void)snprintf(at, sizeof(at), "/proc/self/fd/%d", at_fd);
	if (mount("workspace", at, "overlay", MS_NODEV | MS_NOSUID, options) < 0)
		return err_sys(e, "mount the workspace");
	return 0;
}

int workspace_mount(struct workspace *w, int scratch_fd, const struct wire_workspace *want,
                    struct err *e)
{
	_own_fd_ int at_fd = -1;
	_own_fd_ int upper_fd = -1;
	char path[WIRE_PATH_MAX] = { 0 };
	int r;

	memcpy(path, want->path.at, want->path.len);
	if (w->mounted)
		return strcmp(w->path, path) == 0
		               ? 0
		               : err_set(e, -EBUSY, "the workspace is at '%s' already", w->path);
	r = mount_base(e);
	if (r == 0)
		r = open_upper(scratch_fd, &upper_fd, e);
	if (r == 0)
		r = open_place(path, &at_fd, e);
	if (r == 0)
		r = mount_overlay(scratch_fd, at_fd, e);
	if (r < 0)
		return r;
	w->upper_fd = steal_fd(&upper_fd);
	w->mounted = true;
	memcpy(w->path, path, sizeof(path));
	return 0;
}

int workspace_find(struct workspace *w, int scratch_fd, struct err *e)
{
	int r = open_upper(scratch_fd, &w->upper_fd, e);

	return r == -ENOENT
	               ? err_set(e, r,
	                         "the upper layer of the workspace is not on this disk any more")
	               : r;
}
