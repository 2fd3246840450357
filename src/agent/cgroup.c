#include "agent/cgroup.h"

#include "base/ck.h"
#include "base/fdio.h"
#include "base/span.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

enum { TEXT_MAX = 4096, NAME_MAX_BYTES = 16 };

static int write_file(int dir_fd, const char *file, const char *text, struct err *e)
{
	_own_fd_ int fd = -1;
	int r = fd_openat(dir_fd, file, O_WRONLY, 0, &fd, e);

	if (r < 0)
		return r;
	if (write(fd, text, strlen(text)) < 0)
		return err_sys(e, "write '%s' to %s", text, file);
	return 0;
}

int cgroup_init(struct cgroups *c, struct err *e)
{
	/* each is asked for alone: a kernel without one of them still has the others */
	static const char *const wanted[] = { "+memory", "+pids", "+cpu", "+io", "+cpuset" };
	int r;

	*c = (struct cgroups){ .root_fd = -1,
		               .workload_fd = -1,
		               .memory_events_fd = -1,
		               .pids_events_fd = -1,
		               .events_fd = -1 };
	r = fd_open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY, 0, &c->root_fd, e);
	for (size_t i = 0; r == 0 && i < sizeof(wanted) / sizeof(wanted[0]); i++)
		(void)write_file(c->root_fd, "cgroup.subtree_control", wanted[i], NULL);
	if (r == 0 && mkdirat(c->root_fd, "workload", 0755) < 0 && errno != EEXIST)
		r = err_sys(e, "make cgroup 'workload'");
	if (r == 0)
		r = fd_openat(c->root_fd, "workload", O_RDONLY | O_DIRECTORY, 0, &c->workload_fd,
		              e);
	if (r == 0)
		r = fd_openat(c->workload_fd, "memory.events", O_RDONLY, 0, &c->memory_events_fd,
		              e);
	if (r == 0)
		r = fd_openat(c->workload_fd, "pids.events", O_RDONLY, 0, &c->pids_events_fd, e);
	if (r == 0)
		r = fd_openat(c->workload_fd, "cgroup.events", O_RDONLY, 0, &c->events_fd, e);
	return r;
}

/* What the workload may have at most: all memory without the reserve. */
static uint64_t memory_ceiling(void)
{
	struct sysinfo si;
	uint64_t total;
	uint64_t left;

	if (sysinfo(&si) < 0 || !ck_mul(si.totalram, si.mem_unit, &total))
		return UINT64_MAX;
	if (!ck_sub(total, CGROUP_RESERVE_BYTES + (total >> CGROUP_RESERVE_SHIFT), &left))
		left = 0;
	return left < CGROUP_MEMORY_MIN ? CGROUP_MEMORY_MIN : left;
}

int cgroup_limit(struct cgroups *c, uint64_t memory_max, uint32_t pids_max, struct err *e)
{
	uint64_t ceiling = memory_ceiling();
	char text[32];
	int r;

	if (c->limited && memory_max == c->memory_max && pids_max == c->pids_max)
		return 0;
	c->limited = false;
	c->memory_max = memory_max;
	if (memory_max == 0 || memory_max > ceiling)
		memory_max = ceiling;
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)memory_max);
	r = write_file(c->workload_fd, "memory.max", text, e);
	if (r < 0)
		return r;
	/* the waiting child counts as one and is not the user's */
	if (pids_max)
		(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)pids_max + 1);
	else
		(void)snprintf(text, sizeof(text), "max");
	c->pids_max = pids_max;
	r = write_file(c->workload_fd, "pids.max", text, e);
	c->limited = r == 0;
	return r;
}

static void name_of(uint32_t serial, char ret[NAME_MAX_BYTES])
{
	(void)snprintf(ret, NAME_MAX_BYTES, "e%u", serial);
}

int cgroup_make(struct cgroups *c, int *ret_fd, uint32_t *ret_serial, struct err *e)
{
	char name[NAME_MAX_BYTES];
	int r;

	c->serial++;
	name_of(c->serial, name);
	if (mkdirat(c->workload_fd, name, 0755) < 0)
		return err_sys(e, "make cgroup '%s'", name);
	r = fd_openat(c->workload_fd, name, O_RDONLY | O_DIRECTORY, 0, ret_fd, e);
	if (r == 0)
		*ret_serial = c->serial;
	return r;
}

static bool removed(struct cgroups *c, uint32_t serial)
{
	char name[NAME_MAX_BYTES];

	name_of(serial, name);
	return unlinkat(c->workload_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT;
}

void cgroup_drop(struct cgroups *c, int fd, uint32_t serial)
{
	if (fd < 0)
		return;
	(void)close(fd);
	/* past the maximum it is forgotten: an empty directory in a guest that dies soon */
	if (!removed(c, serial) && c->left_count < CGROUP_LEFT_MAX)
		c->left[c->left_count++] = serial;
}

void cgroup_sweep(struct cgroups *c)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < c->left_count; i++)
		if (!removed(c, c->left[i]))
			c->left[kept++] = c->left[i];
	c->left_count = kept;
}

void cgroup_kill(int cgroup_fd)
{
	/* a cgroup that is gone has nobody left to kill */
	(void)write_file(cgroup_fd, "cgroup.kill", "1", NULL);
}

void cgroup_kill_left(struct cgroups *c)
{
	for (unsigned i = 0; i < c->left_count; i++) {
		char path[NAME_MAX_BYTES + 16];
		char name[NAME_MAX_BYTES];

		name_of(c->left[i], name);
		(void)snprintf(path, sizeof(path), "%s/cgroup.kill", name);
		(void)write_file(c->workload_fd, path, "1", NULL);
	}
}

int cgroup_freeze(struct cgroups *c, bool frozen, struct err *e)
{
	return write_file(c->workload_fd, "cgroup.freeze", frozen ? "1" : "0", e);
}

bool cgroup_read_key(int fd, const char *key, uint64_t *ret)
{
	char text[TEXT_MAX];
	ssize_t n = pread(fd, text, sizeof(text), 0);
	struct span file;
	struct span line;
	struct span word;

	if (n <= 0)
		return false;
	file = span_of(text, (size_t)n);
	while (take_until(&file, '\n', &line)) {
		if (!key)
			return span_to_u64(line, ret);
		if (take_until(&line, ' ', &word) && span_is(word, key))
			return span_to_u64(line, ret);
	}
	return false;
}

bool cgroup_number(int cgroup_fd, const char *file, const char *key, uint64_t *ret)
{
	_own_fd_ int fd = -1;

	if (fd_openat(cgroup_fd, file, O_RDONLY, 0, &fd, NULL) < 0)
		return false;
	return cgroup_read_key(fd, key, ret);
}
