/*
 * host: what is installed here that the engines need: QEMU and a kernel they can boot.
 */
#pragma once

#include "base/err.h"
#include "engine/probe_parse.h"

#include <stdint.h>

enum {
	HOST_QEMU_MS_MAX = 5000, /* --version takes 20 ms; a cold disk a second */
	HOST_QEMU_TESTED_MAJOR = 7,
	HOST_QEMU_TESTED_MINOR = 2,
};

/* Asks the program itself. -EBADMSG: it is no QEMU; -ETIMEDOUT; or why it could not be started. */
_must_ int host_qemu_version(const char *program, struct probe_qemu *ret, struct err *e);

/*
 * Reads a kernel's headers and notes through fd (borrowed, any offset). -ENOEXEC: not an ELF file
 * for this machine; -ENOENT: it has no PVH entry point; or the error of reading.
 */
_must_ int host_kernel_entry(int fd, uint64_t *ret_entry, struct err *e);
