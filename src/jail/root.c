/*
 * Theory of operation: a root of our own, made in a mount namespace of our own.
 *
 * Landlock refuses to open, but not to stat(), access() or readlink(): with the host's tree in view
 * a process can still learn which files there are. So the tree goes. A tmpfs is mounted where we
 * need nothing (/sys), the few paths the profile names are bind-mounted in it under their own
 * names, and it takes the place of "/". Directories in it are ours, so a path below one that the
 * final uid could not pass on the host is reachable all the same.
 *
 * A symbolic link among the paths (/lib on a merged system) stays one; what it leads to is mounted
 * too. Nothing of this survives the process, and nothing is visible outside.
 */
#include "base/buf.h"
#include "base/fdio.h"
#include "jail/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { NEW_PATH_MAX = PATH_MAX + 16 };

static const char new_root[] = "/sys";

/* The first step, and the one a host may forbid. */
static int mount_new_root(struct err *e)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(e, "make the mounts private");
	if (mount("berm", new_root, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
	          "mode=0755,size=64k,nr_inodes=256") < 0)
		return err_sys(e, "mount a new root");
	return 0;
}

/* mkdir -p for all but the last component of an absolute path below the new root. */
static int make_parents(char *path, struct err *e)
{
	for (char *at = path + sizeof(new_root); *at; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST) {
			int r = err_sys(e, "make '%s'", path);

			*at = '/';
			return r;
		}
		*at = '/';
	}
	return 0;
}

static bool below_new_root(char *ret, const char *path)
{
	int n = snprintf(ret, NEW_PATH_MAX, "%s%s", new_root, path);

	return path[0] == '/' && n > 0 && n < NEW_PATH_MAX;
}

/* Mounts `from` at `at` in the new root, which is made a file or a directory like it. */
static int bind_at(const char *from, const char *at, struct err *e)
{
	char to[NEW_PATH_MAX];
	_own_fd_ int fd = -1;
	struct stat st;
	struct stat there;
	int r;

	if (!below_new_root(to, at))
		return err_set(e, -ENAMETOOLONG, "'%s' is too long or not absolute", at);
	if (stat(from, &st) < 0)
		return err_sys(e, "look at '%s'", from);
	if (stat(to, &there) == 0 && there.st_ino == st.st_ino && there.st_dev == st.st_dev)
		return 0; /* there already, by itself or inside another */
	r = make_parents(to, e);
	if (r < 0)
		return r;
	if (S_ISDIR(st.st_mode)) {
		if (mkdir(to, 0755) < 0 && errno != EEXIST)
			return err_sys(e, "make '%s'", to);
	} else {
		r = fd_open(to, O_WRONLY | O_CREAT, 0600, &fd, e);
		if (r < 0)
			return r;
	}
	if (mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0)
		return err_sys(e, "mount '%s' in the new root", from);
	return 0;
}

/* The link itself; what it leads to is mounted by the caller. -EINVAL: it is no link. */
static int copy_link(const char *path, struct err *e)
{
	char to[NEW_PATH_MAX];
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	int r;

	if (n < 0)
		return errno == EINVAL ? -EINVAL : err_sys(e, "readlink '%s'", path);
	target[n] = '\0';
	if (!below_new_root(to, path))
		return err_set(e, -ENAMETOOLONG, "'%s' is too long or not absolute", path);
	r = make_parents(to, e);
	if (r == 0 && symlink(target, to) < 0 && errno != EEXIST)
		r = err_sys(e, "link '%s'", to);
	return r;
}

static int add_path(const struct jail_path *p, struct err *e)
{
	char real[PATH_MAX];
	int r;

	if (!p->path)
		return 0; /* reached through its fd alone */
	if (!realpath(p->path, real)) {
		if (errno == ENOENT && p->access & JAIL_OPTIONAL)
			return 0;
		return err_sys(e, "find '%s'", p->path);
	}
	if (p->as)
		return bind_at(real, p->as, e);
	r = bind_at(real, real, e);
	if (r < 0 || strcmp(real, p->path) == 0)
		return r;
	r = copy_link(p->path, e);
	return r == -EINVAL ? bind_at(real, p->path, e) : r; /* a link on the way, not at the end */
}

static int add_paths(const struct jail_path *paths, size_t count, struct err *e)
{
	for (size_t i = 0; i < count; i++) {
		int r = add_path(&paths[i], e);

		if (r < 0)
			return r;
	}
	return 0;
}

static int enter_new_root(struct err *e)
{
	if (mount(NULL, new_root, NULL,
	          MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return err_sys(e, "make the new root read-only");
	if (chdir(new_root) < 0)
		return err_sys(e, "enter the new root");
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return err_sys(e, "pivot_root");
	/* the old root now lies over the new one: take it off */
	if (umount2(".", MNT_DETACH) < 0)
		return err_sys(e, "let go of the old root");
	if (chdir("/") < 0)
		return err_sys(e, "stand in the new root");
	return 0;
}

int jail_root(const struct jail_profile *p, const struct jail_params *params, bool *ret_changed,
              int *ret_errno, struct err *e)
{
	struct err first = { 0 };
	int r = mount_new_root(&first);

	if (r < 0) { /* nothing has changed that anyone can see */
		*ret_changed = false;
		*ret_errno = -r;
		return 0;
	}
	r = add_paths(p->paths, p->path_count, e);
	if (r == 0)
		r = add_paths(params->paths, params->path_count, e);
	if (r == 0)
		r = enter_new_root(e);
	if (r == 0)
		*ret_changed = true;
	return r;
}
