/*
 * Theory of operation. Most fields have no placeholder: each text of the head is asked of the same
 * sieve as bodies are, and only what it finds something in is taken apart. There, placeholders that
 * the policy allows in this place are replaced in the store's room; what is left of the text, with
 * a byte that no header has in their stead, is asked once more. So one that is allowed beside one
 * that is not is still a violation.
 */
#include "vault/swap.h"

#include "vault/store_inner.h"

#include <errno.h>
#include <string.h>

enum {
	HOLE = 1, /* where a placeholder was */
	/* a path and a query, each as long as the gate takes it: escapes make a path longer than it
	 * came, and neither is to be refused here for the other's length */
	TARGET_MAX = 2 * HTTP_TARGET_MAX + 1,
};

struct swap {
	struct store *store;
	const struct policy *policy;
	uint64_t allowed; /* secrets of the policy */
	struct buf room;
	struct buf rest;
	struct swap_report *report;
};

/* The secret of the store that the policy's i-th is, or -1. */
static int slot_of(const struct swap *w, unsigned i)
{
	int slot = store_find(w->store, policy_secret_at(w->policy, i)->name);

	return slot < 0 ? -1 : slot;
}

static struct span placeholder_at(const struct swap *w, int slot)
{
	const struct store_secret *s = &w->store->secrets[slot];

	return span_of(s->placeholder, s->placeholder_len);
}

static int elsewhere(struct swap *w, struct span text, enum egress_where where)
{
	if (!scan_text(w->store, text, &w->report->hit))
		return 0;
	w->report->hit.where = (uint8_t)where;
	return -EPERM;
}

static int no_value(struct swap *w, int slot, enum egress_where where)
{
	w->report->hit = (struct scan_hit){ .secret = store_name(w->store, (unsigned)slot),
		                            .where = (uint8_t)where,
		                            .form = EGRESS_RAW };
	return -ENOKEY;
}

static bool begins(struct span s, struct span with)
{
	return s.len >= with.len && memcmp(s.at, with.at, with.len) == 0;
}

static bool same_letters(struct span a, struct span b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++) {
		uint8_t x = a.at[i];
		uint8_t y = b.at[i];

		if (x != y && ((x ^ y) != 0x20 || (x | 0x20) < 'a' || (x | 0x20) > 'z'))
			return false;
	}
	return true;
}

/* --- header --- */

/* Does this use of a secret let its placeholder stand at value[at]? A prefix begins the value. */
static bool may_stand(const struct secret_use *u, struct span name, struct span value, size_t at)
{
	if (u->place != SECRET_HEADER || !span_equal(u->name, name))
		return false;
	if (u->prefix.len == 0)
		return true;
	return at == u->prefix.len && same_letters(span_of(value.at, at), u->prefix);
}

/* A placeholder at value[at] that may stand there: its slot and the policy's index, or -1. */
static int find_in_header(const struct swap *w, struct span name, struct span value, size_t at,
                          unsigned *ret_i)
{
	for (unsigned i = 0; i < policy_secrets(w->policy); i++) {
		const struct policy_secret *ps = policy_secret_at(w->policy, i);
		int slot = w->allowed >> i & 1 ? slot_of(w, i) : -1;

		if (slot < 0 ||
		    !begins(span_of(value.at + at, value.len - at), placeholder_at(w, slot)))
			continue;
		for (unsigned u = 0; u < ps->uses_count; u++)
			if (may_stand(&ps->uses[u], name, value, at)) {
				*ret_i = i;
				return slot;
			}
	}
	return -1;
}

static int swap_plain(struct swap *w, struct http_field *f)
{
	size_t from = w->room.len;
	bool any = false;

	buf_reset(&w->rest);
	for (size_t at = 0; at < f->value.len;) {
		unsigned i;
		int slot = find_in_header(w, f->name, f->value, at, &i);

		if (slot < 0) {
			buf_put_u8(&w->room, f->value.at[at]);
			buf_put_u8(&w->rest, f->value.at[at++]);
			continue;
		}
		if (w->store->secrets[slot].value_len == 0)
			return no_value(w, slot, EGRESS_IN_FIELD);
		buf_put_span(&w->room, store_value(w->store, (unsigned)slot));
		buf_put_u8(&w->rest, HOLE);
		at += placeholder_at(w, slot).len;
		w->report->used |= (uint64_t)1 << i;
		any = true;
	}
	if (!buf_ok(&w->room) || !buf_ok(&w->rest))
		return -EMSGSIZE;
	if (any)
		f->value = span_of(w->room.at + from, w->room.len - from);
	return elsewhere(w, buf_span(&w->rest), EGRESS_IN_FIELD);
}

/* --- Basic --- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Strict base64, its padding there or not. */
static bool put_decoded(struct buf *b, struct span s)
{
	uint32_t bits = 0;
	unsigned count = 0;

	while (s.len > 0 && s.at[s.len - 1] == '=')
		s.len--;
	for (size_t i = 0; i < s.len; i++) {
		const char *d = s.at[i] ? strchr(digits, s.at[i]) : NULL;

		if (!d)
			return false;
		bits = bits << 6 | (uint32_t)(d - digits);
		count += 6;
		if (count >= 8) {
			count -= 8;
			buf_put_u8(b, (uint8_t)(bits >> count));
		}
	}
	return count < 6 && (bits & ((1u << count) - 1)) == 0;
}

static void put_encoded(struct buf *b, struct span s)
{
	for (size_t i = 0; i < s.len; i += 3) {
		unsigned n = s.len - i < 3 ? (unsigned)(s.len - i) : 3;
		uint32_t v = (uint32_t)s.at[i] << 16;

		if (n > 1)
			v |= (uint32_t)s.at[i + 1] << 8;
		if (n > 2)
			v |= s.at[i + 2];
		for (unsigned k = 0; k < 4; k++)
			buf_put_u8(b, (uint8_t)(k <= n ? digits[v >> (18 - 6 * k) & 63] : '='));
	}
}

/* The slot of the secret whose placeholder this half is and may be, or -1. */
static int find_half(const struct swap *w, struct span half, enum secret_place place,
                     unsigned *ret_i)
{
	for (unsigned i = 0; i < policy_secrets(w->policy); i++) {
		const struct policy_secret *ps = policy_secret_at(w->policy, i);
		int slot = w->allowed >> i & 1 ? slot_of(w, i) : -1;

		if (slot < 0 || !span_equal(half, placeholder_at(w, slot)))
			continue;
		for (unsigned u = 0; u < ps->uses_count; u++)
			if (ps->uses[u].place == place) {
				*ret_i = i;
				return slot;
			}
	}
	return -1;
}

/* One half of user:password, into `plain`, and what is left of it into rest. */
static int put_half(struct swap *w, struct span half, enum secret_place place, struct buf *plain)
{
	unsigned i;
	int slot = find_half(w, half, place, &i);

	if (slot < 0) {
		buf_put_span(plain, half);
		buf_put_span(&w->rest, half);
		return 0;
	}
	if (w->store->secrets[slot].value_len == 0)
		return no_value(w, slot, EGRESS_IN_FIELD);
	buf_put_span(plain, store_value(w->store, (unsigned)slot));
	buf_put_u8(&w->rest, HOLE);
	w->report->used |= (uint64_t)1 << i;
	return 0;
}

/*
 * Authorization: Basic. The room gets the decoded text, then the text with values, then the field.
 * -ENOENT: it is none that can be read.
 */
static int swap_basic(struct swap *w, struct http_field *f)
{
	struct span code = f->value;
	struct span text, user, password;
	struct buf plain;
	size_t from;
	int r;

	if (!span_is(f->name, "authorization") || code.len < 6 ||
	    !same_letters(span_of(code.at, 6), span_str("basic ")))
		return -ENOENT;
	code = span_of(code.at + 6, code.len - 6);
	while (code.len > 0 && code.at[0] == ' ')
		code = span_of(code.at + 1, code.len - 1);
	from = w->room.len;
	if (!put_decoded(&w->room, code) || !buf_ok(&w->room))
		return -ENOENT;
	text = span_of(w->room.at + from, w->room.len - from);
	password = text;
	if (!take_until(&password, ':', &user) || user.len == text.len)
		return -ENOENT;

	buf_init(&plain, w->room.at + w->room.len, (w->room.size - w->room.len) / 3);
	buf_reset(&w->rest);
	r = put_half(w, user, SECRET_BASIC_USER, &plain);
	buf_put_u8(&plain, ':');
	buf_put_u8(&w->rest, ':');
	if (r == 0)
		r = put_half(w, password, SECRET_BASIC_PASSWORD, &plain);
	w->room.len += plain.len; /* before any return: what was used is wiped */
	if (r < 0)
		return r;
	if (!buf_ok(&plain) || !buf_ok(&w->rest))
		return -EMSGSIZE;
	from = w->room.len;
	buf_put_str(&w->room, "Basic ");
	put_encoded(&w->room, buf_span(&plain));
	if (!buf_ok(&w->room))
		return -EMSGSIZE;
	f->value = span_of(w->room.at + from, w->room.len - from);
	r = elsewhere(w, buf_span(&w->rest), EGRESS_IN_FIELD);
	if (r < 0)
		w->report->hit.form = EGRESS_BASE64;
	return r;
}

static int swap_field(struct swap *w, struct http_field *f)
{
	struct scan_hit *hit = &w->report->hit;
	uint64_t used = w->report->used;
	struct scan_hit first;
	int r;

	if (scan_text(w->store, f->name, hit)) {
		hit->where = EGRESS_IN_FIELD;
		return -EPERM;
	}
	if (!scan_text(w->store, f->value, hit))
		return 0;
	hit->where = EGRESS_IN_FIELD;
	first = *hit;
	if (hit->form != EGRESS_BASE64)
		return swap_plain(w, f);
	r = swap_basic(w, f);
	if (r == -ENOENT || (r == 0 && w->report->used == used)) {
		*hit = first;
		return -EPERM;
	}
	return r;
}

/* --- query --- */

static void put_percent(struct buf *b, struct span s)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.at[i];

		if (((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c >= '0' && c <= '9') ||
		    (c && strchr("-._~", c))) {
			buf_put_u8(b, c);
			continue;
		}
		buf_put_u8(b, '%');
		buf_put_u8(b, (uint8_t)hex[c >> 4]);
		buf_put_u8(b, (uint8_t)hex[c & 15]);
	}
}

/* The slot of the secret whose placeholder is the whole value of this parameter, or -1. */
static int find_parameter(const struct swap *w, struct span name, struct span value,
                          unsigned *ret_i)
{
	for (unsigned i = 0; i < policy_secrets(w->policy); i++) {
		const struct policy_secret *ps = policy_secret_at(w->policy, i);
		int slot = w->allowed >> i & 1 ? slot_of(w, i) : -1;

		if (slot < 0 || !span_equal(value, placeholder_at(w, slot)))
			continue;
		for (unsigned u = 0; u < ps->uses_count; u++)
			if (ps->uses[u].place == SECRET_QUERY &&
			    span_equal(ps->uses[u].name, name)) {
				*ret_i = i;
				return slot;
			}
	}
	return -1;
}

/* Names and values are taken as they were sent: a client has no reason to escape either. */
static int swap_query(struct swap *w, struct http_head *h)
{
	struct span all = h->query;
	size_t from = w->room.len;
	bool first = true;
	struct span part;

	if (!scan_text(w->store, all, &w->report->hit))
		return 0;
	buf_reset(&w->rest);
	while (take_until(&all, '&', &part)) {
		struct span value = part;
		struct span name = part;
		unsigned i;
		int slot = -1;

		if (take_until(&value, '=', &name) && name.len < part.len)
			slot = find_parameter(w, name, value, &i);
		if (!first) {
			buf_put_u8(&w->room, '&');
			buf_put_u8(&w->rest, '&');
		}
		first = false;
		if (slot < 0) {
			buf_put_span(&w->room, part);
			buf_put_span(&w->rest, part);
			continue;
		}
		if (w->store->secrets[slot].value_len == 0)
			return no_value(w, slot, EGRESS_IN_QUERY);
		buf_put_span(&w->room, name);
		buf_put_u8(&w->room, '=');
		put_percent(&w->room, store_value(w->store, (unsigned)slot));
		buf_put_span(&w->rest, name);
		w->report->used |= (uint64_t)1 << i;
	}
	if (!buf_ok(&w->room) || !buf_ok(&w->rest))
		return -EMSGSIZE;
	h->query = span_of(w->room.at + from, w->room.len - from);
	return elsewhere(w, buf_span(&w->rest), EGRESS_IN_QUERY);
}

/* --- what the reply may be --- */

static bool ports_have(const struct policy_secret *ps, uint16_t port)
{
	for (unsigned i = 0; i < ps->ports_count; i++)
		if (port >= ps->ports[i].lo && port <= ps->ports[i].hi)
			return true;
	return ps->ports_count == 0;
}

static bool is_bound(const struct policy_secret *ps, const struct policy_ask *ask)
{
	for (unsigned k = 0; ask->name && k < ps->hosts_count; k++)
		if (host_pattern_match(&ps->hosts[k], ask->name) && ports_have(ps, ask->port))
			return true;
	return false;
}

static bool is_guarded(const struct policy *p, const struct policy_ask *ask)
{
	for (unsigned i = 0; i < policy_secrets(p); i++)
		if (is_bound(policy_secret_at(p, i), ask))
			return true;
	return false;
}

uint64_t swap_bound(const struct store *s, const struct policy *p, const struct policy_ask *ask)
{
	uint64_t bound = 0;

	for (unsigned i = 0; i < policy_secrets(p); i++) {
		const struct policy_secret *ps = policy_secret_at(p, i);
		int slot;

		if (!is_bound(ps, ask))
			continue;
		slot = store_find(s, ps->name);
		bound |= slot < 0 ? UINT64_MAX : (uint64_t)1 << slot;
	}
	return bound;
}

static bool is_unwanted(struct span name, bool guarded, bool any)
{
	if (any && span_is(name, "sec-websocket-extensions"))
		return true;
	return guarded && (span_is(name, "accept-encoding") || span_is(name, "range") ||
	                   span_is(name, "if-range"));
}

/* Asks for a reply that can be read whole. */
static void ask_plainly(const struct store *s, bool guarded, struct http_head *h)
{
	uint16_t kept = 0;

	for (unsigned i = 0; i < h->count; i++)
		if (!is_unwanted(h->fields[i].name, guarded, s->count > 0))
			h->fields[kept++] = h->fields[i];
	h->count = kept;
	if (guarded && h->count < HTTP_FIELDS_MAX)
		h->fields[h->count++] = (struct http_field){ .name = span_str("accept-encoding"),
			                                     .value = span_str("identity") };
}

static int judge_size(const struct http_head *h)
{
	size_t target = h->path.len + 1 + h->query.len;
	size_t all = target + h->method.len + h->host.len;

	for (unsigned i = 0; i < h->count; i++)
		all += h->fields[i].name.len + h->fields[i].value.len + 4;
	return target > TARGET_MAX || all > HTTP_HEAD_MAX ? -EMSGSIZE : 0;
}

static int swap_parts(struct swap *w, struct http_head *h)
{
	int r = elsewhere(w, h->method, EGRESS_IN_PATH);

	if (r == 0)
		r = elsewhere(w, h->path, EGRESS_IN_PATH);
	if (r == 0)
		r = elsewhere(w, span_of(h->host.text, h->host.len), EGRESS_IN_FIELD);
	if (r == 0)
		r = swap_query(w, h);
	for (unsigned i = 0; r == 0 && i < h->count; i++)
		r = swap_field(w, &h->fields[i]);
	return r;
}

int swap_head(struct store *s, const struct policy *p, const struct policy_ask *ask,
              const struct http_head *in, struct http_head *ret, struct swap_report *ret_report)
{
	uint8_t rest[HTTP_HEAD_MAX];
	struct swap w = {
		.store = s, .policy = p, .allowed = policy_secrets_for(p, ask), .report = ret_report
	};
	int r;

	*ret = *in;
	*ret_report = (struct swap_report){ .guarded = is_guarded(p, ask) };
	swap_done(s);
	buf_init(&w.room, s->arena->room, STORE_ROOM_BYTES);
	buf_init(&w.rest, rest, sizeof(rest));
	r = swap_parts(&w, ret);
	s->room_used = w.room.len;
	if (r == 0) {
		ask_plainly(s, ret_report->guarded, ret);
		r = judge_size(ret);
	}
	if (r < 0) {
		*ret = *in;
		swap_done(s);
	}
	return r;
}

void swap_done(struct store *s)
{
	explicit_bzero(s->arena->room, s->room_used);
	s->room_used = 0;
}
