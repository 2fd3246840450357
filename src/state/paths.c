#include "state/paths.h"

#include "base/fdio.h"
#include "base/span.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define ROOT_STATE "/var/lib/berm"
#define WAY_OUT    "set BERM_STATE_DIR to a directory of your own"

_printf_(3, 4) static int put_path(char ret[PATH_MAX], struct err *e, const char *fmt, ...)
{
	char made[PATH_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(made, sizeof(made), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(made))
		return err_set(e, -ENAMETOOLONG, "a path is longer than %d bytes", PATH_MAX - 1);
	memcpy(ret, made, (size_t)n + 1);
	return 0;
}

/* Cuts "/tail" off the end of path. */
static bool cut_tail(struct span *path, const char *tail)
{
	struct span t = span_str(tail);

	if (path->len < t.len || memcmp(path->at + path->len - t.len, t.at, t.len) != 0)
		return false;
	path->len -= t.len;
	return true;
}

static int find_prefix(const char *exe, struct span *ret, struct err *e)
{
	const char *slash = exe ? strrchr(exe, '/') : NULL;
	struct span dir;

	if (!slash || exe[0] != '/')
		return err_set(e, -ENOENT,
		               "berm cannot tell where it is installed: is /proc mounted?");
	dir = span_of(exe, (size_t)(slash - exe));
	if (!cut_tail(&dir, "/bin") && !cut_tail(&dir, "/libexec/berm"))
		return err_set(
			e, -ENOENT,
			"'%s' is in neither bin/ nor libexec/berm/, so berm's own files cannot be "
			"found next to it: install berm with `make install`",
			exe);
	*ret = dir;
	return 0;
}

static bool absolute(const char *path)
{
	return path && path[0] == '/';
}

static int find_state(const struct paths_input *in, char ret[PATH_MAX], struct err *e)
{
	if (absolute(in->state_dir))
		return put_path(ret, e, "%s", in->state_dir);
	if (in->state_dir && in->state_dir[0]) {
		if (!absolute(in->cwd))
			return err_set(
				e, -ENOENT,
				"BERM_STATE_DIR '%s' is relative to a directory that is gone: give "
				"it from /",
				in->state_dir);
		return put_path(ret, e, "%s/%s", in->cwd, in->state_dir);
	}
	if (in->uid == 0)
		return put_path(ret, e, "%s", ROOT_STATE);
	if (absolute(in->xdg_data_home)) /* a relative one is to be ignored, says its standard */
		return put_path(ret, e, "%s/berm", in->xdg_data_home);
	if (absolute(in->home))
		return put_path(ret, e, "%s/.local/share/berm", in->home);
	return err_set(e, -ENOENT,
	               "HOME is not set, so there is no place for berm's state: " WAY_OUT);
}

static int find_parts(const char *exe, struct paths *ret, struct err *e)
{
	struct span prefix = { 0 };
	int len;
	int r = find_prefix(exe, &prefix, e);

	if (r < 0)
		return r;
	if (prefix.len >= PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "a path is longer than %d bytes", PATH_MAX - 1);
	len = (int)prefix.len;
	r = put_path(ret->libexec, e, "%.*s/libexec/berm", len, (const char *)prefix.at);
	if (r == 0)
		r = put_path(ret->share, e, "%.*s/share/berm", len, (const char *)prefix.at);
	return r;
}

int paths_from(const struct paths_input *in, struct paths *ret, struct err *e)
{
	_own_free_ struct paths *got = calloc(1, sizeof(*got));
	int r;

	if (!got)
		return err_set(e, -ENOMEM, "out of memory");
	r = find_parts(in->exe, got, e);
	if (r == 0 && !in->no_state)
		r = find_state(in, got->state, e);
	if (r == 0)
		*ret = *got;
	return r;
}

/* Takes its input by value: what it adds lives only as long as the call. */
static int find(struct paths_input in, struct paths *ret, struct err *e)
{
	char exe[PATH_MAX];
	char cwd[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n > 0) {
		/* of a program replaced while it runs, " (deleted)": its folder is still right */
		exe[n] = '\0';
		in.exe = exe;
	}
	in.cwd = getcwd(cwd, sizeof(cwd));
	return paths_from(&in, ret, e);
}

int paths_find(struct paths *ret, struct err *e)
{
	struct paths_input in = {
		.state_dir = getenv("BERM_STATE_DIR"),
		.xdg_data_home = getenv("XDG_DATA_HOME"),
		.home = getenv("HOME"),
		.uid = geteuid(),
	};

	return find(in, ret, e);
}

int paths_find_parts(struct paths *ret, struct err *e)
{
	struct paths_input in = { .no_state = true };

	return find(in, ret, e);
}

/* One sentence a person can act on, for what may be wrong with `what` in the state directory. */
static int explain(int code, const char *what, struct err *e)
{
	switch (code) {
	case -EROFS:
		return err_set(e, code,
		               "state directory '%s' is on a read-only file system: " WAY_OUT,
		               what);
	case -EACCES:
	case -EPERM:
		return err_set(e, code,
		               "no permission to write to the state directory '%s': " WAY_OUT,
		               what);
	case -ENOTDIR:
		return err_set(e, code,
		               "state directory '%s' is not a directory: remove it, or " WAY_OUT,
		               what);
	case -ENOSPC:
	case -EDQUOT:
		return err_set(e, code,
		               "no space left for the state directory '%s': free some, or " WAY_OUT,
		               what);
	default:
		errno = -code;
		return err_sys(e, "state directory '%s' cannot be used (" WAY_OUT ")", what);
	}
}

static int make_folder(int dir_fd, const char *state, const char *name, struct err *e)
{
	char what[PATH_MAX];
	struct stat st;
	int r = put_path(what, e, "%s/%s", state, name);

	if (r < 0)
		return r;
	if (mkdirat(dir_fd, name, 0700) == 0)
		return 0;
	if (errno != EEXIST)
		return explain(-errno, what, e);
	/* what exists may still be no directory; a link to another disk's directory is fine */
	if (fstatat(dir_fd, name, &st, 0) < 0)
		return explain(-errno, what, e);
	return S_ISDIR(st.st_mode) ? 0 : explain(-ENOTDIR, what, e);
}

/* Whoever can write here can plant templates and images, and so choose what our guests run. */
static int check_private(int fd, const char *state, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return explain(-errno, state, e);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return err_set(e, -EPERM,
		               "state directory '%s' belongs to another user (%u): " WAY_OUT, state,
		               st.st_uid);
	if (st.st_mode & 022)
		return err_set(
			e, -EPERM,
			"other users may write to the state directory '%s': `chmod go-w` it, "
			"or " WAY_OUT,
			state);
	return 0;
}

int paths_open_state(const struct paths *p, int *ret_dir_fd, struct err *e)
{
	static const char *const folders[] = { "images", "templates", "snapshots", "sandboxes",
		                               "ended" };
	_own_fd_ int fd = -1;
	int r = fd_make_dirs(p->state, &fd, NULL);

	if (r < 0)
		return explain(r, p->state, e);
	/* said now and about the whole, not later about some file in it */
	if (faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		return explain(-errno, p->state, e);
	r = check_private(fd, p->state, e);
	for (size_t i = 0; r == 0 && i < sizeof(folders) / sizeof(folders[0]); i++)
		r = make_folder(fd, p->state, folders[i], e);
	if (r < 0)
		return r;
	*ret_dir_fd = steal_fd(&fd);
	return 0;
}
