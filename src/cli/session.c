#include "cli/session.h"

#include "base/units.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/signalfd.h>

static const int ending_signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

enum { ENDING_SIGNALS = sizeof(ending_signals) / sizeof(ending_signals[0]) };

static bool ignored(int sig)
{
	struct sigaction sa;

	return sigaction(sig, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN;
}

int session_init(struct session *s, struct cli *c, enum session_kind kind, struct err *e)
{
	sigset_t set;

	*s = (struct session){ .cli = c, .kind = kind, .signal_fd = -1 };
	s->spinner.enabled = cli_redraws(c, c->err_tty);
	(void)sigemptyset(&set);
	for (unsigned i = 0; i < ENDING_SIGNALS; i++)
		if (!ignored(ending_signals[i]))
			(void)sigaddset(&set, ending_signals[i]);
	if (!ignored(SIGTSTP))
		(void)sigaddset(&set, SIGTSTP);
	(void)sigaddset(&set, SIGWINCH);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_sys(e, "block signals");
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return err_sys(e, "signalfd");
	return 0;
}

int session_connect(struct session *s, int fd, struct err *e)
{
	int r = client_new(fd, &s->client, e);

	if (r < 0)
		return r;
	relay_init(&s->relay, s->client);
	s->relay.signal_fd = s->signal_fd;
	return 0;
}

static void tell_size(struct session *s)
{
	uint16_t rows;
	uint16_t cols;

	if (s->tty && s->relay.started && term_size(STDOUT_FILENO, &rows, &cols))
		relay_resize(&s->relay, rows, cols);
}

static void make_raw(struct session *s)
{
	struct err e = { 0 };

	if (s->tty && term_raw(&s->term, STDIN_FILENO, &e) < 0)
		log_warn("%s", e.text);
}

/* ctrl-z: the program and berm stop together and go on together. */
static void stop_job(struct session *s)
{
	bool pass = s->kind != SESSION_ATTACH && s->relay.started;

	if (pass) {
		relay_signal(&s->relay, SIGSTOP);
		if (client_send(s->client, NULL) < 0)
			return; /* it has gone: nothing to stop for */
	}
	spinner_clear(&s->spinner);
	term_restore(&s->term);
	(void)kill(getpid(), SIGSTOP);
	/* here again after `fg` */
	if (s->relay.started && s->relay.ended == RELAY_RUNNING)
		make_raw(s);
	if (pass)
		relay_signal(&s->relay, SIGCONT);
	tell_size(s);
}

static void ask_stop(struct session *s)
{
	wire_put_u32(&s->client->out, WIRE_STOP, 0, 0, CLIENT_EPOCH, 0);
}

/* Before the program runs there is nobody to pass it on to. */
static int end_early(struct session *s, int sig)
{
	static const char words[] = "stopping (ctrl-c again leaves at once)";

	s->interrupted = sig;
	if (s->kind != SESSION_RUN || s->signals > 1)
		return 128 + sig;
	ask_stop(s);
	spinner_say(&s->spinner, span_of(words, sizeof(words) - 1));
	return 0;
}

static int end_signal(struct session *s, int sig)
{
	uint64_t now = clock_mono_ms();

	if (s->signals && now - s->signal_ms > SESSION_AGAIN_MS)
		s->signals = 0;
	s->signals++;
	s->signal_ms = now;
	if (!s->relay.started)
		return end_early(s, sig);
	if (s->signals > 2 || (s->signals == 2 && s->kind == SESSION_ATTACH))
		return 128 + sig;
	if (s->signals == 2 && s->kind == SESSION_RUN)
		ask_stop(s);
	else
		relay_signal(&s->relay, s->signals == 2 ? SIGKILL : sig);
	return 0;
}

static int on_signal(void *ctx, struct relay *r, const struct signalfd_siginfo *si)
{
	struct session *s = ctx;

	(void)r;
	if (si->ssi_signo == SIGWINCH)
		tell_size(s);
	else if (si->ssi_signo == SIGTSTP)
		stop_job(s);
	else
		return end_signal(s, (int)si->ssi_signo);
	return 0;
}

static void on_started(void *ctx)
{
	struct session *s = ctx;

	spinner_clear(&s->spinner);
	make_raw(s);
	tell_size(s); /* it may have changed since it was written down */
}

/* The keys are for berm again, and for whoever comes after it: END can take its time. */
static void on_ended(void *ctx)
{
	struct session *s = ctx;

	term_restore(&s->term);
}

static void on_progress(void *ctx, struct span text)
{
	struct session *s = ctx;

	spinner_say(&s->spinner, text);
}

static void on_tick(void *ctx)
{
	struct session *s = ctx;

	spinner_tick(&s->spinner);
}

int session_run(struct session *s, struct err *e)
{
	static const struct relay_ops ops = {
		.on_signal = on_signal,
		.on_started = on_started,
		.on_ended = on_ended,
		.on_progress = on_progress,
		.on_tick = on_tick,
	};
	int r;

	s->relay.ops = &ops;
	s->relay.ctx = s;
	r = relay_run(&s->relay, e);
	spinner_clear(&s->spinner);
	term_restore(&s->term);
	return r;
}

void session_fini(struct session *s)
{
	spinner_clear(&s->spinner);
	term_restore(&s->term);
	if (s->client)
		relay_fini(&s->relay);
	client_free(s->client);
	s->client = NULL;
	if (s->signal_fd >= 0)
		(void)close(s->signal_fd);
	s->signal_fd = -1;
}

int session_fetch_max(const char *text, uint64_t *ret, struct err *e)
{
	uint64_t bytes;

	if (units_parse_size(text, &bytes, e) < 0)
		return err_wrap(e, "--fetch-max");
	if (bytes == 0)
		return err_set(e, -EINVAL, "--fetch-max: 0 would fetch nothing; 16GiB is usual");
	*ret = bytes;
	return 0;
}

bool session_wants_stdin(const struct cli *c, bool asked, bool refused)
{
	if (refused)
		return false;
	/* reading the terminal from the background would stop us */
	return asked || !c->in_tty || term_foreground(STDIN_FILENO);
}

/* Where it failed and why; the guest's sentence may or may not say the errno's words itself. */
static void say_why(const struct session *s, const char *what)
{
	const char *words = strerror((int)s->relay.fail.code);
	const char *text = s->relay.fail_text;
	size_t len = strlen(text);
	size_t words_len = strlen(words);
	bool said = s->relay.fail.stage == WIRE_AT_USER ||
	            (len >= words_len && strcmp(text + len - words_len, words) == 0);

	if (!text[0])
		log_error("%s: %s", what, words);
	else
		log_error("%s: %s%s%s", what, text, said ? "" : ": ", said ? "" : words);
}

static int not_started(const struct session *s, const char *command)
{
	const struct wire_fail *f = &s->relay.fail;

	if (f->stage == WIRE_AT_EXEC && f->code == ENOENT) {
		log_error("'%s': no such command in the guest", command);
		return CLI_EXIT_NOT_FOUND;
	}
	if (f->stage == WIRE_AT_EXEC) {
		log_error("'%s' cannot be executed in the guest: %s", command,
		          strerror((int)f->code));
		return CLI_EXIT_CANNOT_RUN;
	}
	say_why(s, "the command could not be started");
	return CLI_EXIT_ERROR;
}

/* The few reasons a supervisor has. */
static const char *reset_reason(uint32_t code)
{
	switch (code) {
	case EAGAIN:
		return "the sandbox is still starting: try again in a moment";
	case EMFILE:
		return "the sandbox runs as many commands as it can: try again when one has ended";
	case ENOBUFS:
		return "the output came faster than it was read; the command goes on (berm logs has it)";
	case ESHUTDOWN:
		return "the sandbox has ended";
	default:
		return "the command was cut off by the sandbox";
	}
}

int session_status(const struct session *s, const char *command)
{
	const struct relay *r = &s->relay;

	if (r->ended == RELAY_EXIT)
		return (int)(r->exit.signaled ? 128 + r->exit.value : r->exit.value);
	if (r->ended == RELAY_FAILED)
		return not_started(s, command);
	if (r->ended == RELAY_LEFT)
		return r->left;
	if (r->ended == RELAY_DETACHED)
		return 0;
	if (r->ended == RELAY_RESET && !r->end_json) {
		log_error("%s", reset_reason(r->reset_errno));
		return CLI_EXIT_ERROR;
	}
	return CLI_EXIT_KILLED; /* the sandbox ended under it; its reason is told with END */
}

/* Signals that people and pipelines send: who sent one knows. */
static bool signal_expected(uint32_t sig)
{
	return sig == SIGINT || sig == SIGTERM || sig == SIGHUP || sig == SIGQUIT || sig == SIGPIPE;
}

bool session_explain(const struct result *res)
{
	if (res->reason == RESULT_SIGNALED && signal_expected(res->signal))
		return false;
	if (res->message[0])
		log_error("%s", res->message);
	else if (res->reason != RESULT_EXITED && res->reason != RESULT_SIGNALED)
		log_error("the sandbox ended: %s", result_reason_name(res->reason));
	else if (res->limits_hit)
		log_warn("the command met a limit and went on: see limits_hit of --json");
	return res->message[0] != '\0';
}
