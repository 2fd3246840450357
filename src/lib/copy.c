#include "lib/copy.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * Each direction is one stream. In a GET we are the reader: content is written to disk as it comes
 * and credit is given for what was written. In a PUT we are the writer: the walk blocks in send(),
 * which waits for credit and looks at what the guest says meanwhile. In both the guest ends with
 * RESULT, and a RESULT that comes early (no such path, disk full) ends the walk.
 */

struct stream {
	struct client *client;
	uint32_t id;
	const char *path; /* in the guest */
	const struct copy_progress *progress;
	struct copy_stats *stats;
	uint32_t credit; /* ours to spend */
	bool ended;      /* RESULT or RESET came */
};

/* The guest's sentence may or may not end in the errno's words. */
static bool says(struct span text, const char *words)
{
	size_t len = strlen(words);

	return text.len >= len && memcmp(text.at + text.len - len, words, len) == 0;
}

static int guest_failed(struct span payload, const char *path, struct err *e)
{
	const char *words;
	struct wire_fail f;

	if (wire_parse_fail(payload, &f) < 0)
		return err_set(e, -EPROTO, "the guest's RESULT is damaged");
	if (f.code == 0)
		return 0;
	if (f.code == ENOENT)
		return err_set(e, -ENOENT, "no '%s' in the guest", path);
	words = strerror((int)f.code);
	if (f.text.len == 0)
		return err_set(e, -(int)f.code, "'%s' in the guest: %s", path, words);
	return err_set(e, -(int)f.code, "'%s' in the guest: %.*s%s%s", path, (int)f.text.len,
	               (const char *)f.text.at, says(f.text, words) ? "" : ": ",
	               says(f.text, words) ? "" : words);
}

/* Frames both directions know. 1: it was one; 0: it is the caller's; or how the guest failed. */
static int take_common(struct stream *s, const struct wire_frame *f, struct err *e)
{
	uint32_t v;
	int r;

	if (f->type == WIRE_END)
		return err_set(e, -ECONNRESET, "the sandbox ended while files were copied");
	if (f->stream != s->id)
		return 1;
	if (f->type == WIRE_RESULT || f->type == WIRE_EXEC_ERR) {
		s->ended = true;
		r = guest_failed(f->payload, s->path, e);
		return r < 0 ? r : 1;
	}
	if (f->type == WIRE_RESET) {
		s->ended = true;
		r = wire_parse_u32(f->payload, &v) == 0 && v > 0 && v < 4096 ? -(int)v : -EPROTO;
		return err_set(e, r, "the guest broke off the copy: %s", strerror(-r));
	}
	return 0;
}

static void tell(const struct stream *s)
{
	if (s->progress && s->progress->tell)
		s->progress->tell(s->progress->ctx, s->stats);
}

/* --- guest to host --- */

static void open_get(struct client *c, uint32_t id, const char *path, bool follow)
{
	struct wire_file f = { .path = span_str(path), .follow = follow };

	wire_put_file(&c->out, WIRE_GET, id, CLIENT_EPOCH, &f);
}

/* Gives credit in few frames. */
static void give_back(struct stream *s, uint32_t *owed)
{
	if (*owed < WIRE_WINDOW_BYTES / 4)
		return;
	wire_put_u32(&s->client->out, WIRE_CREDIT, WIRE_OUT, s->id, CLIENT_EPOCH, *owed);
	*owed = 0;
}

int copy_get(struct client *c, uint32_t stream, const char *path, bool follow, struct copy_in *in,
             const struct copy_progress *p, struct err *e)
{
	struct copy_stats stats = { 0 };
	struct stream s = { .client = c, .id = stream, .progress = p, .stats = &stats };
	uint32_t window = WIRE_WINDOW_BYTES;
	uint32_t owed = 0;
	struct wire_frame f;

	s.path = path;
	open_get(c, stream, path, follow);
	while (!s.ended) {
		int r = client_wait(c, COPY_STALL_MS, &f, e);

		if (r == 0)
			r = take_common(&s, &f, e);
		if (r == 0 && f.type == WIRE_DATA) {
			if (f.channel != WIRE_OUT || f.payload.len > window)
				return err_set(e, -EPROTO, "the guest sent more than it may");
			window -= (uint32_t)f.payload.len;
			r = copy_in_take(in, f.payload, e);
			owed += (uint32_t)f.payload.len;
			stats = *copy_in_stats(in);
			window += owed >= WIRE_WINDOW_BYTES / 4 ? owed : 0;
			give_back(&s, &owed);
			tell(&s);
		}
		if (r < 0)
			return r;
	}
	if (!copy_in_done(in))
		return err_set(e, -EBADMSG, "the guest's stream of files ends early");
	return 0;
}

int copy_probe(struct client *c, uint32_t stream, const char *path, uint8_t *ret_kind,
               struct err *e)
{
	struct stream s = { .client = c, .id = stream, .path = path };
	uint8_t head[ENTRY_HEADER_MAX];
	struct wire_frame f;
	struct entry en;
	size_t len = 0;

	open_get(c, stream, path, true);
	for (;;) {
		int r = client_wait(c, COPY_STALL_MS, &f, e);
		struct span in;

		if (r == 0)
			r = take_common(&s, &f, e);
		if (r == -ENOENT) {
			err_clear(e);
			*ret_kind = ENTRY_END;
			return 0;
		}
		if (r < 0)
			return r;
		if (s.ended)
			return err_set(e, -EPROTO, "the guest does not say what '%s' is", path);
		if (r != 0 || f.type != WIRE_DATA)
			continue;
		if (f.payload.len > sizeof(head) - len)
			f.payload.len = sizeof(head) - len;
		memcpy(head + len, f.payload.at, f.payload.len);
		len += f.payload.len;
		in = span_of(head, len);
		r = entry_parse(&in, &en);
		if (r == -EAGAIN && len < sizeof(head))
			continue;
		if (r < 0 || en.kind == ENTRY_END)
			return err_set(e, -EBADMSG, "the guest's stream of files is malformed");
		wire_put_u32(&c->out, WIRE_RESET, 0, stream, CLIENT_EPOCH, ECANCELED);
		*ret_kind = en.kind;
		return 0;
	}
}

/* What has come of one file: its header, its content, END. */
struct one_file {
	struct buf *all;
	uint64_t bytes_max;
};

/* 0: it is whole, and ret_content is in f->all. -EAGAIN. */
static int judge_file(const struct one_file *f, struct span *ret_content, struct err *e)
{
	struct span in = buf_span(f->all);
	struct entry en;
	struct entry end;
	int r = entry_parse(&in, &en);

	if (r == -EAGAIN)
		return r;
	if (r < 0 || en.path.len != 0 || en.kind == ENTRY_END)
		return err_set(e, -EBADMSG, "the guest's stream of files is malformed");
	if (en.kind != ENTRY_FILE)
		return err_set(e, -EINVAL, "it is a %s and no file",
		               en.kind == ENTRY_DIR ? "directory" : "link");
	if (en.size > f->bytes_max)
		return err_set(e, -EFBIG, "it has %llu bytes, and %llu are taken",
		               (unsigned long long)en.size, (unsigned long long)f->bytes_max);
	if (in.len < en.size)
		return -EAGAIN;
	*ret_content = span_of(in.at, (size_t)en.size);
	in = span_of(in.at + en.size, in.len - (size_t)en.size);
	r = entry_parse(&in, &end);
	if (r == -EAGAIN)
		return r;
	if (r < 0 || end.kind != ENTRY_END || in.len > 0)
		return err_set(e, -EBADMSG, "the guest sent more than one file");
	return 0;
}

static int take_file(struct stream *s, struct one_file *f, struct span *ret, struct err *e)
{
	bool whole = false;

	for (;;) {
		struct wire_frame frame;
		int r = client_wait(s->client, COPY_STALL_MS, &frame, e);

		if (r == 0)
			r = take_common(s, &frame, e);
		if (r < 0)
			return r;
		if (s->ended)
			return whole ? 0 : err_set(e, -EBADMSG, "the guest's stream ends early");
		if (r != 0 || frame.type != WIRE_DATA)
			continue;
		buf_put_span(f->all, frame.payload);
		if (frame.channel != WIRE_OUT || !buf_ok(f->all))
			return err_set(e, -EFBIG, "the guest sent more than it said");
		r = judge_file(f, ret, e);
		if (r < 0 && r != -EAGAIN)
			return r;
		whole = r == 0;
	}
}

int copy_get_file(struct client *c, uint32_t stream, const char *path, struct buf *storage,
                  struct span *ret, struct err *e)
{
	struct stream s = { .client = c, .id = stream, .path = path };
	struct one_file f = { .all = storage, .bytes_max = storage->size - COPY_FILE_EXTRA };
	int r;

	assert(storage->size >= COPY_FILE_EXTRA && storage->size <= WIRE_WINDOW_BYTES);
	buf_reset(storage);
	open_get(c, stream, path, false);
	r = take_file(&s, &f, ret, e);
	if (r < 0 && !s.ended) {
		wire_put_u32(&c->out, WIRE_RESET, 0, stream, CLIENT_EPOCH, ECANCELED);
		if (client_send(c, NULL) < 0)
			return r;
	}
	return r;
}

/* --- host to guest --- */

/* Looks at what the guest said; waits for something if `block`. */
static int listen_to(struct stream *s, bool block, struct err *e)
{
	struct wire_frame f;
	uint32_t more;
	int r;

	for (;;) {
		r = block ? client_wait(s->client, COPY_STALL_MS, &f, e)
		          : client_next(s->client, &f, e);
		if (r == -EAGAIN)
			return 0;
		if (r == 0)
			r = take_common(s, &f, e);
		if (r < 0)
			return r;
		if (r == 0 && f.type == WIRE_CREDIT) {
			if (wire_parse_u32(f.payload, &more) < 0 ||
			    more > WIRE_WINDOW_BYTES - s->credit)
				return err_set(e, -EPROTO,
				               "the guest gave more credit than there is");
			s->credit += more;
		}
		block = false;
	}
}

/* A RESULT of success before the end is none: the guest did not read it all. */
static int send_data(void *ctx, struct span data, struct err *e)
{
	struct stream *s = ctx;

	while (data.len > 0) {
		size_t n = data.len < s->credit ? data.len : s->credit;
		bool wait = n == 0 || client_room(s->client) < CLIENT_ROOM_MIN;
		int r = client_send(s->client, e);

		if (r < 0 && r != -EPIPE)
			return r;
		if (!wait) {
			if (n > WIRE_DATA_MAX)
				n = WIRE_DATA_MAX;
			wire_put(&s->client->out, WIRE_DATA, WIRE_IN, s->id, CLIENT_EPOCH,
			         span_of(data.at, n));
			s->credit -= (uint32_t)n;
			data.at += n;
			data.len -= n;
		}
		r = listen_to(s, wait, e);
		if (r < 0)
			return r;
		if (s->ended)
			return err_set(e, -EPROTO, "the guest ended the copy early");
	}
	tell(s);
	return 0;
}

/* All is sent, or r says why not; the guest has the last word. */
static int finish_put(struct stream *s, int r, struct err *e)
{
	struct client *c = s->client;

	if (r < 0) {
		/* ours failed: what was begun in the guest is not to be taken for whole */
		if (!s->ended)
			wire_put_u32(&c->out, WIRE_RESET, 0, s->id, CLIENT_EPOCH, ECANCELED);
		if (client_send(c, NULL) < 0)
			return r;
		return r;
	}
	wire_put(&c->out, WIRE_EOF, WIRE_IN, s->id, CLIENT_EPOCH, span_of(NULL, 0));
	while (!s->ended) {
		r = listen_to(s, true, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int copy_put(struct client *c, uint32_t stream, const struct copy_put_opt *opt,
             const struct copy_progress *p, struct copy_stats *ret_stats, struct err *e)
{
	struct copy_stats stats = { 0 };
	struct stream s = { .client = c, .id = stream, .progress = p, .stats = &stats };
	struct copy_sink sink = { .put = send_data, .ctx = &s };
	struct wire_file f = { .path = span_str(opt->path), .user = span_str(opt->user) };
	int r;

	s.path = opt->path;
	s.credit = WIRE_WINDOW_BYTES;
	wire_put_file(&c->out, WIRE_PUT, stream, CLIENT_EPOCH, &f);
	r = copy_out(opt->dir_fd, opt->src, opt->follow, &sink, &stats, e);
	r = finish_put(&s, r, e);
	if (r == 0)
		*ret_stats = stats;
	return r;
}

int copy_put_entries(struct client *c, uint32_t stream, const char *path, const char *user,
                     struct span entries, struct err *e)
{
	struct stream s = { .client = c, .id = stream, .path = path, .credit = WIRE_WINDOW_BYTES };
	struct wire_file f = { .path = span_str(path), .user = span_str(user) };

	wire_put_file(&c->out, WIRE_PUT, stream, CLIENT_EPOCH, &f);
	return finish_put(&s, send_data(&s, entries, e), e);
}
