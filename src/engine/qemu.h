/*
 * qemu: the emulated engine. One qemu-system-x86_64 -M microvm, started jailed by berm-qemu.
 *
 * It gets two disks, the agent's console port, the kernel's log and, where it saves or restores, a
 * control socket. There is no network device. Every file reaches it as an fd, so its jail needs no
 * path of ours.
 *
 * Source   QEMU 7.2 documentation: microvm machine, invocation (-add-fd, -incoming), migration
 *          capabilities
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	QEMU_INCOMING_FD = 8, /* the saved state's number inside QEMU, for qmp_restore() */
	QEMU_ARGS_MAX = 96,
	QEMU_ARG_BYTES_MAX = 4096, /* all of them together */
	QEMU_CMDLINE_MAX = 1024,
	QEMU_DEATH_MS = 1000,    /* from its closed sockets to its end */
	QEMU_LOG_MAX = 16 << 10, /* the last of what guest kernel and QEMU said */
};

/* All fds are borrowed and may be closed after qemu_start(). */
struct qemu_config {
	const char *libexec; /* directory of berm-qemu and berm-qemu-ram.so */
	const char *program; /* absolute path of qemu-system-x86_64 */
	const char *cmdline; /* the kernel's; not used by a restore */
	int kernel_fd;       /* not used by a restore */
	int initrd_fd;       /* not used by a restore */
	int image_fd;        /* read only */
	int scratch_fd;      /* read-write, private to this guest */
	int ram_fd;          /* read-write when it is to be kept (ram_shared), else read only */
	uint64_t ram_bytes;
	bool ram_shared; /* true: what the guest writes stays in the file: a template being built */
	int incoming_fd; /* saved device state to restore, or -1 to boot */
	uint32_t cpus;
	uid_t uid; /* what root has it run as; 0: stay who we are */
	bool kvm;  /* hardware acceleration by QEMU, where the probe found it good */
};

struct qemu_vm {
	pid_t pid;
	int pidfd;
	int agent_fd;   /* stream socket: the console port berm.agent */
	int control_fd; /* QMP, or -1 */
	int log_fd; /* pipe: the guest's kernel log, then QEMU's own words; bounded by its reader */
};

void qemu_vm_init(struct qemu_vm *vm);  /* all fds -1 */
void qemu_vm_close(struct qemu_vm *vm); /* kills, reaps, closes; harmless twice */
void qemu_vm_close_scope(struct qemu_vm *vm);

/*
 * How a QEMU that ended by itself came to it, to stand behind "ended": "" when it exited, or has
 * not ended. Waits QEMU_DEATH_MS at most. It stays to be reaped.
 */
const char *qemu_death(const struct qemu_vm *vm);

/* Finds qemu-system-x86_64. -ENOENT with the package to install. */
_must_ int qemu_find(const char **ret_program, struct err *e);

_must_ int qemu_start(const struct qemu_config *c, struct qemu_vm *ret_vm, struct err *e);
