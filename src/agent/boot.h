/*
 * boot: from the initramfs to the image's root.
 *
 * Theory of operation: the root is an overlay of the image (vda, squashfs, read-only) and a
 * directory of the scratch disk (vdb, ext4), which dies with the VM: nothing in the root needs to
 * survive a crash, so barriers are off and the overlay is volatile. (A session's disk lives on, and
 * has a journal for what the workspace's own overlay keeps on it: workspace.h.) The kernel's file
 * systems are mounted once in the initramfs and moved along. The agent's own binary stays in the
 * initramfs, below the new root.
 *
 * The image may be weird. What is in the way of a mount point (a link, a file) is replaced in the
 * overlay; what is only nice to have is logged to the console and done without.
 */
#pragma once

#include "agent/identity.h"
#include "base/err.h"

enum { BOOT_DISK_WAIT_MS = 2000 };

/* /proc, /sys and /dev: what the port needs. */
_must_ int boot_kernel_mounts(struct err *e);

/* The disks, the overlay, the move into it, and the rest of the mounts. ret_scratch_fd: a directory
 * on the scratch disk, for its free space. */
_must_ int boot_root(int *ret_scratch_fd, struct err *e);

/* To export what another guest left: its scratch disk, and no root. As boot_root(). */
_must_ int boot_rescue(int *ret_scratch_fd, struct err *e);

struct agent;

/* Loopback, sysctls, limits, names, what a network will need: never fails. */
void boot_settings(struct agent *a);
