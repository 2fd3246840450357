/*
 * qemu: the emulated engine. One qemu-system-x86_64 -M microvm, started jailed by berm-qemu.
 *
 * It gets two disks, the agent's console port, the kernel's log and a control socket; and, only if
 * asked for, a network card joined to the gate's socket. Every file reaches it as an fd, so its
 * jail needs no path of ours.
 *
 * Source   QEMU 7.2 documentation: microvm machine, invocation (-add-fd, -incoming), migration
 *          capabilities
 */
#pragma once

#include "engine/engine.h"

enum {
	QEMU_INCOMING_FD = 8, /* the saved state's number inside QEMU, for qmp_restore() */
	QEMU_PIDS = 64,       /* disk and main threads */
};
#define QEMU_OVERHEAD_BYTES (UINT64_C(384) << 20) /* QEMU, its translated code, its buffers */

/* Finds qemu-system-x86_64. -ENOENT with the package to install. */
_must_ int qemu_find(const char **ret_program, struct err *e);
