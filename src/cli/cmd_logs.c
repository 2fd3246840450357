#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"
#include "cli/egress/live_egress.h"
#include "cli/egress/logs_egress.h"
#include "cli/follow.h"
#include "cli/reach.h"
#include "cli/verbs.h"
#include "cli/when.h"
#include "state/outlog.h"
#include "term/json_out.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * Theory of operation
 *
 * The record is files; a live sandbox appends to them, and follow.h says when. What an ended
 * sandbox leaves is moved to another directory: the reader follows it there.
 */

enum { OPT_FOLLOW = 1, OPT_TAIL, OPT_RAW, OPT_SINCE, OPT_TIMES, OPT_EGRESS, OPT_DENIED };

enum {
	TAIL_MAX = 1 << 30,
	ESCAPED_MAX = 4, /* \xNN */
	JSON_LINE_MAX = 6 * OUTLOG_DATA_MAX + 256,
};

static const struct opt logs_opts[] = {
	{ OPT_FOLLOW, 'f', "follow", NULL, COMPLETE_NONE, "go on as it grows, until the end" },
	{ OPT_TAIL, 'n', "tail", "N", COMPLETE_NONE, "only the last N lines" },
	{ OPT_SINCE, 0, "since", "WHEN", COMPLETE_NONE,
	  "only what came after it: 10m ago, or 2026-01-31T12:00:00Z" },
	{ OPT_TIMES, 't', "timestamps", NULL, COMPLETE_NONE, "when each line came, before it" },
	{ OPT_EGRESS, 0, "egress", NULL, COMPLETE_NONE,
	  "instead: what it reached, and what was refused" },
	{ OPT_DENIED, 0, "denied", NULL, COMPLETE_NONE,
	  "of that only what was refused; implies --egress" },
	{ OPT_RAW, 0, "raw", NULL, COMPLETE_NONE, "no escapes, even to a terminal" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

struct logs {
	struct cli *c;
	struct outlog_reader *reader;
	bool raw;
	bool times;
	uint64_t since_ms;
	bool within[OUTLOG_GAP]; /* a line of that channel, whose end has not come yet */
	uint8_t *storage;        /* JSON_LINE_MAX: a record as it is printed */
};

static void logs_fini(struct logs *l)
{
	outlog_reader_free(l->reader);
	free(l->storage);
	l->storage = NULL;
}

/* For a terminal: lines and tabs stay, what could move the cursor or colour the screen does not. */
static void put_for_terminal(struct buf *b, struct span data)
{
	while (data.len > 0) {
		size_t n = 0;

		while (n < data.len && data.at[n] != '\n' && data.at[n] != '\t')
			n++;
		buf_put_escaped(b, span_of(data.at, n));
		if (n < data.len)
			buf_put_u8(b, data.at[n++]);
		data.at += n;
		data.len -= n;
	}
}

static void put_json(struct buf *b, const struct outlog_record *rec)
{
	bool text = utf8_ok(rec->data);

	buf_printf(b, "{\"time_ms\":%llu,", (unsigned long long)rec->realtime_ms);
	if (rec->channel == OUTLOG_GAP) {
		buf_printf(b, "\"missing_bytes\":%llu}\n",
		           (unsigned long long)outlog_gap_bytes(rec));
		return;
	}
	buf_printf(b, "\"stream\":\"%s\",\"encoding\":\"%s\",\"data\":",
	           rec->channel == OUTLOG_ERR ? "stderr" : "stdout", text ? "utf-8" : "base64");
	if (text) {
		buf_put_json_str(b, rec->data);
	} else {
		buf_put_str(b, "\"");
		buf_put_base64(b, rec->data);
		buf_put_str(b, "\"");
	}
	buf_put_str(b, "}\n");
}

static int put_out(FILE *f, const struct buf *b, struct err *e)
{
	if (fwrite(b->at, 1, b->len, f) != b->len)
		return errno == EPIPE ? -EPIPE : err_sys(e, "write the log");
	return 0;
}

static void put_data(const struct logs *l, bool err, struct buf *b, struct span data)
{
	if (!l->raw && (err ? l->c->err_tty : l->c->out_tty))
		put_for_terminal(b, data);
	else
		buf_put_span(b, data);
}

/* A line has the time of its first byte; it may come in several records. */
static int print_lines(struct logs *l, const struct outlog_record *rec, FILE *f, struct err *e)
{
	bool *within = &l->within[rec->channel];
	struct span left = rec->data;
	int r = 0;

	while (r == 0 && left.len > 0) {
		const uint8_t *end = memchr(left.at, '\n', left.len);
		size_t len = end ? (size_t)(end - left.at) + 1 : left.len;
		struct buf b;

		buf_init(&b, l->storage, JSON_LINE_MAX);
		if (!*within) {
			when_put(&b, rec->realtime_ms);
			buf_put_u8(&b, ' ');
		}
		put_data(l, rec->channel == OUTLOG_ERR, &b, span_of(left.at, len));
		*within = !end;
		left.at += len;
		left.len -= len;
		r = put_out(f, &b, e);
	}
	return r;
}

static int print_record(struct logs *l, const struct outlog_record *rec, struct err *e)
{
	bool err = rec->channel == OUTLOG_ERR;
	FILE *f = err && !l->c->json ? stderr : stdout;
	struct buf b;

	buf_init(&b, l->storage, JSON_LINE_MAX);
	if (l->c->json) {
		put_json(&b, rec);
	} else if (rec->channel == OUTLOG_GAP) {
		(void)fflush(stdout);
		log_warn("%llu bytes of output are missing here",
		         (unsigned long long)outlog_gap_bytes(rec));
		return 0;
	} else if (l->times) {
		return print_lines(l, rec, f, e);
	} else {
		put_data(l, err, &b, rec->data);
	}
	return put_out(f, &b, e);
}

/* All that is there. -EPIPE: the reader has had enough. */
static int drain(void *user, struct err *e)
{
	struct outlog_record rec;
	struct logs *l = user;

	for (;;) {
		int r = outlog_reader_next(l->reader, &rec, e);

		if (r == -EAGAIN)
			return fflush(stdout) == 0 ? 0 : -EPIPE;
		if (r == 0 && rec.realtime_ms >= l->since_ms)
			r = print_record(l, &rec, e);
		if (r < 0)
			return r;
	}
}

/* The last of it, wherever it is by now. */
static int drain_ended(struct logs *l, const char *id, struct err *e)
{
	_own_fd_ int dir_fd = -1;

	if (state_open_dir(l->c->state_fd, id, &dir_fd, NULL) == 0)
		outlog_reader_move(l->reader, dir_fd);
	return drain(l, e);
}

static int show(struct logs *l, const struct args *a, uint64_t tail, struct err *e)
{
	_own_(follow_fini) struct follow f = { .watch_fd = -1 };
	_own_fd_ int dir_fd = -1;
	struct state_info info;
	int r = reach_find(l->c, a->words[0], true, &info, e);
	bool live = r == 0 && !info.ended && args_has(a, OPT_FOLLOW);

	if (r == 0)
		r = state_open_dir(l->c->state_fd, info.id, &dir_fd, e);
	if (r == 0 && live)
		r = follow_begin(l->c, info.id, dir_fd, &f, e);
	if (r == 0)
		r = outlog_reader_new(dir_fd, &l->reader, e);
	if (r == 0 && tail != UINT64_MAX)
		r = outlog_reader_tail(l->reader, tail, e);
	if (r == 0)
		r = drain(l, e);
	if (r < 0 || !live)
		return r;
	r = follow_run(&f, drain, l, e);
	return r < 0 ? r : drain_ended(l, info.id, e);
}

static int show_egress(struct cli *c, const struct args *a, uint64_t tail, uint64_t since_ms)
{
	struct logs_egress l = { .denied = args_has(a, OPT_DENIED),
		                 .follow = args_has(a, OPT_FOLLOW),
		                 .tail = tail,
		                 .since_ms = since_ms };
	struct err e = { 0 };
	int r;

	if (args_has(a, OPT_RAW) || args_has(a, OPT_TIMES))
		return cli_usage(a, "--raw and --timestamps are about what the command wrote");
	r = logs_egress_show(&l, c, a->words[0], &e);
	return r == 0 || r == -EPIPE ? 0 : live_egress_fail(&e);
}

static int run_logs(struct cli *c, const struct args *a)
{
	__attribute__((cleanup(logs_fini))) struct logs l = { .c = c };
	const char *lines = args_value(a, OPT_TAIL);
	const char *since = args_value(a, OPT_SINCE);
	uint64_t tail = UINT64_MAX;
	struct err e = { 0 };
	int r;

	if (lines && units_parse_count(lines, 0, TAIL_MAX, &tail, &e) < 0)
		return cli_usage(a, "--tail: %s", e.text);
	if (since && when_parse(since, clock_real_ns() / 1000000, &l.since_ms, &e) < 0)
		return cli_usage(a, "--since: %s", e.text);
	if (args_has(a, OPT_EGRESS) || args_has(a, OPT_DENIED))
		return show_egress(c, a, tail, l.since_ms);
	l.times = args_has(a, OPT_TIMES);
	l.raw = args_has(a, OPT_RAW);
	l.storage = malloc(JSON_LINE_MAX);
	if (!l.storage)
		(void)err_set(&e, -ENOMEM, "out of memory");
	r = l.storage ? show(&l, a, tail, &e) : -ENOMEM;
	if (r == -EPIPE)
		return 0;
	return r < 0 ? reach_fail(&e) : 0;
}

const struct verb verb_logs = {
	.name = "logs",
	.summary = "Show what a sandbox's main command wrote, or what it reached",
	.args = "SANDBOX",
	.about =
		"Its stdout goes to stdout, its stderr to stderr. The newest 4 to 8 MiB are kept. On a\n"
		"terminal control bytes are shown as \\xNN, as the guest might mean harm with them.\n"
		"--since takes how long ago (90s, 10m, 2h, 1d) or a day or time as RFC 3339 has it; one\n"
		"without a zone is local. Times that are printed are UTC.\n"
		"\n"
		"With --egress it is the record of its network instead, a line for each connection and\n"
		"request: when, what became of it, what it was, why, and by which rule. With --json they\n"
		"are the records as they were written: see berm-egress(7). Exit status: 3 no such\n"
		"sandbox; 5 it has no network; 125 anything else.\n",
	.examples = "berm logs web\n"
		    "berm logs -f --tail 20 web\n"
		    "berm logs -f --denied web\n"
		    "berm logs --egress --json web | jq -r 'select(.event==\"refused\").host'\n"
		    "berm logs --timestamps --since 10m web\n"
		    "berm logs --json web | jq -r 'select(.stream==\"stderr\").data'\n",
	.opts = logs_opts,
	.run = run_logs,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_ANY_SANDBOX,
};
