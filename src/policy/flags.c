/*
 * The words of --allow, --deny and --secret, made into the same rules and secrets as those of a
 * file.
 */
#include "policy/draft_internal.h"

#include "policy/idn.h"
#include "policy/ports.h"
#include "policy/secret.h"
#include "policy/words.h"

#include <errno.h>
#include <string.h>

static int done(struct policy_draft *d, int r)
{
	d->spoilt |= r < 0;
	return r;
}

static struct span before(struct span text, const uint8_t *at)
{
	return span_of(text.at, (size_t)(at - text.at));
}

static struct span behind(struct span text, const uint8_t *at)
{
	return span_of(at + 1, text.len - (size_t)(at - text.at) - 1);
}

/* Where the port begins: the one colon, or the one behind a bracket. */
static const uint8_t *port_colon(struct span word)
{
	const uint8_t *from = word.at;
	const uint8_t *colon;

	if (word.len == 0)
		return NULL;
	if (word.at[0] == '[') {
		from = memchr(word.at, ']', word.len);
		if (!from)
			return NULL;
	}
	colon = memchr(from, ':', word.len - (size_t)(from - word.at));
	/* two colons without brackets: an IPv6 address, which has no port then */
	if (colon && from == word.at && memchr(colon + 1, ':', behind(word, colon).len))
		return NULL;
	return colon;
}

static int take_subject(struct span text, struct policy_rule *r, struct err *e)
{
	const uint8_t *slash;
	struct span inner = text;

	if (text.len > 2 && text.at[0] == '[') {
		const uint8_t *end = memchr(text.at, ']', text.len);

		if (end && end == text.at + text.len - 1)
			inner = span_of(text.at + 1, text.len - 2);
	}
	slash = inner.len > 0 ? memchr(inner.at, '/', inner.len) : NULL;
	if (addr_cidr_parse(inner, &r->net) == 0) {
		r->kind = RULE_ADDRESS;
		return 0;
	}
	if (slash && addr_parse(before(inner, slash), &r->net.base) == 0)
		return err_set(e, -EINVAL, "has bits set behind its prefix, or no prefix");
	r->kind = RULE_HOST;
	return idn_pattern_parse(text, &r->host, e);
}

static int parse_rule(struct span word, struct policy_rule *r, struct err *e)
{
	const uint8_t *colon = port_colon(word);
	struct rule_ports ports;
	const char *why;
	int res;

	if (memchr(word.at, '/', word.len) && memchr(word.at, ':', word.len) && word.len > 8 &&
	    (memcmp(word.at, "http://", 7) == 0 || memcmp(word.at, "https://", 8) == 0))
		return err_set(e, -EINVAL, "%s", host_fault_text(HOST_FAULT_URL));
	if (colon && !ports_take(behind(word, colon), &ports))
		return err_set(e, -EINVAL, "has no port from 1 to 65535 behind the colon");
	res = take_subject(colon ? before(word, colon) : word, r, e);
	if (res < 0)
		return res;
	if (colon)
		r->ports[r->ports_count++] = ports;
	why = rule_settle(r);
	return why ? err_set(e, -EINVAL, ": %s", why) : 0;
}

/* "--allow WORD", cut where it is long. */
static struct span put_origin(char *room, const char *flag, struct span word)
{
	size_t head = strlen(flag);
	size_t len =
		word.len < POLICY_ORIGIN_MAX - head - 1 ? word.len : POLICY_ORIGIN_MAX - head - 1;

	memcpy(room, flag, head);
	room[head] = ' ';
	memcpy(room + head + 1, word.at, len);
	return span_of(room, head + 1 + len);
}

static int add_rule(struct policy_draft *d, const char *flag, const char *word, bool deny,
                    struct err *e)
{
	_own_free_ struct policy_rule *r = calloc(1, sizeof(*r));
	char origin[POLICY_ORIGIN_MAX + 1];
	struct err why = { 0 };
	int res;

	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	if (strlen(word) == 0 || strlen(word) > POLICY_WORD_MAX)
		return err_set(e, -EINVAL, "%s: a word of 1 to %d bytes", flag, POLICY_WORD_MAX);
	r->origin = put_origin(origin, flag, span_str(word));
	r->flags = deny ? RULE_DENY : 0;
	res = parse_rule(span_str(word), r, &why);
	if (res == -ENOMEM)
		return err_set(e, res, "out of memory");
	if (res < 0)
		return err_set(e, -EINVAL, "%s '%s'%s%s", flag, word, why.text[0] == ':' ? "" : " ",
		               why.text);
	res = draft_add_rule(d, r, e);
	return res < 0 ? err_wrap(e, "%s %s", flag, word) : 0;
}

int policy_draft_allow(struct policy_draft *d, const char *word, struct err *e)
{
	return done(d, add_rule(d, "--allow", word, false, e));
}

int policy_draft_deny(struct policy_draft *d, const char *word, struct err *e)
{
	return done(d, add_rule(d, "--deny", word, true, e));
}

/* A --secret being read. */
struct secret_word {
	struct policy_secret s;
	enum secret_from from;
	struct span what;
	unsigned sources;
	uint8_t header_room[POLICY_SECRET_USES_MAX][POLICY_HEADER_MAX];
};

static int fault(struct err *e, struct span value, const char *why)
{
	char room[256];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_escaped(&b, value.len > 60 ? span_of(value.at, 60) : value);
	return err_set(e, -EINVAL, "'%s' %s", buf_cstr(&b), why);
}

static int add_use(struct secret_word *w, enum secret_place place, struct span name, struct err *e)
{
	struct secret_use *u = &w->s.uses[w->s.uses_count];

	if (w->s.uses_count == POLICY_SECRET_USES_MAX)
		return err_set(e, -EINVAL, "more than %d places", POLICY_SECRET_USES_MAX);
	*u = (struct secret_use){ .place = (uint8_t)place, .name = name };
	w->s.uses_count++;
	return 0;
}

static int opt_header(struct secret_word *w, struct span v, struct err *e)
{
	const char *why = secret_header_fault(v);
	unsigned at = w->s.uses_count;

	if (why)
		return fault(e, v, why);
	if (at < POLICY_SECRET_USES_MAX)
		v = secret_header_lower(v, w->header_room[at]);
	return add_use(w, SECRET_HEADER, v, e);
}

static int opt_prefix(struct secret_word *w, struct span v, struct err *e)
{
	const char *why = secret_prefix_fault(v);

	if (why)
		return fault(e, v, why);
	if (w->s.uses_count == 0 || w->s.uses[w->s.uses_count - 1].place != SECRET_HEADER)
		return err_set(e, -EINVAL, "prefix= comes behind its header=");
	w->s.uses[w->s.uses_count - 1].prefix = v;
	return 0;
}

static int opt_basic(struct secret_word *w, struct span v, struct err *e)
{
	if (!span_is(v, "user") && !span_is(v, "password"))
		return fault(e, v, "is neither user nor password");
	return add_use(w, span_is(v, "user") ? SECRET_BASIC_USER : SECRET_BASIC_PASSWORD,
	               (struct span){ 0 }, e);
}

static int opt_query(struct secret_word *w, struct span v, struct err *e)
{
	const char *why = secret_parameter_fault(v);

	return why ? fault(e, v, why) : add_use(w, SECRET_QUERY, v, e);
}

static int set_source(struct secret_word *w, enum secret_from from, struct span v, struct err *e)
{
	const char *why = secret_source_fault(v);

	if (why)
		return fault(e, v, why);
	if (w->sources++ > 0)
		return err_set(e, -EINVAL, "one of env=, file= and keyring=, not two");
	w->from = from;
	w->what = v;
	return 0;
}

static int opt_env(struct secret_word *w, struct span v, struct err *e)
{
	if (secret_name_fault(v))
		return fault(e, v, "is no variable's name");
	return set_source(w, SECRET_ENV, v, e);
}

static int opt_file(struct secret_word *w, struct span v, struct err *e)
{
	return set_source(w, SECRET_FILE, v, e);
}

static int opt_keyring(struct secret_word *w, struct span v, struct err *e)
{
	return set_source(w, SECRET_KEYRING, v, e);
}

static int opt_port(struct secret_word *w, struct span v, struct err *e)
{
	struct rule_ports ports;

	if (!ports_take(v, &ports) || !ports_add(w->s.ports, &w->s.ports_count, ports))
		return fault(e, v, "is no port from 1 to 65535, nor a range");
	return 0;
}

static int opt_violation(struct secret_word *w, struct span v, struct err *e)
{
	if (!span_is(v, "refuse") && !span_is(v, "kill"))
		return fault(e, v, "is neither refuse nor kill");
	w->s.flags = span_is(v, "kill") ? SECRET_KILL : 0;
	return 0;
}

static const struct {
	const char *key;
	int (*take)(struct secret_word *w, struct span v, struct err *e);
} options[] = {
	{ "header", opt_header },   { "prefix", opt_prefix }, { "basic", opt_basic },
	{ "query", opt_query },     { "env", opt_env },       { "file", opt_file },
	{ "keyring", opt_keyring }, { "port", opt_port },     { "on_violation", opt_violation },
};

enum { OPTIONS = sizeof(options) / sizeof(options[0]) };

static int take_option(struct secret_word *w, struct span text, struct err *e)
{
	const uint8_t *eq = text.len > 0 ? memchr(text.at, '=', text.len) : NULL;
	const char *keys[OPTIONS + 1] = { NULL };
	const char *near;

	if (!eq)
		return fault(e, text,
		             "is no KEY=VALUE, such as header=authorization; a port is port=443");
	for (unsigned i = 0; i < OPTIONS; i++) {
		keys[i] = options[i].key;
		if (span_is(before(text, eq), options[i].key))
			return options[i].take(w, behind(text, eq), e);
	}
	near = words_nearest(before(text, eq), keys);
	if (near)
		return err_set(e, -EINVAL, "unknown key; did you mean %s=?", near);
	return fault(e, before(text, eq), "is no key of --secret");
}

static int take_hosts(struct secret_word *w, struct span hosts, struct err *e)
{
	struct span host;

	if (hosts.len == 0 || hosts.at[hosts.len - 1] == ',')
		return err_set(e, -EINVAL, "a host is missing: NAME@HOST[,HOST]");
	while (take_until(&hosts, ',', &host)) {
		int r;

		if (w->s.hosts_count == POLICY_SECRET_HOSTS_MAX)
			return err_set(e, -EINVAL, "more than %d hosts", POLICY_SECRET_HOSTS_MAX);
		r = idn_pattern_parse(host, &w->s.hosts[w->s.hosts_count], e);
		if (r < 0)
			return r == -ENOMEM
			               ? r
			               : err_wrap(e, "'%.*s'", (int)(host.len > 60 ? 60 : host.len),
			                          (const char *)host.at);
		w->s.hosts_count++;
	}
	return 0;
}

static int parse_secret(struct secret_word *w, struct span word, struct err *e)
{
	const uint8_t *at = word.len > 0 ? memchr(word.at, '@', word.len) : NULL;
	struct span part;
	struct span rest;
	const char *why;
	int r;

	if (!at)
		return err_set(e, -EINVAL, "no '@': write NAME@HOST");
	w->s.name = before(word, at);
	why = secret_name_fault(w->s.name);
	if (why)
		return fault(e, w->s.name, why);
	rest = behind(word, at);
	if (!take_until(&rest, ':', &part))
		part = rest;
	r = take_hosts(w, part, e);
	while (r == 0 && take_until(&rest, ':', &part))
		r = take_option(w, part, e);
	if (w->sources == 0)
		w->what = w->s.name;
	secret_default_uses(&w->s);
	return r;
}

static int add_secret(struct policy_draft *d, const char *word, struct err *e)
{
	_own_free_ struct secret_word *w = calloc(1, sizeof(*w));
	char origin[POLICY_ORIGIN_MAX + 1];
	struct span text = span_str(word);
	const uint8_t *colon = text.len > 0 ? memchr(text.at, ':', text.len) : NULL;
	int r;

	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	if (text.len == 0 || text.len > POLICY_WORD_MAX)
		return err_set(e, -EINVAL, "--secret: a word of 1 to %d bytes", POLICY_WORD_MAX);
	w->s.methods = METHODS_ANY;
	w->from = SECRET_ENV;
	r = parse_secret(w, text, e);
	if (r < 0)
		return r == -ENOMEM ? r : err_wrap(e, "--secret");
	text = colon ? before(text, colon) : text;
	w->s.origin = put_origin(origin, "--secret", text);
	r = draft_add_secret(d, &w->s, w->from, w->what, e);
	return r < 0 ? err_wrap(e, "--secret") : 0;
}

int policy_draft_secret(struct policy_draft *d, const char *word, struct err *e)
{
	return done(d, add_secret(d, word, e));
}
