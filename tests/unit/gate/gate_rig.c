#include "gate_rig.h"

#include "gate/intercept_inner.h"
#include "policy/draft.h"
#include "test.h"

#include <errno.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void copy(char *to, size_t size, struct span from)
{
	size_t n = from.len < size - 1 ? from.len : size - 1;

	if (n > 0)
		memcpy(to, from.at, n);
	to[n] = '\0';
}

static uint64_t hash_of(uint64_t h, struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		h = h * 1099511628211U + s.at[i] + 1;
	return h;
}

static void put_fields(char *to, size_t size, const struct http_head *h)
{
	struct buf b;

	buf_init(&b, to, size);
	for (uint16_t i = 0; i < h->count; i++)
		buf_printf(&b, "%.*s: %.*s\n", (int)h->fields[i].name.len, h->fields[i].name.at,
		           (int)h->fields[i].value.len, h->fields[i].value.at);
	(void)buf_cstr(&b);
}

struct policy *rig_policy(const char *rules)
{
	char text[8192];
	struct policy_draft *d;
	struct policy *p;
	struct err e = { 0 };
	uint8_t *tlv;
	size_t len;

	(void)snprintf(text, sizeof(text), "version: 1\nnetwork:\n  rules:\n%s\n", rules);
	CHECK_OK(policy_draft_new(NULL, NULL, &d, &e), &e);
	CHECK_OK(policy_draft_file(d, "policy.yaml", span_str(text), &e), &e);
	CHECK_OK(policy_draft_compile(d, 7, &tlv, &len, &e), &e);
	CHECK_OK(policy_load(span_of(tlv, len), &p, &e), &e);
	free(tlv);
	policy_draft_free(d);
	return p;
}

/* --- the vault's side of the link --- */

static struct rig_request *request_at(struct rig *g, uint32_t number)
{
	for (uint32_t i = g->requests_count; i-- > 0;)
		if (g->requests[i].number == number)
			return &g->requests[i];
	test_fail(__FILE__, __LINE__, "no request %u", number);
}

static const struct policy *op_policy(void *flow)
{
	return ((struct rig *)flow)->policy;
}

static bool op_over(void *flow)
{
	struct rig *g = flow;

	return g->over;
}

static void op_ask(void *flow, struct policy_ask *ret)
{
	struct rig *g = flow;

	ret->addr = g->addr;
	ret->port = g->port;
	ret->transport = POLICY_TCP;
	ret->names = g->pins;
	ret->names_count = 1;
}

static uint32_t op_number(void *flow)
{
	return ++((struct rig *)flow)->next;
}

static void op_record(void *flow, const struct egress_record *r)
{
	struct rig *g = flow;
	struct rig_record *to;

	CHECK(g->records_count < RIG_RECORDS_MAX);
	to = &g->records[g->records_count++];
	*to = (struct rig_record){
		.event = r->event,
		.layer = r->layer,
		.reason = r->reason,
		.flags = r->flags,
		.status = r->status,
		.port = r->port,
		.rule = r->rule,
		.flow = r->flow,
		.up = r->bytes_up,
		.down = r->bytes_down,
	};
	CHECK_EQ(r->generation, 7);
	copy(to->host, sizeof(to->host), r->host);
	copy(to->method, sizeof(to->method), r->method);
	copy(to->path, sizeof(to->path), r->path);
	CHECK(!strchr(to->path, '?'));
}

static struct buf *op_frame(void *flow, size_t bytes)
{
	struct rig *g = flow;

	if (bytes > INTERCEPT_SMALL && bytes > g->link_room)
		return NULL;
	buf_init(&g->frame, g->frame_bytes, bytes);
	return &g->frame;
}

static void take_request(struct rig *g, const struct egress_frame *f)
{
	const struct http_head *h = &g->scratch.head;
	struct rig_request *r;

	CHECK_EQ(egress_parse_request(f->payload, &g->scratch), 0);
	CHECK(g->requests_count < RIG_REQUESTS_MAX);
	r = &g->requests[g->requests_count++];
	memset(r, 0, sizeof(*r));
	r->number = f->stream;
	r->generation = g->scratch.generation;
	r->rule = g->scratch.rule;
	r->flags = h->flags;
	r->framing = h->framing;
	r->length = h->length;
	r->scheme = h->scheme;
	copy(r->host, sizeof(r->host), span_of(h->host.text, h->host.len));
	copy(r->method, sizeof(r->method), h->method);
	copy(r->path, sizeof(r->path), h->path);
	copy(r->query, sizeof(r->query), h->query);
	put_fields(r->fields, sizeof(r->fields), h);
	CHECK_EQ(g->scratch.addr.family, EGRESS_IP4);
	CHECK_EQ(memcmp(g->scratch.addr.bytes, g->addr.at + 12, 4), 0);
}

static void grant(struct rig *g, uint32_t stream, size_t bytes)
{
	struct egress_frame f;
	struct span s;

	if (bytes == 0 || g->hold)
		return;
	buf_init(&g->frame, g->frame_bytes, sizeof(g->frame_bytes));
	egress_put_u32(&g->frame, EGRESS_CREDIT, stream, (uint32_t)bytes);
	s = buf_span(&g->frame);
	CHECK_EQ(egress_parse_frame(&s, EGRESS_FROM_VAULT, &f), 0);
	CHECK_EQ(egress_order_step(&g->order, EGRESS_FROM_VAULT, &f), EGRESS_PASS);
}

static void take_frame(struct rig *g, const struct egress_frame *f)
{
	struct rig_request *r;
	uint32_t credit;

	if (f->type == EGRESS_REQUEST) {
		take_request(g, f);
		return;
	}
	r = request_at(g, f->stream);
	switch (f->type) {
	case EGRESS_BODY:
		if (r->body_bytes == 0)
			copy(r->body, sizeof(r->body), f->payload);
		r->body_bytes += f->payload.len;
		r->hash = hash_of(r->hash, f->payload);
		grant(g, f->stream, f->payload.len);
		break;
	case EGRESS_TRAILERS:
		r->trailers++;
		break;
	case EGRESS_END:
		r->ended = true;
		break;
	case EGRESS_RESET:
		r->reset = true;
		CHECK_EQ(egress_parse_reset(f->payload, &r->fail), 0);
		break;
	case EGRESS_CREDIT:
		CHECK_EQ(egress_parse_u32(f->payload, &credit), 0);
		r->granted += credit;
		break;
	default:
		test_fail(__FILE__, __LINE__, "frame %u", f->type);
	}
}

static int op_send(void *flow)
{
	struct rig *g = flow;
	struct egress_frame f;
	struct span s = buf_span(&g->frame);
	enum egress_verdict v;

	CHECK(buf_ok(&g->frame));
	CHECK_EQ(egress_parse_frame(&s, EGRESS_FROM_GATE, &f), 0);
	CHECK_EQ(s.len, 0);
	if (g->down)
		return -EPIPE;
	if (f.type == EGRESS_REQUEST && g->order.count == g->order.count_max)
		return -EMFILE;
	v = egress_order_step(&g->order, EGRESS_FROM_GATE, &f);
	if (v != EGRESS_DROP)
		CHECK_STR(egress_verdict_word(v), "pass");
	if (v == EGRESS_PASS || f.type == EGRESS_RESET)
		take_frame(g, &f);
	return 0;
}

static uint32_t op_room(void *flow, uint32_t stream)
{
	struct rig *g = flow;
	struct egress_stream *s = egress_order_find(&g->order, stream);

	return s ? egress_order_room(s, EGRESS_FROM_GATE) : 0;
}

static const struct intercept_ops rig_ops = {
	.policy = op_policy,
	.over = op_over,
	.ask = op_ask,
	.number = op_number,
	.record = op_record,
	.frame = op_frame,
	.send = op_send,
	.room = op_room,
};

/* --- the guest's http_conn --- */

struct rig_answer *rig_answer(struct rig *g, uint32_t id)
{
	struct rig_answer *a;

	for (unsigned i = g->answers_count; i-- > 0;)
		if (g->answers[i].id == id)
			return &g->answers[i];
	CHECK(g->answers_count < RIG_REQUESTS_MAX);
	a = &g->answers[g->answers_count++];
	*a = (struct rig_answer){ .id = id };
	return a;
}

static void on_head(void *user, uint32_t id, const struct http_head *h)
{
	struct rig_answer *a = rig_answer(user, id);

	if (h->status < 200 && h->status != 101)
		a->infos++;
	a->status = h->status;
	a->framing = h->framing;
	a->flags = h->flags;
	a->length = h->length;
	put_fields(a->fields, sizeof(a->fields), h);
}

static void on_body(void *user, uint32_t id, struct span bytes)
{
	struct rig *g = user;
	struct rig_answer *a = rig_answer(g, id);
	size_t n = sizeof(a->body) - 1 - a->body_len;

	n = n < bytes.len ? n : bytes.len;
	memcpy(a->body + a->body_len, bytes.at, n);
	a->body_len += n;
	a->body_bytes += bytes.len;
	a->hash = hash_of(a->hash, bytes);
	if (!g->keep_body)
		http_conn_consume(g->http, id, bytes.len);
}

static void on_trailers(void *user, uint32_t id, const struct http_trailers *t)
{
	rig_answer(user, id)->trailers += t->count;
}

static void on_end(void *user, uint32_t id)
{
	rig_answer(user, id)->ended = true;
}

static void on_refused(void *user, uint32_t id, enum http_reason why)
{
	(void)why;
	rig_answer(user, id)->refused = true;
}

static void on_reset(void *user, uint32_t id, enum http_reset why)
{
	(void)why;
	rig_answer(user, id)->reset = true;
}

static void on_room(void *user, uint32_t id)
{
	(void)user;
	(void)id;
}

static const struct http_events guest_events = {
	.head = on_head,
	.body = on_body,
	.trailers = on_trailers,
	.end = on_end,
	.refused = on_refused,
	.reset = on_reset,
	.room = on_room,
};

/* --- both --- */

static void make_client(struct rig *g, const char *name, const char *alpn)
{
	BIO *pem = BIO_new_mem_buf(ca_pem(g->ca).at, (int)ca_pem(g->ca).len);
	X509 *ca = PEM_read_bio_X509(pem, NULL, NULL, NULL);

	g->ctx = SSL_CTX_new(TLS_client_method());
	CHECK(X509_STORE_add_cert(SSL_CTX_get_cert_store(g->ctx), ca));
	(void)X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(g->ctx), X509_V_FLAG_X509_STRICT);
	SSL_CTX_set_verify(g->ctx, SSL_VERIFY_PEER, NULL);
	g->ssl = SSL_new(g->ctx);
	SSL_set_bio(g->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	/* OpenSSL's macro for this casts const away */
	CHECK(SSL_ctrl(g->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
	               (void *)(uintptr_t)name));
	CHECK(SSL_set1_host(g->ssl, name));
	if (alpn)
		CHECK_EQ(SSL_set_alpn_protos(g->ssl, (const uint8_t *)alpn, (unsigned)strlen(alpn)),
		         0);
	SSL_set_connect_state(g->ssl);
	X509_free(ca);
	BIO_free(pem);
}

struct rig *rig_new(const char *rules, const char *name, bool tls, const char *alpn)
{
	static const uint8_t addr[4] = { 192, 0, 3, 7 };
	struct rig *g = calloc(1, sizeof(*g));
	struct intercept_start start = { .flow = g, .tls = tls };
	struct egress_frame hello = { .type = EGRESS_HELLO };
	uint8_t one[4] = { EGRESS_VERSION };
	struct err e = { 0 };

	CHECK(g);
	g->policy = rig_policy(rules);
	g->now_ms = 1000;
	g->real_s = (uint64_t)time(NULL);
	g->tls = tls;
	g->port = tls ? 443 : 80;
	g->addr = addr_of_v4(addr);
	g->link_room = SIZE_MAX;
	CHECK_EQ(host_name_parse(span_str(name), &g->pin), 0);
	g->pins[0] = &g->pin;
	egress_order_init(&g->order, g->slots, RIG_SLOTS, RIG_SLOTS / 2);
	hello.payload = span_of(one, sizeof(one));
	CHECK_EQ(egress_order_step(&g->order, EGRESS_FROM_GATE, &hello), EGRESS_PASS);
	CHECK_EQ(egress_order_step(&g->order, EGRESS_FROM_VAULT, &hello), EGRESS_PASS);
	CHECK_OK(ca_new(g->real_s, false, &g->ca, &e), &e);
	CHECK_OK(intercepts_new(g->ca, &rig_ops, &g->all, &e), &e);
	start.name = tls ? &g->pin : NULL;
	start.now_ms = g->now_ms;
	start.real_s = g->real_s;
	CHECK_OK(intercept_new(g->all, &start, &g->c, &e), &e);
	if (tls)
		make_client(g, name, alpn);
	return g;
}

void rig_free(struct rig *g)
{
	const struct intercept_stats *s = intercepts_stats(g->all);

	intercept_free(g->c, g->now_ms);
	CHECK_EQ(s->connections, 0);
	CHECK_EQ(s->requests_open, 0);
	CHECK_EQ(s->held_bytes, 0);
	http_conn_free(g->http);
	SSL_free(g->ssl);
	SSL_CTX_free(g->ctx);
	intercepts_free(g->all);
	ca_free(g->ca);
	policy_free(g->policy);
	free(g);
}

void rig_client(struct rig *g, bool http2)
{
	struct http_conn_opts o = { .client = true,
		                    .http2 = http2,
		                    .scheme = g->tls ? HTTP_TLS : HTTP_PLAIN };

	CHECK_EQ(http_conn_new(&o, &guest_events, g, &g->http, NULL), 0);
}

/* The gate's TCP flow keeps what is not taken now. */
static bool offer(struct rig *g)
{
	struct span s = span_of(g->flow, g->flow_len);
	bool some = false;

	while (s.len > 0 && (intercept_state(g->c) & INTERCEPT_READ)) {
		size_t n = g->piece && g->piece < s.len ? g->piece : s.len;
		struct span part = span_of(s.at, n);

		intercept_recv(g->c, g->now_ms, &part);
		n -= part.len;
		s = span_of(s.at + n, s.len - n);
		some |= n > 0;
	}
	if (s.len > 0)
		memmove(g->flow, s.at, s.len);
	g->flow_len = s.len;
	return some;
}

static bool give(struct rig *g, struct span s)
{
	CHECK(s.len <= sizeof(g->flow) - g->flow_len);
	if (s.len > 0)
		memcpy(g->flow + g->flow_len, s.at, s.len);
	g->flow_len += s.len;
	return offer(g);
}

static bool from_guest(struct rig *g)
{
	uint8_t room[20000];
	struct span out;
	bool some = offer(g);
	int n;

	if (g->ssl && !SSL_is_init_finished(g->ssl))
		(void)SSL_do_handshake(g->ssl);
	if (g->http) {
		while ((out = http_conn_output(g->http)).len > 0) {
			size_t len = out.len;

			if (g->ssl && SSL_write_ex(g->ssl, out.at, len, &len) != 1)
				break;
			if (!g->ssl)
				some |= give(g, out);
			http_conn_sent(g->http, len);
		}
	}
	if (!g->ssl)
		return some;
	while ((n = BIO_read(SSL_get_wbio(g->ssl), room, sizeof(room))) > 0)
		some |= give(g, span_of(room, (size_t)n));
	return some;
}

static void to_client(struct rig *g, struct span s)
{
	if (g->http) {
		CHECK_EQ(http_conn_recv(g->http, g->now_ms, &s), 0);
		CHECK_EQ(s.len, 0);
		return;
	}
	CHECK(g->text_len + s.len < sizeof(g->text));
	memcpy(g->text + g->text_len, s.at, s.len);
	g->text_len += s.len;
	g->text[g->text_len] = '\0';
}

static bool to_guest(struct rig *g)
{
	uint8_t room[20000];
	struct span out;
	bool some = false;
	size_t n;

	while (!g->deaf && (out = intercept_output(g->c, g->now_ms)).len > 0) {
		g->most_output = out.len > g->most_output ? out.len : g->most_output;
		n = g->piece && g->piece < out.len ? g->piece : out.len;
		if (g->ssl)
			CHECK_EQ(BIO_write(SSL_get_rbio(g->ssl), out.at, (int)n), n);
		else
			to_client(g, span_of(out.at, n));
		intercept_sent(g->c, g->now_ms, n);
		some = true;
	}
	while (g->ssl && SSL_read_ex(g->ssl, room, sizeof(room), &n) == 1)
		to_client(g, span_of(room, n));
	if (g->ssl && (SSL_get_shutdown(g->ssl) & SSL_RECEIVED_SHUTDOWN))
		g->closed = true;
	return some;
}

void rig_pump(struct rig *g)
{
	bool more = true;

	while (more) {
		more = from_guest(g);
		more |= to_guest(g);
	}
}

void rig_raw(struct rig *g, struct span bytes)
{
	(void)give(g, bytes);
	rig_pump(g);
}

void rig_say_bytes(struct rig *g, struct span bytes)
{
	size_t n;

	if (g->ssl) {
		if (!SSL_is_init_finished(g->ssl))
			rig_pump(g);
		while (bytes.len > 0) {
			CHECK_EQ(SSL_write_ex(g->ssl, bytes.at, bytes.len, &n), 1);
			bytes = span_of(bytes.at + n, bytes.len - n);
		}
	} else {
		(void)give(g, bytes);
	}
	rig_pump(g);
}

void rig_say(struct rig *g, const char *text)
{
	rig_say_bytes(g, span_str(text));
}

uint32_t rig_ask(struct rig *g, const char *method, const char *host, const char *path,
                 uint8_t framing, uint64_t length)
{
	struct http_head *h = calloc(1, sizeof(*h));
	const char *query = strchr(path, '?');
	uint32_t id = 0;

	CHECK(h);
	h->method = span_str(method);
	h->scheme = g->tls ? HTTP_TLS : HTTP_PLAIN;
	CHECK_EQ(host_parse(span_str(host), &h->host), 0);
	if (h->host.port == 0)
		h->host.port = g->port;
	h->path = span_of(path, query ? (size_t)(query - path) : strlen(path));
	h->flags = query ? HTTP_FLAG_QUERY : 0;
	h->query = span_str(query ? query + 1 : "");
	h->framing = framing;
	h->length = length;
	CHECK_EQ(http_conn_open(g->http, h, &id), 0);
	free(h);
	rig_pump(g);
	return id;
}

struct rig_request *rig_last(struct rig *g)
{
	CHECK(g->requests_count > 0);
	return &g->requests[g->requests_count - 1];
}

/* --- what the vault says --- */

bool rig_deliver(struct rig *g)
{
	/* on the heap: in the rig the frame may be written over meanwhile */
	size_t len = g->frame.len;
	uint8_t *bytes = malloc(len);
	struct egress_frame f;
	struct span s = span_of(bytes, len);
	enum egress_verdict v;

	CHECK(bytes && buf_ok(&g->frame));
	memcpy(bytes, g->frame_bytes, len);
	CHECK_EQ(egress_parse_frame(&s, EGRESS_FROM_VAULT, &f), 0);
	v = egress_order_step(&g->order, EGRESS_FROM_VAULT, &f);
	if (v != EGRESS_DROP) {
		CHECK_STR(egress_verdict_word(v), "pass");
		intercept_frame(g->c, g->now_ms, &f);
	}
	free(bytes);
	rig_pump(g);
	return v == EGRESS_PASS;
}

static void begin(struct rig *g)
{
	buf_init(&g->frame, g->frame_bytes, sizeof(g->frame_bytes));
}

void rig_reply(struct rig *g, uint32_t number, uint16_t status, uint8_t framing, uint64_t length,
               const char *fields)
{
	struct http_head *h = calloc(1, sizeof(*h));
	struct span rest = span_str(fields);
	struct span line;
	struct span name;

	CHECK(h);
	h->status = status;
	h->framing = framing;
	h->length = length;
	h->flags = status == 101 ? HTTP_FLAG_WEBSOCKET : 0;
	while (take_until(&rest, '\n', &line)) {
		CHECK(take_until(&line, ':', &name) && line.len > 0);
		h->fields[h->count++] = (struct http_field){ name, line };
	}
	begin(g);
	egress_put_response(&g->frame, number, h);
	free(h);
	(void)rig_deliver(g);
}

size_t rig_body(struct rig *g, uint32_t number, const void *at, size_t len)
{
	const struct egress_stream *s;
	size_t sent = 0;

	while (sent < len) {
		size_t n;

		s = egress_order_find(&g->order, number);
		n = s ? egress_order_room(s, EGRESS_FROM_VAULT) : 0;
		n = n < len - sent ? n : len - sent;
		if (n == 0)
			break;
		begin(g);
		egress_put(&g->frame, EGRESS_BODY, number, span_of((const uint8_t *)at + sent, n));
		sent += n;
		if (!rig_deliver(g))
			break;
	}
	return sent;
}

void rig_trailers(struct rig *g, uint32_t number, const char *name, const char *value)
{
	struct http_trailers t = { .count = 1 };

	t.fields[0] = (struct http_field){ span_str(name), span_str(value) };
	begin(g);
	egress_put_trailers(&g->frame, number, &t);
	(void)rig_deliver(g);
}

void rig_end(struct rig *g, uint32_t number)
{
	begin(g);
	egress_put(&g->frame, EGRESS_END, number, span_of(NULL, 0));
	(void)rig_deliver(g);
}

void rig_reset(struct rig *g, uint32_t number, enum egress_fail why)
{
	begin(g);
	egress_put_reset(&g->frame, number, why);
	(void)rig_deliver(g);
}

void rig_answer_with(struct rig *g, uint32_t number, const char *body)
{
	rig_reply(g, number, 200, HTTP_BODY_LENGTH, strlen(body), "content-type:text/plain\n");
	CHECK_EQ(rig_body(g, number, body, strlen(body)), strlen(body));
	rig_end(g, number);
}

struct rig *rig_plain(const char *rules)
{
	return rig_new(rules, "api.test", false, NULL);
}

struct rig *rig_secure(const char *rules)
{
	struct rig *g = rig_new(rules, "api.test", true, "\x08http/1.1");

	rig_client(g, false);
	return g;
}

void rig_has(const char *text, const char *what)
{
	if (!strstr(text, what))
		test_fail(__FILE__, __LINE__, "no '%s' in '%s'", what, text);
}

void rig_has_not(const char *text, const char *what)
{
	if (strstr(text, what))
		test_fail(__FILE__, __LINE__, "'%s' in '%s'", what, text);
}

const struct rig_record *rig_recorded(struct rig *g, unsigned i, uint8_t event, const char *reason)
{
	CHECK(i < g->records_count);
	CHECK_EQ(g->records[i].event, event);
	CHECK_STR(policy_reason_word(g->records[i].reason), reason);
	return &g->records[i];
}
