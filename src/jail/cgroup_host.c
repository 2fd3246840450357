/*
 * Which control groups this host lets us make. See cgroup.h for the order of preference.
 */
#include "base/fdio.h"
#include "jail/cgroup_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { PROC_TEXT_MAX = 8 << 20, CONTROLLERS_MAX = 512, ANCESTORS_MAX = 32 };

const struct cgroup_env *cgroup_env_or_real(const struct cgroup_env *env)
{
	static const struct cgroup_env as_root = { "/proc/self", O_WRONLY, true };
	static const struct cgroup_env as_user = { "/proc/self", O_WRONLY, false };

	if (env)
		return env;
	return geteuid() == 0 ? &as_root : &as_user;
}

static const struct {
	const char *name;
	unsigned limit;
} v2_controllers[] = {
	{ "cpu", CGROUP_LIMIT_CPU },
	{ "memory", CGROUP_LIMIT_MEMORY },
	{ "pids", CGROUP_LIMIT_PIDS },
};

enum { CGROUP_LIMIT_ALL = CGROUP_LIMIT_CPU | CGROUP_LIMIT_MEMORY | CGROUP_LIMIT_PIDS };

bool cgroup_path(char *ret, size_t size, const char *dir, const char *name)
{
	int n = snprintf(ret, size, "%s/%s", dir, name);

	return n > 0 && (size_t)n < size;
}

/* The controllers a file of `dir` lists, as CGROUP_LIMIT bits. */
static unsigned v2_listed(const char *dir, const char *file)
{
	char path[CGROUP_PATH_MAX];
	char text[CONTROLLERS_MAX];
	struct span in;
	struct span word;
	unsigned got = 0;
	_own_fd_ int fd = -1;
	ssize_t n;

	if (!cgroup_path(path, sizeof(path), dir, file) ||
	    fd_open(path, O_RDONLY, 0, &fd, NULL) < 0)
		return 0;
	n = read(fd, text, sizeof(text));
	if (n <= 0)
		return 0;
	in = span_of(text, (size_t)n);
	if (text[n - 1] == '\n')
		in.len--;
	while (take_until(&in, ' ', &word))
		for (size_t i = 0; i < sizeof(v2_controllers) / sizeof(v2_controllers[0]); i++)
			if (span_is(word, v2_controllers[i].name))
				got |= v2_controllers[i].limit;
	return got;
}

/* Hands what controllers it can to the children of dir; returns those they have. */
static unsigned v2_enable(const struct cgroup_env *env, const char *dir)
{
	unsigned have = v2_listed(dir, "cgroup.subtree_control");
	unsigned missing = v2_listed(dir, "cgroup.controllers") & ~have;

	for (size_t i = 0; i < sizeof(v2_controllers) / sizeof(v2_controllers[0]); i++) {
		char word[16];

		if (!(missing & v2_controllers[i].limit))
			continue;
		(void)snprintf(word, sizeof(word), "+%s", v2_controllers[i].name);
		/* one at a time: one that is missing must not cost us the others */
		(void)cgroup_write(env, dir, "cgroup.subtree_control", word, NULL);
	}
	return v2_listed(dir, "cgroup.subtree_control");
}

/* Tries to make dir/berm a parent for our groups. */
static bool v2_use(const struct cgroup_env *env, const char *dir, struct cgroup_host *got)
{
	char path[CGROUP_PATH_MAX];
	char procs[CGROUP_PATH_MAX];
	unsigned can;

	if (!cgroup_path(path, sizeof(path), dir, "berm") ||
	    !cgroup_path(procs, sizeof(procs), dir, "cgroup.procs"))
		return false;
	/* to move a process takes write access to the common ancestor's list */
	if (access(procs, W_OK) < 0 || !v2_listed(dir, "cgroup.controllers"))
		return false;
	if (!v2_enable(env, dir))
		return false;
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return false;
	can = v2_enable(env, path);
	if (!can) {
		(void)rmdir(path);
		return false;
	}
	got->mode = CGROUP_MODE_V2;
	got->can = can;
	memcpy(got->parent[CGROUP_V2], path, sizeof(path));
	return true;
}

/* Cuts the last component off; false at the mount point. */
static bool to_parent(char *dir, size_t point_len)
{
	char *slash = strrchr(dir, '/');

	if (!slash || (size_t)(slash - dir) < point_len)
		return false;
	*slash = '\0';
	return true;
}

static bool find_v2(const struct cgroup_env *env, const struct cgroup_self *self,
                    const struct cgroup_mounts *mounts, struct cgroup_host *got)
{
	char point[CGROUP_PATH_MAX];
	char dir[CGROUP_PATH_MAX];
	struct buf b;

	if (!mounts->point[CGROUP_V2].at || !self->path[CGROUP_V2].at)
		return false;
	buf_init(&b, point, sizeof(point));
	if (!cgroup_unescape(mounts->point[CGROUP_V2], &b) || !*buf_cstr(&b))
		return false;
	if (env->root && v2_use(env, point, got))
		return true;
	buf_init(&b, dir, sizeof(dir));
	if (!cgroup_join(mounts->point[CGROUP_V2], mounts->root[CGROUP_V2], self->path[CGROUP_V2],
	                 &b) ||
	    !*buf_cstr(&b))
		return false;
	/* not our own group: it holds us, and a group with processes has no limited children */
	for (int i = 0; i < ANCESTORS_MAX && to_parent(dir, strlen(point)); i++)
		if (v2_use(env, dir, got))
			return true;
	return false;
}

static void find_v1(const struct cgroup_self *self, const struct cgroup_mounts *mounts,
                    struct cgroup_host *got)
{
	static const unsigned limits[CGROUP_TREES] = {
		[CGROUP_MEMORY] = CGROUP_LIMIT_MEMORY,
		[CGROUP_CPU] = CGROUP_LIMIT_CPU,
		[CGROUP_PIDS] = CGROUP_LIMIT_PIDS,
	};

	for (unsigned t = CGROUP_MEMORY; t < CGROUP_TREES; t++) {
		char dir[CGROUP_PATH_MAX];
		struct buf b;

		buf_init(&b, dir, sizeof(dir));
		if (!mounts->point[t].at || !self->path[t].at ||
		    !cgroup_join(mounts->point[t], mounts->root[t], self->path[t], &b) ||
		    !*buf_cstr(&b) || access(dir, W_OK) < 0)
			continue;
		memcpy(got->parent[t], dir, sizeof(dir));
		got->can |= limits[t];
	}
	if (got->can)
		got->mode = CGROUP_MODE_V1;
}

static void explain(const struct cgroup_env *env, const struct cgroup_mounts *mounts,
                    struct cgroup_host *got)
{
	bool any = false;

	for (unsigned t = 0; t < CGROUP_TREES; t++)
		any = any || mounts->point[t].at;
	if (got->mode != CGROUP_MODE_NONE && got->can == CGROUP_LIMIT_ALL)
		return;
	(void)snprintf(got->why, sizeof(got->why), "%s",
	               got->mode != CGROUP_MODE_NONE ? "some cgroup controllers are not available"
	               : !any                        ? "no cgroup file system is mounted"
	               : env->root                   ? "no cgroup controller can be used from here"
	                           : "no cgroup is delegated to this user (systemd-run --user "
	                             "--scope -p Delegate=yes gives one)");
}

static int read_proc(const char *dir, const char *name, char **ret_text, size_t *ret_len,
                     struct err *e)
{
	char path[CGROUP_PATH_MAX];

	if (!cgroup_path(path, sizeof(path), dir, name))
		return err_set(e, -ENAMETOOLONG, "'%s/%s': path too long", dir, name);
	return fd_read_file(AT_FDCWD, path, PROC_TEXT_MAX, ret_text, ret_len, e);
}

int cgroup_host_find(const struct cgroup_env *env, struct cgroup_host *ret, struct err *e)
{
	_own_free_ struct cgroup_host *got = calloc(1, sizeof(*got));
	_own_free_ char *self_text = NULL;
	_own_free_ char *mount_text = NULL;
	struct cgroup_mounts mounts;
	struct cgroup_self self;
	size_t self_len = 0;
	size_t mount_len = 0;
	int r;

	if (!got)
		return err_set(e, -ENOMEM, "out of memory");
	env = cgroup_env_or_real(env);
	r = read_proc(env->proc_self, "cgroup", &self_text, &self_len, e);
	if (r == 0)
		r = read_proc(env->proc_self, "mountinfo", &mount_text, &mount_len, e);
	if (r < 0)
		return r;
	if (cgroup_parse_self(span_of(self_text, self_len), &self) < 0)
		return err_set(e, -EBADMSG, "'%s/cgroup' is not understood", env->proc_self);
	if (cgroup_parse_mounts(span_of(mount_text, mount_len), &mounts) < 0)
		return err_set(e, -EBADMSG, "'%s/mountinfo' is not understood", env->proc_self);
	if (!find_v2(env, &self, &mounts, got))
		find_v1(&self, &mounts, got);
	explain(env, &mounts, got);
	*ret = *got;
	return 0;
}
