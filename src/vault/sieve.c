#include "vault/sieve.h"

#include <assert.h>
#include <string.h>

enum { DEPTH_MAX = 4 };

/* A text and the way back from it: the views it was made by, the last one first. */
struct layer {
	uint8_t *text;
	size_t len;
	const struct view *way[DEPTH_MAX];
	unsigned way_count;
};

/* The bytes [at, at + len) of a layer, as the bytes of the text that they stand for. */
static void way_back(const struct layer *l, size_t at, size_t *ret_from, size_t *ret_to)
{
	size_t from = at;
	size_t to = at + 1;

	for (unsigned i = 0; i < l->way_count; i++) {
		size_t width;
		size_t last = view_from(l->way[i], to - 1, &width);

		to = last + width;
		from = view_from(l->way[i], from, &width);
	}
	*ret_from = from;
	*ret_to = to;
}

static enum egress_form form_of(const struct sieve *v, const struct layer *l,
                                const struct needle_match *m)
{
	const struct needle *n = &v->set->needles[m->needle];
	size_t from, to, ignored;

	if (n->kind == NEEDLE_HEX)
		return EGRESS_HEX;
	if (n->kind != NEEDLE_PLAIN)
		return EGRESS_BASE64;
	way_back(l, m->at, &from, &ignored);
	way_back(l, m->at + n->len - 1, &ignored, &to);
	if (to - from == n->len)
		return EGRESS_RAW;
	for (; from < to; from++)
		if (v->text[from] == '%' || v->text[from] == '=')
			return EGRESS_PERCENT;
		else if (v->text[from] == '\\' || v->text[from] == '&')
			return EGRESS_JSON;
	return EGRESS_RAW;
}

/* By where they begin; of two that begin together the longer one first. */
static void sort(const struct sieve *v, struct needle_match *m, unsigned count)
{
	const struct needle *n = v->set->needles;

	for (unsigned i = 1; i < count; i++) {
		struct needle_match x = m[i];
		unsigned k = i;

		for (; k > 0; k--) {
			const struct needle_match *y = &m[k - 1];

			if (y->at < x.at || (y->at == x.at && n[y->needle].len >= n[x.needle].len))
				break;
			m[k] = *y;
		}
		m[k] = x;
	}
}

/* One byte of a layer, there and in every text below it. */
static void put(const struct sieve *v, const struct layer *l, size_t at, uint8_t c)
{
	size_t from = at;
	size_t to = at + 1;

	l->text[at] = c;
	for (unsigned i = 0; i < l->way_count; i++) {
		uint8_t *below = i + 1 < l->way_count ? l->way[i + 1]->text : v->text;
		size_t width;
		size_t last = view_from(l->way[i], to - 1, &width);

		to = last + width;
		from = view_from(l->way[i], from, &width);
		/* an escape of several bytes is filled: none has to be made that fits */
		memset(below + from, to - from == 1 ? c : 'x', to - from);
	}
}

static void mask(struct sieve *v, const struct layer *l, unsigned count)
{
	size_t end = 0;

	v->any = true;
	sort(v, v->found, count);
	for (unsigned i = 0; i < count; i++) {
		const struct needle_match *m = &v->found[i];
		const struct needle *n = &v->set->needles[m->needle];
		struct span by = v->masks[n->text];

		if (m->at + n->len <= end)
			continue; /* within one that was longer */
		v->note(v->arg, n->text, form_of(v, l, m));
		for (size_t k = m->at < end ? end - m->at : 0; k < n->len; k++)
			put(v, l, m->at + k, m->at < end ? 'x' : needle_char(n->kind, by, k));
		end = m->at + n->len;
	}
}

/* Returns true when nothing more has to be looked at. */
static bool visit(struct sieve *v, const struct layer *l)
{
	struct needle_tail tail = { 0 };
	size_t from = 0;
	size_t at, end;

	while (from < l->len) {
		unsigned count = needle_find(v->set, span_of(l->text, l->len), &from, v->found,
		                             v->masks ? SIEVE_FOUND_MAX : 1);

		if (count == 0)
			continue;
		if (!v->masks) {
			v->any = true;
			v->owner = v->set->needles[v->found[0].needle].text;
			v->form = (uint8_t)form_of(v, l, &v->found[0]);
			return true;
		}
		mask(v, l, count);
	}
	for (; tail.at < l->len; tail.at++) {
		tail = needle_tail(v->set, span_of(l->text, l->len), tail.at,
		                   v->masks ? v->holds : NULL);
		if (tail.at == l->len)
			break;
		way_back(l, tail.at, &at, &end);
		if (v->len - at > SIEVE_HELD_PER_BYTE * v->set->text_max)
			continue;
		if (at < v->tail) {
			v->tail = at;
			v->tail_of = tail;
		}
		break;
	}
	return false;
}

/* `below`, made into a view by `w`. */
static struct layer above(const struct layer *below, const struct view *w)
{
	struct layer l = { .text = w->text, .len = w->len, .way_count = below->way_count + 1 };

	l.way[0] = w;
	for (unsigned i = 0; i < below->way_count; i++)
		l.way[i + 1] = below->way[i];
	return l;
}

static struct view view_in(struct sieve *v, unsigned slot)
{
	return (struct view){ .text = v->texts[slot],
		              .segments = v->segments[slot],
		              .has = v->set->has };
}

/* A text, and the same with its lines joined. */
static bool visit_both(struct sieve *v, const struct layer *l)
{
	struct view joined = view_in(v, 0);
	struct layer lines;

	if (visit(v, l))
		return true;
	if (!view_squeeze(span_of(l->text, l->len), &joined))
		return false;
	lines = above(l, &joined);
	return visit(v, &lines);
}

static void run(struct sieve *v)
{
	struct layer text = { .text = v->text, .len = v->len };
	struct layer plain = v->base ? above(&text, v->base) : text;
	struct view once = view_in(v, 1);
	struct view twice = view_in(v, 2);
	struct layer l1, l2;

	v->any = false;
	v->tail = v->len;
	if (v->set->count == 0 || v->len == 0 || visit_both(v, &plain))
		return;
	if (view_unescape(span_of(plain.text, plain.len), VIEW_QUOTED_PRINTABLE, &once)) {
		l1 = above(&plain, &once);
		if (visit_both(v, &l1))
			return;
	}
	if (!view_unescape(span_of(plain.text, plain.len), VIEW_ESCAPES, &once))
		return;
	l1 = above(&plain, &once);
	if (visit_both(v, &l1) ||
	    !view_unescape(span_of(once.text, once.len), VIEW_ESCAPES, &twice))
		return;
	l2 = above(&l1, &twice);
	(void)visit_both(v, &l2);
}

struct view sieve_base(struct sieve *v)
{
	return (struct view){ .text = v->texts[SIEVE_VIEWS - 1],
		              .segments = v->segments[SIEVE_VIEWS - 1] };
}

bool sieve_find(struct sieve *v, const struct needle_set *set, const struct view *base,
                uint8_t *text, size_t len, unsigned *ret_owner, enum egress_form *ret_form)
{
	assert(len <= SIEVE_WORK);
	v->set = set;
	v->masks = NULL;
	v->base = base;
	v->text = text;
	v->len = len;
	run(v);
	if (v->any) {
		*ret_owner = v->owner;
		*ret_form = v->form;
	}
	return v->any;
}

void sieve_mask(struct sieve *v, const struct needle_set *set, const struct span *masks,
                const struct view *base, uint8_t *text, size_t len,
                void (*note)(void *arg, unsigned owner, enum egress_form form), void *arg)
{
	assert(len <= SIEVE_WORK);
	v->set = set;
	v->masks = masks;
	v->base = base;
	v->text = text;
	v->len = len;
	v->note = note;
	v->arg = arg;
	run(v);
}

size_t sieve_tail(const struct sieve *v)
{
	return v->tail;
}

struct needle_tail sieve_tail_of(const struct sieve *v)
{
	return v->tail_of;
}
