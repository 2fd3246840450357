#include "vault/scan.h"

#include "vault/content.h"
#include "vault/tail.h"
#include "vault/ws_parse.h"

#include <errno.h>
#include <string.h>

struct scan {
	struct store *store;
	struct content *content; /* NULL: not coded */
	struct tail tail;
	bool upgraded;
	struct ws ws; /* at the first byte of the tail */
};

static void hit(const struct store *s, unsigned owner, enum egress_form form, struct scan_hit *ret)
{
	ret->secret = store_name(s, owner);
	ret->form = (uint8_t)form;
}

/* A text longer than the scratch is seen in overlapping parts, as a stream would be. */
bool scan_text(struct store *s, struct span text, struct scan_hit *ret)
{
	struct sieve *v = &s->sieve;
	enum egress_form form;
	size_t had = 0;
	unsigned owner;

	if (s->placeholders.count == 0)
		return false;
	while (text.len > 0) {
		size_t n = text.len < SIEVE_SLICE ? text.len : SIEVE_SLICE;
		size_t cut;

		memcpy(v->work + had, text.at, n);
		text = span_of(text.at + n, text.len - n);
		if (sieve_find(v, &s->placeholders, NULL, v->work, had + n, &owner, &form)) {
			hit(s, owner, form, ret);
			return true;
		}
		if (text.len == 0)
			return false;
		cut = sieve_tail(v);
		cut -= cut < SIEVE_PAST ? cut : SIEVE_PAST;
		memmove(v->work, v->work + cut, had + n - cut);
		had += n - cut;
	}
	return false;
}

int scan_new(struct store *s, const struct http_head *head, struct scan **ret, struct err *e)
{
	_own_(scan_free) struct scan *c = calloc(1, sizeof(*c));
	enum content_coding coding = head ? content_of(head) : CONTENT_IDENTITY;
	int r;

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->store = s;
	if (coding != CONTENT_IDENTITY && s->placeholders.count > 0) {
		if (coding == CONTENT_UNKNOWN)
			return err_set(
				e, -EPROTO,
				"a body with this Content-Encoding cannot be searched for placeholders");
		r = content_new(coding, &c->content, e);
		if (r < 0)
			return r;
	}
	*ret = steal_ptr(&c);
	return 0;
}

void scan_free(struct scan *c)
{
	if (!c)
		return;
	content_free(c->content);
	tail_free(&c->tail);
	free(c);
}

size_t scan_bytes(const struct scan *c)
{
	return sizeof(*c) + c->tail.size + (c->content ? content_bytes(c->content) : 0);
}

void scan_upgrade(struct scan *c)
{
	content_free(c->content);
	c->content = NULL;
	tail_free(&c->tail);
	c->upgraded = c->store->placeholders.count > 0;
	c->ws = (struct ws){ .client = true };
}

/* Looks at work[0, len), or at what `base` shows of it. */
static int look_at(struct scan *c, const struct view *base, size_t len, struct scan_hit *ret)
{
	struct store *s = c->store;
	enum egress_form form;
	unsigned owner;

	if (!sieve_find(&s->sieve, &s->placeholders, base, s->sieve.work, len, &owner, &form))
		return 0;
	hit(s, owner, form, ret);
	ret->where = c->upgraded ? EGRESS_IN_OPAQUE : EGRESS_IN_BODY;
	return -EPERM;
}

/* The same for frames: the payload of data, then that of pings and their like. */
static int look_at_frames(struct scan *c, size_t len, struct scan_hit *ret, size_t *ret_cut)
{
	struct sieve *v = &c->store->sieve;

	*ret_cut = len;
	for (enum ws_what what = WS_DATA; what <= WS_CONTROL; what++) {
		struct view base = sieve_base(v);
		struct ws ws = c->ws;

		if (ws_parse(&ws, span_of(v->work, len), what, &base) < 0)
			return -EPROTO;
		if (look_at(c, &base, len, ret) < 0)
			return -EPERM;
		if (sieve_tail(v) < *ret_cut)
			*ret_cut = sieve_tail(v);
	}
	return 0;
}

/* Looks at work[0, len), of which the first tail.len bytes were seen before. */
static int look(struct scan *c, size_t len, struct scan_hit *ret)
{
	struct sieve *v = &c->store->sieve;
	size_t cut;
	int r;

	if (c->upgraded) {
		r = look_at_frames(c, len, ret, &cut);
	} else {
		r = look_at(c, NULL, len, ret);
		cut = sieve_tail(v);
	}
	if (r < 0)
		return r;
	if (c->upgraded &&
	    ws_parse(&c->ws, span_of(v->work, cut - tail_past(cut)), WS_DATA, NULL) < 0)
		return -EPROTO;
	return tail_keep(&c->tail, v->work, len, cut);
}

static int next_slice(struct scan *c, struct span *piece, size_t *ret_len)
{
	uint8_t *to = c->store->sieve.work + c->tail.len;
	int r;

	if (c->content) {
		r = content_step(c->content, piece, to, SIEVE_SLICE, ret_len);
		return r == -ENOMEM || r == 0 ? r : -EPROTO;
	}
	*ret_len = piece->len < SIEVE_SLICE ? piece->len : SIEVE_SLICE;
	memcpy(to, piece->at, *ret_len);
	*piece = span_of(piece->at + *ret_len, piece->len - *ret_len);
	return 0;
}

int scan_piece(struct scan *c, struct span piece, struct scan_hit *ret)
{
	struct store *s = c->store;
	size_t len = 0;
	int r;

	if (s->placeholders.count == 0)
		return 0;
	while (piece.len > 0 || len > 0) {
		size_t left = piece.len;

		if (c->tail.len > 0)
			memcpy(s->sieve.work, c->tail.at, c->tail.len);
		r = next_slice(c, &piece, &len);
		if (r < 0)
			return r;
		if (len == 0 && piece.len == left)
			break;
		r = len > 0 ? look(c, c->tail.len + len, ret) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

int scan_trailers(struct scan *c, const struct http_trailers *t, struct scan_hit *ret)
{
	for (unsigned i = 0; i < t->count; i++) {
		if (scan_text(c->store, t->fields[i].name, ret) ||
		    scan_text(c->store, t->fields[i].value, ret)) {
			ret->where = EGRESS_IN_TRAILER;
			return -EPERM;
		}
	}
	return 0;
}

int scan_end(struct scan *c)
{
	return c->content && !content_whole(c->content) ? -EPROTO : 0;
}
