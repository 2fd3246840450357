/*
 * berm.h: sandboxes from a program.
 *
 * A sandbox is a virtual machine of its own that runs commands nobody has read. This library starts
 * as many of them as a program wants, runs commands in them, and says how they ended.
 *
 *	struct berm *b;
 *	struct berm_config *c;
 *	struct berm_sandbox *sb;
 *
 *	berm_new(NULL, NULL, &b, &e);
 *	berm_config_new(&c, &e);
 *	berm_start(b, c, &sb, &e);
 *
 * What it does to the program it is in: nothing. It makes no thread of its own (but see
 * berm_get()), installs no signal handler, raises no SIGCHLD or SIGPIPE, has no children that
 * wait(2) would find, prints nothing, never exits, and reads no variable of the environment (but
 * see berm_new()). Its file descriptors are close-on-exec. A sandbox gets nothing by itself: no
 * device, no network, no file and no variable of the host's.
 *
 * Returns   0 or more for success, or a negative errno; then `e` (NULL if it is of no interest)
 *           says in a sentence what failed and what to do. A `ret` is written only on success.
 * Waiting   Only functions with a timeout_ms wait for a guest. 0: not at all; below 0: for ever.
 *           All others return after a few system calls; berm_start() says how many.
 * Moving    Bytes and news move while a thread is in a function of this library about the sandbox
 *           they belong to: that is where the work is done, as there is no thread for it. A program
 *           with an event loop waits for berm_event_fd() and calls berm_next_event().
 * Threads   A struct berm, a sandbox and its processes may be used by many threads at once. A
 *           config may be used by many, and changed by one while no other uses it. Whoever frees a
 *           handle sees to it that nobody else is in a call about it, or makes one afterwards:
 *           freeing twice, or using what is freed, is an error of the program that nothing catches.
 *           No function may be called from a signal handler, and no thread be cancelled in one
 *           (pthread_cancel(3)). A thread needs 256 KiB of stack.
 * fork(2)   A child that does not exec may free its handles, which does nothing to the sandboxes,
 *           and nothing else: other calls answer -EPERM. While it lives, sandboxes of its parent
 *           live on when the parent dies.
 * Strings   are UTF-8 or bytes, end with NUL, and are copied, or used only until the call returns.
 * Structs   that begin with `size` want sizeof() of themselves there, and zeros in what is not
 *           used. So programs built with an older header go on working with a newer library.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define BERM_API __attribute__((visibility("default")))
#else
#define BERM_API
#endif

/* Of this header. berm_version() is the library's, "0.1.0". */
#define BERM_VERSION_MAJOR 0
#define BERM_VERSION_MINOR 1

enum {
	BERM_ERR_TEXT_MAX = 508,
	BERM_ID_MAX = 16,       /* a sandbox's id: 12 hex digits, and room */
	BERM_NAME_MAX = 64,     /* a sandbox's name with its NUL */
	BERM_IMAGE_ID_MAX = 65, /* an image's id with its NUL: 64 hex digits */
	BERM_FORK_MAX = 1024    /* children of one berm_fork() */
};

/* Why a call failed. The caller's; its content is as it was when the call succeeds. */
struct berm_err {
	int code; /* what the call returned: a negative errno */
	/* "outer: inner", without a newline; it may hold a guest's words */
	char text[BERM_ERR_TEXT_MAX];
};

/* An installation of berm and a state directory. */
struct berm;

/* What a sandbox is to be. One may start many. */
struct berm_config;

/* A sandbox. */
struct berm_sandbox;

/* A command in a sandbox. */
struct berm_process;

/* The library's version. Static; any thread. */
BERM_API const char *berm_version(void);

/* ---------------------------------------------------------------------------------------------
 * The installation
 */

/*
 * Finds the installation, and opens the state directory, making it on first use. It also removes
 * there what dead sandboxes left.
 *
 * prefix      where berm is installed ("/usr/local"); NULL: the installation this library is in
 * state_dir   where sandboxes, templates and images are; NULL: where the command line has them:
 *             BERM_STATE_DIR, or /var/lib/berm for root, or XDG_DATA_HOME/berm, or
 *             HOME/.local/share/berm. Only then, and only here, is the environment read
 * ret         the caller's, see berm_free()
 * Returns     0, -ENOENT (no installation there), -EACCES, -EPERM (others may write to the state
 *             directory), -ENOSPC, -EROFS, -EMFILE, -ENOMEM
 */
BERM_API int berm_new(const char *prefix, const char *state_dir, struct berm **ret,
                      struct berm_err *e);

/* Frees it; sandboxes made of it go on, and hold what they need of it. NULL is allowed. */
BERM_API void berm_free(struct berm *b);

/*
 * Looks an image up, as `berm run` does.
 *
 * ref       a name, an id or the unique beginning of one; NULL: the default image
 * ret_id    its id, BERM_IMAGE_ID_MAX bytes with the NUL
 * Returns   0, -ENOENT (none is called so), -EEXIST (the beginning of several ids), -EINVAL
 */
BERM_API int berm_find_image(struct berm *b, const char *ref, char *ret_id, struct berm_err *e);

/* ---------------------------------------------------------------------------------------------
 * What a sandbox is to be
 *
 * Every function but new and free returns 0, -EINVAL (the text says what is allowed), -E2BIG or
 * -ENOMEM, and leaves the config as it was when it fails.
 */

/* How much of a boundary a sandbox has. Strongest is largest. */
enum { BERM_LEVEL_PROCESS = 1, BERM_LEVEL_EMULATED = 2, BERM_LEVEL_MICROVM = 3 };

enum { BERM_ENGINE_AUTO = 0, BERM_ENGINE_QEMU = 1, BERM_ENGINE_KVM = 2 };

/*
 * A new config: the default image; no main command; 1 CPU, 512 MiB of memory, 4 GiB of disk, 512
 * processes; no limit of time; engine auto, level EMULATED at least. -ENOMEM.
 */
BERM_API int berm_config_new(struct berm_config **ret, struct berm_err *e);
BERM_API void berm_config_free(struct berm_config *c); /* NULL is allowed */

/* As berm_find_image() takes it; NULL: the default image. It is looked up at each start. */
BERM_API int berm_config_set_image(struct berm_config *c, const char *ref, struct berm_err *e);

/*
 * A name beside the id, unique among live sandboxes of the state directory: 1 to 63 letters,
 * digits, '-', '_' and '.', the first a letter or digit. NULL: none, which is the default.
 */
BERM_API int berm_config_set_name(struct berm_config *c, const char *name, struct berm_err *e);

/* The guest's host name, of the same characters; NULL: the sandbox's name or id. */
BERM_API int berm_config_set_hostname(struct berm_config *c, const char *name, struct berm_err *e);

/* Whole MiB: memory from 64 MiB to 64 GiB, disk (what the guest may write) from 16 MiB to 1 TiB. */
BERM_API int berm_config_set_memory(struct berm_config *c, uint64_t bytes, struct berm_err *e);
BERM_API int berm_config_set_disk(struct berm_config *c, uint64_t bytes, struct berm_err *e);

/* Virtual CPUs: 1 to 32. */
BERM_API int berm_config_set_cpus(struct berm_config *c, unsigned count, struct berm_err *e);

/* Processes and threads in the guest at once: 1 to 65536. */
BERM_API int berm_config_set_pids(struct berm_config *c, unsigned count, struct berm_err *e);

/*
 * Limits that end the sandbox: so long after its main command started (without one: after it is
 * ready); when nothing was read, written or computed for so long; when the main command wrote more
 * than so many bytes. At most 366 days, and 1024 TiB. 0: no limit, which is the default.
 */
BERM_API int berm_config_set_time_limit(struct berm_config *c, uint64_t ms, struct berm_err *e);
BERM_API int berm_config_set_idle_limit(struct berm_config *c, uint64_t ms, struct berm_err *e);
BERM_API int berm_config_set_output_limit(struct berm_config *c, uint64_t bytes,
                                          struct berm_err *e);

/* BERM_ENGINE_*: what runs the guest. AUTO takes the best that works here. */
BERM_API int berm_config_set_engine(struct berm_config *c, int engine, struct berm_err *e);

/*
 * Not 0: the guest's CPUs have all that the host's have, AVX-512 and AMX among it, and not only
 * what x86-64-v3 machines have in common. Engine kvm only: a start on another fails.
 */
BERM_API int berm_config_set_host_cpu(struct berm_config *c, int on, struct berm_err *e);

/* BERM_LEVEL_*: the least that is accepted. A start that cannot give it fails. */
BERM_API int berm_config_set_minimum_level(struct berm_config *c, int level, struct berm_err *e);

/* Not 0: boot, and neither use nor make a template. A start then takes about ten times as long. */
BERM_API int berm_config_set_cold(struct berm_config *c, int on, struct berm_err *e);

/*
 * Not 0: the sandbox outlives its handle, and the program; berm_connect() and the command line find
 * it by id or name. It ends by itself, at a limit, or by berm_stop().
 */
BERM_API int berm_config_set_detached(struct berm_config *c, int on, struct berm_err *e);

/*
 * Adds a variable, "NAME=VALUE", for all commands of the sandbox, after those of its image and in
 * place of an earlier one of that name. There are no others.
 */
BERM_API int berm_config_add_env(struct berm_config *c, const char *variable, struct berm_err *e);

/*
 * Adds a shell command, of up to 4096 bytes, that is run as root before the template is saved; at
 * most 16, after those the image asks for. What they leave in memory and on disk, processes that
 * stay among it, is there at once in every sandbox with the same ones. So their variables are the
 * image's, and none of berm_config_add_env().
 */
BERM_API int berm_config_add_warmup(struct berm_config *c, const char *command, struct berm_err *e);

/*
 * Starts from a snapshot of that name (see berm_snapshot()); NULL: no. Its guest goes on where it
 * was, as another one, with an identity of its own. Image, memory, disk, CPUs, processes and the
 * main command are the snapshot's, and so is a limit of time, idleness or output that is 0 here.
 * Of berm_config_set_command() count the streams and `data`, as with berm_attach(), and argv must
 * be NULL; berm_main() is NULL if the snapshot has no main command. Warm-up commands and a cold
 * start are for others, and not looked at.
 */
BERM_API int berm_config_set_snapshot(struct berm_config *c, const char *name, struct berm_err *e);

/*
 * A sandbox has no network, and not even a card for one, unless something is said of it here; then
 * it reaches what is allowed and nothing else. All is judged together at a start: what is denied
 * wins, whatever allows it. The words are those of berm-run(1) and berm-policy(5).
 *
 * add_policy  the text of a policy file; label is its name in messages and records
 * add_preset  "standard", ...; "registries" and those that include it open the hosts that the
 *             package managers of the image are set up to use, as berm-egress(7) tells
 * add_allow   "HOST", "HOST:PORT", "HOST:PORT-PORT", "ADDRESS:PORT", ...
 * add_deny    the same
 */
BERM_API int berm_config_add_policy(struct berm_config *c, const char *label, const char *text,
                                    size_t len, struct berm_err *e);
BERM_API int berm_config_add_preset(struct berm_config *c, const char *name, struct berm_err *e);
BERM_API int berm_config_add_allow(struct berm_config *c, const char *rule, struct berm_err *e);
BERM_API int berm_config_add_deny(struct berm_config *c, const char *rule, struct berm_err *e);

/*
 * Gives a secret its value, of 1 to 16384 bytes. The guest has a placeholder of it in the variable
 * of that name, also where a command's environment sets it, unless it does to nothing; and the
 * value is put in its place on the way to the hosts the policy names. It is kept in a file of
 * memory until the config is freed, and handed on without being read. Every secret of the policy
 * needs a value.
 *
 * secret    "NAME", of one that the policy's text has; or "NAME@HOST[,HOST...][:KEY=VALUE...]",
 *           which brings it into the policy as `berm run --secret` does
 */
BERM_API int berm_config_add_secret(struct berm_config *c, const char *secret, const void *value,
                                    size_t len, struct berm_err *e);

/*
 * Publishes a port of the guest's, "[ADDRESS:]HOST:GUEST": the start listens there; on 127.0.0.1,
 * if no address is named. HOST 0 is any port that is free: berm_get_port().
 */
BERM_API int berm_config_add_port(struct berm_config *c, const char *port, struct berm_err *e);

/* What is at the host's end of a command's stdin, stdout or stderr. */
enum {
	BERM_STREAM_NULL = 0, /* nothing: it reads /dev/null; what it writes is thrown away */
	BERM_STREAM_PIPE = 1, /* berm_write() or berm_read(). Unread output stalls the command */
	BERM_STREAM_FD = 2    /* a file of the caller's, duplicated: it may close its own at once */
};

struct berm_stream {
	int kind; /* BERM_STREAM_* */
	int fd;   /* with BERM_STREAM_FD. It keeps its flags: it may be blocking or not */
};

enum { BERM_TTY = 1 }; /* a terminal in the guest: stdin and stdout, and stderr goes to stdout */

/* A command. Zeros mean what the comments say. */
struct berm_command {
	size_t size; /* sizeof(struct berm_command) */
	const char *const
		*argv;          /* NULL-ended. argv[0] is looked up in the guest's PATH. NULL is the
	                            image's own command, in berm_config_set_command() only */
	const char *const *env; /* NULL-ended, and all there is but HOME, PATH, TERM and USER where
	                            missing; NULL: the image's variables and those of the config */
	const char *user;       /* NAME, UID, NAME:GROUP or UID:GID; NULL: as the image has it */
	const char *workdir;    /* absolute; NULL: as the image has it, or the user's home */
	struct berm_stream in;
	struct berm_stream out;
	struct berm_stream err;
	uint32_t flags;      /* BERM_TTY */
	uint16_t rows, cols; /* with BERM_TTY; 0: 24 and 80 */
	void *data;          /* the caller's, given back in events */
};

/*
 * Sets the main command: it starts with the sandbox, and the sandbox ends with it. `cmd` is copied;
 * an fd in it is used at each start, and until then it is the caller's to keep open. NULL: none,
 * which is the default; then the sandbox runs until it is stopped, freed or at a limit.
 */
BERM_API int berm_config_set_command(struct berm_config *c, const struct berm_command *cmd,
                                     struct berm_err *e);

/* ---------------------------------------------------------------------------------------------
 * A sandbox
 */

/*
 * Starts a sandbox and returns while it is still on its way: its supervisor, a process of its own,
 * is started, which takes about a millisecond, and a few small files of the state directory are
 * made. berm_wait_started() or BERM_EVENT_STARTED tell when it runs, which takes a fraction of a
 * second as a rule, and much longer for the first of an image and a size.
 *
 * From a snapshot it is not that quick: what it depends on, and after each boot of the host all of
 * it, is read here to see that it is the same.
 *
 * c         used until the call returns
 * ret       the caller's, see berm_sandbox_free()
 * Returns   0, -ENOENT (no such image), -EEXIST (the name is taken; up to two seconds later),
 *           -E2BIG (a command and environment that are too long), -EMFILE, -ENOSPC, -ENOMEM,
 *           -EINVAL; from a snapshot also -ESTALE (it is damaged), -EXDEV (it was saved with
 *           another processor, engine, kernel, ...), -ENOTSUP (another version of berm made it)
 */
BERM_API int berm_start(struct berm *b, const struct berm_config *c, struct berm_sandbox **ret,
                        struct berm_err *e);

/*
 * A handle to a live sandbox that somebody else started. Freeing it does nothing to the sandbox.
 * One that is still starting counts as started; its commands wait.
 *
 * ref       its id, its name, or the unique beginning of its id, 4 characters at least
 * Returns   0, -ENOENT, -EEXIST (the beginning of several), -EAGAIN (it serves too many at once)
 */
BERM_API int berm_connect(struct berm *b, const char *ref, struct berm_sandbox **ret,
                          struct berm_err *e);

/*
 * Frees the handle and those of all its processes, the main command's included, and does not wait.
 * Commands started by this handle are killed. A sandbox that this handle started, and is not
 * detached, ends: within milliseconds all of it is gone. NULL is allowed.
 */
BERM_API void berm_sandbox_free(struct berm_sandbox *sb);

/* Its id, for people and for berm_connect(). Lives as long as the handle. */
BERM_API const char *berm_sandbox_id(const struct berm_sandbox *sb);

/* Its main command; NULL if it has none, or was found by berm_connect(). Lives as long as sb. */
BERM_API struct berm_process *berm_main(struct berm_sandbox *sb);

/*
 * Waits until it runs: its main command has started, or, without one, it takes commands.
 *
 * Returns   0, -ETIMEDOUT, -ESHUTDOWN (it ended before; the text says why, and so does
 *           berm_wait_ended()), -ENODATA (its supervisor was killed)
 */
BERM_API int berm_wait_started(struct berm_sandbox *sb, int timeout_ms, struct berm_err *e);

/* Why a sandbox ended. */
enum {
	BERM_REASON_EXITED = 1,   /* its main command did */
	BERM_REASON_SIGNALED = 2, /* the same, by a signal */
	BERM_REASON_TIME = 3,     /* limits: time, */
	BERM_REASON_IDLE = 4,     /* nothing happened, */
	BERM_REASON_OUTPUT = 5,   /* too much output, */
	BERM_REASON_MEMORY = 6,   /* memory, */
	BERM_REASON_PIDS = 7,     /* processes, */
	BERM_REASON_DISK = 8,     /* disk: its command ended after it had met it full */
	BERM_REASON_STOPPED = 9,  /* berm_stop() */
	BERM_REASON_CALLER = 10,  /* its handle was freed, or the program died */
	BERM_REASON_NOT_STARTED = 11,
	BERM_REASON_COMMAND = 12,     /* its main command could not be started */
	BERM_REASON_ENGINE = 13,      /* the virtual machine died */
	BERM_REASON_PROTOCOL = 14,    /* the guest broke berm's protocol */
	BERM_REASON_SILENT = 15,      /* the guest did not answer */
	BERM_REASON_INTERRUPTED = 16, /* the host told its supervisor to end */
	BERM_REASON_GATE = 17,        /* its network ended: the process that serves the guest, */
	BERM_REASON_VAULT = 18,       /* the one that connects */
	BERM_REASON_VIOLATION = 19    /* a secret went where its policy says that this is the end */
};

/* Bits of limits_hit. */
enum {
	BERM_HIT_TIME = 1,
	BERM_HIT_IDLE = 2,
	BERM_HIT_OUTPUT = 4,
	BERM_HIT_MEMORY = 8,
	BERM_HIT_PIDS = 16,
	BERM_HIT_DISK = 32
};

/* How a sandbox ended. The host's own measurements, except where the guest's word is marked. */
struct berm_result {
	size_t size;         /* sizeof(struct berm_result) */
	int reason;          /* BERM_REASON_* */
	int exit_code;       /* as `berm run` would exit: 0 to 255 */
	int signal;          /* that ended the main command, or 0 */
	int level;           /* BERM_LEVEL_* it had; 0: it did not get that far */
	uint32_t limits_hit; /* BERM_HIT_*, also those that did not end it */
	uint64_t start_ms;   /* supervisor's start to main command running */
	uint64_t wall_ms;    /* the main command's time */
	uint64_t user_us, sys_us, maxrss_bytes; /* the main command's, by the guest's word */
	uint64_t host_cpu_ms, host_memory_peak_bytes;
	uint64_t output_bytes;
	char engine[BERM_ID_MAX]; /* "qemu", "kvm" */
	char message[512];        /* a sentence for people, or ""; it may hold the guest's words */
};

/* "exited", "time", ... Static. */
BERM_API const char *berm_reason_name(int reason);

/*
 * Waits until the sandbox has ended and all of it is gone.
 *
 * ret       may be NULL
 * Returns   0, -ETIMEDOUT, -ENODATA (its supervisor was killed, so nobody knows how it ended)
 */
BERM_API int berm_wait_ended(struct berm_sandbox *sb, int timeout_ms, struct berm_result *ret,
                             struct berm_err *e);

/*
 * Ends it: its processes get SIGTERM, and after grace_ms SIGKILL; with 0 at once. Then waits for
 * the end as berm_wait_ended() does. A second call may bring the end nearer. Of a connected
 * sandbox as well.
 *
 * grace_ms  0 to 3 600 000
 * Returns   0 (also when it had ended before), -ETIMEDOUT (it still will), -ENODATA, -EINVAL
 */
BERM_API int berm_stop(struct berm_sandbox *sb, unsigned grace_ms, int timeout_ms,
                       struct berm_err *e);

/* What it uses. */
struct berm_stats {
	size_t size;      /* sizeof(struct berm_stats) */
	uint64_t wall_ms; /* since its main command started, or it was ready */
	uint64_t cpu_ms;  /* of the virtual machine, on the host */
	uint64_t host_memory_bytes, host_memory_peak_bytes; /* 0: no control group to ask */
	uint64_t output_bytes;                              /* of the main command */
	char engine[BERM_ID_MAX];                           /* "qemu", "kvm" */
	int level;                                          /* BERM_LEVEL_* it has */
	int guest_known; /* 0: the guest did not answer, and what follows is 0 */
	/* by the guest's word: */
	uint64_t guest_cpu_us, guest_memory_bytes, guest_memory_peak_bytes;
	uint64_t guest_disk_bytes, guest_disk_max_bytes, guest_pids, guest_uptime_ms;
	/* of its network; 0 without one */
	uint64_t policy_generation;
	uint64_t records, records_lost; /* what became of connections and requests */
};

/*
 * Asks what it uses and waits for the answer; a guest that is stuck delays it by 2 seconds. With a
 * timeout of 0 the first call asks and answers -ETIMEDOUT, and BERM_EVENT_STATS says when another
 * will have the answer.
 *
 * Returns   0, -ETIMEDOUT, -ESHUTDOWN (it ended), -ENODATA, -EPROTO (a supervisor of another
 *           version)
 */
BERM_API int berm_get_stats(struct berm_sandbox *sb, int timeout_ms, struct berm_stats *ret,
                            struct berm_err *e);

/*
 * Four things are asked of the supervisor and wait for its answer: one after another, threads with
 * others wait for their turn. If time is up, what was begun is undone, as nobody waits for it; only
 * a sandbox that is to go on does so. It may be that it was done at just that moment.
 *
 * With a timeout of 0 the first call asks and answers -ETIMEDOUT, and nothing is undone:
 * BERM_EVENT_DONE says that the same call has the answer. Until it is taken other ones are -EBUSY.
 *
 * All return   0, -ETIMEDOUT (also by the guest: its processes or its output do not come to rest),
 *              -EAGAIN (not running yet), -EBUSY (another program is at it, or see above),
 *              -ESHUTDOWN (it ended, or is being stopped), -ENODATA (its supervisor was killed),
 *              -ENOTSUP (a supervisor of another version, or an engine that cannot), -ENOMEM,
 *              -EMFILE
 *
 * The first two stop and continue its virtual CPUs. Its limits of time and idleness do not count
 * meanwhile; it uses no CPU, and answers nothing: commands wait, and berm_get_stats() has nothing
 * of the guest. berm_stop() with a grace lets it go on, to end well. 0 also when it was so already.
 */
BERM_API int berm_pause(struct berm_sandbox *sb, int timeout_ms, struct berm_err *e);
BERM_API int berm_resume(struct berm_sandbox *sb, int timeout_ms, struct berm_err *e);

/*
 * Saves memory, devices, disk and processes under a name (as of berm_config_set_name()) in the
 * state directory, for berm_config_set_snapshot() and `berm restore`. The sandbox stands still
 * meanwhile, and goes on afterwards; one that is paused stays so. The name appears when all of it
 * is on disk. It holds what is in memory, secrets too; `berm snapshot rm` removes it.
 *
 * Returns   as above, and -EINVAL (no name), -EEXIST (there is one of that name), -ENOSPC
 */
BERM_API int berm_snapshot(struct berm_sandbox *sb, const char *name, int timeout_ms,
                           struct berm_err *e);

/*
 * Makes copies of a running sandbox: memory, disk and processes as they are now, shared until
 * either side writes; clock, randomness, machine id, host name and id its own. The parent stands
 * still for a moment and goes on; children of a paused one run. A program's own random generator,
 * if it keeps one, is copied too: have it seeded anew.
 *
 * In a child berm_main() is the copy of the parent's main command, with pipes of the child's own
 * where the parent's handle has pipes or files, and with the parent's `data`; copies of other
 * commands go on, and nobody hears them. Each byte of output goes to the parent, if it had left the
 * guest, or to both; each byte of input that had not arrived there goes to the parent alone. Of a
 * connected parent, and where that has no stream, berm_attach() joins the child's main command.
 *
 * Children have the parent's limits, counted anew, and no name, run when this returns, and end with
 * their handles, even if the parent is detached.
 *
 * count         1 to BERM_FORK_MAX. A few start at a time
 * ret_children  count handles, the caller's. All or none are made: if one cannot be started the
 *               others end, as by berm_sandbox_free()
 * Returns       as above, and -EINVAL, -ENOSPC, -ENOENT (its image was removed), -EXDEV (it runs
 *               on what another installation has), -ECHILD (a child did not start; the text says
 *               why)
 */
BERM_API int berm_fork(struct berm_sandbox *sb, unsigned count, int timeout_ms,
                       struct berm_sandbox **ret_children, struct berm_err *e);

/*
 * Copies a file, or a tree, from the host to `dst` in the guest, and back. A directory that is
 * there is filled; a file that is there is replaced. What cannot be copied (sockets, devices) is
 * left out. berm_get() treats what comes as hostile: no file is made outside of `dst`, set-user-id
 * bits and links that lead out of the copy are dropped, and the kernel holds it to that: it works
 * in a short-lived thread of its own that may write nowhere else (Landlock), with all signals
 * blocked, which has ended when it returns.
 *
 * src       links: of the last component not followed
 * dst       the copy's name, in a directory that is there; in the guest absolute
 * user      who owns it in the guest (as in struct berm_command); NULL: root
 * bytes_max what may come from the guest; more is -EFBIG. 0: 16 GiB
 * Returns   0, -ETIMEDOUT, -ENOENT, -EACCES, ... of the file the text names, -EBADMSG (the guest
 *           sent no files), -ESHUTDOWN (it ended), -EAGAIN (it is not running yet). After a failure
 *           a part may have been copied, of whole files
 */
BERM_API int berm_put(struct berm_sandbox *sb, const char *src, const char *dst, const char *user,
                      int timeout_ms, struct berm_err *e);
BERM_API int berm_get(struct berm_sandbox *sb, const char *src, const char *dst, uint64_t bytes_max,
                      int timeout_ms, struct berm_err *e);

/* ---------------------------------------------------------------------------------------------
 * The network of one that runs
 *
 * The first three wait for the sandbox's gate and vault, which takes milliseconds as a rule, for
 * timeout_ms at most. They return 0, -ETIMEDOUT (it may still be done), -EINVAL (refused, and the
 * text says why; nothing has changed), -ENODEV (it was started without a network), -EAGAIN (it is
 * starting), -ESHUTDOWN, -EPIPE (it ended), -EPROTO, -ENOMEM, -EMFILE.
 */

/*
 * Puts another policy into force: what the config says of the network, but for ports and secrets'
 * values. Connections that it does not allow are closed.
 *
 * expect          the number of the policy that is to be in force now: 1 after the start, and more
 *                 after each change; another is -ESTALE. 0: whichever
 * ret_generation  the new one's number; may be NULL
 */
BERM_API int berm_set_policy(struct berm_sandbox *sb, const struct berm_config *c, uint32_t expect,
                             int timeout_ms, uint32_t *ret_generation, struct berm_err *e);

/*
 * Gives a secret another value, or a first one, and takes it away. Commands that start from then on
 * have its placeholder, or not.
 */
BERM_API int berm_set_secret(struct berm_sandbox *sb, const char *name, const void *value,
                             size_t len, int timeout_ms, struct berm_err *e);
BERM_API int berm_remove_secret(struct berm_sandbox *sb, const char *name, int timeout_ms,
                                struct berm_err *e);

/* The host's port of the index-th that the config published, counted from 0. -EINVAL: none. */
BERM_API int berm_get_port(struct berm_sandbox *sb, unsigned index, struct berm_err *e);

enum { BERM_RECORD_MAX = 16384 };

/*
 * What became of its connections and requests: JSON objects, one a line, as `berm logs --egress`
 * has them. Does not wait. Records that were put aside before somebody read them are passed over;
 * of a sandbox that ended they are there if it was detached.
 *
 * size      BERM_RECORD_MAX at least
 * Returns   bytes of whole lines, 0 (none now), -EINVAL, -EMFILE, -EIO
 */
BERM_API ssize_t berm_read_records(struct berm_sandbox *sb, char *ret, size_t size,
                                   struct berm_err *e);

/* ---------------------------------------------------------------------------------------------
 * Commands in it
 */

/*
 * Runs one more command. It does not wait: not for the command, and not for the sandbox, which may
 * still be starting; the command then starts as soon as that runs. About 30 at a time fit into one
 * sandbox.
 *
 * cmd       used until the call returns
 * ret       the caller's, see berm_process_free()
 * Returns   0, -EINVAL, -E2BIG, -ESHUTDOWN (the sandbox has ended), -EMFILE, -ENOMEM. Whether the
 *           command could be started is for berm_wait() to say
 */
BERM_API int berm_exec(struct berm_sandbox *sb, const struct berm_command *cmd,
                       struct berm_process **ret, struct berm_err *e);

/*
 * Joins the main command of a sandbox that somebody else started: `out` and `err` get what it
 * writes from now on, `in` is its stdin, if it was left open and nobody else has it. Of cmd only
 * the streams and `data` are looked at. A reader that is too slow is let go (berm_wait():
 * -ENOBUFS). The handle's end is the command's end, but freeing it leaves the command alone.
 */
BERM_API int berm_attach(struct berm_sandbox *sb, const struct berm_command *cmd,
                         struct berm_process **ret, struct berm_err *e);

/*
 * Frees the handle. A command of berm_exec() that has not ended is killed. The main command's own
 * handle belongs to the sandbox: it is left alone. NULL is allowed.
 */
BERM_API void berm_process_free(struct berm_process *p);

enum { BERM_STDIN = 0, BERM_STDOUT = 1, BERM_STDERR = 2 };

/*
 * Reads what the command wrote to a BERM_STREAM_PIPE; waits until there is something.
 *
 * stream    BERM_STDOUT or BERM_STDERR
 * Returns   bytes read, 0 at the end (also of a command that did not start, or was cut off: then
 *           berm_wait() knows more), -EAGAIN (nothing within timeout_ms), -EINVAL (no pipe)
 */
BERM_API ssize_t berm_read(struct berm_process *p, int stream, void *ret, size_t size,
                           int timeout_ms, struct berm_err *e);

/*
 * Writes to a command's stdin, a BERM_STREAM_PIPE. Waits until all is taken, or no more can be.
 * What was taken is on its way; it is not said when the command reads it. 256 KiB are taken from
 * the start of the command on without anybody reading.
 *
 * Returns   bytes taken, fewer than len if time was up; -EAGAIN (none within timeout_ms), -EPIPE
 *           (the command has ended, or its stdin was closed), -EINVAL (no pipe)
 */
BERM_API ssize_t berm_write(struct berm_process *p, const void *data, size_t len, int timeout_ms,
                            struct berm_err *e);

/* Ends its stdin, after all that was written. Twice is once. 0 or -EINVAL (no pipe). */
BERM_API int berm_close_stdin(struct berm_process *p, struct berm_err *e);

/*
 * Sends a signal, by its number on Linux, to the command's process group; to one that has not
 * started yet, when it does. 0, -ESRCH (it has ended) or -EINVAL (no signal has that number).
 */
BERM_API int berm_signal(struct berm_process *p, int number, struct berm_err *e);

/* Tells its terminal's size, in the same way. 0, -ESRCH, or -EINVAL (it has no terminal). */
BERM_API int berm_resize(struct berm_process *p, unsigned rows, unsigned cols, struct berm_err *e);

/* How a command ended, by the guest's word. */
struct berm_exit {
	size_t size;                            /* sizeof(struct berm_exit) */
	int code;                               /* its exit code, or 128 + signal */
	int signal;                             /* that ended it, or 0 */
	uint64_t user_us, sys_us, maxrss_bytes; /* of it and the children it waited for */
};

/*
 * Waits until the command has ended, and what it wrote to a BERM_STREAM_FD is written. Output in a
 * pipe can still be read afterwards; a command that fills one and is not read from does not end.
 *
 * ret       may be NULL
 * Returns   0, -ETIMEDOUT; -ENOENT (no such command in the guest), -EINVAL (no such user), -ENOTDIR
 *           (no such workdir), -EACCES, -ENOEXEC, ... (it could not be executed; the text says
 *           why), -ESHUTDOWN (the sandbox ended under it), -ENODATA (its supervisor was killed),
 *           -EMFILE (too many commands), -ENOSPC, -EIO, ... (a file of the caller's could not be
 *           read or written), -EPROTO
 */
BERM_API int berm_wait(struct berm_process *p, int timeout_ms, struct berm_exit *ret,
                       struct berm_err *e);

/* ---------------------------------------------------------------------------------------------
 * Events, for programs with a loop of their own
 */

enum {
	BERM_EVENT_PROGRESS = 1, /* a slow start: `text` says what is being done, for people */
	BERM_EVENT_STARTED = 2,
	BERM_EVENT_OUTPUT = 3, /* `process`: berm_read() of `stream` has something, or its end */
	BERM_EVENT_INPUT = 4,  /* `process`: berm_write() that took too little would take more */
	BERM_EVENT_EXIT = 5,   /* `process`: it ended, or could not start: berm_wait() says how */
	BERM_EVENT_STATS = 6,  /* berm_get_stats() has the answer */
	BERM_EVENT_ENDED = 7,  /* the last one: berm_wait_ended() says how */
	BERM_EVENT_DONE = 8    /* the same berm_pause(), resume, snapshot or fork has the answer */
};

struct berm_event {
	size_t size; /* sizeof(struct berm_event) */
	int kind;    /* BERM_EVENT_* */
	int stream;  /* BERM_STDOUT or BERM_STDERR, with OUTPUT */
	struct berm_process *process;
	void *data;       /* of the process: as given in its struct berm_command */
	const char *text; /* with PROGRESS; until the next call about this sandbox */
};

/*
 * An fd that poll(2), epoll(7) and the like find readable when berm_next_event() has work to do or
 * an event to tell. It is to be waited for and nothing else, lives as long as the handle, and stays
 * readable until berm_next_event() answered 0. -EMFILE, -ENOMEM.
 */
BERM_API int berm_event_fd(struct berm_sandbox *sb, struct berm_err *e);

/*
 * Does what can be done without waiting, children of a fork to be started among it, and takes the
 * next event. Each is told once; OUTPUT comes again when there is something to read after a
 * berm_read(). Whoever frees a process hears no more of it.
 *
 * Returns   1 (ret is an event), 0 (none now)
 */
BERM_API int berm_next_event(struct berm_sandbox *sb, struct berm_event *ret, struct berm_err *e);

#ifdef __cplusplus
}
#endif
