#include "sup/build.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "jail/jail.h"
#include "sup/link.h"
#include "sup/network.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <sys/vfs.h>

enum { BOOT_EPOCH = 1, LEARN_EPOCH = 2, WARM_STREAM_FIRST = 1 };

/* The template's own identity: no guest is ever seen with it. */
static const char build_hostname[] = "template";

struct builder {
	const struct spec *spec;
	struct engine_vm vm;
	struct link *link;
	int peer_fd; /* of its network card: answers nothing; -1: it has none */
	uint32_t epoch;
	int room_fd; /* borrowed: on the disk that is written to; -1: it needs none */
	bool deaf;   /* to what the engine says unasked: it says no more */
	char output[BUILD_OUTPUT_MAX];
	struct buf said;
};

static void builder_fini(struct builder *b)
{
	link_free(b->link);
	engine_vm_close(&b->vm);
	own_close_fd(&b->peer_fd);
}

static void builder_fini_scope(struct builder *b)
{
	builder_fini(b);
}

/*
 * What the guest's kernel and QEMU said goes nowhere while all is well; it must not fill the pipe.
 */
static void drain_log(struct builder *b)
{
	char text[512];
	ssize_t n = read(b->vm.log_fd, text, sizeof(text));

	if (n == 0)
		(void)close(steal_fd(&b->vm.log_fd)); /* else poll would tell of its end for ever */
	if (n <= 0)
		return;
	if (b->said.size - b->said.len < (size_t)n)
		buf_reset(&b->said);
	buf_put(&b->said, text, (size_t)n);
}

static int gone(struct builder *b, struct err *e)
{
	if (engine_heard_full(&b->vm))
		return err_set(e, -ENOSPC, "%s", ENGINE_FULL);
	drain_log(b);
	return err_set(e, -EPIPE, "the guest ended while its template was built%s%s%.*s",
	               engine_death(&b->vm), b->said.len ? "; its last words: " : "",
	               (int)b->said.len, (const char *)b->said.at);
}

/* -ENOSPC: the engine has stopped the guest, whose write waits for room. */
static int hear_engine(struct builder *b, struct err *e)
{
	struct engine_news news = { 0 };

	if (!b->vm.ops->hush(&b->vm, &news))
		b->deaf = true; /* its end, which its other files tell */
	return news.full ? err_set(e, -ENOSPC, "%s", ENGINE_FULL) : 0;
}

/*
 * A guest whose memory finds no room in its file stands still: KVM tries again and again, and says
 * nothing. A template cannot be finished either then.
 */
static int check_room(const struct builder *b, struct err *e)
{
	struct statfs st;

	if (b->room_fd < 0 || fstatfs(b->room_fd, &st) < 0 || st.f_blocks == 0 || st.f_bavail > 0)
		return 0;
	return err_set(e, -ENOSPC, "%s", ENGINE_FULL);
}

/* One frame, or the deadline. */
static int next_frame(struct builder *b, uint64_t deadline_ms, struct wire_frame *ret,
                      struct err *e)
{
	for (;;) {
		struct pollfd p[3] = {
			{ .fd = b->link->fd, .events = POLLIN },
			{ .fd = b->vm.log_fd, .events = POLLIN },
			{ .fd = b->deaf ? -1 : b->vm.control_fd, .events = POLLIN },
		};
		uint64_t now = clock_mono_ms();
		int r = link_next(b->link, ret);

		if (r == -EBADMSG)
			return err_set(e, -EPROTO, "the guest's agent broke the protocol");
		if (r == 0)
			return 0;
		r = link_flush(b->link);
		if (r == -EPIPE)
			return gone(b, e);
		if (r == -EAGAIN)
			p[0].events |= POLLOUT;
		if (now >= deadline_ms)
			return err_set(e, -ETIMEDOUT, "the guest does not answer");
		if (poll(p, 3, (int)MIN(deadline_ms - now, BUILD_ROOM_MS)) <= 0) {
			r = check_room(b, e);
			if (r < 0)
				return r;
			continue;
		}
		r = p[2].revents ? hear_engine(b, e) : 0;
		if (r < 0)
			return r;
		if (p[1].revents & (POLLIN | POLLHUP))
			drain_log(b);
		if (p[0].revents & (POLLIN | POLLHUP | POLLERR)) {
			r = link_read(b->link);
			if (r < 0 && r != -EAGAIN)
				return gone(b, e);
		}
	}
}

static int expect(struct builder *b, uint8_t type, uint64_t timeout_ms, struct wire_frame *ret,
                  struct err *e)
{
	uint64_t deadline = clock_mono_ms() + timeout_ms;

	for (;;) {
		int r = next_frame(b, deadline, ret, e);
		struct span text;

		if (r < 0)
			return r;
		if (ret->type == type)
			return 0;
		if (ret->type == WIRE_EVENT)
			continue; /* counts of limits do not matter here */
		if (ret->type == WIRE_FATAL && wire_parse_text(ret->payload, &text) == 0)
			return err_set(e, -EIO, "the guest cannot use this image: %.*s",
			               (int)text.len, (const char *)text.at);
		return err_set(e, -EPROTO, "the guest's agent sent %s instead of %s",
		               wire_type_name(ret->type), wire_type_name(type));
	}
}

/*
 * It stands where a child's will, and is as long as the longest of them: so a child's is written
 * over it, and the link by its name is there. No process sees it: a child has its own before one
 * runs.
 */
#define LINE "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
static const char build_trust[] =
	"-----BEGIN CERTIFICATE-----\n" LINE LINE LINE LINE LINE LINE LINE LINE
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END CERTIFICATE-----\n";
#undef LINE

static int identify(struct builder *b, bool network, uint64_t timeout_ms, struct err *e)
{
	struct wire_identity id = { .hostname = span_str(build_hostname),
		                    .has_network = network,
		                    .network = network_default,
		                    .has_trust = network,
		                    .trust = { .name_hash = network_trust_hash,
		                               .pem = span_str(build_trust) } };
	struct wire_frame f;

	id.realtime_ns = clock_real_ns();
	random_bytes(id.entropy, sizeof(id.entropy));
	random_bytes(id.machine_id, sizeof(id.machine_id));
	wire_put_identity(&b->link->out, b->epoch, &id);
	return expect(b, WIRE_IDENTITY_OK, timeout_ms, &f, e);
}

static int greet(struct builder *b, struct err *e)
{
	struct wire_hello hello;
	struct wire_frame f;
	int r = expect(b, WIRE_HELLO, BUILD_BOOT_MS, &f, e);

	if (r < 0)
		return r;
	if (wire_parse_hello(f.payload, &hello) < 0 || hello.version != WIRE_VERSION)
		return err_set(e, -EPROTO,
		               "the guest's agent speaks another version than %d: run 'make "
		               "install' again",
		               WIRE_VERSION);
	wire_put_u32(&b->link->out, WIRE_HELLO_OK, 0, 0, b->epoch, WIRE_VERSION);
	return identify(b, false, BUILD_BOOT_MS, e);
}

static void put_warm_exec(struct builder *b, uint32_t stream, const char *command)
{
	const char *const argv[] = { "/bin/sh", "-c", command, NULL };
	struct wire_exec x = { .flags = WIRE_EXEC_WARM,
		               .cwd = span_str("/"),
		               .user = span_str("") };

	wire_put_exec(&b->link->out, stream, b->epoch, &x, argv, b->spec->warm_env);
}

/* Keeps the end of what the command writes, for a person, and lets it write on. */
static void take_output(struct builder *b, const struct wire_frame *f)
{
	struct span s = f->payload;

	if (s.len > sizeof(b->output) / 2) {
		s.at += s.len - sizeof(b->output) / 2;
		s.len = sizeof(b->output) / 2;
	}
	if (b->said.size - b->said.len < s.len)
		buf_reset(&b->said);
	buf_put_span(&b->said, s);
	wire_put_u32(&b->link->out, WIRE_CREDIT, f->channel, f->stream, b->epoch,
	             (uint32_t)f->payload.len);
}

/* A command that fails is no reason to fail: an image without python3 has nothing to warm there. */
static int warm(struct builder *b, uint32_t stream, const char *command, struct err *e)
{
	uint64_t deadline = clock_mono_ms() + BUILD_WARM_MS;

	put_warm_exec(b, stream, command);
	for (;;) {
		struct wire_frame f;
		int r = next_frame(b, deadline, &f, e);

		if (r < 0)
			return err_wrap(e, "warm-up command '%s'", command);
		if (f.type == WIRE_EVENT)
			continue;
		if (f.stream != stream)
			return err_set(e, -EPROTO,
			               "the guest's agent answered on a stream that "
			               "nobody opened");
		if (f.type == WIRE_DATA)
			take_output(b, &f);
		if (f.type == WIRE_EXIT || f.type == WIRE_EXEC_ERR || f.type == WIRE_RESET)
			return 0;
	}
}

static int save(struct builder *b, const struct draft *d, struct err *e)
{
	uint64_t deadline = clock_mono_ms() + BUILD_SAVE_MS;
	int r = b->vm.ops->save(&b->vm, d->state_fd, deadline, e);

	if (r < 0)
		return err_wrap(e, "save the template");
	return 0;
}

static void builder_init(struct builder *b)
{
	engine_vm_init(&b->vm);
	buf_init(&b->said, b->output, sizeof(b->output));
	b->peer_fd = -1;
}

/*
 * The card of a guest that is only saved: nobody in it uses it, and nobody answers. What its guests
 * are joined to later is another socket; so it is with the disk of a workspace.
 */
static int join(struct builder *b, struct guest_files *g, struct err *e)
{
	int r = b->spec->workspace ? guest_empty_workspace(&g->workspace_fd, e) : 0;

	if (r == 0 && b->spec->network)
		r = engine_pair(SOCK_STREAM, &b->peer_fd, &g->net_fd, e);
	return r;
}

/* From here on nothing is started and nothing but the templates is written. */
static int close_jail(const struct builder *b, int templates_fd, struct err *e)
{
	const struct jail_path paths[] = {
		{ .fd = templates_fd,
		  .access = JAIL_READ | JAIL_WRITE | JAIL_MAKE,
		  .why = "the new template" },
		{ .path = "/proc/sys/kernel/random/boot_id",
		  .access = JAIL_READ,
		  .why = "says when its hashes were checked" },
	};
	const struct jail_params params = {
		.paths = paths,
		.path_count = sizeof(paths) / sizeof(paths[0]),
		.keep_all_fds = true,
	};

	(void)b;
	return jail_enter(&jail_profile_supervisor, &params, NULL, e);
}

static int run(struct builder *b, const struct draft *d, struct err *e)
{
	struct wire_frame f;
	uint32_t stream = WARM_STREAM_FIRST;
	int r = greet(b, e);

	for (size_t i = 0; r == 0 && b->spec->warm && b->spec->warm[i]; i++)
		r = warm(b, stream++, b->spec->warm[i], e);
	/* only now: warm-up commands meet no network, rather than one that does not answer */
	if (r == 0 && b->spec->network)
		r = identify(b, true, BUILD_REST_MS, e);
	if (r < 0)
		return r;
	wire_put(&b->link->out, WIRE_QUIESCE, 0, 0, b->epoch, span_of(NULL, 0));
	r = expect(b, WIRE_QUIESCE_OK, BUILD_REST_MS, &f, e);
	if (r == 0)
		r = save(b, d, e);
	return r;
}

static int build_draft(const struct paths *p, struct guest_files *g, const struct spec *spec,
                       int templates_fd, int image_fd, const struct draft *d, struct err *e)
{
	_own_(builder_fini) struct builder b = { .spec = spec,
		                                 .epoch = BOOT_EPOCH,
		                                 .room_fd = templates_fd };
	int r;

	builder_init(&b);
	r = join(&b, g, e);
	if (r == 0)
		r = guest_boot_draft(p, g, spec, image_fd, d,
		                     geteuid() == 0 ? jail_uid_for(d->dir) : 0, &b.vm, e);
	if (r == 0)
		r = fd_set_nonblock(b.vm.log_fd);
	if (r == 0)
		r = link_new(steal_fd(&b.vm.agent_fd), WIRE_FROM_AGENT, &b.link, e);
	if (r == 0)
		r = close_jail(&b, templates_fd, e);
	if (r == 0)
		r = run(&b, d, e);
	return r;
}

/* Nobody to tell is no reason to stop. */
static void tell_waiting(void *arg)
{
	static const char line[] =
		BUILD_PROGRESS_MARK "waiting for another berm that prepares this template\n";

	(void)arg;
	(void)!write(BUILD_FD_REPORT, line, sizeof(line) - 1);
}

/* A builder that is killed removes nothing. */
static void tell_draft(const char *name)
{
	char line[SAVED_NAME_MAX + 2];
	int n = snprintf(line, sizeof(line), BUILD_DRAFT_MARK "%s\n", name);

	(void)!write(BUILD_FD_REPORT, line, (size_t)n);
}

/* What the guest is made of, and the key that follows from it. */
static int open_guest(const struct paths *p, const struct spec *spec,
                      const struct engine_ops *engine, struct guest_files *g, struct buf *key,
                      struct err *e)
{
	int r = guest_files_open(p, engine, g, e);

	if (r < 0)
		return r;
	guest_put_key(key, g, spec);
	return buf_ok(key) ? 0 : err_set(e, -E2BIG, "the warm-up commands are too long");
}

int build_template(const struct paths *p, const struct spec *spec, const struct engine_ops *engine,
                   int templates_fd, int image_fd, struct err *e)
{
	_own_(guest_files_close) struct guest_files g;
	_own_(saved_close) struct saved found;
	_own_(draft_close) struct draft d;
	_own_(template_unlock) struct template_lock lock;
	const struct template_wait wait = { .timeout_ms = BUILD_WAIT_MS, .waiting = tell_waiting };
	_own_free_ uint8_t *key = malloc(TEMPLATE_KEY_MAX);
	char name[SAVED_NAME_MAX] = { 0 };
	struct buf b;
	int r;

	guest_files_init(&g);
	saved_init(&found);
	draft_init(&d);
	template_lock_init(&lock);
	if (!key)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, key, TEMPLATE_KEY_MAX);
	r = open_guest(p, spec, engine, &g, &b, e);
	if (r < 0)
		return r;
	r = template_lock(templates_fd, buf_span(&b), &wait, &lock, e);
	if (r < 0)
		return r;
	if (template_open(templates_fd, buf_span(&b), &found, NULL) == 0)
		return 0; /* another process was quicker */
	draft_name(name);
	tell_draft(name);
	r = draft_new_as(templates_fd, name, spec->limits.memory_bytes, spec->limits.disk_bytes, &d,
	                 e);
	if (r == 0)
		r = build_draft(p, &g, spec, templates_fd, image_fd, &d, e);
	if (r == 0)
		r = template_commit(templates_fd, &d, buf_span(&b), e);
	if (r < 0)
		draft_discard(templates_fd, &d);
	return r;
}

/* -- learning -------------------------------------------------------------------------------------
 */

static int learn_from(struct builder *b, int wset_fd, struct err *e)
{
	int r = b->vm.ops->go(&b->vm, e);

	if (r == 0)
		r = identify(b, b->spec->network, BUILD_LEARN_MS, e);
	if (r == 0)
		r = warm(b, WARM_STREAM_FIRST, "true", e);
	return r == 0 ? b->vm.ops->touched(&b->vm, wset_fd, clock_mono_ms() + BUILD_LEARN_MS, e)
	              : r;
}

static int learn(const struct paths *p, struct guest_files *g, const struct spec *spec,
                 int templates_fd, int image_fd, const struct saved *t, int wset_fd, struct err *e)
{
	_own_(builder_fini) struct builder b = { .spec = spec,
		                                 .epoch = LEARN_EPOCH,
		                                 .room_fd = -1 };
	_own_fd_ int scratch_fd = -1;
	uid_t uid = geteuid() == 0 ? jail_uid_for(build_hostname) : 0;
	int r;

	builder_init(&b);
	r = join(&b, g, e);
	if (r == 0)
		r = guest_restore(p, g, spec, image_fd, templates_fd, t, uid, &b.vm, &scratch_fd,
		                  e);
	if (r == 0)
		r = fd_set_nonblock(b.vm.log_fd);
	if (r == 0)
		r = link_new(steal_fd(&b.vm.agent_fd), WIRE_FROM_AGENT, &b.link, e);
	if (r == 0)
		r = close_jail(&b, templates_fd, e);
	return r == 0 ? learn_from(&b, wset_fd, e) : r;
}

int build_learn(const struct paths *p, const struct spec *spec, const struct engine_ops *engine,
                int templates_fd, int image_fd, struct err *e)
{
	_own_(guest_files_close) struct guest_files g;
	_own_(saved_close) struct saved t;
	_own_free_ uint8_t *key = malloc(TEMPLATE_KEY_MAX);
	_own_(template_wset_close) struct template_wset wset;
	struct buf b;
	int r;

	guest_files_init(&g);
	saved_init(&t);
	template_wset_init(&wset);
	if (!key)
		return err_set(e, -ENOMEM, "out of memory");
	if (!engine->touched)
		return err_set(e, -ENOTSUP, "%s has no use for it", engine->words);
	buf_init(&b, key, TEMPLATE_KEY_MAX);
	r = open_guest(p, spec, engine, &g, &b, e);
	if (r < 0)
		return r;
	g.learns = true;
	r = template_open(templates_fd, buf_span(&b), &t, e);
	if (r == 0)
		r = template_wset_new(templates_fd, buf_span(&b), &wset, e);
	if (r == 0)
		r = learn(p, &g, spec, templates_fd, image_fd, &t, wset.fd, e);
	return r == 0 ? template_wset_commit(&wset, e) : r;
}
