/*
 * kernel_gaps: names newer than Debian 12's headers. Each: #ifndef, the value, its source.
 */
#pragma once

#include <fcntl.h>
#include <linux/openat2.h> /* struct open_how, RESOLVE_* */
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Source: linux/memfd.h, Linux 6.3 */
#endif
