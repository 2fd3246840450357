/*
 * probe: can this host's /dev/kvm run a normal kernel, and at what speed?
 *
 * /dev/kvm may be missing, forbidden, broken, or there and useless: some cloud hosts offer it while
 * every instruction a guest's kernel executes is emulated in software, a hundred times too slow.
 * The probe makes a VM of 64 KiB with one vCPU and runs a few thousand instructions in ring 0,
 * in 16, 32 and 64-bit mode, then a handful that kernels need and such hosts lack. That takes a
 * few milliseconds, in a child process with deadlines, so a wedged KVM cannot hang the caller.
 *
 * Speed verdicts are kept in the state directory, for this boot and this /dev/kvm.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "engine/probe_parse.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	/* Making a VM takes 1 ms on hardware; 12 to 47 ms were measured in a nested one. */
	PROBE_SETUP_MS_MAX = 1000,
	PROBE_RUN_MS_MAX = 200, /* all instructions together; 3 ms measured on a slow host */
	PROBE_FAST_PER_S = 10 * 1000 * 1000, /* hardware does 1000 M, nested 100 M, software 4 M */
	PROBE_LOOPS_SHORT = 2000,            /* of 2 instructions */
	PROBE_LOOPS_LONG = 100000, /* when the short run was fast: entry and exit vanish in it */
};

/* Where to look; a test supplies its own. NULL means the real host without a cache. */
struct probe_env {
	const char *kvm_path;     /* "/dev/kvm" */
	const char *boot_id_path; /* "/proc/sys/kernel/random/boot_id" */
	int state_dir_fd;         /* borrowed; the cache lies here. -1: no cache */
};

struct probe_verdict {
	enum probe_kind kind;
	int code;                  /* BROKEN, FORBIDDEN, MISSING: negative errno, 0 if none */
	char step[PROBE_STEP_MAX]; /* BROKEN: which ioctl or which instruction */
	uint64_t insns_per_s;      /* SLOW, GOOD: in ring 0, 64-bit */
	uint64_t took_us;          /* this call */
	bool group_may;            /* FORBIDDEN: members of the device's group may open it */
	bool cached;
};

/*
 * Decides. 0 with a verdict, whatever the host is like; an error only when no child can be made.
 * A cache that is unreadable, of another boot, device or version is probed anew and replaced.
 */
_must_ int probe_kvm(const struct probe_env *env, struct probe_verdict *ret, struct err *e);

/* "present, but kernel mode is emulated in software (4 million instructions/s)". */
void probe_put_verdict(struct buf *b, const struct probe_verdict *v);

/* What to do about it, one sentence; "" if nothing. Static text. */
const char *probe_remedy(const struct probe_verdict *v);
