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
#include <stdbool.h>
#include <sys/types.h>

struct paths {
	char libexec[PATH_MAX]; /* berm-supervisor, berm-qemu, berm-unpack */
	char share[PATH_MAX];   /* vmlinux, initramfs.cpio, cmdline, images/ */
	char state[PATH_MAX];
};

/* All that the answer depends on. Texts are borrowed; NULL is unset. */
struct paths_input {
	const char *exe; /* the running program, absolute, links resolved */
	const char *cwd; /* what a relative BERM_STATE_DIR is relative to */
	const char *state_dir;
	const char *xdg_data_home;
	const char *home;
	uid_t uid;     /* effective */
	bool no_state; /* it is not asked for: ret->state is "" */
};

/* -ENOENT when the program's own place cannot be told; -ENAMETOOLONG. Nothing is created. */
_must_ int paths_find(struct paths *ret, struct err *e);

/*
 * The same without the state: for programs that were handed it as an open directory, and have no
 * environment to find it by.
 */
_must_ int paths_find_parts(struct paths *ret, struct err *e);

/* The rule behind both, without looking at the process. */
_must_ int paths_from(const struct paths_input *in, struct paths *ret, struct err *e);

/*
 * Opens the state directory, made with its subfolders (images, templates, snapshots, sandboxes,
 * ended; all 0700) on first use. Says what to do when it cannot: -EROFS, -EACCES, -ENOTDIR,
 * -ENOSPC, -EPERM (others may write to it, so what is in it cannot be trusted).
 */
_must_ int paths_open_state(const struct paths *p, int *ret_dir_fd, struct err *e);
