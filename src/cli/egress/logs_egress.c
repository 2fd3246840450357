#include "cli/egress/logs_egress.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/units.h"
#include "cli/egress/live_egress.h"
#include "cli/follow.h"
#include "cli/when.h"
#include "state/jread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/*
 * Theory of operation
 *
 * Up to three files of JSON lines, the older first; follow.h says when they grow. The newest is
 * read to its end, and when another one stands in its place, that from its beginning: the old one
 * is whole by then.
 */

static const char record_file[] = "egress.jsonl";
static const char *const older_files[] = { "egress.jsonl.0", "egress.jsonl.1" };

enum {
	LINE_MAX_BYTES = 16 << 10,            /* a record's texts, each byte of them escaped */
	SHOWN_BYTES_MAX = 4 * LINE_MAX_BYTES, /* and escaped again */
	REOPENS_MAX = 4,                      /* files in one round: none is full again so soon */
};

struct reader {
	const struct logs_egress *how;
	struct cli *c;
	bool json;
	int dir_fd, fd;
	char *line; /* LINE_MAX_BYTES: what was read of one whose end has not come yet */
	size_t len;
	char *shown;       /* SHOWN_BYTES_MAX */
	uint64_t skip;     /* lines that are to be passed over */
	uint64_t *counted; /* not NULL: they are counted and not printed */
};

static void reader_fini(const struct reader *r)
{
	if (r->fd >= 0)
		(void)close(r->fd);
	if (r->dir_fd >= 0)
		(void)close(r->dir_fd);
	free(r->line);
	free(r->shown);
}

static inline void reader_fini_scope(const struct reader *r)
{
	reader_fini(r);
}

/* --- one line --- */

static const char *text_of(const json_t *o, const char *key)
{
	const char *got = json_string_value(json_object_get(o, key));

	return got ? got : "";
}

static uint64_t number_of(const json_t *o, const char *key)
{
	json_int_t got = json_integer_value(json_object_get(o, key));

	return got > 0 ? (uint64_t)got : 0;
}

static void put_text(struct buf *b, const char *text)
{
	buf_put_escaped(b, span_str(text));
}

/* Where a connection went; a lookup's port is that of every name server, and says nothing. */
static uint64_t port_of(const json_t *o)
{
	return strcmp(text_of(o, "layer"), "dns") == 0 ? 0 : number_of(o, "port");
}

/* "api.example.com:443", or the address where there is no name. */
static void put_where(struct buf *b, const json_t *o)
{
	const char *host = text_of(o, "host");
	const char *address = text_of(o, "address");
	bool bare = !host[0] && strchr(address, ':');

	if (host[0])
		put_text(b, host);
	else if (bare)
		buf_printf(b, "[%s]", address);
	else
		put_text(b, address);
	if (port_of(o) > 0)
		buf_printf(b, ":%llu", (unsigned long long)port_of(o));
}

static void put_request(struct buf *b, const json_t *o)
{
	const char *method = text_of(o, "method");

	if (method[0]) {
		put_text(b, method);
		buf_put_str(b, " ");
	}
	put_where(b, o);
	put_text(b, text_of(o, "path"));
	if (number_of(o, "status") > 0)
		buf_printf(b, " %llu", (unsigned long long)number_of(o, "status"));
}

static void put_traffic(struct buf *b, const json_t *o)
{
	uint64_t up = number_of(o, "bytes_up");
	uint64_t down = number_of(o, "bytes_down");

	if (up > 0 || down > 0) {
		buf_put_str(b, "  ");
		units_put_size(b, up);
		buf_put_str(b, " up, ");
		units_put_size(b, down);
		buf_put_str(b, " down");
	}
	if (number_of(o, "ms") > 0) {
		buf_put_str(b, ", ");
		units_put_duration(b, number_of(o, "ms"));
	}
}

static void put_why(struct buf *b, const json_t *o)
{
	const char *reason = text_of(o, "reason");
	const char *rule = text_of(o, "rule");
	const char *secret = text_of(o, "secret");

	if (reason[0] && strcmp(reason, "allowed") != 0) {
		buf_put_str(b, "  ");
		put_text(b, reason);
	}
	if (secret[0]) {
		buf_put_str(b, "  secret ");
		put_text(b, secret);
	}
	if (rule[0]) {
		buf_put_str(b, "  (");
		put_text(b, rule);
		buf_put_str(b, ")");
	}
}

/* Red is what was kept back, yellow what somebody may want to look at. */
static const char *colour_of(const char *event)
{
	if (strcmp(event, "refused") == 0 || strcmp(event, "violation") == 0)
		return "\033[31m";
	if (strcmp(event, "allowed") == 0)
		return "\033[32m";
	return strcmp(event, "ended") == 0 ? "" : "\033[33m";
}

static void put_event(struct buf *b, const char *event, bool colour)
{
	const char *on = colour ? colour_of(event) : "";

	buf_printf(b, "  %s%-9.16s%s  ", on, event, on[0] ? "\033[0m" : "");
}

bool logs_egress_put(struct buf *b, struct span line, bool colour)
{
	_own_(jread_free) json_t *o = NULL;
	const char *event;

	if (jread_object(line, &o, NULL) < 0)
		return false;
	event = text_of(o, "event");
	if (!event[0])
		return false;
	put_text(b, text_of(o, "time"));
	put_event(b, event, colour);
	if (strcmp(event, "lost") == 0) {
		buf_printf(b, "%llu records are missing here",
		           (unsigned long long)number_of(o, "count"));
		return true;
	}
	buf_printf(b, "%-4.8s  ", text_of(o, "layer"));
	put_request(b, o);
	put_why(b, o);
	put_traffic(b, o);
	if (number_of(o, "exec") > 1)
		buf_printf(b, "  command %llu", (unsigned long long)number_of(o, "exec"));
	return true;
}

/* Is it among those asked for? What cannot be read is shown rather than kept back. */
static bool wanted(const struct logs_egress *l, struct span line)
{
	_own_(jread_free) json_t *o = NULL;
	const char *event;
	uint64_t ms;

	if ((!l->denied && l->since_ms == 0) || jread_object(line, &o, NULL) < 0)
		return true;
	event = text_of(o, "event");
	if (l->since_ms > 0 &&
	    when_parse(text_of(o, "time"), clock_real_ns() / 1000000, &ms, NULL) == 0 &&
	    ms < l->since_ms)
		return false;
	return !l->denied || strcmp(event, "refused") == 0 || strcmp(event, "violation") == 0 ||
	       strcmp(event, "lost") == 0;
}

static int print_line(struct reader *r, struct span line, struct err *e)
{
	struct buf b;

	if (!wanted(r->how, line))
		return 0;
	if (r->counted) {
		(*r->counted)++;
		return 0;
	}
	if (r->skip > 0) {
		r->skip--;
		return 0;
	}
	buf_init(&b, r->shown, SHOWN_BYTES_MAX);
	if (r->json) {
		buf_put_span(&b, line);
	} else if (!logs_egress_put(&b, line, cli_colour(r->c))) {
		buf_reset(&b);
		buf_put_escaped(&b, line);
	}
	buf_put_u8(&b, '\n');
	if (fwrite(b.at, 1, b.len, stdout) == b.len)
		return 0;
	return errno == EPIPE ? -EPIPE : err_sys(e, "write");
}

/* --- the files --- */

static int take_lines(struct reader *r, struct err *e)
{
	struct span rest = span_of(r->line, r->len);
	const uint8_t *end;

	while (rest.len > 0 && (end = memchr(rest.at, '\n', rest.len)) != NULL) {
		struct span line = span_of(rest.at, (size_t)(end - rest.at));
		int res = print_line(r, line, e);

		if (res < 0)
			return res;
		rest.len -= line.len + 1;
		rest.at = end + 1;
	}
	if (rest.len == LINE_MAX_BYTES)
		rest.len = 0; /* no line of ours is so long */
	memmove(r->line, rest.at, rest.len);
	r->len = rest.len;
	return 0;
}

/* What there is now of the file that is open. */
static int drain_file(struct reader *r, struct err *e)
{
	for (;;) {
		ssize_t n = read(r->fd, r->line + r->len, LINE_MAX_BYTES - r->len);
		int res;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "read the record");
		if (n == 0)
			return 0;
		r->len += (size_t)n;
		res = take_lines(r, e);
		if (res < 0)
			return res;
	}
}

static int read_old(struct reader *r, const char *name, struct err *e)
{
	int res = fd_openat(r->dir_fd, name, O_RDONLY, 0, &r->fd, NULL);

	if (res < 0)
		return res == -ENOENT ? 0 : err_set(e, res, "the older record cannot be opened");
	res = drain_file(r, e);
	(void)close(steal_fd(&r->fd));
	r->len = 0;
	return res;
}

/* Is the file we read still the one of that name? */
static bool is_current(const struct reader *r)
{
	struct stat mine;
	struct stat there;

	return r->fd >= 0 && fstat(r->fd, &mine) == 0 &&
	       fstatat(r->dir_fd, record_file, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

static int drain(struct reader *r, struct err *e)
{
	for (int i = 0; i < REOPENS_MAX; i++) {
		int res = r->fd >= 0 ? drain_file(r, e) : 0;

		if (res < 0 || is_current(r))
			return res;
		if (r->fd >= 0) {
			res = drain_file(r, e); /* between our last look and its renaming */
			(void)close(steal_fd(&r->fd));
			r->len = 0;
		}
		if (res < 0)
			return res;
		res = fd_openat(r->dir_fd, record_file, O_RDONLY, 0, &r->fd, NULL);
		if (res == -ENOENT)
			return 0; /* nothing happened yet, or it has ended */
		if (res < 0)
			return err_set(e, res, "the record cannot be opened");
	}
	return 0;
}

static int flush(struct err *e)
{
	if (fflush(stdout) == 0)
		return 0;
	return errno == EPIPE ? -EPIPE : err_sys(e, "write");
}

static int read_all(struct reader *r, struct err *e)
{
	int res = 0;

	for (size_t i = 0; res == 0 && i < sizeof(older_files) / sizeof(older_files[0]); i++)
		res = read_old(r, older_files[i], e);
	return res < 0 ? res : drain(r, e);
}

/* How many lines there are, so that all but the last can be passed over. */
static int count_lines(const struct reader *r, uint64_t *ret, struct err *e)
{
	struct reader counter = *r;
	uint64_t count = 0;
	int res;

	counter.counted = &count;
	counter.fd = -1;
	res = read_all(&counter, e);
	if (counter.fd >= 0)
		(void)close(counter.fd);
	*ret = count;
	return res;
}

static int drain_and_flush(void *user, struct err *e)
{
	int res = drain(user, e);

	return res < 0 ? res : flush(e);
}

/* Its last words: in the file we have, or where its record was moved to. */
static int drain_ended(struct reader *r, const char *id, struct err *e)
{
	int fd;

	if (r->fd >= 0)
		return drain_file(r, e);
	if (state_open_dir(r->c->state_fd, id, &fd, NULL) < 0)
		return 0;
	(void)close(r->dir_fd);
	r->dir_fd = fd;
	return drain(r, e);
}

static int begin(struct reader *r, const struct state_info *info, struct err *e)
{
	uint64_t count = 0;
	int res = state_open_dir(r->c->state_fd, info->id, &r->dir_fd, e);

	if (res < 0)
		return res;
	if (faccessat(r->dir_fd, record_file, F_OK, 0) < 0 &&
	    faccessat(r->dir_fd, "policy", F_OK, 0) < 0)
		return err_set(e, -ENODEV, "'%s' has no network, and so no record of it",
		               info->name[0] ? info->name : info->id);
	r->line = malloc(LINE_MAX_BYTES);
	r->shown = malloc(SHOWN_BYTES_MAX);
	if (!r->line || !r->shown)
		return err_set(e, -ENOMEM, "out of memory");
	if (r->how->tail == UINT64_MAX)
		return 0;
	res = count_lines(r, &count, e);
	r->skip = count > r->how->tail ? count - r->how->tail : 0;
	return res;
}

int logs_egress_show(const struct logs_egress *l, struct cli *c, const char *ref, struct err *e)
{
	_own_(reader_fini) struct reader r = {
		.how = l, .c = c, .json = c->json, .dir_fd = -1, .fd = -1
	};
	_own_(follow_fini) struct follow f = { .watch_fd = -1 };
	struct state_info info;
	int res = live_egress_find(c, ref, true, &info, e);

	if (res == 0)
		res = begin(&r, &info, e);
	if (res == 0 && l->follow && !info.ended)
		res = follow_begin(c, info.id, r.dir_fd, &f, e);
	if (res == 0)
		res = read_all(&r, e);
	if (res == 0)
		res = flush(e);
	if (res < 0 || !f.client)
		return res;
	res = follow_run(&f, drain_and_flush, &r, e);
	if (res == 0)
		res = drain_ended(&r, info.id, e);
	return res < 0 ? res : flush(e);
}
