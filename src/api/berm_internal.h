/*
 * berm_internal: what the files behind include/berm.h share.
 *
 * Theory of operation
 *
 * There is no thread of ours, so whoever calls does the work. A sandbox has an epoll of its own
 * (io_fd) with the sockets to its supervisor, one for the sandbox and one for each further command,
 * and the files a command's streams are joined to. pump_once() serves what is ready there and never
 * waits. Each connection is a relay (relay.h) that says what it waits for; pump_settle() puts that
 * into the epoll.
 *
 * Everything of a sandbox is behind its one lock, which nobody holds while he waits. Of the threads
 * that wait, one (`leader`) is in epoll_wait(), the others on a condition; whoever pumped tells all
 * of them. The leader is woken by an fd that is always readable, put into the epoll for that. So is
 * the reader of event_fd: an epoll of io_fd and, while there is an event to tell, of that same fd.
 *
 * News is kept as flags where it belongs, not in a queue: so it takes no memory, however long
 * nobody asks, and berm_next_event() makes events of it in a fixed order.
 */
#pragma once

#include "base/err.h"
#include "image/store.h"
#include "lib/egress_plan.h"
#include "lib/relay_sink.h"
#include "policy/limits.h"
#include "state/paths.h"
#include "state/result.h"
#include "state/spec.h"
#include "state/strings.h"

#include <berm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	API_STREAM = 1, /* of every connection: each carries one stream */
	API_SLOTS = RELAY_FDS,
	API_READY_MAX = 32,     /* taken from the epoll at once */
	API_ROUNDS_MAX = 4,     /* in one pump: then the caller looks up */
	API_DIRECT_MAX = 1024,  /* reads of a file that no epoll takes, at once */
	API_UNREAPED_MAX = 256, /* ended supervisors of a caller that is their reaper */
	API_RETRY_MS = 5,       /* while the supervisor's backlog of connections is full */
	API_PROGRESS_MAX = WIRE_TEXT_MAX,
	API_GRACE_MAX_MS = 3600 * 1000,
	API_SIGNAL_MAX = 64,
	API_ROOM_MIN = 4096, /* of a connection, for a request that is small */
	API_ROWS = 24,
	API_COLS = 80,
	API_WORDS_MAX = 4096, /* of a config about its network: POLICY_RULES_MAX */
};

#define API_IMAGE "default"

struct berm {
	unsigned refs; /* atomic: the program's, and one a sandbox */
	struct paths paths;
	int state_fd;
	int always_fd;                  /* an eventfd that is readable for ever */
	pid_t pid;                      /* whose handle it is */
	pthread_mutex_t lock;           /* of what follows */
	int unreaped[API_UNREAPED_MAX]; /* pidfds */
	unsigned unreaped_count;
};

/* A command as the program gave it, copied. */
struct words {
	bool given;
	bool has_argv, has_env; /* else: the image's */
	struct strings argv, env;
	char *user, *workdir;    /* NULL: the image's */
	struct berm_command cmd; /* its streams, flags, size and data; no pointers but data */
};

/* One thing that was said of the network: see berm_network.c. */
enum api_word_kind { API_FILE, API_PRESET, API_ALLOW, API_DENY, API_SECRET };

struct api_word {
	uint8_t kind; /* enum api_word_kind */
	size_t len;
	char *text;
	char *label; /* of a file; else "" */
};

struct api_value {
	char name[CONTROL_SECRET_NAME_MAX + 1];
	int fd; /* sealed */
};

struct api_network {
	bool wanted;
	unsigned count, value_count, port_count;
	struct api_word *words;
	struct api_value values[CONTROL_SECRETS_MAX];
	struct publish ports[PUBLISH_MAX];
};

struct berm_config {
	char *image, *name, *hostname, *snapshot;
	struct strings env, warm;
	struct words main;
	struct spec_limits limits;
	uint8_t engine, level;
	bool cold, detached, host_cpu;
	struct api_network network;
};

struct slot {
	struct berm_process *process; /* NULL: the sandbox's own */
	uint8_t index;                /* RELAY_* */
	int fd;                       /* as it is in the epoll; -1: it is not */
	uint32_t events;
};

enum api_kind {
	API_CONTROL, /* the sandbox's own connection; also the main command's, if it has one */
	API_EXEC,
	API_ATTACH,
	API_REQUEST, /* without a stream: see berm_snapshot.c */
};

struct snapshot;

/* Children under way: see berm_fork.c. */
struct fork {
	unsigned count;
	unsigned started; /* whose supervisor was started */
	unsigned running; /* of those, the first ones: in whom the guest runs */
	struct snapshot *from;
	struct image *image;
	struct berm_sandbox **children; /* count */
};

enum ask { ASK_PAUSE, ASK_RESUME, ASK_SNAPSHOT, ASK_FORK };

/* What the supervisor is asked to do with the sandbox: see berm_snapshot.c. */
struct request {
	uint8_t ask;
	char name[SPEC_NAME_MAX + 1]; /* ASK_SNAPSHOT; else "" */
	uint64_t serial;
	bool kept;                    /* asked for with a timeout of 0: nobody waits */
	struct berm_process *process; /* its connection; NULL once it has the answer */
	bool asked_again, answered, over, told;
	int code; /* once over: 0 or why not */
	struct err why;
	struct fork fork; /* ASK_FORK; else nothing but zeros */
};

struct berm_process {
	struct berm_sandbox *sb;
	struct berm_process *next;
	uint8_t kind;
	bool is_main; /* API_CONTROL with a main command */
	bool tty;
	bool connected; /* else it waits for the sandbox to run, or for its turn */
	bool closed;    /* the connection; what was read from it stays */
	bool failed;    /* why says how */
	struct err why;
	struct client *client; /* NULL once closed */
	struct relay relay;
	uint8_t streams[3]; /* BERM_STREAM_* */
	int fds[3];         /* with BERM_STREAM_FD: ours */
	struct slot slots[API_SLOTS];
	/* kept until it has started */
	bool close_stdin;
	uint64_t signals;    /* bit n - 1 */
	uint16_t rows, cols; /* rows 0: none */
	void *data;
	/* news */
	bool told_out[3]; /* since the last berm_read() */
	bool read_end[3]; /* berm_read() answered 0 */
	bool wants_in;    /* a berm_write() took too little */
	bool told_exit;
};

struct berm_sandbox {
	struct berm *b;
	pid_t pid; /* whose handle it is */
	char id[SPEC_ID_LEN + 1];
	bool owned; /* started by us: it ends with the control connection, unless it is detached */
	int pidfd, image_fd;
	int io_fd, event_fd, timer_fd;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool news;          /* those who wait are to look again */
	bool forked;        /* it is being freed in a child: its epoll is the parent's */
	bool leader, woken; /* somebody is in epoll_wait(); always_fd is in io_fd */
	bool ready;         /* always_fd is in event_fd */
	struct slot timer_slot;
	struct berm_process *control;
	struct berm_process *processes; /* all but control */
	bool reachable, started, ended, lost;
	struct result result; /* once ended, and not lost */
	/* for commands that do not say */
	struct strings env;
	struct strings registries; /* of its image and env: what presets of them open */
	char *user, *workdir;
	/* stats */
	bool stats_asked, stats_fresh, stats_bad;
	unsigned stats_count;
	struct berm_stats stats;
	unsigned port_count;
	uint16_t ports[PUBLISH_MAX]; /* of the host's */
	int records_fd;              /* of the file that is being read; -1: none yet */
	off_t records_at;
	struct request *request; /* one at a time, or NULL */
	uint64_t request_count;
	/* news */
	bool due_progress, told_started, due_stats, want_stats_event, told_ended;
	char progress[API_PROGRESS_MAX + 1];
	char told_progress[API_PROGRESS_MAX + 1];
};

/* --- berm.c --- */

/* Hands an error to the program. Returns r. */
int api_tell(struct berm_err *e, int r, const struct err *why);
void api_ref(struct berm *b);
_must_ int api_check(const struct berm *b, struct err *e); /* -EINVAL, -EPERM */
void api_reap(struct berm *b, int pidfd); /* takes pidfd; -1: only what is left of others */

/* A struct that begins with its size, of a version of the header that may be older or newer. */
_must_ int api_take_sized(const char *what, const void *from, void *ret, size_t size,
                          struct err *e);
_must_ int api_give_sized(const char *what, void *to, const void *from, size_t size, struct err *e);

/* --- berm_config.c --- */

/* Judges, and fills in what depends on nothing else; pointers are borrowed. argv may be NULL. */
_must_ int command_take(const struct berm_command *cmd, struct berm_command *ret, struct err *e);
void words_fini(struct words *w);

/* --- berm_sandbox.c --- */

_must_ int sandbox_new(struct berm *b, struct berm_sandbox **ret, struct err *e);
OWN_DEFINE(struct berm_sandbox, berm_sandbox_free)

_must_ int sandbox_enter(struct berm_sandbox *sb, struct err *e); /* takes the lock */
void sandbox_leave(struct berm_sandbox *sb);
void sandbox_reachable(struct berm_sandbox *sb);
void sandbox_started(struct berm_sandbox *sb);
void sandbox_over(struct berm_sandbox *sb); /* END came, or the supervisor went */

/*
 * Why it is no more, as a code and a sentence: -ESHUTDOWN or -ENODATA. `json` is what a connection
 * of its own was told, before the sandbox's was, or NULL.
 */
int sandbox_gone(const struct berm_sandbox *sb, const char *json, size_t len, struct err *e);

/* A new connection, non-blocking. -EAGAIN: its supervisor has not yet accepted enough others. */
_must_ int sandbox_dial(const struct berm_sandbox *sb, int *ret_fd, struct err *e);

/*
 * A connection for one request that waits, for a caller without the lock. Its waits end with the
 * timeout. -EAGAIN: not running yet.
 */
_must_ int sandbox_client(struct berm_sandbox *sb, int timeout_ms, struct client **ret,
                          struct err *e);

/* --- berm_process.c --- */

/* cmd NULL: no streams. It is not yet in the sandbox's list. */
_must_ int process_new(struct berm_sandbox *sb, uint8_t kind, const struct berm_command *cmd,
                       struct berm_process **ret, struct err *e);
void process_drop(struct berm_process *p); /* frees it; it is in no list. NULL is allowed */
void process_link(struct berm_process *p); /* into its sandbox's list */
void process_unlink(struct berm_process *p);
void process_connect(struct berm_process *p);
void process_close(struct berm_process *p);
void process_fail(struct berm_process *p, const struct err *why);
bool process_over(const struct berm_process *p);
_must_ int process_enter(const struct berm_process *p, struct err *e);

/* --- berm_stream.c --- */

bool stream_readable(struct berm_process *p, int stream); /* or at its end */
bool stream_writable(const struct berm_process *p);       /* or closed */
void stream_send_kept(struct berm_process *p);            /* if it has started */

/* --- berm_start.c --- */

/* A copy of `from`, a saved `parent`, whose lock is held; it is on its way then. */
_must_ int sandbox_start_child(const struct berm_sandbox *parent, const struct snapshot *from,
                               const struct image *image, struct berm_sandbox **ret, struct err *e);

/* --- berm_snapshot.c: the lock is held --- */

void request_answered(struct berm_sandbox *sb, const struct wire_frame *f); /* DONE came */
void request_step(struct berm_sandbox *sb); /* does what can be done for it now */
void request_drop(struct berm_sandbox *sb); /* takes it back, if there is one */

/* --- berm_fork.c: the parent's lock is held --- */

_must_ int fork_begin(const struct berm_sandbox *sb, struct fork *f, struct err *e);

/* Starts and serves children. 0: all run; -EAGAIN: not yet. */
_must_ int fork_step(const struct berm_sandbox *sb, struct fork *f, struct err *e);

/* Once all run. */
void fork_take(struct fork *f, struct berm_sandbox **ret_children);

/* Ends them, and forgets what they are copies of. */
void fork_drop(const struct berm_sandbox *sb, struct fork *f);

/* --- berm_pump.c: the lock is held --- */

/* Puts what the process waits for now into the epoll; call it after whatever may have changed it.
 */
void pump_settle(struct berm_process *p);
void pump_unwatch(struct berm_process *p);
void pump_retry_later(struct berm_sandbox *sb);

/* Serves what is ready. Never waits. */
void pump_once(struct berm_sandbox *sb);

/* Has those who wait look again, if there was news. */
void pump_tell(struct berm_sandbox *sb);

/* When a timeout of the program's is over; below 0: never. */
uint64_t pump_deadline(int timeout_ms);

/* Pumps until done(arg), which is asked with the lock held: 0 or -ETIMEDOUT. */
_must_ int pump_until(struct berm_sandbox *sb, bool (*done)(const void *arg), const void *arg,
                      uint64_t deadline_ms);

/* --- berm_event.c --- */

/* Makes event_fd readable, or not, as it is now. */
void event_show(struct berm_sandbox *sb);

/* --- berm_stats.c --- */

void stats_take(struct berm_sandbox *sb, struct span json);
