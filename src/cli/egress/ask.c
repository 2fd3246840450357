#include "cli/egress/ask.h"

#include "http/http.h"

#include <errno.h>
#include <string.h>

/* Global unicast, and of nobody: only a rule for every address would cover it. */
static const char any_address[] = "2fff:ffff:ffff::1";

bool ask_is_method(const char *word)
{
	return field_parse_method_ok(span_str(word));
}

static bool has_port(struct span word)
{
	const uint8_t *colon = word.len > 0 ? memrchr(word.at, ':', word.len) : NULL;
	uint64_t port;

	if (word.len > 4 && memcmp(word.at + word.len - 4, "/udp", 4) == 0)
		word.len -= 4;
	return colon && colon < word.at + word.len &&
	       span_to_u64(span_of(colon + 1, word.len - (size_t)(colon + 1 - word.at)), &port);
}

bool ask_is_question(const char *word)
{
	return strstr(word, "://") != NULL ||
	       (strchr(word, '/') == NULL && has_port(span_str(word))) ||
	       (strstr(word, "/udp") != NULL && has_port(span_str(word)));
}

static int wrong(const struct ask *q, const char *why, struct err *e)
{
	return err_set(e, -EINVAL, "'%.200s' %s; ask for [METHOD] URL, HOST:PORT or HOST:PORT/udp",
	               q->shown, why);
}

static int take_host(struct ask *q, struct span text, uint16_t default_port, struct err *e)
{
	struct http_host host;

	if (host_parse(text, &host) < 0)
		return wrong(q, "has no host name or address that HTTP would take", e);
	q->port = host.port ? host.port : default_port;
	if (q->port == 0)
		return wrong(q, "has no port", e);
	q->is_addr = host.kind != HTTP_HOST_NAME;
	if (host.kind == HTTP_HOST_IP4)
		q->addr = addr_of_v4(host.addr);
	else if (host.kind == HTTP_HOST_IP6)
		q->addr = addr_of_v6(host.addr);
	else if (host_name_parse(span_of(host.text, host.len), &q->name) < 0 ||
	         addr_parse(span_str(any_address), &q->addr) < 0)
		return wrong(q, "has no host name", e);
	return 0;
}

static int take_path(struct ask *q, struct span text, struct err *e)
{
	const uint8_t *hash = text.len > 0 ? memchr(text.at, '#', text.len) : NULL;
	const uint8_t *mark;
	enum http_reason why = HTTP_FINE;
	uint32_t flags = 0;
	struct buf out;

	if (hash) /* no client sends it */
		text.len = (size_t)(hash - text.at);
	mark = text.len > 0 ? memchr(text.at, '?', text.len) : NULL;
	if (mark) {
		q->query = span_of(mark + 1, text.len - (size_t)(mark + 1 - text.at));
		text.len = (size_t)(mark - text.at);
		if (query_parse_check(q->query, &why) < 0)
			return err_set(e, -EINVAL, "'%.200s' is refused as it stands: %s", q->shown,
			               http_reason_word(why));
	}
	if (text.len == 0)
		text = span_str("/");
	buf_init(&out, q->path, sizeof(q->path));
	if (path_parse(text, 0, &out, &flags, &why) < 0)
		return err_set(e, -EINVAL, "'%.200s' is refused as it stands: %s", q->shown,
		               http_reason_word(why));
	q->path_len = out.len;
	return 0;
}

static int take_url(struct ask *q, struct span word, const char *at, struct err *e)
{
	bool tls = strncmp(q->shown, "https://", 8) == 0;
	struct span rest = span_of(at + 3, word.len - (size_t)(at + 3 - q->shown));
	size_t len = 0;
	int r;

	if (!tls && strncmp(q->shown, "http://", 7) != 0)
		return wrong(q, "is neither https:// nor http://", e);
	while (len < rest.len && rest.at[len] != '/' && rest.at[len] != '?' && rest.at[len] != '#')
		len++;
	if (memchr(rest.at, '@', len))
		return wrong(q, "has a user in it, which no request has", e);
	q->request = true;
	q->seen = tls ? POLICY_SEEN_TLS : POLICY_SEEN_HTTP;
	r = take_host(q, span_of(rest.at, len), tls ? 443 : 80, e);
	return r < 0 ? r : take_path(q, span_of(rest.at + len, rest.len - len), e);
}

int ask_parse(const char *method, const char *word, struct ask *ret, struct err *e)
{
	struct span text = span_str(word);
	const char *scheme = strstr(word, "://");

	memset(ret, 0, sizeof(*ret));
	ret->shown = word;
	ret->method = method;
	if (text.len > ASK_WORD_MAX)
		return err_set(e, -EINVAL, "a question of over %d bytes", ASK_WORD_MAX);
	if (scheme)
		return take_url(ret, text, scheme, e);
	if (method)
		return wrong(ret, "is no URL, and a method stands in front of it", e);
	if (text.len > 4 && memcmp(text.at + text.len - 4, "/udp", 4) == 0) {
		ret->transport = POLICY_UDP;
		text.len -= 4;
	}
	return take_host(ret, text, 0, e);
}

static uint8_t begins(const struct ask *q, uint8_t act)
{
	if (q->request)
		return q->seen;
	return act == POLICY_NEEDS_HTTP ? POLICY_SEEN_HTTP : POLICY_SEEN_TLS;
}

void ask_judge(const struct policy *p, const struct ask *q, struct ask_answer *ret)
{
	struct policy_ask *a = &ret->ask;
	struct policy_verdict *v = &ret->verdict;

	memset(ret, 0, sizeof(*ret));
	a->addr = q->addr;
	a->port = q->port;
	a->transport = q->transport;
	if (!q->is_addr) {
		ret->names[0] = &q->name;
		a->names = ret->names;
		a->names_count = 1;
		*v = policy_name_verdict(p, &q->name);
		if (v->act == POLICY_DENY)
			return;
	}
	*v = policy_connect_verdict(p, a);
	if (v->act == POLICY_DENY || (v->act == POLICY_ALLOW && !q->request))
		return;
	a->seen = begins(q, v->act);
	a->name = q->is_addr ? NULL : &q->name;
	*v = policy_flow_verdict(p, a);
	if (v->act != POLICY_ALLOW || !v->inspect || !q->request)
		return;
	a->method = span_str(q->method ? q->method : "GET");
	a->path = span_of(q->path, q->path_len);
	a->query = q->query;
	*v = policy_request_verdict(p, a);
	ret->secrets = v->act == POLICY_ALLOW ? policy_secrets_for(p, a) : 0;
}
