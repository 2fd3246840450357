#include "test.h"

#include "forms.h"
#include "policy/draft.h"
#include "vault/store_inner.h"
#include "vault/swap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static struct store *s;
static struct policy *p;
static struct span mark, pass;
static struct err e;
static struct http_head in, out;
static struct swap_report rep;
static struct host_name name;

static const char value[] = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

static const char policy_text[] =
	"version: 1\n"
	"network: { rules: [ { host: api.test.example, port: 443 }, { host: other.example.com, port: 443 } ] }\n"
	"secrets:\n"
	"  - { name: TOKEN, from: env, hosts: [api.test.example] }\n"
	"  - { name: PASS, from: env, hosts: [api.test.example], basic: password }\n"
	"  - { name: USER_KEY, from: env, hosts: [api.test.example], basic: user }\n"
	"  - { name: Q, from: env, hosts: [api.test.example], query: key, path: \"/q/**\" }\n"
	"  - { name: PREFIXED, from: env, hosts: [api.test.example], header: { name: x-key, prefix: \"Key \" } }\n"
	"  - { name: ELSE, from: env, hosts: [other.example.com] }\n";

static void set(const char *n, const char *v)
{
	CHECK_OK(store_set(s, span_str(n), span_str(v), &e), &e);
}

static void begin(void)
{
	struct policy_draft *d;
	uint8_t *tlv;
	size_t len;

	CHECK_OK(policy_draft_new(NULL, NULL, &d, &e), &e);
	CHECK_OK(policy_draft_file(d, "p", span_str(policy_text), &e), &e);
	CHECK_OK(policy_draft_compile(d, 1, &tlv, &len, &e), &e);
	CHECK_OK(policy_load(span_of(tlv, len), &p, &e), &e);
	free(tlv);
	policy_draft_free(d);
	CHECK_OK(store_new(&s, &e), &e);
	set("TOKEN", value);
	set("PASS", "the password: with/colon");
	set("USER_KEY", "the-user-key-0123456789");
	set("Q", "a/b+c=d&e f");
	set("PREFIXED", "prefixed-value");
	set("ELSE", "value-for-elsewhere");
	mark = store_placeholder(s, span_str("TOKEN"));
	pass = store_placeholder(s, span_str("PASS"));
	in = (struct http_head){ .method = span_str("GET"),
		                 .scheme = HTTP_TLS,
		                 .path = span_str("/x"),
		                 .framing = HTTP_BODY_NONE };
	in.host.kind = HTTP_HOST_NAME;
	in.host.port = 443;
	in.host.len = 16;
	memcpy(in.host.text, "api.test.example", 16);
	CHECK_EQ(host_name_parse(span_str("api.test.example"), &name), 0);
}

static const char *text(const char *format, struct span a)
{
	static char room[8][3000];
	static unsigned next;
	char *at = room[next++ % 8];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	(void)snprintf(at, sizeof(room[0]), format, (int)a.len, (const char *)a.at);
#pragma GCC diagnostic pop
	return at;
}

static void field(const char *n, const char *v)
{
	in.fields[in.count++] = (struct http_field){ span_str(n), span_str(v) };
}

static int swap(void)
{
	struct policy_ask ask = { .port = in.host.port,
		                  .transport = POLICY_TCP,
		                  .seen = POLICY_SEEN_TLS,
		                  .name = &name,
		                  .method = in.method,
		                  .path = in.path,
		                  .query = in.query };

	return swap_head(s, p, &ask, &in, &out, &rep);
}

static bool nothing_left(void)
{
	for (size_t i = 0; i < STORE_ROOM_BYTES; i++)
		if (s->arena->room[i])
			return false;
	return true;
}

TEST(SEC_1_headers)
{
	begin();
	field("authorization", text("Bearer %.*s", mark));
	field("accept", "*/*");
	field("x-api-key", text("%.*s", mark));
	CHECK_EQ(swap(), 0);
	CHECK_SPAN(out.fields[0].value, "Bearer ghp_16C7e42F292c6912E7710c838347Ae178B4a");
	CHECK_SPAN(out.fields[1].value, "*/*");
	CHECK_SPAN(out.fields[2].value, value);
	CHECK_EQ(rep.used, 1);
	CHECK(rep.guarded);
	CHECK(!nothing_left());
	swap_done(s);
	CHECK(nothing_left());
}

TEST(a_prefix_has_to_stand_in_front)
{
	struct span q;

	begin();
	q = store_placeholder(s, span_str("PREFIXED"));
	field("x-key", text("key %.*s", q));
	CHECK_EQ(swap(), 0);
	CHECK_SPAN(out.fields[0].value, "key prefixed-value");
	in.fields[0].value = span_str(text("%.*s", q));
	CHECK_EQ(swap(), -EPERM);
	in.fields[0].value = span_str(text("a Key %.*s", q));
	CHECK_EQ(swap(), -EPERM);
	CHECK_SPAN(rep.hit.secret, "PREFIXED");
	CHECK_EQ(rep.hit.where, EGRESS_IN_FIELD);
	CHECK(nothing_left());
}

static const char *basic(struct span user, struct span password)
{
	static char room[4][4000];
	static unsigned next;
	char *at = room[next++ % 4];
	uint8_t plain[3000];
	struct buf b, o;

	buf_init(&b, plain, sizeof(plain));
	buf_put_span(&b, user);
	buf_put_str(&b, ":");
	buf_put_span(&b, password);
	buf_init(&o, at, sizeof(room[0]) - 1);
	buf_put_str(&o, "Basic ");
	form_base64(&o, buf_span(&b), "+/", true);
	at[o.len] = 0;
	return at;
}

TEST(SEC_1_basic)
{
	struct span user_key;

	begin();
	user_key = store_placeholder(s, span_str("USER_KEY"));
	field("authorization", basic(span_str("x-access-token"), pass));
	CHECK_EQ(swap(), 0);
	CHECK_SPAN(out.fields[0].value,
	           basic(span_str("x-access-token"), span_str("the password: with/colon")));
	CHECK_EQ(rep.used, 2);
	in.fields[0].value = span_str(basic(user_key, pass));
	CHECK_EQ(swap(), 0);
	CHECK_SPAN(out.fields[0].value, basic(span_str("the-user-key-0123456789"),
	                                      span_str("the password: with/colon")));
	CHECK_EQ(rep.used, 6);

	in.fields[0].value = span_str(basic(pass, user_key)); /* each in the other's place */
	CHECK_EQ(swap(), -EPERM);
	CHECK_EQ(rep.hit.form, EGRESS_BASE64);
	in.fields[0].value = span_str(basic(user_key, mark)); /* one that may, one that may not */
	CHECK_EQ(swap(), -EPERM);
	CHECK_SPAN(rep.hit.secret, "TOKEN");
	CHECK(nothing_left());
	in.fields[0].value = span_str(basic(span_str("a"), span_str(text("%.*s!", pass))));
	CHECK_EQ(swap(), -EPERM);
	in.fields[0].name = span_str("x-other");
	in.fields[0].value = span_str(basic(span_str("a"), pass));
	CHECK_EQ(swap(), -EPERM);
}

TEST(SEC_1_query)
{
	struct span q;

	begin();
	q = store_placeholder(s, span_str("Q"));
	in.path = span_str("/q/list");
	in.query = span_str(text("a=1&&key=%.*s&b&c=%%20", q));
	in.flags = HTTP_FLAG_QUERY;
	CHECK_EQ(swap(), 0);
	CHECK_SPAN(out.query, "a=1&&key=a%2Fb%2Bc%3Dd%26e%20f&b&c=%20");
	CHECK_EQ(rep.used, 8);
	swap_done(s);
	in.query = span_str(text("other=%.*s", q));
	CHECK_EQ(swap(), -EPERM);
	CHECK_EQ(rep.hit.where, EGRESS_IN_QUERY);
	in.query = span_str(text("key=x%.*s", q));
	CHECK_EQ(swap(), -EPERM);
	in.query = span_str(text("key=%.*s&x=1;key=", q));
	CHECK_EQ(swap(), 0);
	in.path = span_str("/elsewhere");
	CHECK_EQ(swap(), -EPERM); /* the policy binds it to /q/ */
	CHECK_SPAN(rep.hit.secret, "Q");
}

TEST(SEC_2_elsewhere_in_the_head)
{
	uint8_t room[3000];
	char hex[100];
	struct buf b;

	begin();
	field("x-custom", text("%.*s", mark));
	CHECK_EQ(swap(), -EPERM);
	CHECK_EQ(rep.hit.form, EGRESS_RAW);
	in.count = 0;
	field(text("x-%.*s", mark), "1");
	CHECK_EQ(swap(), -EPERM);
	in.count = 0;
	in.path = span_str(text("/a/%.*s/b", mark));
	CHECK_EQ(swap(), -EPERM);
	CHECK_EQ(rep.hit.where, EGRESS_IN_PATH);
	in.path = span_str("/x");
	for (enum form f = 0; f < FORM_COUNT; f++) {
		if (f == FORM_UPPER || f == FORM_PLAIN)
			continue;
		buf_init(&b, room, sizeof(room));
		form_put(&b, f, mark);
		in.count = 1;
		in.fields[0] = (struct http_field){ span_str("authorization"), buf_span(&b) };
		CHECK_EQ(swap(), -EPERM);
		CHECK(nothing_left());
	}
	/* beside one that may stand there */
	buf_init(&b, hex, sizeof(hex));
	form_put(&b, FORM_HEX_LOWER, mark);
	in.fields[0].value = span_str(text("Bearer %.*s", mark));
	in.fields[1] = (struct http_field){ span_str("x-api-key"), buf_span(&b) };
	in.count = 2;
	CHECK_EQ(swap(), -EPERM);
	CHECK(nothing_left());
}

TEST(SEC_2_another_host)
{
	begin();
	CHECK_EQ(host_name_parse(span_str("other.example.com"), &name), 0);
	field("authorization", text("Bearer %.*s", mark));
	CHECK_EQ(swap(), -EPERM);
	CHECK_SPAN(rep.hit.secret, "TOKEN");
	in.fields[0].value = store_placeholder(s, span_str("ELSE"));
	CHECK_EQ(swap(), 0);
	CHECK_SPAN(out.fields[0].value, "value-for-elsewhere");
}

TEST(SEC_8_removed)
{
	begin();
	field("authorization", text("Bearer %.*s", mark));
	CHECK_EQ(store_remove(s, span_str("TOKEN")), 0);
	CHECK_EQ(swap(), -ENOKEY);
	CHECK_SPAN(rep.hit.secret, "TOKEN");
	set("TOKEN", "the-value-after-it");
	CHECK_EQ(swap(), 0);
	CHECK_SPAN(out.fields[0].value, "Bearer the-value-after-it");
}

TEST(several_in_one_field_and_plain_ones_untouched)
{
	char two[300];

	begin();
	(void)snprintf(two, sizeof(two), "a=%.*s; b=%.*s", (int)mark.len, (const char *)mark.at,
	               (int)mark.len, (const char *)mark.at);
	field("authorization", two);
	field("cookie", "plain=1");
	CHECK_EQ(swap(), 0);
	(void)snprintf(two, sizeof(two), "a=%s; b=%s", value, value);
	CHECK_SPAN(out.fields[0].value, two);
	CHECK(out.fields[1].value.at == in.fields[1].value.at);
}

TEST(asks_for_a_reply_that_can_be_read)
{
	begin();
	field("accept-encoding", "gzip, br");
	field("range", "bytes=0-9");
	field("if-range", "\"x\"");
	field("sec-websocket-extensions", "permessage-deflate");
	field("accept", "*/*");
	CHECK_EQ(swap(), 0);
	CHECK_EQ(out.count, 2);
	CHECK_SPAN(out.fields[0].name, "accept");
	CHECK_SPAN(out.fields[1].name, "accept-encoding");
	CHECK_SPAN(out.fields[1].value, "identity");
	CHECK_EQ(host_name_parse(span_str("third.example.com"), &name), 0);
	CHECK_EQ(swap(), 0);
	CHECK(!rep.guarded);
	CHECK_EQ(out.count, 4);
}

TEST(too_large_is_said)
{
	static char big[HTTP_HEAD_MAX];

	begin();
	memset(big, 'a', sizeof(big) - 1);
	set("TOKEN", text("%.*s", span_of(big, 2900)));
	for (int i = 0; i < 30; i++)
		field("authorization", text("%.*s", mark));
	CHECK_EQ(swap(), -EMSGSIZE);
	CHECK(nothing_left());
}

TEST(PATH_5_a_path_may_be_as_long_as_any)
{
	static char path[HTTP_TARGET_MAX];

	begin();
	memset(path, 'a', sizeof(path));
	path[0] = '/';
	in.path = span_of(path, sizeof(path));
	CHECK_EQ(swap(), 0);
	in.flags |= HTTP_FLAG_QUERY; /* a canonical path can be longer than what was sent */
	in.query = span_of(path, sizeof(path));
	CHECK_EQ(swap(), 0);
}

TEST_MAIN()
