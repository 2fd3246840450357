#include "jail/cgroup.h"

#include "base/fdio.h"
#include "jail/cgroup_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

enum { FILE_TEXT_MAX = 4096, PIDS_TEXT_MAX = 1 << 16, WORD_MAX = 32 };

int cgroup_write(const struct cgroup_env *env, const char *dir, const char *file, const char *word,
                 struct err *e)
{
	char path[CGROUP_PATH_MAX + CGROUP_NAME_MAX + 32];
	_own_fd_ int fd = -1;
	int r;

	if (!cgroup_path(path, sizeof(path), dir, file))
		return err_set(e, -ENAMETOOLONG, "'%s': path too long", dir);
	r = fd_open(path, cgroup_env_or_real(env)->write_flags, 0600, &fd, e);
	if (r < 0)
		return r;
	if (write(fd, word, strlen(word)) < 0)
		return err_sys(e, "write '%s' to '%s'", word, path);
	return 0;
}

/* A control file whole into text, NUL-ended. Its length or -errno. */
static ssize_t read_control(const char *dir, const char *file, char *text, size_t size)
{
	char path[CGROUP_PATH_MAX + CGROUP_NAME_MAX + 32];
	_own_fd_ int fd = -1;
	size_t len = 0;
	int r;

	if (!*dir || !cgroup_path(path, sizeof(path), dir, file))
		return -ENOENT;
	r = fd_open(path, O_RDONLY, 0, &fd, NULL);
	if (r < 0)
		return r;
	while (len < size - 1) {
		ssize_t n = read(fd, text + len, size - 1 - len);

		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	return (ssize_t)len;
}

static bool read_number(const char *dir, const char *file, const char *key, uint64_t *ret)
{
	char text[FILE_TEXT_MAX];
	ssize_t len = read_control(dir, file, text, sizeof(text));
	struct span in;
	struct span line;

	if (len <= 0)
		return false;
	in = span_of(text, (size_t)len);
	if (key)
		return cgroup_find_number(in, key, ret);
	return take_until(&in, '\n', &line) && span_to_u64(line, ret);
}

/* One limit of one tree: which file gets which word. */
static int put_limit(const struct cgroup_env *env, struct cgroup *cg, enum cgroup_tree tree,
                     unsigned limit, const char *file, const char *word, struct err *e)
{
	int r;

	if (!*cg->dir[tree])
		return 0;
	r = cgroup_write(env, cg->dir[tree], file, word, e);
	if (r == 0)
		cg->enforced |= limit;
	return r;
}

static int put_cpu(const struct cgroup_env *env, struct cgroup *cg, uint64_t millicores,
                   struct err *e)
{
	uint64_t quota_us = millicores * (CGROUP_CPU_PERIOD_US / 1000);
	char word[2 * WORD_MAX];
	int r;

	if (quota_us < 1000)
		quota_us = 1000; /* the kernel takes no less than a millisecond */
	if (cg->mode == CGROUP_MODE_V2) {
		(void)snprintf(word, sizeof(word), "%llu %d", (unsigned long long)quota_us,
		               CGROUP_CPU_PERIOD_US);
		return put_limit(env, cg, CGROUP_V2, CGROUP_LIMIT_CPU, "cpu.max", word, e);
	}
	(void)snprintf(word, sizeof(word), "%d", CGROUP_CPU_PERIOD_US);
	r = put_limit(env, cg, CGROUP_CPU, 0, "cpu.cfs_period_us", word, e);
	if (r < 0)
		return r;
	(void)snprintf(word, sizeof(word), "%llu", (unsigned long long)quota_us);
	r = put_limit(env, cg, CGROUP_CPU, CGROUP_LIMIT_CPU, "cpu.cfs_quota_us", word, e);
	if (r != -EINVAL)
		return r;
	err_clear(e); /* the group around us allows less: its limit is the one that holds */
	return 0;
}

static int put_memory(const struct cgroup_env *env, struct cgroup *cg, uint64_t bytes,
                      struct err *e)
{
	char word[WORD_MAX];
	int r;

	(void)snprintf(word, sizeof(word), "%llu", (unsigned long long)bytes);
	if (cg->mode == CGROUP_MODE_V2) {
		r = put_limit(env, cg, CGROUP_V2, CGROUP_LIMIT_MEMORY, "memory.max", word, e);
		/* swap would be more memory, and keeps data on disk; a kernel without it is fine */
		if (r == 0)
			(void)cgroup_write(env, cg->dir[CGROUP_V2], "memory.swap.max", "0", NULL);
		return r;
	}
	r = put_limit(env, cg, CGROUP_MEMORY, CGROUP_LIMIT_MEMORY, "memory.limit_in_bytes", word,
	              e);
	if (r == 0 && *cg->dir[CGROUP_MEMORY])
		(void)cgroup_write(env, cg->dir[CGROUP_MEMORY], "memory.memsw.limit_in_bytes", word,
		                   NULL);
	return r;
}

static int put_limits(const struct cgroup_env *env, unsigned can, struct cgroup *cg,
                      const struct cgroup_limits *limits, struct err *e)
{
	char word[WORD_MAX];
	int r = 0;

	if (limits->cpu_millicores && can & CGROUP_LIMIT_CPU)
		r = put_cpu(env, cg, limits->cpu_millicores, e);
	if (r == 0 && limits->memory_bytes && can & CGROUP_LIMIT_MEMORY)
		r = put_memory(env, cg, limits->memory_bytes, e);
	if (r == 0 && limits->pids && can & CGROUP_LIMIT_PIDS) {
		(void)snprintf(word, sizeof(word), "%llu", (unsigned long long)limits->pids);
		r = put_limit(env, cg, cg->mode == CGROUP_MODE_V2 ? CGROUP_V2 : CGROUP_PIDS,
		              CGROUP_LIMIT_PIDS, "pids.max", word, e);
	}
	return r;
}

/* cpu and cpuacct are often one mount: the same directory is made once. */
static bool seen_before(const struct cgroup *cg, unsigned tree)
{
	for (unsigned t = 0; t < tree; t++)
		if (strcmp(cg->dir[t], cg->dir[tree]) == 0)
			return true;
	return false;
}

static int make_dirs(const struct cgroup_host *host, const char *name, struct cgroup *cg,
                     struct err *e)
{
	for (unsigned t = 0; t < CGROUP_TREES; t++) {
		if (!*host->parent[t])
			continue;
		if (!cgroup_path(cg->dir[t], sizeof(cg->dir[t]), host->parent[t], name))
			return err_set(e, -ENAMETOOLONG, "cgroup '%s': path too long", name);
		memcpy(cg->parent[t], host->parent[t], sizeof(cg->parent[t]));
		if (seen_before(cg, t))
			continue;
		if (mkdir(cg->dir[t], 0755) < 0) {
			int r = err_sys(e, "make cgroup '%s'", cg->dir[t]);

			cg->dir[t][0] = '\0'; /* not ours to remove */
			return r;
		}
	}
	return 0;
}

int cgroup_create(const struct cgroup_env *env, const struct cgroup_host *host, const char *name,
                  const struct cgroup_limits *limits, struct cgroup *ret_cg, struct err *e)
{
	_own_free_ struct cgroup *cg = NULL;
	int r;

	if (!*name || strlen(name) >= CGROUP_NAME_MAX || strchr(name, '/') || name[0] == '.')
		return err_set(e, -EINVAL, "'%s' is no name for a cgroup", name);
	cg = calloc(1, sizeof(*cg));
	if (!cg)
		return err_set(e, -ENOMEM, "out of memory");
	cg->mode = host->mode;
	r = make_dirs(host, name, cg, e);
	if (r == 0)
		r = put_limits(env, host->can, cg, limits, e);
	if (r < 0) {
		(void)cgroup_remove(cg, NULL);
		return r;
	}
	*ret_cg = *cg;
	return 0;
}

/* The kernel's cpu controller may know no groups of real-time processes, and says only EINVAL. */
static int refused(pid_t pid, int r, struct err *e)
{
	int policy = r == -EINVAL ? sched_getscheduler(pid) & ~SCHED_RESET_ON_FORK : SCHED_OTHER;

	if (policy != SCHED_FIFO && policy != SCHED_RR)
		return r;
	return err_set(e, r,
	               "this host's cpu controller takes no process with real-time scheduling "
	               "(%s): start berm without it, 'chrt -o 0 berm ...'",
	               policy == SCHED_RR ? "SCHED_RR" : "SCHED_FIFO");
}

int cgroup_add(const struct cgroup *cg, pid_t pid, struct err *e)
{
	char word[WORD_MAX];

	(void)snprintf(word, sizeof(word), "%d", pid);
	for (unsigned t = 0; t < CGROUP_TREES; t++) {
		int r;

		if (!*cg->dir[t] || seen_before(cg, t))
			continue;
		r = cgroup_write(NULL, cg->dir[t], "cgroup.procs", word, e);
		if (r < 0)
			return refused(pid, r, e);
	}
	return 0;
}

/* A tree whose list of processes is the group's. */
static const char *any_dir(const struct cgroup *cg)
{
	for (unsigned t = 0; t < CGROUP_TREES; t++)
		if (*cg->dir[t])
			return cg->dir[t];
	return "";
}

/* One signal to each process listed now. Returns how many there were, or -errno. */
static int kill_listed(const char *dir)
{
	_own_free_ char *text = malloc(PIDS_TEXT_MAX);
	struct span in;
	struct span line;
	ssize_t len;
	int count = 0;

	if (!text)
		return -ENOMEM;
	len = read_control(dir, "cgroup.procs", text, PIDS_TEXT_MAX);
	if (len < 0)
		return len == -ENOENT || len == -ENODEV ? 0 : (int)len;
	in = span_of(text, (size_t)len);
	while (take_until(&in, '\n', &line)) {
		uint64_t pid;

		/* 0 is a process of another pid namespace; a cut last line is read next round */
		if (!span_to_u64(line, &pid) || pid == 0 || pid > INT32_MAX)
			continue;
		(void)kill((pid_t)pid, SIGKILL);
		count++;
	}
	return count;
}

static void pause_ms(long ms)
{
	struct timespec ts = { .tv_nsec = ms * 1000000 };

	(void)nanosleep(&ts, NULL);
}

int cgroup_kill(const struct cgroup *cg, struct err *e)
{
	const char *dir = any_dir(cg);
	const char *freezer = cg->dir[CGROUP_FREEZER];
	int left = 0;

	if (!*dir)
		return 0;
	/* v2 has it as one atomic word (5.14); zombies stay listed, so ask once */
	if (cg->mode == CGROUP_MODE_V2 && cgroup_write(NULL, dir, "cgroup.kill", "1", NULL) == 0)
		return 0;
	for (int i = 0; i < CGROUP_KILL_ROUNDS; i++) {
		/* frozen, none can fork away between the listing and the signal */
		if (*freezer)
			(void)cgroup_write(NULL, freezer, "freezer.state", "FROZEN", NULL);
		left = kill_listed(dir);
		if (*freezer)
			(void)cgroup_write(NULL, freezer, "freezer.state", "THAWED", NULL);
		if (left <= 0)
			break;
		/* what was killed still has to die, which takes it a while on a busy machine */
		pause_ms(i < CGROUP_KILL_ROUNDS / 2 ? 1 : CGROUP_KILL_PAUSE_MS);
	}
	if (left < 0)
		return err_set(e, left, "list cgroup '%s': %s", dir, strerror(-left));
	if (left > 0)
		return err_set(e, -EBUSY, "cgroup '%s' still holds %d processes", dir, left);
	return 0;
}

int cgroup_stats_read(const struct cgroup *cg, struct cgroup_stats *ret, struct err *e)
{
	struct cgroup_stats got = { 0 };
	const char *v2 = cg->dir[CGROUP_V2];
	const char *memory = cg->dir[CGROUP_MEMORY];

	if (cg->mode == CGROUP_MODE_NONE)
		return err_set(e, -ENOTSUP, "no cgroup: its statistics are not known");
	if (cg->mode == CGROUP_MODE_V2) {
		(void)read_number(v2, "cpu.stat", "usage_usec", &got.cpu_us);
		(void)read_number(v2, "memory.current", NULL, &got.memory_bytes);
		(void)read_number(v2, "memory.peak", NULL, &got.memory_peak_bytes);
		(void)read_number(v2, "memory.events", "oom_kill", &got.oom_kills);
		(void)read_number(v2, "pids.current", NULL, &got.pids);
	} else {
		if (read_number(cg->dir[CGROUP_CPUACCT], "cpuacct.usage", NULL, &got.cpu_us))
			got.cpu_us /= 1000; /* nanoseconds there */
		(void)read_number(memory, "memory.usage_in_bytes", NULL, &got.memory_bytes);
		(void)read_number(memory, "memory.max_usage_in_bytes", NULL,
		                  &got.memory_peak_bytes);
		(void)read_number(memory, "memory.oom_control", "oom_kill", &got.oom_kills);
		(void)read_number(cg->dir[CGROUP_PIDS], "pids.current", NULL, &got.pids);
	}
	*ret = got;
	return 0;
}

static int remove_dir(const char *dir, struct err *e)
{
	for (int i = 0; i < CGROUP_REMOVE_TRIES; i++) {
		if (rmdir(dir) == 0 || errno == ENOENT)
			return 0;
		if (errno != EBUSY)
			break;
		pause_ms(1);
	}
	return err_sys(e, "remove cgroup '%s'", dir);
}

int cgroup_remove(const struct cgroup *cg, struct err *e)
{
	int first = 0;

	for (unsigned t = 0; t < CGROUP_TREES; t++) {
		int r;

		if (!*cg->dir[t])
			continue;
		r = remove_dir(cg->dir[t], first ? NULL : e);
		if (r < 0 && first == 0)
			first = r;
	}
	return first;
}

/* Kills what is in one left-over directory and removes it. True when it is gone. */
static bool sweep_dir(const char *dir, enum cgroup_mode mode, unsigned tree)
{
	_own_free_ struct cgroup *cg = calloc(1, sizeof(*cg));

	if (!cg || strlen(dir) >= sizeof(cg->dir[0]))
		return false;
	cg->mode = mode;
	memcpy(cg->dir[tree], dir, strlen(dir) + 1);
	return cgroup_kill(cg, NULL) == 0 && cgroup_remove(cg, NULL) == 0;
}

static void dir_free(DIR *d)
{
	if (d)
		(void)closedir(d);
}
OWN_DEFINE(DIR, dir_free)

static unsigned sweep_tree(const struct cgroup_host *host, unsigned tree, const char *prefix,
                           cgroup_alive *alive, void *ctx)
{
	_own_(dir_free) DIR *d = opendir(host->parent[tree]);
	unsigned removed = 0;

	for (int i = 0; d && i < CGROUP_SWEEP_MAX; i++) {
		char path[CGROUP_PATH_MAX + CGROUP_NAME_MAX];
		const struct dirent *de = readdir(d);

		if (!de)
			break;
		if (de->d_type != DT_DIR || strncmp(de->d_name, prefix, strlen(prefix)) != 0)
			continue;
		if (alive(ctx, de->d_name + strlen(prefix)))
			continue;
		if (cgroup_path(path, sizeof(path), host->parent[tree], de->d_name) &&
		    sweep_dir(path, host->mode, tree))
			removed++;
	}
	return removed;
}

int cgroup_sweep(const struct cgroup_host *host, const char *prefix, cgroup_alive *alive, void *ctx,
                 unsigned *ret_removed, struct err *e)
{
	unsigned removed = 0;

	if (!*prefix)
		return err_set(e, -EINVAL, "an empty prefix would sweep groups of others");
	for (unsigned t = 0; t < CGROUP_TREES; t++)
		if (*host->parent[t])
			removed += sweep_tree(host, t, prefix, alive, ctx);
	if (ret_removed)
		*ret_removed = removed;
	return 0;
}

void cgroup_put(struct buf *b, const struct cgroup *cg)
{
	for (unsigned t = 0; t < CGROUP_TREES; t++)
		if (*cg->dir[t] && !seen_before(cg, t))
			buf_printf(b, "%u %s\n", t, cg->dir[t]);
}

/* Absolute, without "..", and its last part starts with prefix. */
static bool dir_is_ours(struct span dir, const char *prefix)
{
	struct span part = { 0 };
	struct span rest = dir;

	if (dir.len == 0 || dir.at[0] != '/' || memchr(dir.at, '\0', dir.len))
		return false;
	while (take_until(&rest, '/', &part))
		if (span_is(part, "..") || span_is(part, "."))
			return false;
	return part.len > strlen(prefix) && memcmp(part.at, prefix, strlen(prefix)) == 0;
}

int cgroup_from_text(struct span text, const char *prefix, struct cgroup *ret, struct err *e)
{
	_own_free_ struct cgroup *cg = calloc(1, sizeof(*cg));
	struct span line;
	struct span word;

	if (!cg)
		return err_set(e, -ENOMEM, "out of memory");
	while (take_until(&text, '\n', &line)) {
		uint64_t t;

		if (!take_until(&line, ' ', &word) || !span_to_u64(word, &t) || t >= CGROUP_TREES ||
		    line.len >= sizeof(cg->dir[0]) || !dir_is_ours(line, prefix))
			return err_set(e, -EBADMSG, "not a record of a cgroup");
		memcpy(cg->dir[t], line.at, line.len);
		cg->dir[t][line.len] = '\0';
		cg->mode = t == CGROUP_V2 ? CGROUP_MODE_V2 : CGROUP_MODE_V1;
	}
	*ret = *cg;
	return 0;
}

size_t cgroup_jail_paths(const struct cgroup *cg, struct jail_path *ret, size_t max)
{
	size_t n = 0;

	for (unsigned t = 0; t < CGROUP_TREES; t++) {
		if (!*cg->dir[t] || seen_before(cg, t) || max - n < 2)
			continue;
		ret[n++] = (struct jail_path){ .path = cg->dir[t],
			                       .access = JAIL_READ | JAIL_WRITE,
			                       .why = "the sandbox's cgroup" };
		ret[n++] = (struct jail_path){ .path = cg->parent[t],
			                       .access = JAIL_MAKE,
			                       .why = "its removal" };
	}
	return n;
}
