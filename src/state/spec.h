/*
 * spec: everything a sandbox is to be, decided by the command before the supervisor starts.
 *
 * Strings are borrowed by the struct (argv, the environment, literals). It travels to the
 * supervisor as the bytes of spec_put(), which spec_parse() reads back into strings of the same
 * storage.
 *
 * Shape     u32 magic | u16 version, then fields: u8 tag | u32 value_bytes | value. Little endian.
 *           A text's value ends with its NUL, and holds no other, so it is used in place. A list is
 *           u32 count, then that many texts. A NULL text or list is left out.
 * Hostile   nobody: command and supervisor are one installation. It is read strictly all the same,
 *           so that two installations that meet say so instead of misreading one another.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	SPEC_BYTES_MAX = 640 << 10, /* a whole WIRE_EXEC_MAX, an image's environment and the rest */
	SPEC_CPUS_MAX = 32,         /* what the guest kernel is built for */
	SPEC_STRINGS_MAX = 4096,    /* WIRE_ARGS_MAX */
	SPEC_STRING_MAX = 65535,    /* one argument: what a str16 of the wire holds */
	SPEC_EXEC_MAX =
		248 << 10,  /* argv and environment: WIRE_EXEC_MAX less user, cwd and rlimits */
	SPEC_WARM_MAX = 16, /* warm-up commands of a template */
	SPEC_WARM_STRING_MAX = 4096, /* each; a longer one belongs into a script in the image */
	SPEC_IMAGE_MAX = 255,
	SPEC_VERSION = 1,
	SPEC_NAME_MAX = 63, /* letters, digits, '-', '_', '.'; starts with a letter or digit */
	SPEC_ID_LEN = 12,   /* lower-case hex */
};

#define SPEC_MEMORY_MIN  (UINT64_C(64) << 20) /* the kernel, the agent and a shell */
#define SPEC_MEMORY_MAX  (UINT64_C(64) << 30)
#define SPEC_MEMORY_STEP (UINT64_C(1) << 20) /* sizes are whole MiB */
#define SPEC_DISK_MIN    (UINT64_C(16) << 20)
#define SPEC_DISK_MAX    (UINT64_C(1) << 40)
#define SPEC_PIDS_MAX    UINT64_C(65536)
#define SPEC_TIME_MAX_MS (UINT64_C(366) * 86400 * 1000) /* a year; timers stay far from overflow */
#define SPEC_OUTPUT_MAX  (UINT64_C(1) << 50)
#define SPEC_COLLECT     (UINT64_C(16) << 30) /* spec_init()'s collect_bytes */
#define SPEC_COLLECT_MS                                                                            \
	120000U /* and its collect_ms: a guest's whole disk may have to be written */

/* How much of a boundary a run got, or demands. Strongest is largest. */
enum level { LEVEL_PROCESS = 1, LEVEL_EMULATED = 2, LEVEL_MICROVM = 3 };

enum spec_engine { SPEC_ENGINE_AUTO = 0, SPEC_ENGINE_QEMU = 1, SPEC_ENGINE_KVM = 2 };

struct spec_limits {
	uint32_t cpus;         /* 1 */
	uint64_t memory_bytes; /* of the VM: 512 MiB */
	uint64_t disk_bytes;   /* what the guest may write: 4 GiB */
	uint64_t pids;         /* 512 */
	uint64_t time_ms;      /* 0: none */
	uint64_t idle_ms;      /* no input, output or CPU use for so long; 0: none */
	uint64_t output_bytes; /* stdout and stderr of the main command; 0: none */
};

struct spec {
	const char *name;  /* NULL: the id is the name */
	const char *image; /* the reference as given, for messages */
	const char *image_id;
	const char *hostname;    /* NULL: the name or id */
	const char *user;        /* NULL or "": root */
	const char *cwd;         /* NULL or "": the user's home */
	const char *const *argv; /* an empty list: no main command; it runs until it is stopped */
	const char *const *envp; /* exact; never the host's */
	const char *const *warm; /* shell commands run before a template is saved; NULL: none */
	/*
	 * Their variables: the image's own. A template serves all starts of its key, so nothing of
	 * this start may get into it.
	 */
	const char *const *warm_env;
	struct spec_limits limits;
	uint8_t engine;        /* enum spec_engine */
	uint8_t minimum_level; /* enum level; default LEVEL_EMULATED */
	bool tty, stdin_open;
	bool detach;         /* outlives the connection that started it */
	bool remove;         /* detached: leave no record when it ends by itself */
	bool cold;           /* boot; do not use or make a template */
	bool host_cpu;       /* all the host's CPU has, not the baseline; engine kvm only */
	bool foreground_tty; /* the caller sits at a terminal: progress is wanted */
	bool network;        /* a network card, joined to a gate; else there is no such device */
	uint16_t rows, cols;
	/*
	 * Of a session (state/work_session.h), which brings the disk: where its workspace is
	 * mounted in the guest; NULL: no workspace. At the end its work is collected, at most so
	 * many bytes of it.
	 */
	const char *workspace;
	uint64_t collect_bytes;
	uint32_t collect_ms; /* for that to begin, and to go on at SUP_COLLECT_RATE */
	bool linger;         /* after its command, whoever started it takes files, and says STOP */
	bool rescue; /* of one whose guest died: boots, and only collects; no argv, no network */
	/*
	 * Of a copy of a saved guest, which goes on instead of starting argv: what there is to know
	 * of it. See lib/snapshot.h.
	 */
	const char *from;    /* the snapshot's name, or the id of the sandbox it is a fork of */
	uint32_t epoch;      /* the guest's last; 0: this is no copy */
	uint32_t main_pid;   /* of the main command, in the guest; 0: it has none */
	bool main_stdin_eof; /* its stdin has ended */
};

static inline bool spec_is_copy(const struct spec *s)
{
	return s->epoch > 0;
}

void spec_init(struct spec *s); /* the defaults above */

/*
 * -EINVAL with the flag's name and the bound in the text; -E2BIG for a command too long. image_id
 * may still be NULL, so that a command can refuse bad flags before it looks for the image.
 */
_must_ int spec_check(const struct spec *s, struct err *e);
bool spec_name_ok(const char *name);
bool spec_id_ok(const char *id); /* SPEC_ID_LEN lower-case hex digits */

void spec_put(struct buf *out, const struct spec *s);

/*
 * Strings point into `storage`, which the caller keeps; ret_lists is one malloc, the caller's to
 * free.
 * -EBADMSG: not exactly what spec_put() of this version writes. Ranges are spec_check()'s to judge.
 */
_must_ int spec_parse(char *storage, size_t len, struct spec *ret, void **ret_lists, struct err *e);

const char *level_name(uint8_t level); /* "process", "emulated", "microvm"; "none" for 0 */
_must_ int level_parse(const char *text, uint8_t *ret, struct err *e);
