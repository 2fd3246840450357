#include "cli/code/code.h"

#include "base/log.h"
#include "screen/tui.h"
#include "session/review_apply.h"
#include "session/review_open.h"
#include "session/review_text.h"
#include "term/json_out.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

enum { JSON_ROOM = 96 << 10 };

/* What a look at the work came to. */
struct outcome {
	bool looked;   /* else it is as it was collected, or not even that */
	bool waits;    /* something is to be decided, or to be applied */
	bool empty;    /* nothing was changed that anybody could want */
	bool said;     /* by what came then */
	bool said_why; /* how it ended named the session, and why its work is not here */
	bool gone;     /* thrown away by its user */
	int failed;    /* of that: an exit status, or 0 */
	uint64_t applied;
	struct review_totals totals;
	uint32_t commits;
	uint64_t git_lost; /* objects of git that no apply brings */
	size_t runs_len;   /* of review_text_runs() */
	char runs[REVIEW_RUNS_BYTES];
};

/* A limit that was met, with what to do about it: the guest's own message is often far away. */
static void explain_limits(const struct code *k, struct outcome *out)
{
	const struct result *res = &k->result;
	uint64_t disk = k->run.spec.limits.disk_bytes;

	if (res->reason && k->s.relay.ended != RELAY_FAILED) /* that is said already */
		out->said_why = session_explain(res) && strstr(res->message, k->work.info.id);
	if ((res->limits_hit & RESULT_HIT_DISK) && !k->c->json)
		log_warn("the guest's disk of %llu MiB was full at times; with --disk %lluMiB it "
		         "has twice that. What was written is kept",
		         (unsigned long long)(disk >> 20), (unsigned long long)(disk >> 19));
}

static bool has_work(const struct code *k)
{
	return k->work.dir_fd >= 0 && k->work.info.state >= SESSION_UNCOLLECTED;
}

/* What berm exits with as far as the command goes. */
static int command_status(const struct code *k)
{
	if (k->s.relay.left)
		return k->s.relay.left;
	if (k->result.reason && k->result.reason != RESULT_EXITED &&
	    k->result.reason != RESULT_STOPPED)
		return (int)k->result.exit_code;
	if (k->command_code >= 0)
		return k->command_code;
	return k->result.reason ? (int)k->result.exit_code : CLI_EXIT_ERROR;
}

/* --- looking at the work --- */

/* In a git directory: its commits come home by another way, and all else stays in the guest. */
static bool is_git_internal(const struct review_item *item)
{
	struct span rest = item->change->path;
	struct span name;

	while (wpath_next(&rest, &name))
		if (span_is(name, ".git"))
			return true;
	return false;
}

static bool is_empty(const struct review *r)
{
	for (size_t i = 0; i < review_count(r); i++)
		if (review_at(r, i)->section != REVIEW_OUT || !is_git_internal(review_at(r, i)))
			return false;
	return true;
}

static void count(struct review_opened *o, struct outcome *out)
{
	struct gitobj_totals git;
	struct buf runs;

	buf_init(&runs, out->runs, sizeof(out->runs));
	review_text_runs(o, &runs);
	out->runs_len = runs.len;
	review_repos_totals(o->review, &git);
	review_totals(o->review, &out->totals);
	out->commits = git.commits;
	out->git_lost = review_opened_git_lost(o);
	out->waits = review_opened_waits(o);
	out->empty = is_empty(o->review) && git.refs + git.refused == 0 && out->git_lost == 0;
	out->looked = true;
}

static void remove_empty(struct code *k)
{
	struct err e = { 0 };

	if (work_session_find(k->c->state_fd, k->work.info.id, &k->work, &e) < 0 ||
	    work_session_lock(&k->work, "remove", &e) < 0 ||
	    work_session_keep_base(k->c->state_fd, &k->work, &e) < 0)
		log_warn("%s", e.text);
}

/* --- what is said of it --- */

static void tell_next(const char *id, bool collected)
{
	(void)fprintf(stderr,
	              "  berm review %s    %slook at it and decide\n"
	              "  berm apply %s     take what was decided\n"
	              "  berm discard %s   throw it away\n",
	              id, collected ? "" : "fetch it, ", id, id);
}

static void tell_counts(const struct outcome *out, const char *id)
{
	char room[1024];
	const char *gap = "";
	struct buf b;

	buf_init(&b, room, sizeof(room));
	for (unsigned s = 0; s < REVIEW_SECTIONS; s++) {
		uint64_t git = s == REVIEW_OUT ? out->totals.out_git : 0;
		uint64_t n = out->totals.per_section[s] - git;

		if (n > 0) {
			buf_printf(&b, "%s%s: %llu", gap,
			           review_section_title((enum review_section)s),
			           (unsigned long long)n);
			gap = ", ";
		}
		if (git > 0) {
			buf_printf(&b, "%s%llu " REVIEW_GIT_WORDS, gap, (unsigned long long)git);
			gap = ", ";
		}
	}
	if (out->commits)
		buf_printf(&b, "%s%u commit%s", gap, out->commits, out->commits == 1 ? "" : "s");
	gap = b.len > 0 ? ", " : "";
	if (out->git_lost)
		buf_printf(&b, "%s%llu " REVIEW_LOST_WORDS, gap, (unsigned long long)out->git_lost);
	log_info("session %s: %s", id, buf_cstr(&b));
	(void)fprintf(stderr, "%.*s", (int)out->runs_len, out->runs);
}

static void tell(const struct code *k, const struct outcome *out, const char *id)
{
	const struct work_session_info *info = &k->work.info;

	if (out->empty) {
		log_info("the agent changed nothing: there is nothing to decide");
		return;
	}
	if (out->looked && out->said)
		return;
	if (out->looked)
		tell_counts(out, id);
	else if (info->state == SESSION_UNCOLLECTED && !out->said_why)
		log_warn(
			"session %s: its work is on the guest's disk, and was not fetched yet (%s)",
			id, info->why);
	else if (info->state < SESSION_UNCOLLECTED)
		log_warn("session %s is still ending: 'berm review %s' once it has", id, id);
	else if (info->state != SESSION_UNCOLLECTED)
		log_info("session %s: the agent's work waits for you", id);
	if (!out->looked || out->waits || out->commits || out->git_lost)
		tell_next(id, info->state != SESSION_UNCOLLECTED);
}

static void put_changes(const struct outcome *out, struct buf *b)
{
	const struct review_totals *t = &out->totals;

	if (!out->looked) {
		buf_put_str(b, "null");
		return;
	}
	buf_put_u8(b, '{');
	for (unsigned s = 0; s < REVIEW_SECTIONS; s++)
		buf_printf(b, "\"%s\":%llu,", review_section_name((enum review_section)s),
		           (unsigned long long)t->per_section[s]);
	buf_printf(b, "\"undecided\":%llu,\"accepted\":%llu,\"rejected\":%llu,\"done\":%llu}",
	           (unsigned long long)t->undecided, (unsigned long long)t->accepted,
	           (unsigned long long)t->rejected, (unsigned long long)t->done);
}

static void put_json(const struct code *k, const struct outcome *out, const char *id,
                     const char *state, int status, struct buf *b)
{
	const struct relay *r = &k->s.relay;

	buf_printf(b, "{\"version\":%d,\"session\":", CODE_JSON_VERSION);
	if (*id && !out->empty)
		buf_printf(b, "\"%s\"", id);
	else
		buf_put_str(b, "null");
	buf_printf(b, ",\"agent\":\"%s\",\"workspace\":", k->agent->name);
	buf_put_json_str(b, span_str(k->root));
	buf_printf(b, ",\"state\":\"%s\",\"waits\":%s,\"exit_code\":%d,\"changes\":", state,
	           out->waits || (*id && !out->looked) ? "true" : "false", status);
	put_changes(out, b);
	buf_printf(b, ",\"commits\":%u,\"applied\":%llu,\"packed\":{", out->commits,
	           (unsigned long long)out->applied);
	code_put_packed_json(k, b);
	buf_put_str(b, "},\"result\":");
	if (r->end_json)
		buf_put_span(b, span_of(r->end_json, r->end_bytes));
	else
		buf_put_str(b, "null");
	buf_put_u8(b, ',');
	buf_put_json_output(b, "stdout", buf_span(&k->out), r->out.truncated);
	buf_put_u8(b, ',');
	buf_put_json_output(b, "stderr", buf_span(&k->err), r->err.truncated);
	buf_put_str(b, "}\n");
}

static int print_json(const struct code *k, const struct outcome *out, const char *id,
                      const char *state, int status, struct err *e)
{
	size_t size = JSON_ROOM + 6 * strlen(k->root) + k->s.relay.end_bytes +
	              json_output_bytes(buf_span(&k->out)) + json_output_bytes(buf_span(&k->err));
	_own_free_ char *storage = malloc(size);
	struct buf b;

	if (!storage)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, storage, size);
	put_json(k, out, id, state, status, &b);
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "the outcome is too long to be printed");
	return cli_out(b.at, b.len, e);
}

/* --- --on-exit --- */

static void apply_plain(struct code *k, struct review_opened *o, struct outcome *out)
{
	struct review_outcome done = { 0 };
	struct err commits_e = { 0 };
	struct err e = { 0 };

	if (review_apply_plain(k->c, o, &done, &commits_e, &e) < 0) {
		out->failed = cli_fail(&e);
		return;
	}
	out->applied = done.items;
	out->said = !k->c->json;
	if (out->said)
		review_text_outcome(o, "apply", &done, &commits_e, stderr);
	else if (commits_e.len)
		log_warn("%s", commits_e.text);
}

/* At a terminal; elsewhere what can be done is said, as with `keep`. */
static void review_now(struct code *k, struct review_opened *o, struct outcome *out)
{
	struct err e = { 0 };

	if (k->c->json || k->opt.task || review_tui_possible(k->c, &e) < 0) {
		if (k->opt.on_exit == CODE_REVIEW)
			log_warn("no review here: %s",
			         e.code ? e.text : "nobody sits at a terminal");
		return;
	}
	out->said = true;
	out->failed = review_tui_run(k->c, o) == CLI_EXIT_ERROR ? CLI_EXIT_ERROR : 0;
}

static void then(struct code *k, struct review_opened *o, struct outcome *out)
{
	if (out->empty || k->opt.on_exit == CODE_KEEP)
		return;
	if (k->opt.on_exit == CODE_APPLY_PLAIN)
		apply_plain(k, o, out);
	else
		review_now(k, o, out);
	if (!o->review) { /* it was thrown away */
		out->waits = false;
		out->gone = true;
		return;
	}
	count(o, out);
	out->empty = false;
}

/* It could not be shown, and that may have changed its state: what is known of it now. */
static void look_again(struct code *k, struct outcome *out, const struct work_session_info *info)
{
	_own_(work_session_close) struct work_session s;

	work_session_init(&s);
	k->work.info = *info;
	if (work_session_open(k->c->state_fd, info->id, &s, NULL) == 0)
		k->work.info = s.info;
	out->said_why = k->work.info.state == SESSION_UNCOLLECTED;
}

/* A review takes the screen, and with it what the command said. */
static void tell_exit(const struct code *k)
{
	if (!k->c->json && k->result.reason == RESULT_EXITED && k->command_code > 0)
		log_info("the command exited with %d", k->command_code);
}

/* Takes k->work, and leaves in it what is known of it. */
static void look(struct code *k, struct outcome *out)
{
	struct work_session_info info = k->work.info;
	struct review_opened o;
	struct err e = { 0 };

	if (review_opened_begin(k->c, &k->work, "code", k->run.spec.collect_bytes, &o, &e) < 0) {
		log_warn("%s", e.text);
		look_again(k, out, &info);
		return;
	}
	count(&o, out);
	then(k, &o, out);
	review_opened_end(&o);
	info.state = out->gone ? SESSION_NONE : out->waits ? SESSION_PENDING : SESSION_APPLIED;
	k->work.info = info;
}

/* What is left to do can be ended at any moment, and goes on where it was. */
static void release_signals(struct code *k)
{
	struct signalfd_siginfo si;

	while (read(k->s.signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		continue; /* those were for the agent */
	if (sigprocmask(SIG_SETMASK, &k->mask, NULL) < 0)
		log_debug("signals: %m");
}

int code_end(struct code *k)
{
	char id[SESSION_ID_LEN + 1] = "";
	struct outcome out = { 0 };
	int status = command_status(k);
	const char *state;
	struct err e = { 0 };

	release_signals(k);
	explain_limits(k, &out);
	tell_exit(k);
	if (has_work(k)) {
		memcpy(id, k->work.info.id, sizeof(id));
		if (k->work.info.state == SESSION_SPOOLED)
			look(k, &out);
	} else if (k->begun && k->work.lock_fd < 0) {
		memcpy(id, k->work.info.id, sizeof(id)); /* it is still ending */
	} else {
		k->begun = false; /* the guest never came to run anything */
	}
	state = work_session_state_name(out.empty ? SESSION_NONE : k->work.info.state);
	if (*id && !k->c->json)
		tell(k, &out, id);
	if (out.failed)
		status = out.failed;
	if (k->opt.task && status == 0 && *id && (out.waits || !out.looked))
		status = CLI_EXIT_PENDING;
	if (k->c->json && print_json(k, &out, id, state, status, &e) < 0)
		status = cli_fail(&e);
	if (out.empty)
		remove_empty(k);
	return status;
}
