#include "gate/intercept_inner.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * The flow was judged before its first request; here each request is. First its host has to be the
 * one of the connection: the SNI, or for plain HTTP a name that is pinned to the address. Then the
 * policy judges method, path and query. Last come the ways in which a server could take the request
 * for another than the one that was judged: an escaped slash that it undoes, a field or parameter
 * that names another method, a field that names another path. Such a request goes on only if the
 * other one may go as well; whether it may cannot be told of another path, so that is refused.
 */

enum { METHOD_WORD_MAX = HTTP_METHOD_MAX };

static void deny(struct judged *j, enum policy_reason reason)
{
	j->verdict = (struct policy_verdict){ .act = POLICY_DENY,
		                              .reason = (uint8_t)reason,
		                              .rule = POLICY_RULE_NONE };
}

static struct span host_text(const struct http_host *h)
{
	return span_of(h->text, h->len);
}

static bool same_address(const struct http_host *h, const struct policy_addr *a)
{
	struct policy_addr b = h->kind == HTTP_HOST_IP4 ? addr_of_v4(h->addr) : addr_of_v6(h->addr);

	return addr_equal(a, &b);
}

/* Whom the request names: is it who the connection is to? */
static bool host_fits(struct intercept *c, const struct wish *w, struct judged *j)
{
	enum policy_reason why = POLICY_HOST_MISMATCH;
	bool fits;

	if (c->tls) {
		j->ask.name = &c->name;
		fits = w->host.kind == HTTP_HOST_NAME &&
		       span_equal(host_text(&w->host), host_span(&c->name));
	} else if (w->host.kind == HTTP_HOST_NAME) {
		fits = host_name_parse(host_text(&w->host), &j->name) == 0;
		j->ask.name = fits ? &j->name : NULL;
		why = fits ? why : POLICY_NAME_INVALID;
	} else {
		fits = same_address(&w->host, &j->ask.addr);
	}
	if (fits && w->host.port == j->ask.port)
		return true;
	deny(j, why);
	return false;
}

/* --- what a server might read instead --- */

/* Where %2F is a slash to the server. False: the path has no such reading, or it is refused. */
static bool other_path_goes(const struct policy *p, const struct judged *j)
{
	uint8_t plain[HTTP_TARGET_MAX];
	uint8_t room[HTTP_TARGET_MAX];
	struct policy_ask ask = j->ask;
	enum http_reason why;
	uint32_t flags;
	struct buf raw;
	struct buf b;

	buf_init(&raw, plain, sizeof(plain));
	buf_init(&b, room, sizeof(room));
	for (size_t i = 0; i < ask.path.len; i++) {
		if (ask.path.len - i >= 3 && memcmp(ask.path.at + i, "%2F", 3) == 0) {
			buf_put_u8(&raw, '/');
			i += 2;
		} else {
			buf_put_u8(&raw, ask.path.at[i]);
		}
	}
	if (!buf_ok(&raw) || path_parse(buf_span(&raw), 0, &b, &flags, &why) < 0)
		return false;
	ask.path = buf_span(&b);
	return policy_request_verdict(p, &ask).act == POLICY_ALLOW;
}

/* Would it be refused with this word as its method? Then it is. */
static bool method_word_goes(const struct policy *p, struct judged *j, struct span word)
{
	uint8_t room[METHOD_WORD_MAX];
	struct policy_ask ask = j->ask;
	struct policy_verdict v;

	if (word.len == 0 || word.len > sizeof(room))
		return true; /* no server takes it for a method */
	for (size_t i = 0; i < word.len; i++)
		room[i] = word.at[i] >= 'a' && word.at[i] <= 'z' ? (uint8_t)(word.at[i] - 32)
		                                                 : word.at[i];
	ask.method = span_of(room, word.len);
	if (!field_parse_method_ok(ask.method))
		return true;
	v = policy_request_verdict(p, &ask);
	if (v.act == POLICY_ALLOW)
		return true;
	j->verdict = v;
	return false;
}

static bool is_any(struct span name, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (span_is(name, words[i]))
			return true;
	return false;
}

static bool fields_go(const struct policy *p, struct judged *j, const struct http_head *h)
{
	static const char *const methods[] = { "x-http-method-override", "x-http-method",
		                               "x-method-override" };
	static const char *const paths[] = { "x-original-url", "x-rewrite-url" };

	for (uint16_t i = 0; i < h->count; i++) {
		const struct http_field *f = &h->fields[i];

		if (is_any(f->name, methods, sizeof(methods) / sizeof(methods[0])) &&
		    !method_word_goes(p, j, f->value))
			return false;
		if (is_any(f->name, paths, sizeof(paths) / sizeof(paths[0]))) {
			deny(j, POLICY_AMBIGUOUS);
			return false;
		}
	}
	return true;
}

static bool query_goes(const struct policy *p, struct judged *j)
{
	struct span rest = j->ask.query;
	struct span name;
	struct span value;

	while (query_parse_next(&rest, &name, &value)) {
		uint8_t names[16];
		uint8_t values[METHOD_WORD_MAX];
		struct buf n;
		struct buf v;

		buf_init(&n, names, sizeof(names));
		buf_init(&v, values, sizeof(values));
		query_parse_decode(name, &n);
		query_parse_decode(value, &v);
		if (buf_ok(&n) && buf_ok(&v) && span_is(buf_span(&n), "_method") &&
		    !method_word_goes(p, j, buf_span(&v)))
			return false;
	}
	return true;
}

void judge_request(struct intercept *c, const struct wish *w, const struct http_head *h,
                   struct judged *ret)
{
	const struct policy *p = c->all->ops.policy(c->flow);

	ret->bad = HTTP_FINE;
	memset(&ret->ask, 0, sizeof(ret->ask));
	c->all->ops.ask(c->flow, &ret->ask);
	ret->ask.seen = c->tls ? POLICY_SEEN_TLS : POLICY_SEEN_HTTP;
	ret->ask.name = NULL;
	ret->ask.method = w->method;
	ret->ask.path = w->path;
	ret->ask.query = w->query;
	if (!host_fits(c, w, ret))
		return;
	if (!c->tls) {
		ret->verdict = policy_flow_verdict(p, &ret->ask);
		if (ret->verdict.act != POLICY_ALLOW)
			return;
	}
	ret->verdict = policy_request_verdict(p, &ret->ask);
	if (ret->verdict.act != POLICY_ALLOW)
		return;
	if (ret->verdict.observed) {
		if (c->all->ops.over(c->flow))
			deny(ret, POLICY_LIMIT_BYTES);
		return;
	}
	if (w->encoded_slash && !other_path_goes(p, ret)) {
		ret->bad = HTTP_PATH_SLASH;
		return;
	}
	if (query_goes(p, ret) && (!h || fields_go(p, ret, h)) && c->all->ops.over(c->flow))
		deny(ret, POLICY_LIMIT_BYTES);
}
