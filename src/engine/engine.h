/*
 * engine: what runs a guest, behind one table of operations: qemu (software CPU) and kvm (our own
 * monitor, berm-vmm). Kernel, agent, disks and the agent's port are the same for both, so nothing
 * above this header knows which it is.
 *
 * An engine is one jailed child process. Every file reaches it as an fd, so its jail needs no path
 * of ours.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	ENGINE_CMDLINE_MAX = 1024,
	ENGINE_DEATH_MS = 1000,    /* from its closed sockets to its end */
	ENGINE_HUSH_MAX = 64,      /* words unasked that are read in one go */
	ENGINE_LOG_MAX = 16 << 10, /* the last of what guest kernel and engine said */
	ENGINE_ARGS_MAX = 96,
	ENGINE_ARG_BYTES_MAX = 4096, /* all of them together */
};

enum engine_id { ENGINE_NONE = 0, ENGINE_QEMU = 1, ENGINE_KVM = 2 };

/* All fds are borrowed and may be closed after start. */
struct engine_config {
	const char *libexec; /* directory of berm-qemu, berm-qemu-ram.so, berm-vmm */
	const char *program; /* qemu: absolute path of qemu-system-x86_64 */
	int kvm_fd;          /* kvm: /dev/kvm; else -1 */
	const char *cmdline; /* the kernel's; not used by a restore */
	int kernel_fd;       /* not used by a restore */
	int initrd_fd;       /* not used by a restore */
	int image_fd;        /* read only */
	int scratch_fd;      /* read-write, private to this guest */
	/* read-write when it is to be kept (ram_shared), else read only; -1, for a boot by kvm:
	 * memory that nobody keeps needs no file, and is faster without */
	int ram_fd;
	uint64_t ram_bytes;
	bool ram_shared; /* true: what the guest writes stays in the file: a template being built */
	/*
	 * kvm, of a restore: the guest gets a copy of ram_fd, in huge pages, and not a private
	 * mapping of it. A start takes longer by the copy, and all that works in the guest less: it
	 * is not for guests that are to be many.
	 */
	bool ram_copied;
	int incoming_fd; /* saved device state to restore, or -1 to boot */
	int wset_fd;     /* of a restore: what touched() wrote for this template, or -1 */
	/*
	 * Stream socket to the gate (the frames of virtio/net.h), or -1: the machine has no network
	 * card at all. A guest that was saved with a card needs one to be restored, and the other
	 * way round; the socket of a restore is always a new one.
	 */
	int net_fd;
	/*
	 * The workspace's image, opened for reading only and offered read-only, or -1: there is no
	 * such disk. As with net_fd a saved guest has one or not; what a restore gives it may be
	 * another file of the same size, of which nothing was mounted yet.
	 */
	int workspace_fd;
	uint32_t cpus;
	bool host_cpu; /* kvm: all of the host's CPU, as when it was saved; else the baseline */
	uid_t uid;     /* what root has it run as; 0: stay who we are */
};

struct engine_ops;

/* The guest's network card: the same for both engines, so that a guest cannot tell them apart. */
enum { ENGINE_MAC_BYTES = 6 };
#define ENGINE_MAC                                                                                 \
	{                                                                                          \
		0x02, 0x62, 0x65, 0x72, 0x6d, 0x02                                                 \
	} /* locally administered; "berm" */

/* What an engine says unasked. */
struct engine_news {
	/* it stopped the guest, or ended, because the host had no room for what that wrote to its
	 * disk: ENGINE_FULL is what to say then */
	bool full;
	bool gate_lost; /* the network card is dead: its socket was closed, or sent no frame */
};

struct engine_vm {
	const struct engine_ops *ops;
	pid_t pid;
	int pidfd;
	int agent_fd;   /* stream socket: the console port berm.agent */
	int control_fd; /* the engine's own protocol, or -1 */
	int log_fd; /* pipe: the guest's kernel log and the engine's words; its reader bounds it */
};

struct engine_ops {
	enum engine_id id;
	const char *name;        /* "qemu": in messages, JSON and the key of templates */
	const char *words;       /* "QEMU": in sentences */
	bool hardware;           /* the boundary is the CPU's own: level microvm, else emulated */
	uint64_t overhead_bytes; /* beside the guest's memory, for the cgroup */
	uint32_t pids;           /* beside one a virtual CPU */
	/* Boots, or prepares a restore, which runs once `go` is called. */
	int (*start)(const struct engine_config *c, struct engine_vm *ret, struct err *e);
	/* Lets a restored guest run. Nothing is awaited: the agent's answer, or the engine's end,
	 * is the answer. -EPIPE: it has ended. */
	int (*go)(const struct engine_vm *vm, struct err *e);
	/* Stops the guest and writes the device state to state_fd; RAM is in its shared file. */
	int (*save)(const struct engine_vm *vm, int state_fd, uint64_t deadline_ms, struct err *e);
	/*
	 * Of a running guest: stop its CPUs and devices; write state and the whole memory to the
	 * fds, which are empty files (ram_fd all hole; what stays so is in the state); let it run
	 * again, also after a snapshot that failed. NULL: this engine cannot.
	 */
	int (*pause)(const struct engine_vm *vm, uint64_t deadline_ms, struct err *e);
	int (*snapshot)(const struct engine_vm *vm, int state_fd, int ram_fd, uint64_t deadline_ms,
	                struct err *e);
	int (*resume)(const struct engine_vm *vm, uint64_t deadline_ms, struct err *e);
	/*
	 * Of a restored guest that runs: writes to the empty file fd which pages it has used, so
	 * that the next one of its template has them before it starts. NULL: no use here.
	 */
	int (*touched)(const struct engine_vm *vm, int fd, uint64_t deadline_ms, struct err *e);
	/*
	 * Reads what the engine said unasked on control_fd, once that is readable, and sets in
	 * ret_news what is of use. False: there was nothing.
	 */
	bool (*hush)(const struct engine_vm *vm, struct engine_news *ret_news);
};

#define ENGINE_FULL                                                                                \
	"the disk with berm's state is full, and the guest's own disk is kept there: make room, "  \
	"or give less (--disk)"

extern const struct engine_ops engine_qemu;
extern const struct engine_ops engine_kvm;

void engine_vm_init(struct engine_vm *vm);  /* all fds -1 */
void engine_vm_close(struct engine_vm *vm); /* kills, reaps, closes; harmless twice */
void engine_vm_close_scope(struct engine_vm *vm);

/*
 * How an engine that ended by itself came to it, to stand behind "ended": "" when it exited, or has
 * not ended. Waits ENGINE_DEATH_MS at most. It stays to be reaped.
 */
const char *engine_death(const struct engine_vm *vm);

/*
 * Has it said by now that the host had no room? Reads all that it said unasked; does not wait.
 * An engine that has ended is asked as well.
 */
bool engine_heard_full(const struct engine_vm *vm);

/* For engines: a list of arguments in fixed storage, and the fds of a child with a log pipe. */
struct engine_args {
	const char *list[ENGINE_ARGS_MAX + 1];
	size_t count;
	size_t used;
	bool over;
	char text[ENGINE_ARG_BYTES_MAX];
};
void engine_add(struct engine_args *a, const char *fmt, ...) _printf_(2, 3);
_must_ int engine_pipe(int *ret_read, int *ret_write, struct err *e);
_must_ int engine_pair(int type, int *ret_ours, int *ret_theirs, struct err *e);
