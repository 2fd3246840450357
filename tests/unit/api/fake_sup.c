#include "fake_sup.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "image/store.h"
#include "lib/guest.h"
#include "lib/start.h"
#include "state/result.h"
#include "state/snapshot_note.h"
#include "state/state.h"
#include "sup/link.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { CONNS_MAX = 40, LIFE_S = 100, CHUNK = 16 << 10, BACKLOG = 4 };

enum play { PLAY_NONE, PLAY_CAT, PLAY_YES, PLAY_HANG };

struct conn {
	struct link *link; /* NULL: free */
	bool owner, wait, attached, closing;
	uint32_t stream;
	enum play play;
	uint32_t credit; /* for our output */
	uint64_t at, total;
	uint8_t *held; /* what cat has not given back: WIRE_WINDOW_BYTES */
	size_t held_len;
	bool in_eof;
	uint8_t *exec; /* asked for before the sandbox ran */
	size_t exec_len;
};

struct fake {
	const char *id;
	struct spec spec;
	struct conn conns[CONNS_MAX];
	int listen_fd;
	bool running, ended;
	struct result result;
};

uint8_t fake_pattern(uint64_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

/* --- the end --- */

static void put_end(struct conn *c, const struct result *r)
{
	char json[RESULT_JSON_MAX];
	struct buf b;

	buf_init(&b, json, sizeof(json));
	result_put_json(&b, r);
	wire_put(&c->link->out, WIRE_END, 0, 0, 1, buf_span(&b));
}

static void end(struct fake *f, uint8_t reason, uint32_t code, const char *message)
{
	if (f->ended)
		return;
	f->ended = true;
	f->result.reason = reason;
	f->result.exit_code = code;
	f->result.ended_ns = clock_real_ns();
	(void)snprintf(f->result.message, sizeof(f->result.message), "%s", message);
	if (state_end(START_FD_STATE, f->id, f->spec.name, span_of(NULL, 0), NULL) < 0)
		_exit(3);
	for (int i = 0; i < CONNS_MAX; i++) {
		struct conn *c = &f->conns[i];

		if (!c->link)
			continue;
		if (c->play != PLAY_NONE && !c->attached)
			wire_put_u32(&c->link->out, WIRE_RESET, 0, c->stream, 1, ESHUTDOWN);
		if (c->wait || c->owner)
			put_end(c, &f->result);
		c->closing = true;
	}
}

/* --- commands --- */

static void finish(struct fake *f, struct conn *c, const struct wire_exit *x)
{
	for (uint8_t ch = WIRE_OUT; ch <= WIRE_ERR; ch++)
		wire_put(&c->link->out, WIRE_EOF, ch, c->stream, 1, span_of(NULL, 0));
	wire_put_exit(&c->link->out, c->stream, 1, x);
	c->play = PLAY_NONE;
	if (c->attached)
		end(f, x->signaled ? RESULT_SIGNALED : RESULT_EXITED,
		    x->signaled ? 128 + x->value : x->value, "");
}

static void finish_code(struct fake *f, struct conn *c, uint32_t code)
{
	const struct wire_exit x = { .value = code, .user_us = 1000, .maxrss_bytes = 4096 };

	finish(f, c, &x);
}

static void say(struct conn *c, const char *text)
{
	wire_put(&c->link->out, WIRE_DATA, WIRE_OUT, c->stream, 1, span_str(text));
}

static void play_echo(struct fake *f, struct conn *c, const char *const *argv)
{
	for (int i = 1; argv[i]; i++) {
		say(c, argv[i]);
		say(c, argv[i + 1] ? " " : "\n");
	}
	finish_code(f, c, 0);
}

static void play_env(struct fake *f, struct conn *c, const char *name, const char *const *env)
{
	size_t len = strlen(name);

	for (int i = 0; env[i]; i++) {
		if (strncmp(env[i], name, len) != 0 || env[i][len] != '=')
			continue;
		say(c, env[i]);
		say(c, "\n");
	}
	finish_code(f, c, 0);
}

static uint64_t number(const char *text)
{
	uint64_t n = 0;

	return text && span_to_u64(span_str(text), &n) ? n : 0;
}

static void begin(struct fake *f, struct conn *c, const char *const *argv, const char *const *env)
{
	static const char not_frames[64] = "these bytes are no frame of anybody's protocol";
	const struct wire_fail none = { .code = ENOENT,
		                        .stage = WIRE_AT_EXEC,
		                        .text = span_str("missing") };

	c->credit = WIRE_WINDOW_BYTES;
	if (strcmp(argv[0], "missing") == 0) {
		wire_put_fail(&c->link->out, WIRE_EXEC_ERR, c->stream, 1, &none);
		if (c->attached)
			end(f, RESULT_COMMAND, 127, "missing");
		return;
	}
	if (strcmp(argv[0], "die") == 0)
		_exit(9);
	if (strcmp(argv[0], "lie") == 0) {
		buf_put(&c->link->out, not_frames, sizeof(not_frames));
		return;
	}
	wire_put_u32(&c->link->out, WIRE_EXEC_OK, 0, c->stream, 1, 42);
	if (strcmp(argv[0], "echo") == 0) {
		play_echo(f, c, argv);
	} else if (strcmp(argv[0], "env") == 0) {
		play_env(f, c, argv[1], env);
	} else if (strcmp(argv[0], "exit") == 0) {
		finish_code(f, c, (uint32_t)number(argv[1]));
	} else if (strcmp(argv[0], "yes") == 0) {
		c->play = PLAY_YES;
		c->total = number(argv[1]);
	} else {
		c->play = strcmp(argv[0], "cat") == 0 ? PLAY_CAT : PLAY_HANG;
		c->held = malloc(WIRE_WINDOW_BYTES);
	}
}

/* Output as credit and room allow. */
static void go_on(struct fake *f, struct conn *c)
{
	uint8_t part[CHUNK];

	while (c->play == PLAY_YES && c->at < c->total && c->credit > 0 &&
	       link_room(c->link) > 2 * CHUNK) {
		size_t n = c->total - c->at < CHUNK ? (size_t)(c->total - c->at) : CHUNK;

		n = n < c->credit ? n : c->credit;
		for (size_t i = 0; i < n; i++)
			part[i] = fake_pattern(c->at + i);
		wire_put(&c->link->out, WIRE_DATA, WIRE_OUT, c->stream, 1, span_of(part, n));
		c->credit -= (uint32_t)n;
		c->at += n;
	}
	while (c->play == PLAY_CAT && c->held_len > 0 && c->credit > 0 &&
	       link_room(c->link) > 2 * WIRE_DATA_MAX) {
		size_t n = c->held_len < WIRE_DATA_MAX ? c->held_len : WIRE_DATA_MAX;

		n = n < c->credit ? n : c->credit;
		wire_put(&c->link->out, WIRE_DATA, WIRE_OUT, c->stream, 1, span_of(c->held, n));
		wire_put_u32(&c->link->out, WIRE_CREDIT, WIRE_IN, c->stream, 1, (uint32_t)n);
		memmove(c->held, c->held + n, c->held_len - n);
		c->held_len -= n;
		c->credit -= (uint32_t)n;
	}
	if ((c->play == PLAY_YES && c->at == c->total) ||
	    (c->play == PLAY_CAT && c->in_eof && c->held_len == 0))
		finish_code(f, c, 0);
}

/* --- frames --- */

static void run_exec(struct fake *f, struct conn *c, struct span payload)
{
	const char *argv[64] = { 0 };
	const char *env[64] = { 0 };
	char storage[4096];
	struct wire_exec x;
	struct span word;
	struct buf b;

	if (wire_parse_exec(payload, &x) < 0)
		_exit(4);
	buf_init(&b, storage, sizeof(storage));
	for (int i = 0; i < 63 && wire_next_str(&x.argv, &word); i++) {
		argv[i] = storage + b.len;
		buf_put_span(&b, word);
		buf_put_u8(&b, 0);
	}
	for (int i = 0; i < 63 && wire_next_str(&x.envv, &word); i++) {
		env[i] = storage + b.len;
		buf_put_span(&b, word);
		buf_put_u8(&b, 0);
	}
	if (!buf_ok(&b))
		_exit(5);
	begin(f, c, argv, env);
}

static void on_exec(struct fake *f, struct conn *c, const struct wire_frame *fr)
{
	c->stream = fr->stream;
	if (f->running) {
		run_exec(f, c, fr->payload);
		return;
	}
	c->exec = malloc(fr->payload.len); /* it waits */
	c->exec_len = fr->payload.len;
	memcpy(c->exec, fr->payload.at, fr->payload.len);
}

/* The how-manieth copy of its parent this is, from 1: each adds a byte to a file. */
static off_t copy_number(const struct fake *f)
{
	char name[64];
	struct stat st;
	int fd;

	(void)snprintf(name, sizeof(name), "copies-of-%s", f->spec.from);
	if (fd_openat(START_FD_STATE, name, O_WRONLY | O_APPEND | O_CREAT, 0600, &fd, NULL) < 0 ||
	    write(fd, "", 1) != 1 || fstat(fd, &st) < 0)
		_exit(12);
	(void)close(fd);
	return st.st_size;
}

/* False: it does not start, or not yet. */
static bool copy_starts(struct fake *f)
{
	const char *const *argv = f->spec.argv;
	off_t n;

	if (!spec_is_copy(&f->spec) || !argv[0])
		return true;
	if (fcntl(START_FD_RAM, F_GETFD) < 0 || fcntl(START_FD_SAVED, F_GETFD) < 0 ||
	    fcntl(START_FD_SCRATCH, F_GETFD) < 0)
		_exit(13);
	if (strcmp(argv[0], "hang") != 0 || !argv[1])
		return true;
	n = copy_number(f);
	if (strcmp(argv[1], "never") == 0)
		return false;
	if ((uint64_t)n != number(argv[1]))
		return true;
	end(f, RESULT_NOT_STARTED, 125, "no room for one more");
	return false;
}

static void start_main(struct fake *f, struct conn *c)
{
	if (f->running || !c->attached || !copy_starts(f))
		return;
	f->running = true;
	if (f->spec.argv[0])
		begin(f, c, f->spec.argv, f->spec.envp);
	else
		wire_put_u32(&c->link->out, WIRE_EXEC_OK, 0, c->stream, 1, 0);
	for (int i = 0; i < CONNS_MAX; i++)
		if (f->conns[i].link && f->conns[i].exec)
			run_exec(f, &f->conns[i], span_of(f->conns[i].exec, f->conns[i].exec_len));
}

static bool named(const struct fake *f, const char *name)
{
	return f->spec.name && strcmp(f->spec.name, name) == 0;
}

static void on_attach(struct fake *f, struct conn *c, const struct wire_frame *fr)
{
	c->attached = true;
	c->stream = fr->stream;
	if (named(f, "no-start"))
		end(f, RESULT_NOT_STARTED, 125, "it would not");
	else if (named(f, "slow-start"))
		wire_put_text(&c->link->out, WIRE_PROGRESS, 1, "looking for it");
	else
		start_main(f, c);
}

static void on_data(struct conn *c, const struct wire_frame *fr)
{
	if (c->play != PLAY_CAT && c->play != PLAY_HANG)
		return;
	if (fr->payload.len > WIRE_WINDOW_BYTES - c->held_len || c->in_eof)
		_exit(6); /* beyond its credit */
	memcpy(c->held + c->held_len, fr->payload.at, fr->payload.len);
	c->held_len += fr->payload.len;
}

static void on_info(struct conn *c)
{
	wire_put(
		&c->link->out, WIRE_INFO_OK, 0, 0, 1,
		span_str(
			"{\"wall_ms\":7,\"output_bytes\":8,\"engine\":\"fake\",\"level\":\"emulated\","
			"\"host\":{\"cpu_ms\":9,\"memory_bytes\":10,\"memory_peak_bytes\":11},"
			"\"guest\":{\"cpu_us\":1,\"memory_bytes\":2,\"memory_peak_bytes\":3,"
			"\"disk_bytes\":4,\"disk_max_bytes\":5,\"pids\":6,\"uptime_ms\":7}}"));
}

static void on_stop(struct fake *f, const struct wire_frame *fr)
{
	uint32_t grace_ms = 0;

	if (wire_parse_u32(fr->payload, &grace_ms) == 0 && grace_ms == FAKE_SLOW_GRACE_MS)
		start_main(f, &f->conns[0]);
	else
		end(f, RESULT_STOPPED, 137, "");
}

static void on_signal(struct fake *f, struct conn *c, const struct wire_frame *fr)
{
	struct wire_exit x = { .signaled = 1 };

	if (c->play != PLAY_NONE && wire_parse_u32(fr->payload, &x.value) == 0)
		finish(f, c, &x);
}

/* --- being saved --- */

/* What snapshot_check() computes anew: the installation is beside the state directory. */
static void put_machine(struct buf *b, const struct spec *spec)
{
	_own_(guest_files_close) struct guest_files files;
	struct paths p = { 0 };
	char path[64];
	char *end_of;
	ssize_t n;

	guest_files_init(&files);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", START_FD_STATE);
	n = readlink(path, p.share, sizeof(p.share) - 64);
	if (n <= 0)
		_exit(14);
	p.share[n] = '\0';
	end_of = strrchr(p.share, '/');
	memcpy(end_of, "/prefix/share/berm", sizeof("/prefix/share/berm"));
	if (guest_files_open(&p, &engine_qemu, &files, NULL) < 0 ||
	    guest_put_machine(b, &files, spec, NULL) < 0)
		_exit(15);
}

static void put_note(struct fake *f, struct buf *out)
{
	static char machine[SNAPSHOT_MACHINE_MAX];
	static size_t machine_len; /* it takes a while, and does not change */
	static char bytes[SPEC_BYTES_MAX];
	struct snapshot_note n = { .created_ns = clock_real_ns(), .id = span_str(f->id) };
	struct spec spec = f->spec;
	struct buf b;

	spec.name = spec.hostname = NULL;
	spec.warm = NULL;
	spec.detach = false;
	spec.engine = SPEC_ENGINE_QEMU;
	spec.from = f->id;
	spec.epoch = spec.epoch > 0 ? spec.epoch + 1 : 2;
	spec.main_pid = spec.argv[0] ? 42 : 0;
	for (int i = 0; i < CONNS_MAX; i++)
		spec.main_stdin_eof |= f->conns[i].attached && f->conns[i].in_eof;
	buf_init(&b, machine, sizeof(machine));
	if (machine_len == 0)
		put_machine(&b, &spec);
	machine_len = machine_len ? machine_len : b.len;
	n.machine = span_of(machine, machine_len);
	buf_init(&b, bytes, sizeof(bytes));
	spec_put(&b, &spec);
	n.spec = buf_span(&b);
	snapshot_put_note(out, &n);
	if (!buf_ok(&b) || !buf_ok(out))
		_exit(16);
}

/* DONE and the files of a snapshot without a name. */
static void send_files(struct fake *f, struct conn *c)
{
	static char note[SAVED_NOTE_MAX];
	const struct wire_fail done = { .text = span_str("") };
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(4 * sizeof(int))] = { 0 };
	uint8_t frame[WIRE_HEADER_BYTES + 64];
	struct iovec iov = { .iov_base = frame };
	struct msghdr m = { .msg_iov = &iov,
		            .msg_iovlen = 1,
		            .msg_control = room,
		            .msg_controllen = sizeof(room) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	struct buf b;
	int fds[4];

	buf_init(&b, note, sizeof(note));
	put_note(f, &b);
	for (int i = 0; i < 4; i++)
		fds[i] = memfd_create("fake", MFD_CLOEXEC);
	if (fd_write_all(fds[3], b.at, b.len, NULL) < 0 || link_flush(c->link) != 0)
		_exit(17);
	buf_init(&b, frame, sizeof(frame));
	wire_put_fail(&b, WIRE_DONE, 0, 1, &done);
	iov.iov_len = b.len;
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(h), fds, sizeof(fds));
	if (sendmsg(c->link->fd, &m, MSG_NOSIGNAL) != (ssize_t)b.len)
		_exit(18);
	for (int i = 0; i < 4; i++)
		(void)close(fds[i]);
}

/* PAUSE, RESUME and SNAPSHOT. */
static void on_request(struct fake *f, struct conn *c, const struct wire_frame *fr)
{
	struct wire_fail done = { .text = span_str("") };
	struct wire_snapshot s = { .name = span_str("") };

	if (fr->type == WIRE_SNAPSHOT && wire_parse_snapshot(fr->payload, &s) < 0)
		_exit(11);
	if (named(f, "old-version")) {
		wire_put_text(&c->link->out, WIRE_REFUSE, 1, "not to a supervisor");
		c->closing = true;
		return;
	}
	if (span_is(s.name, "never"))
		return;
	if (span_is(s.name, "die"))
		_exit(9);
	if (span_is(s.name, "cut")) {
		c->closing = true;
		return;
	}
	if (span_is(s.name, "end")) {
		end(f, RESULT_STOPPED, 137, "");
		return;
	}
	if (fr->type == WIRE_SNAPSHOT && s.name.len == 0) {
		send_files(f, c);
		return;
	}
	if (span_is(s.name, "old"))
		done = (struct wire_fail){ .code = EEXIST, .text = span_str("there is one") };
	wire_put_fail(&c->link->out, WIRE_DONE, 0, 1, &done);
}

static void on_frame(struct fake *f, struct conn *c, const struct wire_frame *fr)
{
	uint32_t more;

	switch (fr->type) {
	case WIRE_ATTACH:
		on_attach(f, c, fr);
		return;
	case WIRE_EXEC:
		on_exec(f, c, fr);
		return;
	case WIRE_DATA:
		on_data(c, fr);
		return;
	case WIRE_EOF:
		c->in_eof = true;
		return;
	case WIRE_CREDIT:
		if (wire_parse_u32(fr->payload, &more) < 0 || more > WIRE_WINDOW_BYTES - c->credit)
			_exit(7);
		c->credit += more;
		return;
	case WIRE_SIGNAL:
		on_signal(f, c, fr);
		return;
	case WIRE_WAIT:
		c->wait = true;
		return;
	case WIRE_INFO:
		on_info(c);
		return;
	case WIRE_STOP:
		on_stop(f, fr);
		return;
	case WIRE_PAUSE:
	case WIRE_RESUME:
	case WIRE_SNAPSHOT:
		on_request(f, c, fr);
		return;
	default:
		return;
	}
}

/* --- connections --- */

static void add(struct fake *f, int fd, bool owner)
{
	const struct wire_hello hello = { .version = WIRE_VERSION,
		                          .agent_version = span_str("fake"),
		                          .kernel = span_str("") };

	for (int i = 0; i < CONNS_MAX; i++) {
		struct conn *c = &f->conns[i];

		if (c->link)
			continue;
		*c = (struct conn){ .owner = owner };
		if (link_new(fd, WIRE_FROM_COMMAND, &c->link, NULL) < 0)
			_exit(8);
		wire_put_hello(&c->link->out, 1, &hello);
		return;
	}
	(void)close(fd);
}

static void drop(struct fake *f, struct conn *c)
{
	bool owner = c->owner;

	link_free(c->link);
	free(c->held);
	free(c->exec);
	*c = (struct conn){ 0 };
	if (owner && !f->spec.detach)
		end(f, RESULT_CALLER_GONE, 137, "");
}

static void serve(struct fake *f, struct conn *c)
{
	struct wire_frame fr;
	int r = link_read(c->link);

	while (c->link && !c->closing && link_room(c->link) > WIRE_FRAME_MAX &&
	       link_next(c->link, &fr) == 0)
		on_frame(f, c, &fr);
	if (c->link && r == -EPIPE)
		drop(f, c);
}

static bool loop_once(struct fake *f)
{
	struct pollfd p[CONNS_MAX + 1];
	bool any = false;

	for (int i = 0; i < CONNS_MAX; i++) {
		struct conn *c = &f->conns[i];

		p[i] = (struct pollfd){ .fd = -1 };
		if (c->link && !c->closing)
			go_on(f, c);
		if (!c->link)
			continue;
		any = true;
		if (link_flush(c->link) == -EPIPE || (c->closing && !link_pending(c->link))) {
			drop(f, c);
			continue;
		}
		p[i] = (struct pollfd){ .fd = c->link->fd, .events = c->closing ? 0 : POLLIN };
		if (link_pending(c->link))
			p[i].events |= POLLOUT;
	}
	p[CONNS_MAX] = (struct pollfd){ .fd = f->ended ? -1 : f->listen_fd, .events = POLLIN };
	if (!any && f->ended)
		return false;
	if (poll(p, CONNS_MAX + 1, any && f->ended ? 1 : -1) < 0)
		_exit(10);
	if (p[CONNS_MAX].revents)
		add(f, accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC), false);
	for (int i = 0; i < CONNS_MAX; i++)
		if (p[i].revents && f->conns[i].link && f->conns[i].link->fd == p[i].fd)
			serve(f, &f->conns[i]);
	return true;
}

int fake_supervisor(int argc, char **argv)
{
	static char storage[SPEC_BYTES_MAX];
	static struct fake f;
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	void *lists = NULL;
	ssize_t n = pread(START_FD_SPEC, storage, sizeof(storage), 0);

	(void)alarm(LIFE_S);
	(void)sigaction(SIGPIPE, &ignore, NULL);
	if (argc != 2 || environ[0] || n <= 0 ||
	    spec_parse(storage, (size_t)n, &f.spec, &lists, NULL) < 0)
		return 2;
	f.id = argv[1];
	f.result = (struct result){ .engine = "qemu", .level = LEVEL_EMULATED };
	(void)snprintf(f.result.id, sizeof(f.result.id), "%s", f.id);
	f.result.created_ns = clock_real_ns();
	if (fd_unix_listen(START_FD_SANDBOX, "control.sock", BACKLOG, &f.listen_fd, NULL) < 0)
		return 2;
	add(&f, START_FD_CONTROL, true);
	while (loop_once(&f))
		continue;
	return 0;
}

/* --- the installation --- */

static void path_of(char *ret, size_t size, const char *name)
{
	(void)snprintf(ret, size, "%s/%s", test_tmpdir(), name);
}

const char *fake_prefix(void)
{
	static char path[PATH_MAX];

	path_of(path, sizeof(path), "prefix");
	return path;
}

const char *fake_state(void)
{
	static char path[PATH_MAX];

	path_of(path, sizeof(path), "state");
	return path;
}

static void write_file(int dir, const char *name, const void *data, size_t len)
{
	struct err e = { 0 };
	int fd;

	CHECK_OK(fd_openat(dir, name, O_WRONLY | O_CREAT, 0600, &fd, &e), &e);
	CHECK_OK(fd_write_all(fd, data, len, &e), &e);
	(void)close(fd);
}

static void make_image(int images)
{
	static const char *const env[] = { "A=image", "B=image", NULL };
	static const char *const cmd[] = { "echo", "image", NULL };
	static const char *const none[] = { NULL };
	static const char *const layers[] = { FAKE_IMAGE_ID, NULL };
	struct image_meta m = {
		.id = FAKE_IMAGE_ID,
		.config = { env, none, cmd, none, "", "", "" },
		.architecture = "amd64",
		.os = "linux",
		.created = "",
		.kind = "rootfs",
		.layers = layers,
		.names = none,
		.registries = none,
		.unpacked_bytes = 4,
		.disk_bytes = 4,
		.entries = 1,
	};
	char json[4096];
	_own_fd_ int dir = -1;
	struct err e = { 0 };
	struct buf b;

	buf_init(&b, json, sizeof(json));
	image_meta_put(&b, &m);
	CHECK(buf_ok(&b));
	CHECK(mkdirat(images, FAKE_IMAGE_ID, 0700) == 0 || errno == EEXIST);
	CHECK_OK(fd_openat(images, FAKE_IMAGE_ID, O_RDONLY | O_DIRECTORY, 0, &dir, &e), &e);
	write_file(dir, "image.json", b.at, b.len);
	write_file(dir, "disk.sqfs", "hsqs", 4);
}

void fake_install(void)
{
	char path[PATH_MAX];
	char self[PATH_MAX];
	_own_fd_ int libexec = -1;
	_own_fd_ int share = -1;
	_own_fd_ int names = -1;
	_own_fd_ int images = -1;
	struct err e = { 0 };
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	CHECK(n > 0);
	self[n] = '\0';
	path_of(path, sizeof(path), "prefix/libexec/berm");
	CHECK_OK(fd_make_dirs(path, &libexec, &e), &e);
	CHECK_EQ(symlinkat(self, libexec, "berm-supervisor"), 0);
	path_of(path, sizeof(path), "prefix/share/berm");
	CHECK_OK(fd_make_dirs(path, &share, &e), &e);
	write_file(share, "vmlinux", "kernel", 6);
	write_file(share, "initramfs.cpio", "agent", 5);
	write_file(share, "cmdline", "words", 5);
	path_of(path, sizeof(path), "prefix/share/berm/images/names");
	CHECK_OK(fd_make_dirs(path, &names, &e), &e);
	CHECK_OK(fd_openat(names, "..", O_RDONLY | O_DIRECTORY, 0, &images, &e), &e);
	make_image(images);
	write_file(names, "default", FAKE_IMAGE_ID "\n", 65);
}

unsigned fake_left(void)
{
	char path[PATH_MAX];
	const struct dirent *d;
	unsigned n = 0;
	DIR *dir;

	path_of(path, sizeof(path), "state/sandboxes");
	dir = opendir(path);
	if (!dir)
		return 0;
	while ((d = readdir(dir)))
		n += d->d_name[0] != '.';
	(void)closedir(dir);
	return n;
}

struct berm *fake_berm(void)
{
	struct berm_err e = { 0 };
	struct berm *b;

	if (berm_new(fake_prefix(), fake_state(), &b, &e) < 0)
		test_fail(__FILE__, __LINE__, "berm_new: %s", e.text);
	return b;
}
