#include "vault/answer_parse.h"

#include "vault/limits.h"

#include <errno.h>
#include <string.h>

enum {
	TYPE_CNAME = 5,
	TYPE_SOA = 6,
	CLASS_IN = 1,
	FLAG_ANSWER = 0x8000,
	FLAG_OPCODE = 0x7800,
	FLAG_CUT = 0x0200,
	FLAG_RCODE = 0x000f,
	POINTERS_MAX = 16, /* in one name; a sane writer uses one */
	SOA_NUMBERS = 5,
};

struct record {
	struct host_name owner; /* empty: the root, or a name with bytes that no host has */
	uint16_t type, class_;
	uint32_t ttl_s;
	size_t data_at, data_len; /* in the message */
};

static bool at_u16(struct span m, size_t *at, uint16_t *ret)
{
	if (m.len < 2 || *at > m.len - 2)
		return false;
	*ret = (uint16_t)(m.at[*at] << 8 | m.at[*at + 1]);
	*at += 2;
	return true;
}

static bool at_u32(struct span m, size_t *at, uint32_t *ret)
{
	uint16_t hi, lo;
	size_t pos = *at;

	if (!at_u16(m, &pos, &hi) || !at_u16(m, &pos, &lo))
		return false;
	*ret = (uint32_t)hi << 16 | lo;
	*at = pos;
	return true;
}

/* One label behind the others; false: more than a name has. */
static bool add_label(struct span label, uint8_t *text, size_t *len)
{
	size_t dot = *len > 0 ? 1 : 0;

	if (*len + dot + label.len > POLICY_NAME_MAX)
		return false;
	if (dot)
		text[(*len)++] = '.';
	memcpy(text + *len, label.at, label.len);
	*len += label.len;
	return true;
}

/*
 * A name, by its pointers, which only ever go back. *at is moved behind it. A name that no host can
 * have comes out empty, so it is equal to none.
 */
static bool read_name(struct span m, size_t *at, struct host_name *ret)
{
	uint8_t text[POLICY_NAME_MAX];
	size_t len = 0, pos = *at, after = 0, limit = *at;

	for (unsigned hops = 0; hops <= POINTERS_MAX;) {
		uint8_t n;

		if (pos >= m.len)
			return false;
		n = m.at[pos];
		if (n == 0) {
			*at = after ? after : pos + 1;
			*ret = (struct host_name){ 0 };
			/* a label with a dot inside must not become two of them */
			if (memchr(text, 0, len) || host_name_parse(span_of(text, len), ret) < 0)
				*ret = (struct host_name){ 0 };
			return true;
		}
		if (n >= 0xc0) {
			uint16_t to;

			if (!at_u16(m, &pos, &to))
				return false;
			after = after ? after : pos;
			pos = to & 0x3fff;
			if (pos >= limit) /* forward, or in a circle */
				return false;
			limit = pos;
			hops++;
			continue;
		}
		if (n > POLICY_LABEL_MAX || m.len - pos - 1 < n ||
		    !add_label(span_of(m.at + pos + 1, n), text, &len))
			return false;
		if (memchr(m.at + pos + 1, '.', n))
			text[len - 1] = 0; /* no name of a host: made one that cannot be parsed */
		pos += 1 + (size_t)n;
	}
	return false;
}

static bool read_record(struct span m, size_t *at, struct record *ret)
{
	struct record got = { 0 };
	size_t pos = *at;
	uint16_t len;

	if (!read_name(m, &pos, &got.owner) || !at_u16(m, &pos, &got.type) ||
	    !at_u16(m, &pos, &got.class_) || !at_u32(m, &pos, &got.ttl_s) ||
	    !at_u16(m, &pos, &len) || m.len - pos < len)
		return false;
	if (got.ttl_s > INT32_MAX) /* RFC 2181, 8 */
		got.ttl_s = 0;
	got.data_at = pos;
	got.data_len = len;
	*at = pos + len;
	*ret = got;
	return true;
}

struct header {
	uint16_t flags, questions, answers, authorities;
};

static bool read_header(struct span m, size_t *at, struct header *ret)
{
	uint16_t id, rest;

	return at_u16(m, at, &id) && at_u16(m, at, &ret->flags) && at_u16(m, at, &ret->questions) &&
	       at_u16(m, at, &ret->answers) && at_u16(m, at, &ret->authorities) &&
	       at_u16(m, at, &rest);
}

static bool same_name(const struct host_name *a, const struct host_name *b)
{
	return a->len > 0 && span_equal(host_span(a), host_span(b));
}

static bool is_question(struct span m, size_t *at, const struct host_name *name, uint16_t type)
{
	struct host_name asked;
	uint16_t got_type, got_class;

	return read_name(m, at, &asked) && at_u16(m, at, &got_type) && at_u16(m, at, &got_class) &&
	       same_name(&asked, name) && got_type == type && got_class == CLASS_IN;
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/*
 * Looks through the answers for a CNAME of `name`. 1: there is one, and only one target; 0: none;
 * -EBADMSG. Records of what nobody asked are read for their shape and passed by.
 */
static int find_alias(struct span m, size_t at, unsigned count, const struct host_name *name,
                      struct host_name *ret, uint32_t *ttl_s)
{
	bool found = false;

	for (unsigned i = 0; i < count; i++) {
		struct host_name target;
		struct record r;
		size_t pos;

		if (!read_record(m, &at, &r))
			return -EBADMSG;
		if (r.type != TYPE_CNAME || r.class_ != CLASS_IN || !same_name(&r.owner, name))
			continue;
		pos = r.data_at;
		if (!read_name(m, &pos, &target) || pos != r.data_at + r.data_len ||
		    target.len == 0 || (found && !same_name(&target, ret)))
			return -EBADMSG;
		*ret = target;
		*ttl_s = least(*ttl_s, r.ttl_s);
		found = true;
	}
	return found ? 1 : 0;
}

static int follow(struct span m, size_t at, unsigned count, struct host_name *name,
                  struct answer *a)
{
	for (;;) {
		struct host_name target;
		int r = find_alias(m, at, count, name, &target, &a->ttl_s);

		if (r <= 0)
			return r;
		if (a->chain_count == EGRESS_CHAIN_MAX)
			return -EBADMSG;
		a->chain[a->chain_count++] = target;
		*name = target; /* a loop runs into the maximum */
	}
}

static bool holds(const struct answer *a, const struct policy_addr *addr)
{
	for (unsigned i = 0; i < a->count; i++)
		if (addr_equal(&a->addr[i], addr))
			return true;
	return false;
}

static int take_addresses(struct span m, size_t *at, unsigned count, const struct host_name *name,
                          uint16_t type, struct answer *a)
{
	size_t want = type == ANSWER_A ? 4 : 16;

	for (unsigned i = 0; i < count; i++) {
		struct policy_addr addr;
		struct record r;

		if (!read_record(m, at, &r))
			return -EBADMSG;
		if (r.type != type || r.class_ != CLASS_IN || !same_name(&r.owner, name))
			continue;
		if (r.data_len != want)
			return -EBADMSG;
		addr = type == ANSWER_A ? addr_of_v4(m.at + r.data_at)
		                        : addr_of_v6(m.at + r.data_at);
		a->ttl_s = least(a->ttl_s, r.ttl_s);
		if (a->count < EGRESS_ADDRESSES_MAX && !holds(a, &addr))
			a->addr[a->count++] = addr;
	}
	return 0;
}

/* How long the lack of something may be believed. Nothing here can make an answer bad. */
static uint32_t negative_ttl(struct span m, size_t at, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct host_name ignored;
		uint32_t minimum = 0;
		struct record r;
		size_t pos;

		if (!read_record(m, &at, &r))
			return 0;
		pos = r.data_at;
		if (r.type != TYPE_SOA || r.class_ != CLASS_IN || !read_name(m, &pos, &ignored) ||
		    !read_name(m, &pos, &ignored))
			continue;
		for (unsigned k = 0; k < SOA_NUMBERS; k++)
			if (!at_u32(m, &pos, &minimum))
				return 0;
		return least(minimum, r.ttl_s);
	}
	return 0;
}

int answer_parse(struct span message, const struct host_name *name, uint16_t type,
                 struct answer *ret)
{
	struct answer got = { .ttl_s = INT32_MAX };
	struct host_name end = *name;
	struct header h;
	size_t at = 0;
	int r;

	if (!read_header(message, &at, &h) || h.questions != 1 || !(h.flags & FLAG_ANSWER) ||
	    (h.flags & (FLAG_OPCODE | FLAG_CUT)) || h.answers > VAULT_ANSWER_RECORDS_MAX ||
	    h.authorities > VAULT_ANSWER_RECORDS_MAX)
		return -EBADMSG;
	if (!is_question(message, &at, name, type))
		return -EBADMSG;
	got.rcode = h.flags & FLAG_RCODE;
	r = follow(message, at, h.answers, &end, &got);
	if (r == 0)
		r = take_addresses(message, &at, h.answers, &end, type, &got);
	if (r < 0)
		return r;
	if (got.rcode != ANSWER_NOERROR)
		got.count = 0;
	if (got.count == 0)
		got.negative_ttl_s = negative_ttl(message, at, h.authorities);
	*ret = got;
	return 0;
}
