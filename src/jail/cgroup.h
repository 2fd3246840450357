/*
 * cgroup: one control group for one sandbox, on whatever the host offers.
 *
 * v2 is preferred: <mount>/berm for root, else the nearest ancestor of our own group that was
 * delegated to us. v1 is the fallback: a child of our own group in each controller we may write to,
 * so that limits around us keep holding. An ordinary user without delegation has neither; that is
 * mode NONE, said in `why` and never silent: `enforced` tells which limits a group really carries.
 *
 * Errors    0 or -errno; a limit that a present controller refuses is an error
 * Owns      nothing open: a struct cgroup is a name and paths, copied freely
 * Threads   independent groups are independent
 * Source    Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "jail/cgroup_parse.h"
#include "jail/jail.h"

enum {
	CGROUP_NAME_MAX = 64,       /* "berm-" and an id */
	CGROUP_WHY_MAX = 160,       /* one sentence */
	CGROUP_REMOVE_TRIES = 200,  /* EBUSY until the last exit is accounted: 1 ms apart */
	CGROUP_KILL_ROUNDS = 100,   /* a fork bomb is frozen or out of pids long before */
	CGROUP_KILL_PAUSE_MS = 100, /* between the later half of them */
	CGROUP_SWEEP_MAX = 4096,    /* directory entries looked at in one sweep */
	CGROUP_CPU_PERIOD_US = 100000,
};

enum cgroup_mode { CGROUP_MODE_NONE, CGROUP_MODE_V2, CGROUP_MODE_V1 };

/* Limits a group can carry. */
enum {
	CGROUP_LIMIT_CPU = 1 << 0,
	CGROUP_LIMIT_MEMORY = 1 << 1,
	CGROUP_LIMIT_PIDS = 1 << 2,
};

/* Where to look; a test supplies its own. NULL means the real one everywhere below. */
struct cgroup_env {
	const char *proc_self; /* "/proc/self" */
	int write_flags;       /* O_WRONLY; a fake tree needs O_CREAT as well */
	bool root;             /* effective uid 0 */
};

/* What this host lets us do. */
struct cgroup_host {
	enum cgroup_mode mode;
	unsigned can;                               /* CGROUP_LIMIT bits */
	char parent[CGROUP_TREES][CGROUP_PATH_MAX]; /* "" where there is none */
	char why[CGROUP_WHY_MAX];                   /* what is missing, for people; "" if nothing */
};

struct cgroup_limits { /* 0: not limited */
	uint64_t cpu_millicores;
	uint64_t memory_bytes;
	uint64_t pids;
};

struct cgroup {
	enum cgroup_mode mode;
	unsigned enforced; /* CGROUP_LIMIT bits really set */
	char dir[CGROUP_TREES][CGROUP_PATH_MAX + CGROUP_NAME_MAX];
	char parent[CGROUP_TREES][CGROUP_PATH_MAX];
};

struct cgroup_stats {
	uint64_t cpu_us;
	uint64_t memory_bytes;      /* now */
	uint64_t memory_peak_bytes; /* 0 where the kernel does not say (v2 before 5.19) */
	uint64_t oom_kills;
	uint64_t pids;
};

/* Finds out what is possible here. Makes <mount>/berm and enables controllers on v2. */
_must_ int cgroup_host_find(const struct cgroup_env *env, struct cgroup_host *ret, struct err *e);

/*
 * Makes an empty group `name` with its limits. In mode NONE that is a struct with enforced == 0.
 * -EEXIST: a group of that name is there. Nothing half-made is left on failure.
 */
_must_ int cgroup_create(const struct cgroup_env *env, const struct cgroup_host *host,
                         const char *name, const struct cgroup_limits *limits,
                         struct cgroup *ret_cg, struct err *e);

/* Moves a process in, with all its threads; its later children are born there. */
_must_ int cgroup_add(const struct cgroup *cg, pid_t pid, struct err *e);

/* SIGKILL to every process in the group, forks in flight included. 0 if it is empty afterwards or
 * only waits to be reaped. Nothing to do in mode NONE. */
_must_ int cgroup_kill(const struct cgroup *cg, struct err *e);

_must_ int cgroup_stats_read(const struct cgroup *cg, struct cgroup_stats *ret, struct err *e);

/* Removes the empty group; retries while the kernel still sees a process in it. Absent is success.
 */
int cgroup_remove(const struct cgroup *cg, struct err *e);

/*
 * Kills and removes every group below this host's parents whose name is prefix + id and whose id
 * `alive` denies. ret_removed may be NULL. A group that resists is left for the next time.
 */
typedef bool cgroup_alive(void *ctx, const char *id);
_must_ int cgroup_sweep(const struct cgroup_host *host, const char *prefix, cgroup_alive *alive,
                        void *ctx, unsigned *ret_removed, struct err *e);

/*
 * A group as text, a line a directory, to be kept beside the sandbox: a berm started from another
 * group does not find it below its own. cgroup_from_text() refuses a directory whose last part does
 * not start with prefix or that is not absolute and without "..".
 */
void cgroup_put(struct buf *b, const struct cgroup *cg);
_must_ int cgroup_from_text(struct span text, const char *prefix, struct cgroup *ret,
                            struct err *e);

/*
 * The Landlock rules a jailed process needs to use and remove the group: its directories, and
 * removal in their parents. Paths borrow from cg. Returns how many, at most 2 * CGROUP_TREES.
 */
_must_ size_t cgroup_jail_paths(const struct cgroup *cg, struct jail_path *ret, size_t max);
