/*
 * The supervisor between an agent and its commands, all three of them the fuzzer's.
 *
 * Shape     the first byte's bits are the spec's; if the second is SESSION it has a workspace, and
 *           the third byte's bits are the session's, see begin_session(); then steps: u8 op (low
 *           nibble what, high nibble which command), and its arguments, see step()
 * Claims    after every step all credit is within its window, all buffers within their bounds, no
 *           stream belongs to a connection that was dropped, one connection at most has the input;
 *           what each command is sent are whole frames that a supervisor may send, END the last of
 *           them; and after the end the loop runs out and nothing is left open
 *
 *           while the guest is held HOLD is the last thing that it was sent; a request that is over
 *           leaves no draft, and the end leaves none
 *
 *           of a session: what is spooled is what came, within its bound; at the end there is a
 *           sealed spool.tar of the length that session.json says, and only if the agent sent the
 *           end of its work and success, or the guest's disk is there and session.json says why
 *
 * There is no engine process: its pidfd and log are a pipe that stays silent, its pid -1, and what
 * stops and saves it says yes, or no if the first byte says so. The state directory holds snapshots
 * and nothing else.
 */
#include "base/clock.h"
#include "base/fdio.h"
#include "sup/sup.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum {
	PEERS = 4,
	STEPS_MAX = 400,
	FILL_MAX = WIRE_DATA_MAX + 2,
	READ_MAX = 1 << 20,
	SESSION = 0xfc,
	COLLECT_BYTES = 100000,
};

struct peer {
	int fd; /* -1: closed, or not yet connected */
	bool ended;
	size_t len;
	uint8_t in[WIRE_FRAME_MAX];
};

struct bench {
	struct sup *s;
	struct sockaddr_un at;
	socklen_t at_len;
	int agent_fd, silent_fd;
	bool engine_fails;
	int session_fd;           /* its directory, or -1: this is no session */
	bool eof, succeeded;      /* frames of the agent: it may have said that its work is whole */
	struct peer peers[PEERS]; /* 0 is the one that started the sandbox */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- an engine --- */

static struct bench bench;
static int state_fd = -1;

static int say(struct err *e)
{
	return bench.engine_fails ? err_set(e, -EIO, "the engine does not want to") : 0;
}

static int fake_pause(const struct engine_vm *vm, uint64_t deadline_ms, struct err *e)
{
	(void)vm;
	(void)deadline_ms;
	(void)e;
	return 0;
}

static int fake_snapshot(const struct engine_vm *vm, int state, int ram, uint64_t deadline_ms,
                         struct err *e)
{
	(void)vm;
	(void)ram;
	(void)deadline_ms;
	return pwrite(state, "state", 5, 0) == 5 ? say(e) : -EIO;
}

static bool fake_hush(const struct engine_vm *vm, struct engine_news *ret_news)
{
	(void)vm;
	(void)ret_news;
	return false;
}

static const struct engine_ops fake_engine = {
	.id = ENGINE_QEMU,
	.name = "qemu",
	.words = "nothing",
	.pause = fake_pause,
	.snapshot = fake_snapshot,
	.resume = fake_pause,
	.hush = fake_hush,
};

/* Drafts that are there. Snapshots are removed. */
static int drafts(void)
{
	_own_fd_ int fd = openat(state_fd, "snapshots", O_RDONLY | O_DIRECTORY);
	DIR *dir = fd >= 0 ? fdopendir(dup(fd)) : NULL;
	const struct dirent *d;
	int count = 0;

	while (dir && (d = readdir(dir))) {
		if (strncmp(d->d_name, ".tmp-", 5) == 0)
			count++;
		else if (d->d_name[0] != '.' && fd_remove_tree(fd, d->d_name, NULL) < 0)
			abort();
	}
	if (dir)
		(void)closedir(dir);
	return count;
}

static char state_path[64];

static void remove_state(void)
{
	(void)fd_remove_tree(AT_FDCWD, state_path, NULL);
}

static void make_state(void)
{
	(void)snprintf(state_path, sizeof(state_path), "/dev/shm/fuzz-sup-%d", (int)getpid());
	if (mkdir(state_path, 0700) < 0 || atexit(remove_state) != 0)
		abort();
	state_fd = open(state_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	(void)setenv("UV_THREADPOOL_SIZE", "1", 1);
	if (state_fd < 0)
		abort();
}

static void send_all(int fd, const void *data, size_t len)
{
	if (fd >= 0 && send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return; /* it does not read: that is a case of its own */
}

/* --- what must hold --- */

static void check_link(const struct link *l)
{
	assert(l->in_at <= l->in_len && l->in_len <= LINK_IN_BYTES);
	assert(l->out_at <= l->out.len && l->out.len <= l->out.size);
	assert(!l->out.over);
}

static void check_stream(const struct sup *s, const struct sup_stream *st)
{
	assert(st->agent_id > 0 && st->agent_id < s->next_agent_id);
	assert(st->may_take <= WIRE_WINDOW_BYTES);
	for (int i = WIRE_OUT; i <= WIRE_ERR; i++)
		assert(st->may_send[i] <= WIRE_WINDOW_BYTES &&
		       st->owed[i] <= WIRE_WINDOW_BYTES - st->may_send[i]);
	if (st->client)
		assert(st->client->used && !uv_is_closing((uv_handle_t *)&st->client->poll));
	assert(!st->client || st->kind != SUP_MAIN);
}

static void check_hold(const struct sup *s)
{
	const struct buf *out = &s->agent->out;

	if (sup_held(s) && out->len > 0)
		assert(out->len >= WIRE_HEADER_BYTES &&
		       out->at[out->len - WIRE_HEADER_BYTES + 2] == WIRE_HOLD);
	assert(!s->paused || s->hold == SUP_HELD || s->state == SUP_ENDING);
	assert(s->op.type != 0 || (!s->op.client && !s->op.working && !*s->op.save.draft.dir));
	assert(!s->op.client ||
	       (s->op.client->used && !uv_is_closing((uv_handle_t *)&s->op.client->poll)));
}

static bool session_has(int fd, const char *name, struct stat *ret)
{
	return fstatat(fd, name, ret, AT_SYMLINK_NOFOLLOW) == 0;
}

static void check_collect(const struct sup *s)
{
	const struct sup_session *se = &s->session;
	int streams = 0;
	struct stat st;

	for (size_t i = 0; i < SUP_STREAMS_MAX; i++)
		streams += s->streams[i].used && s->streams[i].kind == SUP_COLLECT;
	assert(streams <= (se->collecting ? 1 : 0));
	assert(se->bytes == 0 || se->collecting);
	assert(se->bytes <= s->spec.collect_bytes);
	if (!se->collecting || s->state == SUP_ENDING)
		return;
	assert(fstat(se->spool_fd, &st) == 0 && (uint64_t)st.st_size == se->bytes);
	assert(uv_is_active((const uv_handle_t *)&s->deadline)); /* whatever it does, it ends */
}

/* After the end: session.json against what is there. */
static void check_session(const struct bench *b, const struct spec *spec)
{
	static struct work_session_info info;
	_own_free_ char *text = NULL;
	struct stat st;
	size_t len;

	if (fd_read_file(b->session_fd, "session.json", SESSION_JSON_MAX, &text, &len, NULL) < 0 ||
	    work_session_parse_json(span_of(text, len), &info, NULL) < 0)
		abort();
	assert(!session_has(b->session_fd, "rescue.img", &st) && info.expect_bytes == 0);
	assert((info.state == SESSION_SPOOLED) == session_has(b->session_fd, "spool.tar", &st));
	if (info.state == SESSION_SPOOLED) {
		assert((st.st_mode & 0777) == 0400 && (uint64_t)st.st_size == info.spool_bytes);
		assert(info.spool_bytes <= spec->collect_bytes && b->eof && b->succeeded);
		return;
	}
	assert(!session_has(b->session_fd, "spool.part", &st) || S_ISDIR(st.st_mode));
	if (info.state == SESSION_PACKED)
		assert(!spec->rescue && !session_has(b->session_fd, "scratch.img", &st));
	else
		assert(info.state == SESSION_UNCOLLECTED && *info.why &&
		       session_has(b->session_fd, "scratch.img", &st));
}

static void check(const struct sup *s)
{
	int inputs = 0;

	check_hold(s);
	check_collect(s);
	check_link(s->agent);
	for (size_t i = 0; i < SUP_STREAMS_MAX; i++)
		if (s->streams[i].used)
			check_stream(s, &s->streams[i]);
	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++) {
		const struct sup_client *c = &s->clients[i];

		if (!c->used)
			continue;
		assert(c->link && c->may_put <= WIRE_WINDOW_BYTES);
		check_link(c->link);
		assert(!c->input || c->attached);
		inputs += c->input;
	}
	assert(inputs <= 1);
	assert(!s->owner || (s->owner->used && s->owner->owner));
	assert(!s->agent_choked || s->room_wanted || s->state == SUP_ENDING);
}

/* Takes what came for a command, at most `max` bytes, and judges it as the command would. */
static void peer_read(struct peer *p, size_t max)
{
	while (p->fd >= 0 && max > 0) {
		size_t room = sizeof(p->in) - p->len;
		ssize_t n = recv(p->fd, p->in + p->len, room < max ? room : max, MSG_DONTWAIT);
		struct wire_frame f;
		struct span in;
		int r;

		if (n <= 0)
			return;
		max -= (size_t)n;
		p->len += (size_t)n;
		in = span_of(p->in, p->len);
		while ((r = wire_parse_frame(&in, WIRE_FROM_SUPERVISOR, &f)) == 0) {
			assert(!p->ended && f.epoch == 1);
			p->ended = f.type == WIRE_END;
		}
		assert(r == -EAGAIN);
		p->len = in.len;
		memmove(p->in, in.at, in.len);
	}
}

/* --- steps --- */

static void peer_connect(struct bench *b, struct peer *p)
{
	if (p->fd >= 0)
		return;
	*p = (struct peer){ .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) };
	if (p->fd < 0)
		abort();
	if (connect(p->fd, (const struct sockaddr *)&b->at, b->at_len) < 0) {
		(void)close(p->fd); /* the sandbox has ended, or its backlog is full */
		p->fd = -1;
	}
}

/* One frame: u8 type, u8 channel, u8 stream, u16 length, u8 of those given; the rest is zeros. */
static void send_frame(struct span *in, int fd, uint32_t epoch)
{
	static uint8_t payload[FILL_MAX];
	static uint8_t storage[FILL_MAX + WIRE_HEADER_BYTES];
	struct span given;
	uint8_t type;
	uint8_t channel;
	uint8_t stream;
	uint8_t count;
	uint16_t len;
	struct buf out;

	if (!take_u8(in, &type) || !take_u8(in, &channel) || !take_u8(in, &stream) ||
	    !take_le16(in, &len) || !take_u8(in, &count))
		return;
	if (count > len)
		count = (uint8_t)len;
	if (count > in->len)
		count = (uint8_t)in->len;
	if (!take_span(in, count, &given))
		return;
	memset(payload, 0, sizeof(payload));
	memcpy(payload, given.at, given.len);
	buf_init(&out, storage, sizeof(storage));
	wire_put(&out, type, channel, stream, epoch, span_of(payload, len));
	if (fd == bench.agent_fd) {
		bench.eof |= type == WIRE_EOF;
		bench.succeeded |= type == WIRE_RESULT;
	}
	send_all(fd, out.at, out.len);
}

static void send_bytes(struct span *in, int fd)
{
	struct span given;
	uint8_t len;

	if (!take_u8(in, &len) || !take_span(in, len < in->len ? len : in->len, &given))
		return;
	if (fd == bench.agent_fd)
		bench.eof = bench.succeeded = true; /* whatever these are */
	send_all(fd, given.at, given.len);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(steal_fd(fd));
}

static void read_agent(int fd)
{
	static uint8_t away[WIRE_FRAME_MAX];

	while (fd >= 0 && recv(fd, away, sizeof(away), MSG_DONTWAIT) > 0)
		continue;
}

static void step(struct bench *b, uint8_t op, struct span *in)
{
	struct peer *p = &b->peers[(op >> 4) % PEERS];

	switch (op & 0x0f) {
	case 0:
		send_frame(in, b->agent_fd, b->s->epoch);
		break;
	case 1:
		send_frame(in, p->fd, 1);
		break;
	case 2:
		send_bytes(in, b->agent_fd);
		break;
	case 3:
		send_bytes(in, p->fd);
		break;
	case 4:
		peer_read(p, READ_MAX);
		break;
	case 5:
		peer_read(p, 100);
		break;
	case 6:
		read_agent(b->agent_fd);
		break;
	case 7:
		peer_connect(b, p);
		break;
	case 8:
		close_fd(&p->fd);
		break;
	case 9:
		if (p->fd >= 0)
			(void)shutdown(p->fd, SHUT_WR);
		break;
	case 10:
		close_fd(&b->agent_fd);
		break;
	case 11: { /* the same frame many times */
		struct span again = *in;

		for (int i = 0; i < 50; i++) {
			again = *in;
			send_frame(&again, op & 0x80 ? p->fd : b->agent_fd,
			           op & 0x80 ? 1 : b->s->epoch);
		}
		*in = again;
		break;
	}
	default:
		return; /* only the loop runs */
	}
}

/* --- before and after --- */

static void make_pair(int *ret_ours, int *ret_theirs)
{
	int fds[2];

	if (fd_socketpair(fds, NULL) < 0)
		abort();
	*ret_ours = fds[0];
	*ret_theirs = fds[1];
}

static void make_listener(struct bench *b)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un any = { .sun_family = AF_UNIX };

	/* only a family: the kernel picks an abstract name, see unix(7), autobind */
	b->at_len = sizeof(b->at);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&any, sizeof(sa_family_t)) < 0 ||
	    listen(fd, SUP_BACKLOG) < 0 ||
	    getsockname(fd, (struct sockaddr *)&b->at, &b->at_len) < 0)
		abort();
	b->s->listen_fd = fd;
}

static void make_file(int dir_fd, const char *name)
{
	_own_fd_ int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		abort();
}

/* As sup_open_session() leaves it, but for the locks: nobody else is there. */
static void begin_session(struct bench *b, uint8_t flags)
{
	static const char id[] = "0123456789ab";
	struct sup *s = b->s;
	struct work_session *rec = &s->session.rec;

	if (mkdirat(state_fd, id, 0700) < 0)
		abort();
	b->session_fd = openat(state_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rec->dir_fd = openat(state_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (b->session_fd < 0 || rec->dir_fd < 0)
		abort();
	make_file(b->session_fd, "scratch.img");
	s->spec.workspace = "/workspace";
	s->spec.rescue = flags & 1;
	s->spec.linger = flags & 2;
	s->spec.collect_ms = flags & 4 ? 0 : UINT32_MAX;
	s->spec.collect_bytes = flags & 8 ? COLLECT_BYTES : UINT64_C(1) << 30;
	if (s->spec.rescue)
		make_file(b->session_fd, "rescue.img");
	if (flags & 16 && mkdirat(b->session_fd, "spool.part", 0700) < 0)
		abort();
	memcpy(rec->info.id, id, sizeof(id));
	(void)snprintf(rec->info.root, sizeof(rec->info.root), "/root");
	(void)snprintf(rec->info.mount, sizeof(rec->info.mount), "/workspace");
	rec->info.state = s->spec.rescue ? SESSION_COLLECTING : SESSION_RUNNING;
	if (work_session_save(rec, NULL) < 0)
		abort();
}

static void end_session(struct bench *b, const struct spec *spec)
{
	if (b->session_fd < 0)
		return;
	check_session(b, spec);
	close_fd(&b->session_fd);
	if (fd_remove_tree(state_fd, "0123456789ab", NULL) < 0)
		abort();
}

static void begin(struct bench *b, uint8_t flags, struct span *in)
{
	uint8_t session;

	static const char *const argv[] = { "true", NULL };
	static const char *const envp[] = { NULL };
	struct sup *s = b->s;
	struct err e = { 0 };
	int theirs;
	int fds[2];

	s->state = SUP_STARTING;
	s->boot = flags & 1;
	s->epoch = s->boot ? 1 : 2;
	s->spec.cold = s->boot;
	s->spec.detach = flags & 2;
	s->spec.remove = true;
	s->spec.tty = flags & 4;
	s->spec.stdin_open = flags & 8;
	s->spec.argv = argv;
	s->spec.envp = envp;
	s->spec.limits.output_bytes = flags & 16 ? 100000 : 0;
	s->id = "0123456789ab";
	s->started_ms = clock_mono_ms();
	s->next_agent_id = SUP_MAIN_STREAM;
	s->dir_fd = s->disk_fd = s->lock_fd = s->cpu_fd = s->status_fd = -1;
	s->templates_fd = -1;
	s->state_fd = state_fd;
	s->scratch_fd = memfd_create("scratch", MFD_CLOEXEC);
	s->spec.limits.memory_bytes = s->spec.limits.disk_bytes = 1 << 20;
	s->spec.image = s->spec.image_id = "x";
	s->engine = &fake_engine;
	guest_files_init(&s->files);
	sup_egress_init(s);
	s->files.engine = &fake_engine;
	sup_save_init(s);
	s->log = (struct outlog){ .dir_fd = -1, .fd = -1 };
	buf_init(&s->said, s->words, sizeof(s->words));
	engine_vm_init(&s->vm);
	s->vm.ops = &fake_engine;
	if (pipe(fds) < 0)
		abort();
	b->silent_fd = fds[1];
	s->vm.log_fd = fds[0];
	s->vm.pidfd = dup(fds[0]);
	make_pair(&b->agent_fd, &theirs);
	if (fd_set_nonblock(s->vm.log_fd) < 0 ||
	    link_new(theirs, WIRE_FROM_AGENT, &s->agent, &e) < 0)
		abort();
	make_pair(&b->peers[0].fd, &theirs);
	s->owner = sup_add_client(s, theirs, true, &e);
	make_listener(b);
	for (int i = 1; i < PEERS; i++)
		b->peers[i].fd = -1;
	if (flags & 32) {
		s->boot = s->spec.cold = false;
		s->spec.from = "warm";
		s->spec.epoch = s->epoch = 2;
		s->spec.main_pid = flags & 64 ? 0 : 5;
		sup_take_main(s);
	}
	b->engine_fails = flags & 128;
	sup_session_init(s);
	if (!(flags & 32) && in->len > 1 && in->at[0] == SESSION && take_u8(in, &session) &&
	    take_u8(in, &session))
		begin_session(b, session);
	if (!s->owner || sup_open_loop(s, &e) < 0)
		abort();
}

static void finish(struct bench *b)
{
	struct sup *s = b->s;

	/* of a session the first lets it linger, the second has its work fetched, the third ends */
	for (int i = 0; i < 3 && s->state != SUP_ENDING; i++) {
		sup_end(s, RESULT_INTERRUPTED, 137, "%s", "");
		check(s);
	}
	assert(s->state == SUP_ENDING);
	for (int i = 0; i < PEERS; i++) {
		peer_read(&b->peers[i], READ_MAX);
		close_fd(&b->peers[i].fd);
	}
	uv_close((uv_handle_t *)&s->flush, NULL);
	if (uv_run(&s->loop, UV_RUN_DEFAULT) != 0 || uv_loop_close(&s->loop) != 0)
		abort();
	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++)
		assert(!s->clients[i].used && !s->clients[i].link);
	assert(!s->owner);
	end_session(b, &s->spec);
	assert(s->op.type == 0 && drafts() == 0);
	close_fd(&s->op.save.folder_fd);
	close_fd(&s->scratch_fd);
	link_free(s->agent);
	close_fd(&b->agent_fd);
	close_fd(&b->silent_fd);
	close_fd(&s->listen_fd);
	engine_vm_close(&s->vm);
	free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bench *b = &bench;
	struct span in = span_of(data, size);
	uint8_t op;

	if (!take_u8(&in, &op))
		return 0;
	if (state_fd < 0)
		make_state();
	b->s = calloc(1, sizeof(*b->s));
	if (!b->s)
		abort();
	for (int i = 0; i < PEERS; i++)
		b->peers[i] = (struct peer){ .fd = -1 };
	b->session_fd = -1;
	b->eof = b->succeeded = false;
	begin(b, op, &in);
	for (int i = 0; i < STEPS_MAX && take_u8(&in, &op); i++) {
		step(b, op, &in);
		(void)uv_run(&b->s->loop, UV_RUN_NOWAIT);
		check(b->s);
		while (b->s->op.working) { /* so that one input always does the same */
			(void)uv_run(&b->s->loop, UV_RUN_ONCE);
			check(b->s);
		}
	}
	finish(b);
	return 0;
}
