/*
 * rules: the words in which the profiles are written, for the files that build tables from
 * profiles/NAME.def. Nobody else includes it.
 */
#pragma once

#include "base/kernel_gaps.h"
#include "jail/internal.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#ifndef ARCH_REQ_XCOMP_GUEST_PERM
#define ARCH_REQ_XCOMP_GUEST_PERM 0x1025 /* Source: asm/prctl.h, Linux 5.17 */
#endif

/* CDROM_DRIVE_STATUS, which linux/cdrom.h has beside much else that clashes. */
enum { CDROM_DRIVE_STATUS = 0x5326 };

#define WHOLE 0xffffffffULL /* the kernel takes these arguments as 32 bits */

#define ANY                                                                                        \
	{                                                                                          \
		.used = false                                                                      \
	}
#define ARG(n, v)                                                                                  \
	{                                                                                          \
		.used = true, .index = (n), .mask = WHOLE, .value = (uint32_t)(v)                  \
	}
#define BITS(n, m, v)                                                                              \
	{                                                                                          \
		.used = true, .index = (n), .mask = (m), .value = (v)                              \
	}
#define SELF(n)                                                                                    \
	{                                                                                          \
		.used = true, .self = true, .index = (n), .mask = WHOLE                            \
	}

#define ALLOW(name, check, reason)                                                                 \
	{ .call = __NR_##name, .act = JAIL_ALLOW, .args = { check }, .why = reason },
#define ALLOW2(name, check, also, reason)                                                          \
	{ .call = __NR_##name, .act = JAIL_ALLOW, .args = { check, also }, .why = reason },
#define ALLOW3(name, check, also, third, reason)                                                   \
	{ .call = __NR_##name, .act = JAIL_ALLOW, .args = { check, also, third }, .why = reason },
#define REFUSE(name, check, errnum, reason)                                                        \
	{ .call = __NR_##name,                                                                     \
	  .act = JAIL_ERRNO,                                                                       \
	  .err = (errnum),                                                                         \
	  .args = { check },                                                                       \
	  .why = reason },
