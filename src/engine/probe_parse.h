/*
 * probe_parse: what the host says in text: the kept verdict, a small file in the state directory,
 * and QEMU's version.
 *
 * Hostile   the file may be anything: cut, old, of another host
 * Shape     five lines, each ended by a newline:
 *               berm-probe 1
 *               boot UUID
 *               kvm MAJOR:MINOR DEVICE INODE MODE
 *               version TEXT
 *               verdict slow|good INSTRUCTIONS-PER-SECOND
 * Errors    -EBADMSG: not exactly that; output untouched
 */
#pragma once

#include "base/buf.h"
#include "base/span.h"

enum {
	PROBE_RECORD_MAX = 512,
	PROBE_BOOT_ID_LEN = 36,
	PROBE_VERSION_MAX = 64,
	PROBE_STEP_MAX = 64,
};

enum probe_kind {
	PROBE_MISSING,   /* no /dev/kvm */
	PROBE_FORBIDDEN, /* there, but not for this user */
	PROBE_BROKEN,    /* a call or an instruction fails */
	PROBE_SLOW,      /* works, but emulates kernel mode in software */
	PROBE_GOOD,
};

struct probe_record {
	char boot_id[PROBE_BOOT_ID_LEN + 1];
	uint64_t kvm_major;
	uint64_t kvm_minor;
	uint64_t device; /* of the file system /dev/kvm lies in */
	uint64_t inode;
	uint64_t mode;
	char version[PROBE_VERSION_MAX]; /* of berm */
	enum probe_kind kind;            /* SLOW or GOOD: the others are found anew in no time */
	uint64_t insns_per_s;
};

_must_ int probe_parse_record(struct span in, struct probe_record *ret);
void probe_put_record(struct buf *b, const struct probe_record *r);

/* Is what was kept about the same boot, device and version? The verdict is not compared. */
_must_ bool probe_record_matches(const struct probe_record *a, const struct probe_record *b);

/* What `qemu-system-x86_64 --version` says. */
struct probe_qemu {
	uint32_t major;
	uint32_t minor;
	uint32_t micro;
};

/*
 * "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)" and what follows; a missing third number is
 * 0. -EBADMSG for anything else.
 */
_must_ int probe_parse_qemu_version(struct span in, struct probe_qemu *ret);
