/*
 * machine: what is inside berm-vmm: one virtual machine with its devices, and the thread that
 * does as its starter says.
 *
 * Threads   control (the main thread: the control socket, pausing, saving), I/O (loop.h: every
 *           device), one a virtual CPU (vm.h). Control never touches guest memory but to save it.
 * Order     machine_new, machine_boot or machine_restore, machine_start, machine_serve
 * Hostile   the guest; the state file of a restore. The starter is trusted, and still checked
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	MACHINE_SERIAL_MAX = 20,
	MACHINE_SAVE_MS = 5000, /* for CPUs and devices to come to rest */
};

/* Slots on the virtio bus, in the order in which the guest finds the devices. */
enum machine_slot {
	SLOT_CONSOLE,
	SLOT_IMAGE,   /* vda */
	SLOT_SCRATCH, /* vdb */
	SLOT_RNG,
	SLOT_BALLOON,
	SLOT_NET,       /* only where a network was asked for */
	SLOT_WORKSPACE, /* vdc; only where there is a workspace */
	SLOT_COUNT,
};

struct machine;

/* fds are borrowed and stay open. */
struct machine_config {
	uint64_t ram_bytes;
	uint32_t cpus;
	bool restore; /* RAM is a template's, mapped privately; else the file is written to */
	bool copied;  /* of a restore: RAM is a copy of the template's, in huge pages */
	bool host_cpu;
	/* ram_fd is -1 for a boot whose memory nobody keeps */
	int kvm_fd, ram_fd, image_fd, scratch_fd, agent_fd, control_fd, log_fd;
	int net_fd; /* the gate's socket (virtio/net.h); -1: the machine has no network card */
	int workspace_fd; /* read only; -1: no such disk */
};

_must_ int machine_new(const struct machine_config *c, struct machine **ret, struct err *e);
void machine_free(struct machine *m);
OWN_DEFINE(struct machine, machine_free)

/* cmdline: the devices' places are added to it. */
_must_ int machine_boot(struct machine *m, int kernel_fd, int initrd_fd, const char *cmdline,
                        struct err *e);
/* -EBADMSG, -ENOTSUP, -EXDEV, -E2BIG: the state is damaged, of another version, another CPU, too
 * large. */
_must_ int machine_restore(struct machine *m, int state_fd, struct err *e);
/* Brings in the pages that wset_fd names. What is wrong with them is not worth a start: it is only
 * logged. */
void machine_populate(struct machine *m, int wset_fd);

/* Threads start, each closing its own jail first. A restored machine waits for CTL_RESUME. */
struct machine_jails {
	int (*cpu)(void *arg, struct err *e);
	int (*io)(void *arg, struct err *e);
};
_must_ int machine_start(struct machine *m, const struct machine_jails *jails, struct err *e);

/*
 * Until the machine or its starter's socket ends. 0: an ordinary end (the guest's reset, CTL_QUIT,
 * a closed socket); else what went wrong is in e.
 */
_must_ int machine_serve(struct machine *m, struct err *e);
