/*
 * Theory of operation
 *
 * A transfer is one stream, beside which the guest may say how its start goes on (PROGRESS) and
 * that it is over (END). It may be asked for long before the guest is there: the supervisor leaves
 * it where it is until then. So nothing here has a time of its own; the supervisor has, for every
 * state a guest can be in, and a signal ends the wait.
 */
#include "cli/code/code.h"

#include "base/clock.h"
#include "lib/copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

enum { FIRST_STREAM = 2 };

/* One stream. */
struct transfer {
	struct code *k;
	uint32_t stream;
	const char *path;
	struct span out; /* of a PUT: what is still to be sent */
	uint32_t credit;
	bool putting, out_ended;
	struct buf in; /* of a GET */
	uint32_t owed;
	bool done;
};

static void queue_out(struct transfer *t)
{
	struct client *c = t->k->s.client;

	while (t->out.len > 0 && t->credit > 0 && client_room(c) >= CLIENT_ROOM_MIN) {
		size_t n = t->out.len < t->credit ? t->out.len : t->credit;

		if (n > WIRE_DATA_MAX)
			n = WIRE_DATA_MAX;
		wire_put(&c->out, WIRE_DATA, WIRE_IN, t->stream, CLIENT_EPOCH,
		         span_of(t->out.at, n));
		t->credit -= (uint32_t)n;
		t->out.at += n;
		t->out.len -= n;
	}
	if (t->out.len == 0 && t->putting && !t->out_ended && client_room(c) >= CLIENT_ROOM_MIN) {
		wire_put(&c->out, WIRE_EOF, WIRE_IN, t->stream, CLIENT_EPOCH, span_of(NULL, 0));
		t->out_ended = true;
	}
	if (t->owed >= WIRE_WINDOW_BYTES / 4) {
		wire_put_u32(&c->out, WIRE_CREDIT, WIRE_OUT, t->stream, CLIENT_EPOCH, t->owed);
		t->owed = 0;
	}
}

static int take_result(struct transfer *t, const struct wire_frame *f, struct err *e)
{
	struct wire_fail fail;

	t->done = true;
	if (wire_parse_fail(f->payload, &fail) < 0)
		return err_set(e, -EPROTO, "the guest's RESULT is damaged");
	if (fail.code == 0)
		return 0;
	return err_set(e, -(int)fail.code, "'%s' in the guest: %.*s (%s)", t->path,
	               (int)fail.text.len, (const char *)fail.text.at, strerror((int)fail.code));
}

static int take_data(struct transfer *t, const struct wire_frame *f, struct err *e)
{
	if (t->putting || f->channel != WIRE_OUT)
		return err_set(e, -EPROTO, "the guest sent what nobody asked for");
	buf_put_span(&t->in, f->payload);
	t->owed += (uint32_t)f->payload.len;
	if (!buf_ok(&t->in))
		return err_set(e, -EFBIG, "'%s' in the guest is too large", t->path);
	return 0;
}

static int take_mine(struct transfer *t, const struct wire_frame *f, struct err *e)
{
	uint32_t v;

	switch (f->type) {
	case WIRE_CREDIT:
		if (wire_parse_u32(f->payload, &v) < 0 || v > WIRE_WINDOW_BYTES - t->credit)
			return err_set(e, -EPROTO, "the guest gave more credit than there is");
		t->credit += v;
		return 0;
	case WIRE_DATA:
		return take_data(t, f, e);
	case WIRE_RESULT:
	case WIRE_EXEC_ERR:
		return take_result(t, f, e);
	case WIRE_RESET:
		if (wire_parse_u32(f->payload, &v) == 0 && v == ESHUTDOWN)
			return 0; /* END is next, and says why */
		t->done = true;
		return err_set(e, -ECONNRESET, "the guest broke off the copy of '%s'", t->path);
	default:
		return 0;
	}
}

/* The supervisor's last word, kept where a relay keeps it. */
static int take_end(struct code *k, struct span json, struct err *e)
{
	struct relay *r = &k->s.relay;

	free(r->end_json);
	r->end_json = strndup((const char *)json.at, json.len);
	r->end_bytes = r->end_json ? strlen(r->end_json) : 0;
	return err_set(e, -ECONNRESET, "the guest ended before its command began");
}

static int take_frames(struct transfer *t, struct err *e)
{
	struct wire_frame f;
	struct span text;
	int r;

	while ((r = client_next(t->k->s.client, &f, e)) == 0) {
		if (f.type == WIRE_END)
			return take_end(t->k, f.payload, e);
		if (f.type == WIRE_PROGRESS && wire_parse_text(f.payload, &text) == 0)
			spinner_say(&t->k->s.spinner, text);
		if (f.stream == t->stream)
			r = take_mine(t, &f, e);
		if (r < 0 || t->done)
			return r;
	}
	return r == -EAGAIN ? 0 : r;
}

static int take_signals(struct code *k, struct err *e)
{
	struct signalfd_siginfo si;

	while (read(k->s.signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		if (si.ssi_signo != SIGWINCH && si.ssi_signo != SIGTSTP)
			k->s.interrupted = (int)si.ssi_signo;
	return k->s.interrupted ? err_set(e, -EINTR, "interrupted") : 0;
}

static int wait_more(struct transfer *t, struct err *e)
{
	struct code *k = t->k;
	bool signals;
	bool bytes;
	int r = code_wait(k, k->s.spinner.shown ? CODE_TICK_MS : -1, &signals, &bytes, e);

	if (r == 0 && signals)
		return take_signals(k, e);
	if (r == 0 && bytes)
		r = client_receive(k->s.client, e);
	return r == -ENODATA ? err_set(e, r, "the sandbox's supervisor has gone") : r;
}

static int run_transfer(struct transfer *t, struct err *e)
{
	int r = take_frames(t, e);

	while (r == 0 && !t->done) {
		queue_out(t);
		r = wait_more(t, e);
		if (r == 0)
			r = take_frames(t, e);
	}
	if (!t->done && (r == -EFBIG || r == -EPROTO))
		wire_put_u32(&t->k->s.client->out, WIRE_RESET, 0, t->stream, CLIENT_EPOCH,
		             ECANCELED);
	spinner_clear(&t->k->s.spinner);
	return r;
}

uint32_t code_files_streams(struct code *k, uint32_t count)
{
	uint32_t first = FIRST_STREAM + k->transfers;

	k->transfers += count;
	return first;
}

static uint32_t next_stream(struct code *k)
{
	return code_files_streams(k, 1);
}

int code_files_put(struct code *k, const char *path, struct span entries, struct err *e)
{
	const char *user = k->run.spec.user && *k->run.spec.user ? k->run.spec.user : "root";
	struct wire_file f = { .path = span_str(path), .user = span_str(user) };
	struct transfer t = { .k = k,
		              .stream = next_stream(k),
		              .path = path,
		              .out = entries,
		              .credit = WIRE_WINDOW_BYTES,
		              .putting = true };

	wire_put_file(&k->s.client->out, WIRE_PUT, t.stream, CLIENT_EPOCH, &f);
	return run_transfer(&t, e);
}

/* What came is one file's entry, its bytes, and the end. */
static int take_file(const struct transfer *t, size_t max, char **ret, size_t *ret_len,
                     struct err *e)
{
	struct span in = buf_span(&t->in);
	struct entry en, end;
	char *text;

	if (entry_parse(&in, &en) < 0)
		return err_set(e, -EBADMSG, "the guest's stream of files is malformed");
	if (en.kind != ENTRY_FILE)
		return err_set(e, -EISDIR, "'%s' in the guest is no regular file", t->path);
	if (en.size > max)
		return err_set(e, -EFBIG, "'%s' in the guest is too large", t->path);
	if (in.len < en.size)
		return err_set(e, -EBADMSG, "the guest's stream of files ends early");
	text = malloc((size_t)en.size + 1);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	if (en.size > 0)
		memcpy(text, in.at, (size_t)en.size);
	text[en.size] = '\0';
	in.at += en.size;
	in.len -= (size_t)en.size;
	if (entry_parse(&in, &end) < 0 || end.kind != ENTRY_END) {
		free(text);
		return err_set(e, -EBADMSG, "the guest's stream of files is malformed");
	}
	*ret = text;
	*ret_len = (size_t)en.size;
	return 0;
}

int code_files_get(struct code *k, const char *path, size_t max, char **ret, size_t *ret_len,
                   struct err *e)
{
	struct wire_file f = { .path = span_str(path), .follow = true };
	struct transfer t = { .k = k, .stream = next_stream(k), .path = path };
	_own_free_ uint8_t *room = malloc(max + 2 * (size_t)ENTRY_HEADER_MAX);
	int r;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&t.in, room, max + 2 * (size_t)ENTRY_HEADER_MAX);
	wire_put_file(&k->s.client->out, WIRE_GET, t.stream, CLIENT_EPOCH, &f);
	r = run_transfer(&t, e);
	return r == 0 ? take_file(&t, max, ret, ret_len, e) : r;
}

/* Name, password, uid, gid, name in full, home, shell: passwd(5). */
static bool read_passwd_line(struct span line, struct span user, struct span *ret_home)
{
	struct span part[6];

	for (unsigned i = 0; i < 6; i++)
		if (!take_until(&line, ':', &part[i]))
			return false;
	if (!span_equal(part[0], user) && !span_equal(part[2], user))
		return false;
	*ret_home = part[5];
	return part[5].len > 0 && part[5].at[0] == '/';
}

/* HOME of the environment, else the user's of passwd, else /root. */
int code_files_home(struct code *k, char ret[CODE_HOME_MAX], struct err *e)
{
	const char *user = k->run.spec.user && *k->run.spec.user ? k->run.spec.user : "root";
	_own_free_ char *text = NULL;
	struct span home = span_str("/root");
	struct span name = span_of(user, strcspn(user, ":"));
	struct span rest, line;
	size_t len = 0;
	int r;

	for (size_t i = 0; i < k->run.env.count; i++)
		if (strncmp(k->run.env.items[i], "HOME=/", 6) == 0) {
			(void)snprintf(ret, CODE_HOME_MAX, "%s", k->run.env.items[i] + 5);
			return 0;
		}
	r = code_files_get(k, "/etc/passwd", CODE_FILE_MAX, &text, &len, e);
	if (r == -EINTR || r == -ECONNRESET || r == -ENODATA)
		return r;
	rest = span_of(text, len);
	while (take_until(&rest, '\n', &line))
		if (read_passwd_line(line, name, &home))
			break;
	if (home.len >= CODE_HOME_MAX)
		return err_set(e, -ENAMETOOLONG, "the guest's home directory has too long a name");
	memcpy(ret, home.at, home.len);
	ret[home.len] = '\0';
	err_clear(e);
	return 0;
}
