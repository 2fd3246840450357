#include "cli/agent/agent_build.h"

#include "base/log.h"
#include "cli/egress/egress.h"
#include "cli/reach.h"
#include "lib/egress_ask.h"
#include "lib/relay_sink.h"
#include "lib/start.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { ATTACH_STREAM = 1, COMMAND_STREAM = 1, CHUNK_BYTES = 4096, COMMAND_SHOWN_MAX = 256 };

void build_step(struct build *b, const char *what)
{
	(void)snprintf(b->step, sizeof(b->step), "%s", what);
	b->step_number++;
	b->tail.from = b->tail.len = 0;
	if (b->session.spinner.enabled)
		spinner_say(&b->session.spinner, span_str(what));
	else if (!b->c->json)
		log_info("%s", what);
}

/* --- the policy --- */

static int add_allowed(const struct build *b, struct policy_draft *d, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < b->args->opt_count; i++)
		if (b->args->opts[i].id == EGRESS_ALLOW)
			r = policy_draft_allow(d, b->args->opts[i].value, e);
	return r;
}

static int compile(const struct build *b, uint8_t **ret_tlv, size_t *ret_len, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	int presets_fd = b->where->presets_fd;
	int r = policy_draft_new(policy_preset_dir, &presets_fd, &d, e);

	if (r == 0)
		r = policy_draft_slot(d, "registries", (const char *const *)b->hosts.items,
		                      (unsigned)b->hosts.count, e);
	if (r == 0)
		r = policy_draft_preset(d, "registries", e);
	if (r == 0)
		r = add_allowed(b, d, e);
	return r == 0 ? policy_draft_compile(d, 1, ret_tlv, ret_len, e) : r;
}

int build_guest_permit(struct build *b, struct err *e)
{
	_own_free_ uint8_t *tlv = NULL;
	_own_fd_ int fd = -1;
	uint32_t generation;
	size_t len = 0;
	int r = compile(b, &tlv, &len, e);

	if (r == 0)
		r = egress_ask_open(b->c->state_fd, b->id, &fd, e);
	if (r == 0)
		r = egress_ask_policy(fd, span_of(tlv, len), 0, egress_ask_deadline(), &generation,
		                      e);
	return r;
}

/* --- starting --- */

static const char *const *environment(const struct build *b)
{
	static const char *const none[] = { NULL };

	return b->env.count > 0 ? (const char *const *)b->env.items : none;
}

static void fill_spec(const struct build *b, const struct image *image, struct spec *s)
{
	static const char *const none[] = { NULL };

	spec_init(s);
	s->image = image->meta->id;
	s->image_id = image->meta->id;
	s->argv = none;
	s->envp = environment(b);
	s->limits.cpus = (uint32_t)b->agent->cpus;
	s->limits.memory_bytes = b->agent->memory_bytes;
	s->limits.disk_bytes = b->agent->disk_bytes;
	s->limits.pids = BUILD_PIDS;
	s->limits.time_ms = b->time_ms;
	s->cold = true; /* one of its kind: a template is for those that come again */
}

/* The supervisor's last word, or what became of the connection. */
static int ended(const struct build *b, const struct relay *r, struct err *e)
{
	struct result res;

	if (r->ended == RELAY_LEFT || b->session.signals > 0)
		return err_set(e, -EINTR, "interrupted");
	if (r->end_json && result_parse_json(span_of(r->end_json, r->end_bytes), &res, NULL) == 0)
		return err_set(e, -ECONNRESET, "the guest ended: %s",
		               res.message[0] ? res.message : result_reason_name(res.reason));
	return err_set(e, -ECONNRESET, "the guest ended%s%s", r->reset_errno ? ": " : "",
	               r->reset_errno ? strerror((int)r->reset_errno) : "");
}

/* Progress and signals as `run` has them. */
static int attach(struct build *b, int fd, bool want_end, struct err *e)
{
	struct session *s = &b->session;
	int r = session_connect(s, fd, e);

	if (r < 0)
		return r;
	s->relay.stream = ATTACH_STREAM;
	s->relay.until_start = !want_end;
	s->relay.want_end = want_end;
	wire_put_u8(&s->client->out, WIRE_ATTACH, ATTACH_STREAM, CLIENT_EPOCH, 0);
	return 0;
}

int build_guest_start(struct build *b, struct err *e)
{
	_own_(egress_plan_fini) struct egress_plan plan;
	struct started st = { .control_fd = -1, .pidfd = -1 };
	struct spec spec;
	int r;

	egress_plan_init(&plan);
	fill_spec(b, b->base, &spec);
	spec.network = true;
	r = spec_check(&spec, e);
	if (r == 0)
		r = egress_plan_deny(&plan, e);
	if (r == 0)
		r = start_sandbox(&b->c->paths, b->c->state_fd, b->base->disk_fd, &spec, &plan, &st,
		                  e);
	if (r < 0)
		return r;
	(void)close(st.pidfd);
	memcpy(b->id, st.id, sizeof(b->id));
	b->running = true;
	r = attach(b, st.control_fd, false, e);
	if (r == 0)
		r = session_run(&b->session, e);
	if (r < 0)
		return r;
	return b->session.relay.ended == RELAY_STARTED ? 0 : ended(b, &b->session.relay, e);
}

void build_guest_end(struct build *b)
{
	struct err ignored = { 0 };

	if (!b->session.client)
		return;
	if (b->running && reach_stop(b->session.client, 0, &ignored) < 0)
		log_debug("end %s: %s", b->id, ignored.text);
	b->running = false;
	relay_fini(&b->session.relay);
	client_free(b->session.client);
	b->session.client = NULL;
}

/* --- commands --- */

static void tail_put(struct build_tail *t, struct span data)
{
	if (data.len > sizeof(t->at)) {
		data.at += data.len - sizeof(t->at);
		data.len = sizeof(t->at);
	}
	for (size_t i = 0; i < data.len; i++) {
		t->at[(t->from + t->len) % sizeof(t->at)] = data.at[i];
		if (t->len < sizeof(t->at))
			t->len++;
		else
			t->from = (t->from + 1) % sizeof(t->at);
	}
}

/* The last line that says something, behind the step's name. */
static void show_line(struct build *b)
{
	const struct build_tail *t = &b->tail;
	char line[SPINNER_TEXT_MAX + 1];
	size_t len = t->len;
	size_t from;
	struct buf out;

#define AT(i) t->at[(t->from + (i)) % sizeof(t->at)]
	while (len > 0 && (AT(len - 1) == '\n' || AT(len - 1) == '\r'))
		len--;
	for (from = len; from > 0 && AT(from - 1) != '\n' && AT(from - 1) != '\r'; from--)
		;
	buf_init(&out, line, sizeof(line));
	buf_printf(&out, "%s: ", b->step);
	while (from < len && out.len < SPINNER_TEXT_MAX)
		buf_put_u8(&out, AT(from++));
#undef AT
	spinner_say(&b->session.spinner, buf_span(&out));
}

/* What came, from both outputs. */
static void drain(struct build *b, struct relay *r, const struct build_command *cmd)
{
	uint8_t chunk[CHUNK_BYTES];
	size_t n;

	while (r->out.readable && (n = sink_read(&r->out, chunk, sizeof(chunk))) > 0) {
		if (!cmd->answer)
			tail_put(&b->tail, span_of(chunk, n));
		else if (n <= cmd->answer->size - cmd->answer->len)
			buf_put(cmd->answer, chunk, n);
		else
			cmd->answer->over = true;
	}
	while ((n = sink_read(&r->err, chunk, sizeof(chunk))) > 0)
		tail_put(&b->tail, span_of(chunk, n));
}

static int on_signal(void *ctx, struct relay *r, const struct signalfd_siginfo *si)
{
	struct build *b = ctx;

	(void)r;
	if (si->ssi_signo == SIGWINCH)
		return 0;
	if (si->ssi_signo != SIGTSTP)
		return 128 + (int)si->ssi_signo;
	spinner_clear(&b->session.spinner);
	(void)kill(getpid(), SIGSTOP); /* the guest goes on: the supervisor is no part of the job */
	return 0;
}

static int round_trip(struct build *b, struct relay *r, const struct build_command *cmd,
                      struct err *e)
{
	struct pollfd p[RELAY_FDS];
	int got = relay_prepare(r, p, e);

	if (got < 0)
		return got;
	got = poll(p, RELAY_FDS, BUILD_POLL_MS);
	if (got < 0 && errno != EINTR)
		return err_sys(e, "poll");
	if (got > 0)
		got = relay_serve(r, p, e);
	if (got < 0)
		return got == -EINTR ? 0 : got;
	drain(b, r, cmd);
	if (cmd->out_fd >= 0 && r->out.bytes > cmd->out_max)
		return err_set(e, -EFBIG, "the guest sent over %llu bytes",
		               (unsigned long long)cmd->out_max);
	if (b->session.spinner.enabled)
		show_line(b);
	return 0;
}

static int judge_end(struct build *b, const struct relay *r, const char *program, int *ret_code,
                     struct err *e)
{
	if (r->ended == RELAY_EXIT) {
		*ret_code = (int)(r->exit.signaled ? 128 + r->exit.value : r->exit.value);
		return 0;
	}
	if (r->ended == RELAY_FAILED && r->fail.stage == WIRE_AT_EXEC && r->fail.code == ENOENT) {
		*ret_code = CLI_EXIT_NOT_FOUND;
		return 0;
	}
	if (r->ended == RELAY_FAILED)
		return err_set(e, -EIO, "'%s' cannot be started in the guest: %s", program,
		               r->fail_text[0] ? r->fail_text : strerror((int)r->fail.code));
	return ended(b, r, e);
}

/* A connection of its own, as `berm exec` has: each holds one stream at a time. */
static int open_command(struct build *b, const struct build_command *cmd, struct client **ret,
                        struct err *e)
{
	_own_(client_free) struct client *c = NULL;
	struct wire_exec x = { 0 };
	int fd;
	int r = state_connect(b->c->state_fd, b->id, &fd, e);

	if (r == 0)
		r = client_new(fd, &c, e);
	if (r < 0 || !c)
		return r;
	/* to be told why, should the sandbox end under the command */
	wire_put(&c->out, WIRE_WAIT, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	wire_put_exec(&c->out, COMMAND_STREAM, CLIENT_EPOCH, &x, cmd->argv, environment(b));
	if (!buf_ok(&c->out))
		return err_set(e, -E2BIG, "the command and its environment are too long");
	*ret = steal_ptr(&c);
	return 0;
}

static int follow(struct build *b, struct relay *r, const struct build_command *cmd, int *ret_code,
                  struct err *e)
{
	static const struct relay_ops ops = { .on_signal = on_signal };
	int got = 0;

	r->stream = COMMAND_STREAM;
	r->signal_fd = b->session.signal_fd;
	r->ops = &ops;
	r->ctx = b;
	r->err.readable = true;
	r->out.readable = cmd->out_fd < 0;
	r->out.fd = cmd->out_fd;
	r->out.steady = true;
	while (got == 0 && !relay_finished(r))
		got = round_trip(b, r, cmd, e);
	if (got < 0)
		return got;
	drain(b, r, cmd);
	if (cmd->out_fd >= 0 && r->out.error)
		return err_set(e, -r->out.error, "write what comes from the guest: %s",
		               strerror(r->out.error));
	return judge_end(b, r, cmd->argv[0], ret_code, e);
}

int build_guest_run(struct build *b, const struct build_command *cmd, int *ret_code, struct err *e)
{
	_own_(client_free) struct client *client = NULL;
	struct relay r;
	int got = open_command(b, cmd, &client, e);

	if (got < 0)
		return got;
	relay_init(&r, client);
	got = follow(b, &r, cmd, ret_code, e);
	relay_fini(&r);
	return got;
}

/* --- the agent's answer --- */

/* The first line that has something in it, without what a terminal would obey. */
static void take_version(struct build *b, struct span out)
{
	struct buf v;
	struct span line = { 0 };

	while (take_until(&out, '\n', &line) && line.len == 0)
		;
	buf_init(&v, b->version, sizeof(b->version));
	for (size_t i = 0; i < line.len && v.len < AGENT_VERSION_MAX; i++)
		buf_put_u8(&v, line.at[i] < ' ' || line.at[i] >= 0x7f ? '?' : line.at[i]);
	(void)buf_cstr(&v);
}

static int judge_answer(struct build *b, const char *command, struct buf *out, struct buf *err,
                        struct err *e)
{
	const struct relay *r = &b->session.relay;
	struct result res;

	tail_put(&b->tail, buf_span(err));
	tail_put(&b->tail, buf_span(out));
	if (r->ended == RELAY_LEFT || b->session.signals > 0 || !r->end_json)
		return ended(b, r, e);
	if (result_parse_json(span_of(r->end_json, r->end_bytes), &res, e) < 0)
		return e->code;
	if (res.reason == RESULT_TIME)
		return err_set(e, -ETIMEDOUT, "'%s --version' did not answer in the new image: %s",
		               command, res.message);
	if (res.exit_code != 0)
		return err_set(e, -EIO, "'%s --version' ended with status %u in the new image%s%s",
		               command, res.exit_code, res.message[0] ? ": " : "", res.message);
	take_version(b, buf_span(out));
	return b->version[0] ? 0 : err_set(e, -EIO, "'%s --version' answers nothing", command);
}

/* All of the command, as a session starts it: its first word may be an interpreter. */
static void question(const struct agent *a, const char *argv[AGENT_WORDS_MAX + 2], char *text)
{
	struct buf out;

	buf_init(&out, text, COMMAND_SHOWN_MAX);
	for (unsigned i = 0; i < a->command.count; i++) {
		argv[i] = a->command.at[i];
		buf_printf(&out, "%s%s", i > 0 ? " " : "", argv[i]);
	}
	argv[a->command.count] = "--version";
	argv[a->command.count + 1] = NULL;
	if (!buf_ok(&out)) /* too long to be shown */
		(void)snprintf(text, COMMAND_SHOWN_MAX, "%.*s ...", COMMAND_SHOWN_MAX - 8, argv[0]);
	else
		(void)buf_cstr(&out);
}

int build_guest_ask(struct build *b, const struct image *image, struct err *e)
{
	const char *argv[AGENT_WORDS_MAX + 2];
	char command[COMMAND_SHOWN_MAX];
	_own_free_ uint8_t *room = malloc(2 * BUILD_ANSWER_MAX);
	struct buf out;
	struct buf err;
	struct started st = { .control_fd = -1, .pidfd = -1 };
	struct spec spec;
	int r;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&out, room, BUILD_ANSWER_MAX);
	buf_init(&err, room + BUILD_ANSWER_MAX, BUILD_ANSWER_MAX);
	fill_spec(b, image, &spec);
	question(b->agent, argv, command);
	spec.argv = argv;
	if (spec.limits.time_ms > BUILD_ASK_MS)
		spec.limits.time_ms = BUILD_ASK_MS;
	r = start_sandbox(&b->c->paths, b->c->state_fd, image->disk_fd, &spec, NULL, &st, e);
	if (r < 0)
		return r;
	(void)close(st.pidfd);
	memcpy(b->id, st.id, sizeof(b->id));
	b->running = true;
	r = attach(b, st.control_fd, true, e);
	if (r < 0)
		return r;
	b->session.relay.out.capture = &out;
	b->session.relay.err.capture = &err;
	r = session_run(&b->session, e);
	if (r == 0)
		r = judge_answer(b, command, &out, &err, e);
	b->running = b->session.relay.ended == RELAY_LEFT;
	return r;
}
