/*
 * guest: what every sandbox's machine is made of, and the two ways to start one.
 *
 * Files     guest_files.c opens and describes; guest.c picks an engine and starts. libberm, which
 *           starts no guest itself, needs the first only.
 */
#pragma once

#include "base/buf.h"
#include "engine/engine.h"
#include "engine/template.h"
#include "state/paths.h"
#include "state/spec.h"

enum {
	GUEST_MKFS_MS =
		20000, /* 30 ms as a rule; a disk of 1 TiB on a busy machine takes seconds */
	/* of a template's memory: a larger one is mapped, as to copy it would take too long */
	GUEST_COPIED_BYTES_MAX = 256 << 20,
};

/* A word of the kernel's command line that it hands to the agent: agent/workspace.h */
#define GUEST_RESCUE_WORD "berm_rescue"

/* What a guest is made with: the engine, the installed kernel, its first program, open. */
struct guest_files {
	const struct engine_ops *engine;
	int kvm_fd; /* kvm */
	int kernel_fd;
	int initrd_fd;
	char cmdline[ENGINE_CMDLINE_MAX];
	const char *qemu; /* qemu; static */
	int qemu_fd;      /* qemu: that program */
	/* the engine's end of a stream socket to the gate, or -1: no network card. Whoever asks
	 * for one (spec.network) puts it here before a start, and may close it after */
	int net_fd;
	/*
	 * Of one with spec.workspace: the workspace's image, read only, or
	 * guest_empty_workspace() where nobody reads it; and the file that becomes the guest's own
	 * disk. -1: there is none, and a file without a name is made.
	 */
	int workspace_fd;
	int scratch_fd;
	bool learns; /* nobody's guest: which pages it uses first is to be learned of it */
};

/* Every workspace's disk has this size, so that one template serves all: see work/base.h. */
#define GUEST_WORKSPACE_BYTES (UINT64_C(1) << 40)

void guest_files_init(struct guest_files *g);
void guest_files_close(struct guest_files *g);
void guest_files_close_scope(struct guest_files *g);

/*
 * The engine a spec gets: the one it names, or kvm where this host's /dev/kvm can run a kernel,
 * else qemu. Asks the probe, whose verdict is kept below state_fd. An engine that was named and
 * cannot work here is refused, with the probe's words.
 */
_must_ int guest_pick_engine(const struct spec *spec, int state_fd, const struct engine_ops **ret,
                             struct err *e);

/* -ENOENT names what is missing and how to get it. */
_must_ int guest_files_open(const struct paths *p, const struct engine_ops *engine,
                            struct guest_files *ret, struct err *e);

/*
 * All that a saved guest depends on, as text: versions, the identity of each file, image, sizes,
 * warm-up commands. Two sandboxes with the same key may start from the same template.
 */
void guest_put_key(struct buf *b, const struct guest_files *g, const struct spec *spec);

/*
 * All that a copy of a running guest depends on, one thing a line. Files are known by what is in
 * them here, so an installation may be made anew. Reads the whole of each.
 */
_must_ int guest_put_machine(struct buf *b, const struct guest_files *g, const struct spec *spec,
                             struct err *e);

/* A file of GUEST_WORKSPACE_BYTES, all hole, read only: the disk of a guest that is only saved. */
_must_ int guest_empty_workspace(int *ret_fd, struct err *e);

/*
 * Makes an ext4 file system in an empty file of the right size, with mke2fs. kept: the disk
 * outlives its guest, however that ends, so it gets a journal.
 */
_must_ int guest_format_scratch(int fd, bool kept, struct err *e);

/* Boots with the draft's files, so that it can be saved. */
_must_ int guest_boot_draft(const struct paths *p, const struct guest_files *g,
                            const struct spec *spec, int image_fd, const struct draft *d, uid_t uid,
                            struct engine_vm *ret, struct err *e);

/*
 * Boots with anonymous RAM and a fresh scratch disk made in the file system of dir_fd; of a rescue
 * (spec.rescue) g->scratch_fd is a copy of the one to rescue from, and stays as it is.
 * ret_scratch_fd: the disk, the caller's; the guest has it open as well.
 */
_must_ int guest_boot(const struct paths *p, const struct guest_files *g, const struct spec *spec,
                      int image_fd, int dir_fd, uid_t uid, struct engine_vm *ret,
                      int *ret_scratch_fd, struct err *e);

/* Starts the engine on a private copy of what was saved. It runs once engine->go() was called. */
_must_ int guest_restore(const struct paths *p, const struct guest_files *g,
                         const struct spec *spec, int image_fd, int dir_fd,
                         const struct saved *from, uid_t uid, struct engine_vm *ret,
                         int *ret_scratch_fd, struct err *e);
