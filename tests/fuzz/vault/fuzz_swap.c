/*
 * Heads with placeholders anywhere: what is let through has none left, and its values only where
 * the policy binds them; what is refused leaves nothing secret behind. Bytes 1 to 8 of the input
 * become forms of one placeholder, 14 is another one, and LF ends a field.
 */
#include "naive.h"
#include "policy/draft.h"
#include "vault/store_inner.h"
#include "vault/swap.h"

#include <errno.h>

enum { ROOM = 20000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char policy_text[] =
	"version: 1\n"
	"network: { rules: [ { host: a.example.com, port: 443 } ] }\n"
	"secrets:\n"
	"  - { name: TOKEN, from: env, hosts: [a.example.com], header: authorization }\n"
	"  - { name: PASS, from: env, hosts: [a.example.com], basic: password }\n"
	"  - { name: PASS2, from: env, hosts: [a.example.com], query: key }\n";

static struct store *s;
static struct policy *p;
static struct host_name name;
static struct naive_form forms[NAIVE_FORMS];
static struct naive_form value_forms[NAIVE_FORMS];

static void begin(void)
{
	struct policy_draft *d;
	uint8_t *tlv;
	size_t len;

	must(policy_draft_new(NULL, NULL, &d, NULL) == 0);
	must(policy_draft_file(d, "p", span_str(policy_text), NULL) == 0);
	must(policy_draft_compile(d, 1, &tlv, &len, NULL) == 0);
	must(policy_load(span_of(tlv, len), &p, NULL) == 0);
	free(tlv);
	policy_draft_free(d);
	must(store_new(&s, NULL) == 0);
	must(store_set(s, span_str("TOKEN"), span_str("a/secret+value=0123"), NULL) == 0);
	must(store_set(s, span_str("PASS"), span_str("the pass:word"), NULL) == 0);
	must(store_set(s, span_str("PASS2"), span_str("the&other=word"), NULL) == 0);
	naive_forms(store_placeholder(s, span_str("TOKEN")), forms);
	naive_forms(span_str("a/secret+value=0123"), value_forms);
	must(host_name_parse(span_str("a.example.com"), &name) == 0);
}

/* "Basic " and base64 of "u:" with the placeholder of PASS. */
static size_t put_basic(uint8_t *at)
{
	static uint8_t plain[200];
	struct span pass = store_placeholder(s, span_str("PASS"));
	struct naive_form f;

	memcpy(plain, "us:", 3);
	memcpy(plain + 3, pass.at, pass.len);
	naive_base64(span_of(plain, (pass.len + 3) / 3 * 3), 0, "+/", &f);
	memcpy(at, "Basic ", 6);
	memcpy(at + 6, f.at, f.len);
	return 6 + f.len;
}

static size_t put_byte(uint8_t c, uint8_t *at)
{
	struct span other = store_placeholder(s, span_str("PASS2"));
	const struct naive_form *f = &forms[(c + 7u) % 8];

	if (c >= 1 && c <= 8) {
		memcpy(at, f->at, f->len);
		return f->len;
	}
	if (c == 14) {
		memcpy(at, other.at, other.len);
		return other.len;
	}
	if (c == 15)
		return put_basic(at);
	*at = c < 0x20 ? 'z' : c;
	return 1;
}

static void read_head(const uint8_t *data, size_t size, uint8_t *room, struct http_head *h)
{
	static const char *const names[] = { "authorization", "x-key", "cookie",
		                             "accept-encoding" };
	size_t len = 0;
	size_t from = 0;
	unsigned part = 0;

	*h = (struct http_head){ .method = span_str("GET"), .path = span_str("/") };
	for (size_t i = 0; i < size && len + 500 < ROOM && h->count < 20; i++) {
		if (data[i] != '\n') {
			len += put_byte(data[i], room + len);
			continue;
		}
		if (part == 0)
			h->query = span_of(room + from, len - from);
		else if (part == 1)
			h->path = span_of(room + from, len - from);
		else
			h->fields[h->count++] =
				(struct http_field){ span_str(names[part % 4]),
				                     span_of(room + from, len - from) };
		part++;
		from = len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct http_head in, out;
	static uint8_t room[ROOM];
	struct policy_ask ask = { .port = 443, .seen = POLICY_SEEN_TLS, .name = &name };
	struct swap_report rep;
	int r;

	if (!s)
		begin();
	read_head(data, size, room, &in);
	ask.method = in.method;
	ask.path = in.path;
	ask.query = in.query;
	r = swap_head(s, p, &ask, &in, &out, &rep);
	must(r == 0 || r == -EPERM || r == -EMSGSIZE);
	if (r == 0) {
		must(!naive_any(out.path, forms) && !naive_any(out.query, forms));
		for (unsigned i = 0; i < out.count; i++) {
			must(!naive_any(out.fields[i].value, forms));
			if (!span_is(out.fields[i].name, "authorization"))
				must(!naive_any(out.fields[i].value, value_forms));
		}
	}
	swap_done(s);
	for (size_t i = 0; i < STORE_ROOM_BYTES; i++)
		must(s->arena->room[i] == 0);
	return 0;
}
