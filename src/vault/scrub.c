#include "vault/scrub.h"

#include "vault/content.h"
#include "vault/tail.h"
#include "vault/ws_parse.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation. Each piece is put behind the end of what came before, masked, and let go but
 * for an end that may be the beginning of a value. Such an end is a guess when more of the value is
 * in it than chance explains. It was none if the bytes behind it made it whole, which changes it;
 * it was wrong if it is let go as it was, or if nothing ever comes behind it.
 */

enum {
	MARKS_MAX = 16,    /* kinds of findings between two looks; more are added to the last */
	TAKE_LEAST = 1024, /* bytes, however little the caller can send: so that it goes on */
};

struct mark {
	uint16_t secret;
	uint8_t where;
	uint8_t form;
	uint32_t count;
};

struct scrub {
	struct store *store;
	struct store_user user;
	struct content *content; /* NULL: not coded */
	struct tail tail;
	size_t ready;  /* of what the tail holds: is only waiting for room */
	uint8_t *room; /* fields that were changed */
	size_t room_size;
	uint8_t where;
	bool upgraded;
	struct ws ws; /* at the first byte of the tail */
	uint64_t holds;
	struct needle_tail end; /* whose beginning is held, if any is */
	bool guess;             /* what is held is one */
	unsigned guess_of;
	unsigned marks_count;
	struct mark marks[MARKS_MAX];
};

int scrub_new(struct store *s, struct scrub **ret, struct err *e)
{
	struct scrub *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->store = s;
	c->where = EGRESS_IN_BODY;
	c->holds = UINT64_MAX;
	store_user_add(s, &c->user);
	*ret = c;
	return 0;
}

void scrub_hold(struct scrub *c, uint64_t secrets)
{
	c->holds = secrets;
}

uint64_t scrub_holds(const struct scrub *c)
{
	return c->holds;
}

/*
 * Can a value be in this reply? Where none can, nothing may depend on values, not even how long it
 * takes: what a guest may have a server say would be a way to ask for them.
 */
static bool searches(const struct scrub *c)
{
	return c->holds != 0 && c->store->arena->values.count > 0;
}

/* --- guesses --- */

static void guess_over(struct scrub *c, bool wrong)
{
	struct store_secret *s = &c->store->secrets[c->guess_of];

	if (!c->guess)
		return;
	c->guess = false;
	s->tried--;
	s->missed += wrong;
}

static bool is_exhausted(const struct store_secret *s)
{
	return s->missed + s->tried > SCRUB_GUESSES_MAX;
}

/* Is more known by it than the placeholder shows and chance explains? */
static bool is_guess(const struct store *s, const struct needle_tail *t)
{
	struct span value = s->arena->values.texts[t->text];
	struct span shown = s->masks[t->text];
	size_t same = 0;

	while (same < value.len && same < shown.len && value.at[same] == shown.at[same])
		same++;
	return t->known >= same + SCRUB_GUESS_BYTES;
}

/*
 * A piece was looked at. at: the bytes that were held before it, as they are now; moved: how many
 * bytes less are held in front; held: is anything now? -EACCES.
 */
static int follow_guess(struct scrub *c, const uint8_t *at, size_t moved, bool held)
{
	size_t was = tail_held(&c->tail);
	bool whole = was > 0 && memcmp(c->tail.at + c->tail.past, at, was) != 0;
	struct store_secret *s;

	if (whole || moved > 0)
		guess_over(c, !whole);
	if (!held || c->guess || !is_guess(c->store, &c->end))
		return 0;
	c->guess = true;
	c->guess_of = c->store->owner[c->end.text];
	s = &c->store->secrets[c->guess_of];
	s->tried++;
	return is_exhausted(s) ? -EACCES : 0;
}

unsigned scrub_guessed(const struct scrub *c)
{
	return c->guess_of;
}

/* Nothing is held of a value that was guessed at too often: there is nothing to be learned. */
static const bool *whose(const struct scrub *c)
{
	struct store *s = c->store;

	for (unsigned i = 0; i < STORE_VALUES; i++)
		s->holds[i] =
			(c->holds >> s->owner[i] & 1) && !is_exhausted(&s->secrets[s->owner[i]]);
	return s->holds;
}

static void room_free(struct scrub *c)
{
	free(c->room);
	c->room = NULL;
	c->room_size = 0;
}

void scrub_free(struct scrub *c)
{
	if (!c)
		return;
	guess_over(c, true);
	store_user_remove(c->store, &c->user);
	content_free(c->content);
	tail_free(&c->tail);
	room_free(c);
	free(c);
}

size_t scrub_bytes(const struct scrub *c)
{
	return sizeof(*c) + c->tail.size + c->room_size +
	       (c->content ? content_bytes(c->content) : 0);
}

static void note(void *arg, unsigned owner, enum egress_form form)
{
	struct scrub *c = arg;
	unsigned secret = c->store->owner[owner];

	for (unsigned i = 0; i < c->marks_count; i++) {
		struct mark *m = &c->marks[i];

		if (m->secret == secret && m->where == c->where && m->form == form) {
			m->count++;
			return;
		}
	}
	if (c->marks_count == MARKS_MAX) {
		c->marks[MARKS_MAX - 1].count++;
		return;
	}
	c->marks[c->marks_count++] = (struct mark){
		.secret = (uint16_t)secret, .where = c->where, .form = (uint8_t)form, .count = 1
	};
}

bool scrub_next_mark(struct scrub *c, struct egress_mark *ret)
{
	struct mark *m;

	if (c->marks_count == 0)
		return false;
	m = &c->marks[--c->marks_count];
	*ret = (struct egress_mark){ .secret = store_name(c->store, m->secret),
		                     .where = m->where,
		                     .form = m->form,
		                     .count = m->count };
	return true;
}

/* Masks the first len bytes of the scratch, or what `base` shows of them. True: something was. */
static bool mask(struct scrub *c, const struct view *base, size_t len)
{
	struct store *s = c->store;

	s->sieve.holds = whose(c);
	sieve_mask(&s->sieve, &s->arena->values, s->masks, base, s->sieve.work, len, note, c);
	return s->sieve.any;
}

/* The same for frames: the payload of data, then that of pings and their like. */
static int mask_frames(struct scrub *c, size_t len, size_t *ret_cut)
{
	struct sieve *v = &c->store->sieve;

	*ret_cut = len;
	for (enum ws_what what = WS_DATA; what <= WS_CONTROL; what++) {
		struct view base = sieve_base(v);
		struct ws ws = c->ws;

		if (ws_parse(&ws, span_of(v->work, len), what, &base) < 0)
			return -EPROTO;
		(void)mask(c, &base, len);
		if (sieve_tail(v) < *ret_cut) {
			*ret_cut = sieve_tail(v);
			c->end = sieve_tail_of(v);
		}
	}
	return 0;
}

/* Masks the first len bytes of the scratch; in front of *ret_cut they may go out. */
static int mask_body(struct scrub *c, size_t len, size_t *ret_cut)
{
	*ret_cut = len;
	if (!searches(c))
		return 0;
	if (c->upgraded)
		return mask_frames(c, len, ret_cut);
	(void)mask(c, NULL, len);
	*ret_cut = sieve_tail(&c->store->sieve);
	c->end = sieve_tail_of(&c->store->sieve);
	return 0;
}

/* --- heads --- */

/* A text that is no longer than the scratch, which is longer than any head. */
static bool mask_text(struct scrub *c, struct span text)
{
	memcpy(c->store->sieve.work, text.at, text.len);
	return mask(c, NULL, text.len);
}

/* Room for the fields of one head or of trailers, once one of them has to be changed. */
static int room_take(struct scrub *c, const struct http_field *fields, unsigned count)
{
	size_t size = 0;

	if (c->room)
		return 0;
	for (unsigned i = 0; i < count; i++)
		size += fields[i].value.len;
	c->room = malloc(size + 1);
	c->room_size = c->room ? size + 1 : 0;
	return c->room ? 0 : -ENOMEM;
}

/* Copies fields, with what is changed in c->room. */
static int scrub_fields(struct scrub *c, const struct http_field *in, unsigned count,
                        struct http_field *ret, uint16_t *ret_count, uint8_t where)
{
	const uint8_t *work = c->store->sieve.work;
	size_t used = 0;
	int r;

	room_free(c);
	*ret_count = 0;
	c->where = where;
	for (unsigned i = 0; i < count; i++) {
		struct http_field f = in[i];

		if (f.name.len > SIEVE_WORK || f.value.len > SIEVE_WORK)
			return -EPROTO;
		if (mask_text(c, f.name))
			continue;
		if (mask_text(c, f.value)) {
			r = room_take(c, in, count);
			if (r < 0)
				return r;
			memcpy(c->room + used, work, f.value.len);
			f.value.at = c->room + used;
			used += f.value.len;
		}
		ret[(*ret_count)++] = f;
	}
	c->where = EGRESS_IN_BODY;
	return 0;
}

/* What speaks of the coded body is not true of the decoded one. */
static bool of_coding(struct span name)
{
	return span_is(name, "content-encoding") || span_is(name, "content-md5") ||
	       span_is(name, "content-digest") || span_is(name, "digest") ||
	       span_is(name, "accept-ranges");
}

static int decode(struct scrub *c, const struct http_head *in, struct http_head *ret)
{
	enum content_coding coding = content_of(in);
	unsigned kept = 0;
	int r;

	if (coding == CONTENT_IDENTITY || !searches(c))
		return 0;
	if (coding == CONTENT_UNKNOWN)
		return -EPROTO;
	content_free(c->content);
	c->content = NULL;
	r = content_new(coding, &c->content, NULL);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < ret->count; i++)
		if (!of_coding(ret->fields[i].name))
			ret->fields[kept++] = ret->fields[i];
	ret->count = (uint16_t)kept;
	ret->framing = HTTP_BODY_STREAM;
	ret->length = 0;
	return 0;
}

int scrub_head(struct scrub *c, const struct http_head *in, struct http_head *ret)
{
	int r;

	*ret = *in;
	if (searches(c)) {
		r = scrub_fields(c, in->fields, in->count, ret->fields, &ret->count,
		                 EGRESS_IN_FIELD);
		if (r < 0)
			return r;
	}
	if (in->status == 101) {
		c->upgraded = searches(c);
		c->where = EGRESS_IN_OPAQUE;
	}
	if (in->status < 200)
		return 0;
	return decode(c, in, ret);
}

int scrub_trailers(struct scrub *c, const struct http_trailers *in, struct http_trailers *ret)
{
	*ret = *in;
	if (!searches(c))
		return 0;
	return scrub_fields(c, in->fields, in->count, ret->fields, &ret->count, EGRESS_IN_TRAILER);
}

/* --- bodies --- */

/* At most `max` new bytes behind those of the tail. */
static int take(struct scrub *c, struct span *in, size_t max, size_t *ret_len)
{
	uint8_t *to = c->store->sieve.work + c->tail.len;
	int r;

	if (max > SIEVE_SLICE)
		max = SIEVE_SLICE;
	if (c->content) {
		r = content_step(c->content, in, to, max, ret_len);
		return r == -ENOMEM || r == 0 ? r : -EPROTO;
	}
	if (max > in->len)
		max = in->len;
	if (max > 0)
		memcpy(to, in->at, max);
	*in = span_of(in->at + max, in->len - max);
	*ret_len = max;
	return 0;
}

/* What is ready and was not given out yet. */
static struct span give(struct scrub *c, size_t out_max)
{
	struct span out = span_of(c->store->sieve.work, 0);

	if (c->ready == 0)
		return out;
	out = span_of(c->tail.at + c->tail.past, c->ready < out_max ? c->ready : out_max);
	c->tail.past += out.len;
	c->ready -= out.len;
	return out;
}

/* Bytes leave the front of the tail. */
static int walk(struct scrub *c, struct span wire)
{
	return c->upgraded ? ws_parse(&c->ws, wire, WS_DATA, NULL) : 0;
}

/* The tail, without more of what went out than is of use, into the scratch. */
static int load(struct scrub *c)
{
	size_t skip = c->tail.past - tail_past(c->tail.past);

	if (skip > 0 && walk(c, span_of(c->tail.at, skip)) < 0)
		return -EPROTO;
	if (skip > 0)
		memmove(c->tail.at, c->tail.at + skip, c->tail.len - skip);
	c->tail.len -= skip;
	c->tail.past -= skip;
	if (c->tail.len > 0)
		memcpy(c->store->sieve.work, c->tail.at, c->tail.len);
	return 0;
}

static int keep(struct scrub *c, size_t len, size_t cut)
{
	const uint8_t *work = c->store->sieve.work;

	if (walk(c, span_of(work, cut - tail_past(cut))) < 0)
		return -EPROTO;
	return tail_keep(&c->tail, work, len, cut);
}

int scrub_piece(struct scrub *c, struct span *in, size_t out_max, struct span *ret_out)
{
	struct sieve *v = &c->store->sieve;

	*ret_out = span_of(v->work, 0);
	while (out_max > 0 && c->ready == 0) {
		size_t left = in->len;
		size_t held = tail_held(&c->tail);
		size_t past, len, cut, out;
		int r = load(c);

		if (r < 0)
			return r;
		past = c->tail.past;
		r = take(c, in, out_max > held + TAKE_LEAST ? out_max - held : TAKE_LEAST, &len);
		if (r < 0)
			return r;
		if (len == 0 && in->len == left)
			return 0;
		if (len == 0)
			continue;
		len += c->tail.len;
		r = mask_body(c, len, &cut);
		if (r < 0)
			return r;
		cut = cut > past ? cut : past;
		r = follow_guess(c, v->work + past, cut - past, cut < len);
		if (r < 0)
			return r;
		out = cut - past < out_max ? cut - past : out_max;
		r = keep(c, len, past + out);
		if (r < 0)
			return r;
		c->ready = cut - past - out;
		*ret_out = span_of(v->work + past, out);
		if (out > 0)
			return 0;
	}
	if (out_max > 0)
		*ret_out = give(c, out_max);
	return 0;
}

int scrub_end(struct scrub *c, size_t out_max, struct span *ret_out)
{
	if (c->content && !content_whole(c->content))
		return -EPROTO;
	c->ready = tail_held(&c->tail);
	*ret_out = give(c, out_max);
	return 0;
}

size_t scrub_held(const struct scrub *c)
{
	return tail_held(&c->tail);
}
