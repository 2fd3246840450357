/*
 * policytest: asks a policy what its standard input asks, for the tests that know the answers by
 * other means.
 *
 *	policytest PRESETS [file PATH | allow WORD | deny WORD | preset NAME | secret WORD |
 *	                    slot NAME HOST,HOST]...
 *
 * The policy is compiled, loaded from its compiled form, and each line of tab-separated words is
 * answered with one line. A policy that does not load is one line on stderr and exit code 1.
 */
#include "policy/policy.h"
#include "base/fdio.h"
#include "policy/draft.h"
#include "policy/glob.h"
#include "policy/idn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { WORDS_MAX = 12, LINE_MAX_BYTES = 1 << 16, NAMES_MAX = 16 };

struct line {
	unsigned count;
	char *word[WORDS_MAX];
};

struct question {
	struct policy_ask ask;
	struct host_name names[NAMES_MAX];
	const struct host_name *pins[NAMES_MAX];
	struct host_name name;
};

static void split(char *text, struct line *ret)
{
	ret->count = 0;
	text[strcspn(text, "\n")] = 0;
	while (ret->count < WORDS_MAX) {
		char *tab = strchr(text, '\t');

		ret->word[ret->count++] = text;
		if (!tab)
			return;
		*tab = 0;
		text = tab + 1;
	}
}

static const char *word_of(const struct line *l, unsigned i)
{
	return i < l->count ? l->word[i] : "";
}

static bool take_names(struct question *q, const char *text)
{
	struct span rest = span_str(text);
	struct span one;

	while (q->ask.names_count < NAMES_MAX && take_until(&rest, ',', &one)) {
		struct host_name *n = &q->names[q->ask.names_count];

		if (host_name_parse(one, n) < 0)
			return false;
		q->pins[q->ask.names_count++] = n;
	}
	q->ask.names = q->pins;
	return true;
}

/* ADDR PORT tcp|udp raw|tls|http NAMES NAME METHOD PATH QUERY */
static bool take_question(const struct line *l, struct question *q)
{
	const char *name = word_of(l, 6);
	uint64_t port;

	memset(q, 0, sizeof(*q));
	if (addr_parse(span_str(word_of(l, 1)), &q->ask.addr) < 0 ||
	    !span_to_u64(span_str(word_of(l, 2)), &port) || port > 65535)
		return false;
	q->ask.port = (uint16_t)port;
	q->ask.transport = strcmp(word_of(l, 3), "udp") == 0 ? POLICY_UDP : POLICY_TCP;
	q->ask.seen = strcmp(word_of(l, 4), "tls") == 0    ? POLICY_SEEN_TLS
	              : strcmp(word_of(l, 4), "http") == 0 ? POLICY_SEEN_HTTP
	                                                   : POLICY_SEEN_RAW;
	if (!take_names(q, word_of(l, 5)))
		return false;
	if (*name) {
		if (host_name_parse(span_str(name), &q->name) < 0)
			return false;
		q->ask.name = &q->name;
	}
	q->ask.method = span_str(word_of(l, 7));
	q->ask.path = span_str(word_of(l, 8));
	q->ask.query = span_str(word_of(l, 9));
	return true;
}

static void put_verdict(const struct policy *p, const struct policy_verdict *v)
{
	static const char *const acts[] = { "allow", "deny", "needs-name", "needs-tls",
		                            "needs-http" };
	struct span origin = policy_rule_origin(p, v->rule);

	printf("%s\t%s\t%s%s%s\t%.*s\n", acts[v->act], policy_reason_word(v->reason),
	       v->inspect ? "i" : "", v->observed ? "o" : "", v->pin_only ? "p" : "",
	       (int)origin.len, (const char *)origin.at);
}

static void put_class(const struct policy_addr *a)
{
	static const char *const classes[] = { "public", "special", "link-local", "metadata" };
	struct addr_verdict v = policy_address_verdict(a);
	char text[64];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	addr_put(&b, a);
	printf("%s\t%s\n", classes[v.class_], buf_cstr(&b));
}

static void answer_words(const struct line *l)
{
	struct span text = span_str(word_of(l, 1));
	struct policy_addr addr;
	struct host_pattern pattern;
	struct host_name name;
	struct err e = { 0 };

	if (strcmp(l->word[0], "address") == 0 && addr_parse(text, &addr) == 0) {
		put_class(&addr);
	} else if (strcmp(l->word[0], "literal") == 0 && addr_literal_parse(text, &addr) == 0) {
		put_class(&addr);
	} else if (strcmp(l->word[0], "pattern") == 0) {
		char room[POLICY_NAME_MAX + 4];
		struct buf b;

		if (idn_pattern_parse(text, &pattern, &e) < 0) {
			printf("bad\t%s\n", e.text);
			return;
		}
		buf_init(&b, room, sizeof(room));
		host_pattern_put(&b, &pattern);
		if (l->count < 3)
			printf("good\t%s\n", buf_cstr(&b));
		else if (host_name_parse(span_str(l->word[2]), &name) < 0)
			printf("bad\tname\n");
		else
			printf("%s\t%s\n", host_pattern_match(&pattern, &name) ? "yes" : "no",
			       buf_cstr(&b));
	} else if (strcmp(l->word[0], "glob") == 0) {
		printf("%s\n", glob_path_match(text, span_str(word_of(l, 2))) ? "yes" : "no");
	} else {
		printf("bad\n");
	}
}

static void answer(const struct policy *p, const struct line *l)
{
	struct question q;
	struct policy_verdict v;
	char text[POLICY_EXPLAIN_MAX];
	struct buf b;
	const char *what = l->word[0];

	if (strcmp(what, "name") == 0) {
		if (host_name_parse(span_str(word_of(l, 1)), &q.name) < 0) {
			printf("bad\n");
			return;
		}
		v = policy_name_verdict(p, &q.name);
		put_verdict(p, &v);
		return;
	}
	if (!strchr("cfrsej", what[0]) || !take_question(l, &q)) {
		answer_words(l);
		return;
	}
	if (what[0] == 's') {
		printf("%llx\n", (unsigned long long)policy_secrets_for(p, &q.ask));
		return;
	}
	v = what[0] == 'c'   ? policy_connect_verdict(p, &q.ask)
	    : what[0] == 'f' ? policy_flow_verdict(p, &q.ask)
	                     : policy_request_verdict(p, &q.ask);
	if (what[0] != 'e' && what[0] != 'j') {
		put_verdict(p, &v);
		return;
	}
	buf_init(&b, text, sizeof(text));
	if (what[0] == 'e')
		policy_explain(p, &q.ask, &v, &b);
	else
		policy_explain_json(p, &q.ask, &v, &b);
	printf("%s\n", buf_cstr(&b));
}

static int add_slot(struct policy_draft *d, const char *name, const char *hosts, struct err *e)
{
	char room[1024];
	const char *words[POLICY_SLOT_HOSTS_MAX];
	unsigned count = 0;
	char *at = room;

	(void)snprintf(room, sizeof(room), "%s", hosts);
	while (*at && count < POLICY_SLOT_HOSTS_MAX) {
		char *comma = strchr(at, ',');

		words[count++] = at;
		if (!comma)
			break;
		*comma = 0;
		at = comma + 1;
	}
	return policy_draft_slot(d, name, words, count, e);
}

static int add_file(struct policy_draft *d, const char *path, struct err *e)
{
	_own_free_ char *text = NULL;
	const char *slash = strrchr(path, '/');
	size_t len;
	int r = fd_read_file(AT_FDCWD, path, POLICY_FILE_MAX + 1, &text, &len, e);

	return r < 0 ? r : policy_draft_file(d, slash ? slash + 1 : path, span_of(text, len), e);
}

static int add(struct policy_draft *d, char **argv, int *at, struct err *e)
{
	const char *kind = argv[*at];
	const char *word = argv[*at + 1];

	*at += 2;
	if (strcmp(kind, "file") == 0)
		return add_file(d, word, e);
	if (strcmp(kind, "allow") == 0)
		return policy_draft_allow(d, word, e);
	if (strcmp(kind, "deny") == 0)
		return policy_draft_deny(d, word, e);
	if (strcmp(kind, "preset") == 0)
		return policy_draft_preset(d, word, e);
	if (strcmp(kind, "secret") == 0)
		return policy_draft_secret(d, word, e);
	if (strcmp(kind, "slot") == 0)
		return add_slot(d, word, argv[(*at)++], e);
	return err_set(e, -EINVAL, "no such kind: %s", kind);
}

static int make(int argc, char **argv, int *presets, struct policy **ret, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	_own_free_ uint8_t *tlv = NULL;
	size_t len;
	int at = 2;
	int r = fd_open(argv[1], O_RDONLY | O_DIRECTORY, 0, presets, e);

	if (r == 0)
		r = policy_draft_new(policy_preset_dir, presets, &d, e);
	while (r == 0 && at + 1 < argc)
		r = add(d, argv, &at, e);
	if (r == 0)
		r = policy_draft_compile(d, 1, &tlv, &len, e);
	return r < 0 ? r : policy_load(span_of(tlv, len), ret, e);
}

int main(int argc, char **argv)
{
	_own_(policy_free) struct policy *p = NULL;
	_own_fd_ int presets = -1;
	_own_free_ char *text = malloc(LINE_MAX_BYTES);
	struct err e = { 0 };

	if (argc < 2 || !text)
		return 2;
	if (make(argc, argv, &presets, &p, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	while (fgets(text, LINE_MAX_BYTES, stdin)) {
		struct line l;

		split(text, &l);
		answer(p, &l);
	}
	return 0;
}
