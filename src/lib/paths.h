/*
 * paths: where berm's own files and its state are.
 *
 * The installation is found relative to the running program, so it can be moved: PREFIX/bin/berm,
 * PREFIX/libexec/berm/, PREFIX/share/berm/. State is BERM_STATE_DIR, or /var/lib/berm for root, or
 * $XDG_DATA_HOME/berm, or ~/.local/share/berm.
 */
#pragma once

#include "base/err.h"

#include <limits.h>

struct paths {
	char libexec[PATH_MAX]; /* berm-supervisor, berm-qemu, berm-unpack */
	char share[PATH_MAX];   /* vmlinux, initramfs.cpio, cmdline, images/ */
	char state[PATH_MAX];
};

/* -ENOENT when the program's own place cannot be told; -ENAMETOOLONG. Nothing is created. */
_must_ int paths_find(struct paths *ret, struct err *e);

/* Opens the state directory, made with its subfolders on first use. Says what to do when it cannot. */
_must_ int paths_open_state(const struct paths *p, int *ret_dir_fd, struct err *e);
