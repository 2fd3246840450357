/*
 * cgroup_parse: where this process stands in the host's control groups, from two texts of /proc.
 *
 * Hostile   mount points may hold any byte (octal escapes); the texts are the kernel's
 * Shape     /proc/self/cgroup: "ID:CONTROLLER,CONTROLLER:/PATH\n", v2 is "0::/PATH"
 *           /proc/self/mountinfo: "ID PARENT MAJ:MIN ROOT MOUNTPOINT OPTIONS TAGS... - TYPE SOURCE
 *           SUPEROPTIONS\n"
 * Errors    -EBADMSG: not of that shape, output untouched
 * Owns      nothing: outputs are spans into the input
 * Source    cgroups(7), proc(5)
 */
#pragma once

#include "base/buf.h"
#include "base/span.h"

enum {
	CGROUP_LINE_MAX = 16384,   /* overlay mounts carry long option lists */
	CGROUP_LINES_MAX = 100000, /* the kernel's own limit on mounts (fs.mount-max) */
	CGROUP_PATH_MAX = 1024,    /* a mount point and a path in it; deeper is not used */
};

/* The hierarchies we use. CGROUP_V2 is the unified one; the rest are v1 controllers. */
enum cgroup_tree {
	CGROUP_V2,
	CGROUP_MEMORY,
	CGROUP_CPU,
	CGROUP_PIDS,
	CGROUP_FREEZER,
	CGROUP_CPUACCT,
	CGROUP_TREES,
};

/* at == NULL: not there. Mount fields are still escaped, see cgroup_unescape(). */
struct cgroup_self {
	struct span path[CGROUP_TREES];
};

struct cgroup_mounts {
	struct span root[CGROUP_TREES];  /* the part of the tree that is mounted there */
	struct span point[CGROUP_TREES]; /* the last one mounted, if several */
};

_must_ int cgroup_parse_self(struct span in, struct cgroup_self *ret);
_must_ int cgroup_parse_mounts(struct span in, struct cgroup_mounts *ret);

/* \NNN (three octal digits) becomes its byte; a NUL among them is refused. False: malformed. */
_must_ bool cgroup_unescape(struct span in, struct buf *out);

/*
 * The directory of `path` below a mount of `root` at `point`, as text into out. False when path is
 * not below root (a process moved from outside its container), is not absolute, climbs with "..",
 * or does not fit.
 */
_must_ bool cgroup_join(struct span point, struct span root, struct span path, struct buf *out);

/* The number beside `key` in lines of "key number" (memory.events, cpu.stat). False: not there. */
_must_ bool cgroup_find_number(struct span in, const char *key, uint64_t *ret);
