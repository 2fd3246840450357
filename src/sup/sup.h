/*
 * sup: the supervisor of one sandbox, the parts of it that know of each other.
 *
 * Theory of operation
 *
 * start.c   runs straight through: finds or has built a template, starts the engine, closes the
 *               jail.
 * loop.c    then one libuv loop: connections, timers, signals, the engine's end.
 * agent.c   judges and routes what the guest's agent sends (hostile).
 * client.c  judges and routes what berm's commands send (the same user).
 * hold.c    brings the guest to rest and lets it go on: for PAUSE, RESUME and SNAPSHOT.
 * save.c    what a snapshot has done away from the loop: hashing, saving, copying, flushing.
 * info.c    answers INFO.
 * net.c, egress.c, ports.c   the guest's network: see egress.h.
 * collect.c of a session: before the end, the guest's work is fetched.
 * end.c     decides once how it ended, kills, cleans up, tells everybody.
 *
 * A stream joins one command's connection with one agent's stream; credit passes through, so the
 * two ends throttle each other and what is held here is bounded by the windows. The main command's
 * output is different: it is logged always, and copied to whoever is attached. While the caller of
 * a foreground run is attached its credit is the agent's credit; otherwise the supervisor grants
 * it, and an attached reader that is too slow is let go.
 *
 * Where a frame cannot be passed on yet (no room, no credit), its sender's connection is not read
 * any further until there is: the frame stays where it is. Nothing is ever queued without a bound.
 * Each such wait has one who ends it:
 *   agent_paused   a command's connection has no room (its `awaited`): it is written, or goes
 *   agent_choked   the agent has no room for answers: it reads (room_wanted polls for that)
 *   client.paused  the agent has no room (room_wanted), or gave no credit: any frame of its
 * A connection that waits is polled for its end all the same. Towards a command some room is kept
 * for what must not be lost, so its END fits however full it is.
 *
 * Dropping a connection and ending the sandbox happen in the middle of things. Both only mark and
 * uv_close(): a slot and its link live until the close callback, and whoever goes on afterwards
 * finds `closing`, or SUP_ENDING, and does nothing more.
 *
 * A guest is held from HOLD to RELEASE, and then nothing at all is sent to its agent: whoever would
 * (a command's frame, a grant of credit, STATS) waits as for room, or does without. Its engine is
 * stopped and saved by a thread, one piece of work at a time, while the loop goes on. The thread
 * gets what it needs handed over in struct sup_save and the loop keeps its hands off that until the
 * work is done, so they share nothing and need no lock. Whoever asked and went away is not served:
 * what was under way is undone. Only one such request is under way at a time.
 *
 * Until IDENTITY_OK one deadline runs, for each file of a session another, from EXEC to its answer
 * a third, and the wall clock from EXEC on: so an agent that is silent, or never says that a
 * command runs, gains no time by it.
 */
#pragma once

#include "jail/cgroup.h"
#include "jail/jail.h"
#include "lib/guest.h"
#include "state/outlog.h"
#include "state/result.h"
#include "state/snapshot_note.h"
#include "state/work_session.h"
#include "sup/egress.h"
#include "sup/link.h"

#include <uv.h>

enum {
	SUP_CLIENTS_MAX = 32,
	SUP_STREAMS_MAX = WIRE_STREAMS_MAX,
	SUP_MAIN_STREAM = 1,
	SUP_BACKLOG = 16,
	SUP_EVENTS_MAX = 100000,      /* of the agent, per sandbox: an honest one sends a few */
	SUP_BOOT_MS = 30000,          /* to IDENTITY_OK; about 1 s as a rule */
	SUP_RESTORE_MS = 20000,       /* the same; about 0.1 s as a rule */
	SUP_EXEC_MS = 30000,          /* EXEC to its answer; a few ms as a rule */
	SUP_PREPARE_MS = 30000,       /* each file before that; a few ms as a rule */
	SUP_PORT_MS = 2000,           /* from the port's closing to the engine's end */
	SUP_STATS_MS = 2000,          /* an agent's answer to STATS */
	SUP_POWEROFF_EXTRA_MS = 2000, /* beyond the grace that STOP gives */
	SUP_FLUSH_MS = 5000,          /* for connections that did not start the sandbox */
	/* a connection that asks nothing so long may lose its place */
	SUP_QUIET_MS = 1000,
	SUP_ACCEPT_MS = 200,     /* after an accept() that found no fd free */
	SUP_LAST_MS = 30000,     /* for a reader of what an engine said that has ended */
	SUP_LAST_READS_MAX = 64, /* of the agent's socket then: more than it holds */
	SUP_IDLE_TICK_MS = 500,
	SUP_IDLE_CPU_PERMILLE = 20,   /* of one CPU: a guest below it does nothing */
	SUP_BUILD_MS = 600000,        /* a template, with all its warm-up commands */
	SUP_HOLD_MS = 8000,           /* HOLD to HOLD_OK; the agent gives up after 2 s of its own */
	SUP_ENGINE_MS = 20000,        /* an engine to stop, or to go on */
	SUP_SAVE_MS = 60000,          /* an engine to write state and memory, and beyond that ... */
	SUP_SAVE_BYTES_MS = 16 << 10, /* ... a ms for so much memory: 16 MiB/s, a slow disk */
	SUP_FULL_BYTES = 1 << 20,     /* a file system with less room is why a save failed */
	SUP_WORDS_MAX = 2048,         /* of the engine's last words in a message */
	SUP_WORDS_READS_MAX = 32,     /* 4 KiB each: more than its pipe holds */
	SUP_ANSWER_BYTES = 1024,      /* what one frame of the agent may have us send to it */
	SUP_GRANT_BYTES = WIRE_WINDOW_BYTES / 8, /* credit is given back in such parts */
	SUP_LINGER_MS = 30000,                   /* of spec.linger: to fetch a few small files */
	SUP_COLLECT_RATE = 64,                   /* bytes a ms of a session's work, at the least */
	/* of it, before the first byte is fetched: more is written down for whoever waits */
	SUP_TELL_BYTES = 16 << 20,
	/* kept free towards each command for what must not be lost: EXEC_OK, RESETs, REFUSE, END */
	SUP_RESERVE_BYTES = RESULT_JSON_MAX + 4096,
};

enum sup_kind { SUP_MAIN = 1, SUP_EXEC = 2, SUP_FILES = 3, SUP_COLLECT = 4 };

/* With spec.workspace: its session, and how far its work has come. See collect.c. */
struct sup_session {
	struct work_session rec; /* dir_fd -1: this is no session */
	bool lingering; /* its command has ended, and whoever started it is not done with it */
	bool collecting;
	bool whole;   /* the agent said that it is, too */
	int spool_fd; /* spool.part, or -1 */
	uint64_t bytes, began_ms;
	uint32_t owed;              /* written, and not yet granted again */
	char why[SESSION_TEXT_MAX]; /* it is not whole; "": nothing went wrong yet */
};

struct sup_client;

enum sup_hold { SUP_FREE = 0, SUP_ASKED = 1, SUP_HELD = 2, SUP_RELEASED = 3 };

/* How far a request is. */
enum sup_phase {
	SUP_PREPARING = 1, /* in the thread: a draft is made; the guest runs */
	SUP_HOLDING = 2,   /* for HOLD_OK */
	SUP_RESTING = 3,   /* in the thread: the engine is stopped, saved, let go on */
	SUP_SEALING = 4    /* in the thread: what was saved is flushed; the guest runs */
};

/* What the thread works on; its own while op.working. */
struct sup_save {
	uv_work_t work;
	struct engine_vm vm; /* the loop's may be closed meanwhile; the fds live as long as we */
	bool save, pause, resume; /* what to do with the engine */
	int state_fd, scratch_fd; /* borrowed */
	uint64_t ram_bytes, disk_bytes;
	const struct guest_files *files;
	const struct spec *spec;
	int folder_fd; /* snapshots/ */
	struct draft draft;
	struct buf machine; /* guest_put_machine(); kept for the next one */
	uint8_t machine_bytes[SNAPSHOT_MACHINE_MAX];
	uint8_t *note; /* SAVED_NOTE_MAX, or NULL */
	size_t note_len;
	int code; /* of the work: 0 or -errno, and e says why */
	struct err e;
	bool broken; /* the engine does not go on */
};

/* A request that needs the guest at rest. */
struct sup_op {
	uint8_t type;              /* WIRE_SNAPSHOT, WIRE_PAUSE or WIRE_RESUME; 0: none */
	uint8_t phase;             /* enum sup_phase */
	bool working;              /* in the thread */
	bool asked;                /* by a command: if that goes, it is undone */
	struct sup_client *client; /* waits for DONE; NULL: there is none, or it went away */
	bool replace;
	char name[SPEC_NAME_MAX + 1]; /* "": a fork's, which nobody else will see */
	struct sup_save save;
};

struct sup_stream {
	bool used;
	uint8_t kind;
	bool started; /* EXEC_OK was seen */
	uint32_t pid;
	uint32_t agent_id;
	uint32_t client_id;
	struct sup_client
		*client; /* NULL: it went away, or MAIN (whose readers are the attached) */
	uint32_t may_send[WIRE_CHANNEL_COUNT]; /* bytes the agent may still send */
	uint32_t owed[WIRE_CHANNEL_COUNT];     /* MAIN: logged, and not yet granted again */
	uint32_t may_take;                     /* bytes of stdin the agent will still take */
	bool ended[WIRE_CHANNEL_COUNT];        /* EOF seen */
	bool sized;                            /* COLLECT: SIZE was seen, or DATA without one */
};

struct sup_client {
	bool used;
	bool owner;        /* the connection that started the sandbox */
	bool wait;         /* is to be told END */
	bool attached;     /* to MAIN, as stream attach_id */
	bool input;        /* its stdin is MAIN's */
	bool info;         /* waits for INFO_OK */
	bool paused;       /* a frame of its waits for room or credit */
	bool closing;      /* goes when its output is flushed */
	bool dirty;        /* frames were put, and sending is put off to the end of the agent's */
	bool awaited;      /* the agent goes on once it has room (agent_paused) */
	uint64_t heard_ms; /* when it last said something, or came */
	uint32_t attach_id;
	uint32_t may_get[WIRE_CHANNEL_COUNT]; /* attached, not the owner: its window */
	uint32_t may_put;                     /* attached: bytes of stdin it knows it may send */
	struct link *link;
	uv_poll_t poll;
	bool poll_open;
	struct sup *sup;
};

static inline bool sup_fits(const struct sup_client *c, size_t bytes)
{
	return link_room(c->link) >= bytes + SUP_RESERVE_BYTES;
}

enum sup_state { SUP_STARTING = 1, SUP_READY = 2, SUP_RUNNING = 3, SUP_ENDING = 4 };

struct sup {
	uint8_t state;
	bool boot; /* cold: HELLO comes first */
	struct paths paths;
	struct spec spec;
	char *spec_bytes;
	void *spec_lists;
	const char *id;
	int state_fd, dir_fd, disk_fd, lock_fd, listen_fd, cpu_fd, status_fd;
	int templates_fd;
	int scratch_fd;           /* the guest's disk: only ever copied, never read */
	struct guest_files files; /* what it was started with */
	uint8_t *key;             /* of the template restored from, or NULL */
	size_t key_len;
	uid_t uid;
	const struct engine_ops *engine;
	struct engine_vm vm;
	struct cgroup cgroup;
	bool has_cgroup;
	char cgroup_why[CGROUP_WHY_MAX];
	struct jail_report jail;
	struct outlog log;
	bool log_open;
	struct result result;
	uint64_t started_ms, main_ms; /* monotonic */

	uint32_t epoch;
	uint8_t hold;     /* enum sup_hold */
	bool hold_ok_due; /* we gave up waiting for a HOLD_OK that may still come */
	bool hold_late;   /* the same for a RELEASE_OK: requests are refused until it comes */
	bool paused;      /* held, and the engine stopped, until RESUME */
	bool wall_stopped;
	uint64_t wall_left_ms; /* of the time limit, while that is stopped */
	struct sup_op op;
	struct link *agent;
	bool agent_paused; /* a frame of its waits for a command's connection */
	bool agent_choked; /* a frame of its waits until it reads what it was sent */
	bool agent_closed; /* its port; nothing more comes from it */
	bool engine_ended; /* what it said last is still being passed on */
	bool room_wanted;  /* somebody waits for room towards the agent */
	uint64_t events;
	uint8_t killed_for; /* RESULT_HIT bits: the agent said that the workload died of these */
	uint32_t next_agent_id;
	bool main_begun; /* the main command was sent, or there is none to be */
	struct sup_stream streams[SUP_STREAMS_MAX];
	struct sup_client clients[SUP_CLIENTS_MAX];
	struct sup_client *owner;

	struct sup_session session;
	struct sup_egress net;       /* with spec.network */
	struct wire_trusted trusted; /* where the guest has the gate's certificate */
	char trusted_paths[2][WIRE_NAME_MAX];

	char words[ENGINE_LOG_MAX]; /* the guest kernel's and the engine's last words */
	struct buf said;

	struct wire_stats stats;
	bool stats_asked, stats_known;
	bool stats_awaited; /* an INFO waits for it, as long as stats_timer runs */
	uint64_t idle_since_ms, idle_cpu_ms;
	uint32_t stop_grace_ms;
	uint32_t boot_ms; /* supervisor start to the guest's readiness */

	uv_loop_t loop;
	uv_poll_t agent_poll, engine_poll, log_poll, listen_poll, control_poll;
	uv_timer_t deadline, wall, idle, stats_timer, flush, hold_timer, accept_timer, rest_timer;
	uv_signal_t term, interrupt;
	bool agent_poll_open, engine_poll_open, log_poll_open, control_poll_open;
};

/* start.c: everything before the loop. On failure the result is filled and e says why. */
_must_ int sup_start(struct sup *s, struct err *e);
void sup_put_identity(struct sup *s); /* with the time of now: just before it is read */

/* loop.c */
bool sup_peer_allowed(int fd);        /* of a connection: the sandbox's user, or root */
void sup_pause_accept(struct sup *s); /* no fd is free: nobody is let in for a while */
_must_ int sup_loop(struct sup *s, struct err *e);
_must_ int sup_open_loop(struct sup *s, struct err *e); /* all of it but the running */
void sup_watch_agent(struct sup *s);
void sup_watch_client(struct sup_client *c);
void sup_drop_client(struct sup_client *c);
struct sup_client *sup_add_client(struct sup *s, int fd, bool owner, struct err *e); /* takes fd */
void sup_close_loop(struct sup *s);
void sup_agent_gone(struct sup *s);    /* its port closed: the engine has to end soon */
void sup_reset_orphans(struct sup *s); /* streams whose command went away */

/* agent.c */
void sup_agent_readable(struct sup *s);
void sup_agent_frames(struct sup *s); /* goes on where it paused, or was choked */
/* Of a session: a file is on its way to the guest, or from it, before its command begins. */
void sup_limit_prepare(struct sup *s);
void sup_start_main(struct sup *s); /* if all it waits for is there */
void sup_grant(struct sup *s, struct sup_stream *st, uint8_t channel); /* of MAIN: what is owed */
void sup_lied(struct sup *s, const char *how); /* the agent broke a rule: the end */
void sup_take_main(struct sup *s);             /* of a copy: its main command runs already */
struct sup_stream *sup_stream_new(struct sup *s, uint8_t kind);
struct sup_stream *sup_stream_find(struct sup *s, uint32_t agent_id);

/* client.c */
void sup_client_readable(struct sup_client *c);
bool sup_client_quiet(const struct sup_client *c, uint64_t now_ms); /* asked for nothing for long */
void sup_client_frames(struct sup_client *c);
void sup_resume_clients(struct sup *s); /* those that wait for the agent */
struct sup_stream *sup_client_stream(struct sup_client *c, uint32_t client_id);

/* hold.c */
static inline bool sup_held(const struct sup *s) /* nothing may be sent to the agent */
{
	return s->hold == SUP_ASKED || s->hold == SUP_HELD;
}
static inline bool sup_going_on(const struct sup *s) /* released a moment ago */
{
	return s->hold == SUP_RELEASED && !s->hold_late;
}
void sup_request(struct sup_client *c, const struct wire_frame *f); /* SNAPSHOT, PAUSE, RESUME */
void sup_wake(struct sup *s); /* if it is paused: somebody has something for it */
void sup_hold_ok(struct sup *s, const struct wire_frame *f); /* HOLD_OK and RELEASE_OK */
void sup_op_client_gone(struct sup_client *c);
void sup_op_end(struct sup *s);                                        /* the sandbox ends */
bool sup_op_outlives(const struct sup *s, const struct sup_client *c); /* c still waits for DONE */
void sup_op_done(struct sup *s); /* the thread is done with s->op.save */
void sup_watch_control(struct sup *s);

/* save.c */
void sup_save_init(struct sup *s);
/* Each of these is begun by the loop, and ends in sup_op_done() */
void sup_save_prepare(struct sup *s);
void sup_save_rest(struct sup *s);
void sup_save_seal(struct sup *s);
_must_ int sup_save_note(struct sup *s, struct err *e);
void sup_save_drop(struct sup *s); /* what is left of it */
/* DONE, with what was saved as open files: -EPIPE if they cannot be sent. */
_must_ int sup_save_send(struct sup *s, struct sup_client *c);

/* collect.c */
void sup_session_init(struct sup *s);
_must_ int sup_open_session(struct sup *s, struct err *e); /* its disks, before the engine starts */
/* Instead of the end: true, and the end comes when the work is there, or cannot be had. */
bool sup_linger_begin(struct sup *s, uint8_t reason); /* the command ended; the end waits */
bool sup_collect_begin(struct sup *s, uint8_t reason);
/* Another end while it is under way: true if that is so grave that the end comes now. */
bool sup_collect_break(struct sup *s, uint8_t reason, const char *why);
void sup_collect_data(struct sup *s, struct sup_stream *st, const struct wire_frame *f);
void sup_collect_result(struct sup *s, struct sup_stream *st, const struct wire_frame *f);
void sup_session_end(struct sup *s); /* the engine is dead, or will not die */

/* info.c */
void sup_ask_stats(struct sup *s);
void sup_info_step(struct sup *s);    /* one more of those asked has answered */
void sup_start_limits(struct sup *s); /* time and idle, from the main command's EXEC */
void sup_stop_wall(struct sup *s);    /* while it is paused */
void sup_resume_wall(struct sup *s);
uint64_t sup_engine_cpu_ms(const struct sup *s);
_must_ int sup_write_info(const struct sup *s, struct err *e); /* for `berm ps` */

/* end.c. The first call decides; a message may be "". */
void sup_end(struct sup *s, uint8_t reason, uint32_t exit_code, const char *fmt, ...)
	_printf_(4, 5);
void sup_engine_words(struct sup *s, struct buf *out);
bool sup_drain_log(struct sup *s); /* true: there may be more */
/*
 * A restored guest that never came to itself: its template is not trusted again, and the next start
 * builds a new one. Returns what to add to the message, or "".
 */
const char *sup_distrust(struct sup *s);
void sup_end_now(struct sup *s); /* as was decided */
void sup_cleanup(struct sup *s); /* engine, cgroup, files: nothing is left but the connections */
void sup_tell_end(struct sup *s);
