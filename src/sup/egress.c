#include "sup/sup.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "lib/egress_ask.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define POLICY_ASIDE ".policy"

static int broke(const struct sup_companion *c, struct err *e)
{
	return err_set(e, -EPROTO, "%s broke the protocol", c->c.words);
}

static void copy_text(char *room, struct span text)
{
	memcpy(room, text.at, text.len);
	room[text.len] = '\0';
}

/* The vault does not take `what`, for a reason that leaves escaped. */
static int refused(const char *what, struct span why, struct err *e)
{
	char text[CONTROL_WHY_MAX];
	struct buf b;

	if (why.len > sizeof(text) / 4 - 1) /* room for escapes */
		why.len = sizeof(text) / 4 - 1;
	buf_init(&b, text, sizeof(text));
	buf_put_escaped(&b, why);
	return err_set(e, -EINVAL, "the vault does not take %s: %s", what, buf_cstr(&b));
}

/* --- ready --- */

static int take_ready(struct sup *s, struct sup_companion *c, struct span payload, struct err *e)
{
	struct sup_egress *n = &s->net;
	struct companion_ready got;

	if (c->ready || companion_parse_ready(payload, &got) < 0 ||
	    (got.has_trust && c != &n->gate))
		return broke(c, e);
	c->ready = true;
	if (!got.has_trust)
		return 0;
	n->has_trust = true;
	n->trust_hash = got.trust.name_hash;
	n->pem_len = got.trust.pem.len;
	memcpy(n->pem, got.trust.pem.at, got.trust.pem.len);
	return 0;
}

/* --- secrets: names and placeholders --- */

static struct sup_secret *find(struct sup_egress *n, struct span name)
{
	for (unsigned i = 0; i < n->secret_count; i++)
		if (span_is(name, n->secrets[i].name))
			return &n->secrets[i];
	return NULL;
}

/* False: there are as many as can be. */
static bool keep_secret(struct sup_egress *n, const struct control_secret *got)
{
	struct sup_secret *s = find(n, got->name);

	if (!s && n->secret_count == CONTROL_SECRETS_MAX)
		return false;
	if (!s) {
		s = &n->secrets[n->secret_count++];
		copy_text(s->name, got->name);
	}
	copy_text(s->placeholder, got->placeholder);
	return true;
}

static void forget_secret(struct sup_egress *n, struct span name)
{
	struct sup_secret *s = find(n, name);

	if (s)
		*s = n->secrets[--n->secret_count];
}

/* Of what the start brought. */
static bool take_first_secret(struct sup_egress *n, const struct control_secret *got)
{
	if (got->serial == SUP_SERIAL_ROOTS) {
		if (got->name.len > 0 || n->answers_due == 0)
			return false;
		n->answers_due--;
		return true;
	}
	if (got->serial == SUP_SERIAL_IMPORT) {
		if (!n->import_due)
			return false;
		n->import_due = got->name.len > 0; /* one without a name is the last */
		return got->name.len == 0 || (got->placeholder.len > 0 && keep_secret(n, got));
	}
	if (got->serial == 0 || got->serial > n->secret_count || n->answers_due == 0)
		return false;
	if (!span_is(got->name, n->secrets[got->serial - 1].name) ||
	    n->secrets[got->serial - 1].placeholder[0] || got->placeholder.len == 0)
		return false;
	copy_text(n->secrets[got->serial - 1].placeholder, got->placeholder);
	n->answers_due--;
	return true;
}

static bool take_asked_secret(struct sup_egress *n, const struct control_secret *got)
{
	const struct sup_asking *a = &n->asking;

	if (a->kind == CONTROL_POLICY || got->serial != a->number || !span_is(got->name, a->name))
		return false;
	if (a->kind == CONTROL_SECRET)
		return got->placeholder.len > 0 && keep_secret(n, got);
	if (got->placeholder.len > 0)
		return false;
	if (a->kind == CONTROL_SECRET_RM)
		forget_secret(n, got->name);
	return true;
}

static int take_secret(struct sup *s, struct span payload, struct span packet, struct err *e)
{
	struct sup_egress *n = &s->net;
	struct control_secret got;

	if (control_parse_secret(CONTROL_SECRET_OK, payload, &got) < 0)
		return broke(&n->vault, e);
	if (got.serial < SUP_SERIAL_FIRST)
		return take_first_secret(n, &got) ? 0 : broke(&n->vault, e);
	if (n->asking.kind == 0 || !take_asked_secret(n, &got))
		return broke(&n->vault, e);
	sup_asked(s, packet);
	return 0;
}

static int take_secret_bad(struct sup *s, struct span payload, struct span packet, struct err *e)
{
	struct sup_egress *n = &s->net;
	struct control_text got;
	const char *what = "the secrets of the sandbox that it is a fork of";

	if (control_parse_text(payload, &got) < 0)
		return broke(&n->vault, e);
	if (got.number >= SUP_SERIAL_FIRST) {
		if (n->asking.kind == 0 || n->asking.kind == CONTROL_POLICY ||
		    got.number != n->asking.number)
			return broke(&n->vault, e);
		sup_asked(s, packet);
		return 0;
	}
	if (n->answers_due == 0 && !n->import_due)
		return broke(&n->vault, e);
	if (got.number > 0 && got.number <= n->secret_count)
		what = n->secrets[got.number - 1].name;
	else if (got.number == SUP_SERIAL_ROOTS)
		what = "the certificates to be trusted";
	return refused(what, got.why, e);
}

/* --- the policy --- */

int sup_write_policy(struct sup *s, struct span tlv, struct err *e)
{
	_own_fd_ int fd = -1;
	int r = fd_openat(s->dir_fd, POLICY_ASIDE, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600,
	                  &fd, e);

	/* not fsynced: it means nothing once the supervisor is gone */
	if (r == 0)
		r = fd_write_all(fd, tlv.at, tlv.len, e);
	if (r == 0 && renameat(s->dir_fd, POLICY_ASIDE, s->dir_fd, EGRESS_POLICY_FILE) < 0)
		r = err_sys(e, "keep the policy");
	return r;
}

static int take_policy(struct sup *s, struct span payload, struct err *e)
{
	struct sup_egress *n = &s->net;
	struct sup_asking *a = &n->asking;
	uint8_t room[CONTROL_PACKET_MAX];
	uint32_t generation;
	struct buf b;

	if (control_parse_u32(payload, &generation) < 0)
		return broke(&n->vault, e);
	if (generation == 1 && n->generation == 0 && n->answers_due > 0) {
		n->generation = generation;
		n->answers_due--;
		return 0;
	}
	if (a->kind != CONTROL_POLICY || generation != a->number)
		return broke(&n->vault, e);
	policy_free(n->before);
	n->before = n->policy;
	n->policy = steal_ptr(&a->policy);
	n->generation = generation;
	/* a full disk: a fork is rather to find no policy than one of before */
	if (sup_write_policy(s, span_of(a->tlv, a->tlv_len), NULL) < 0)
		(void)unlinkat(s->dir_fd, EGRESS_POLICY_FILE, 0);
	buf_init(&b, room, sizeof(room));
	control_put_u32(&b, CONTROL_POLICY_OK, generation);
	sup_asked(s, buf_span(&b));
	return 0;
}

static int take_policy_bad(struct sup *s, struct span payload, struct err *e)
{
	struct sup_egress *n = &s->net;
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_text got;
	struct buf b;

	if (control_parse_text(payload, &got) < 0)
		return broke(&n->vault, e);
	if (got.number == 1 && n->generation == 0 && n->answers_due > 0)
		return refused("the policy", got.why, e);
	if (n->asking.kind != CONTROL_POLICY || got.number != n->asking.number)
		return broke(&n->vault, e);
	buf_init(&b, room, sizeof(room));
	control_put_text(&b, CONTROL_POLICY_BAD, n->generation, got.why);
	sup_asked(s, buf_span(&b));
	return 0;
}

/* --- records --- */

/* The command that alone runs, or 0. */
static uint32_t only_exec(const struct sup *s)
{
	uint32_t found = 0;

	for (size_t i = 0; i < SUP_STREAMS_MAX; i++) {
		const struct sup_stream *st = &s->streams[i];

		if (!st->used || !st->started || st->kind == SUP_FILES)
			continue;
		if (found > 0)
			return 0;
		found = st->agent_id;
	}
	return found;
}

static struct span rule_of(const struct sup_egress *n, const struct egress_record *r)
{
	if (n->policy && policy_generation(n->policy) == r->generation)
		return policy_rule_origin(n->policy, r->rule);
	if (n->before && policy_generation(n->before) == r->generation)
		return policy_rule_origin(n->before, r->rule);
	return span_of(NULL, 0);
}

static int kill_for(const struct egress_record *r, struct err *e)
{
	char host[4 * CONTROL_HOST_MAX + 1];
	struct buf b;

	buf_init(&b, host, sizeof(host));
	buf_put_escaped(&b, r->host);
	if (r->reason == POLICY_VALUE_GUESSED)
		return err_set(e, -EPERM,
		               "the value of secret %.*s was guessed at%s%s, and the policy ends "
		               "the sandbox for that",
		               (int)r->secret.len, (const char *)r->secret.at,
		               b.len > 0 ? ", at " : "", buf_cstr(&b));
	return err_set(e, -EPERM,
	               "the placeholder of secret %.*s was sent where it may not be%s%s, and the "
	               "policy ends the sandbox for that",
	               (int)r->secret.len, (const char *)r->secret.at, b.len > 0 ? ": to " : "",
	               buf_cstr(&b));
}

/* The middle of a record that grew too long. */
static void say_dropped(struct sup *s)
{
	struct sup_egress *n = &s->net;
	const struct egress_record r = {
		.event = EGRESS_EVENT_LOST,
		.layer = EGRESS_LAYER_TCP,
		.generation = n->generation,
		.rule = POLICY_RULE_NONE,
		.count = n->log.dropped < UINT32_MAX ? (uint32_t)n->log.dropped : UINT32_MAX,
	};
	const struct egress_line l = {
		.realtime_ns = clock_real_ns(), .sandbox = s->id, .by = "supervisor", .record = &r
	};
	struct buf b;

	if (n->log.dropped == 0)
		return;
	n->log.dropped = 0;
	buf_init(&b, n->line, sizeof(n->line));
	egress_line_put(&b, &l);
	egress_log_put(&n->log, buf_span(&b));
}

static int take_record(struct sup *s, struct sup_companion *c, struct span payload, struct err *e)
{
	struct sup_egress *n = &s->net;
	struct egress_record r;
	struct egress_line l = {
		.realtime_ns = clock_real_ns(), .sandbox = s->id, .by = c->name, .record = &r
	};
	struct buf b;

	if (control_parse_record(payload, &r) < 0 || r.reason >= POLICY_REASONS)
		return broke(c, e);
	if (r.event == EGRESS_EVENT_LOST)
		n->records_lost += r.count;
	l.rule = rule_of(n, &r);
	l.exec = only_exec(s);
	buf_init(&b, n->line, sizeof(n->line));
	egress_line_put(&b, &l);
	egress_log_put(&n->log, buf_span(&b));
	say_dropped(s);
	return r.flags & EGRESS_RECORD_KILL ? kill_for(&r, e) : 0;
}

/* --- counters --- */

static int take_stats(struct sup *s, struct sup_companion *c, struct span payload, struct err *e)
{
	struct sup_counters *k = &c->counters;
	struct control_stats got;

	if (control_parse_stats(payload, &got) < 0 || c->stats_serial == 0 ||
	    got.serial != c->stats_serial)
		return broke(c, e);
	c->stats_serial = 0;
	k->known = true;
	k->count = got.count;
	for (unsigned i = 0; i < got.count; i++) {
		copy_text(k->item[i].name, got.item[i].name);
		k->item[i].value = got.item[i].value;
	}
	if (s->state != SUP_ENDING)
		sup_info_step(s);
	return 0;
}

static void ask(struct sup *s, struct sup_companion *c)
{
	uint8_t room[CONTROL_HEADER_BYTES + 4];
	const uint32_t serial = ++s->net.serial_last;
	struct buf b;

	if (!c->ready || c->stats_serial != 0)
		return;
	buf_init(&b, room, sizeof(room));
	control_put_u32(&b, CONTROL_STATS, serial);
	if (control_send(c->c.control_fd, buf_span(&b), -1) == 0)
		c->stats_serial = serial;
}

void sup_ask_counters(struct sup *s)
{
	if (!s->spec.network)
		return;
	ask(s, &s->net.gate);
	ask(s, &s->net.vault);
}

bool sup_counters_due(const struct sup *s)
{
	return s->net.gate.stats_serial != 0 || s->net.vault.stats_serial != 0;
}

void sup_forget_counters(struct sup *s)
{
	s->net.gate.counters.known = s->net.gate.stats_serial == 0;
	s->net.vault.counters.known = s->net.vault.stats_serial == 0;
}

/* True: it knows. One that has ended is noticed as such. */
static bool say_rest(struct sup_companion *c, bool rests)
{
	uint8_t room[CONTROL_HEADER_BYTES + 4];
	struct buf b;
	int r;

	if (!c->ready || c->rests == rests)
		return true;
	buf_init(&b, room, sizeof(room));
	control_put_u32(&b, CONTROL_REST, rests ? 1 : 0);
	r = control_send(c->c.control_fd, buf_span(&b), -1);
	if (r == 0)
		c->rests = rests;
	return r == 0 || r == -EPIPE;
}

static void on_rest_again(uv_timer_t *t);

static void say_rest_to_both(struct sup *s)
{
	struct sup_egress *n = &s->net;
	bool gate = say_rest(&n->gate, n->rests);
	bool vault = say_rest(&n->vault, n->rests);
	struct sup_companion *deaf = gate ? &n->vault : &n->gate;

	if (gate && vault) {
		(void)uv_timer_stop(&s->rest_timer);
		return;
	}
	if (++n->rest_tries < SUP_REST_TRIES) {
		uv_update_time(&s->loop);
		(void)uv_timer_start(&s->rest_timer, on_rest_again, SUP_REST_AGAIN_MS, 0);
		return;
	}
	sup_end(s, deaf->reason, 125, "%s does not read what it is told", deaf->c.words);
}

static void on_rest_again(uv_timer_t *t)
{
	say_rest_to_both(t->data);
}

void sup_say_rest(struct sup *s, bool rests)
{
	if (!s->spec.network)
		return;
	s->net.rests = rests;
	s->net.rest_tries = 0;
	say_rest_to_both(s);
}

/* --- what they say --- */

int sup_egress_packet(struct sup *s, struct sup_companion *from, struct span packet, struct err *e)
{
	struct control_packet p;

	if (control_parse_packet(packet, from->side, &p) < 0 ||
	    (!from->ready && p.kind != CONTROL_READY))
		return broke(from, e);
	switch (p.kind) {
	case CONTROL_READY:
		return take_ready(s, from, p.payload, e);
	case CONTROL_POLICY_OK:
		return take_policy(s, p.payload, e);
	case CONTROL_POLICY_BAD:
		return take_policy_bad(s, p.payload, e);
	case CONTROL_SECRET_OK:
		return take_secret(s, p.payload, packet, e);
	case CONTROL_SECRET_BAD:
		return take_secret_bad(s, p.payload, packet, e);
	case CONTROL_STATS_OK:
		return take_stats(s, from, p.payload, e);
	case CONTROL_RECORD:
		return take_record(s, from, p.payload, e);
	default: /* the table lets nobody else through */
		return broke(from, e);
	}
}

/* --- what is told of it --- */

static void put_ports(struct buf *b, const struct sup_egress *n)
{
	buf_put_str(b, ",\"ports\":[");
	for (unsigned i = 0; i < n->port_count; i++) {
		const struct control_accepted *at = &n->ports[i].at;
		char text[INET6_ADDRSTRLEN] = "";

		(void)inet_ntop(at->family == 4 ? AF_INET : AF_INET6, at->addr, text, sizeof(text));
		buf_printf(b, "%s{\"address\":\"%s\",\"host\":%u,\"guest\":%u}", i > 0 ? "," : "",
		           text, at->port, at->guest_port);
	}
	buf_put_u8(b, ']');
}

static void put_counters(struct buf *b, const struct sup_companion *c)
{
	buf_printf(b, "\"%s\":", c->name);
	if (!c->counters.known) {
		buf_put_str(b, "null");
		return;
	}
	buf_put_u8(b, '{');
	for (unsigned i = 0; i < c->counters.count; i++)
		buf_printf(b, "%s\"%s\":%" PRIu64, i > 0 ? "," : "", c->counters.item[i].name,
		           c->counters.item[i].value > INT64_MAX ? (uint64_t)INT64_MAX
		                                                 : c->counters.item[i].value);
	buf_put_u8(b, '}');
}

void sup_put_egress(struct buf *b, const struct sup *s)
{
	const struct sup_egress *n = &s->net;
	const uint8_t *digest;

	if (!s->spec.network || !n->policy) {
		buf_put_str(b, "null");
		return;
	}
	digest = policy_digest(n->policy);
	buf_printf(b, "{\"generation\":%" PRIu32 ",\"digest\":\"", n->generation);
	for (unsigned i = 0; i < 32; i++)
		buf_printf(b, "%02x", digest[i]);
	buf_printf(b, "\",\"rules\":%u,\"secrets\":[", policy_rules(n->policy));
	for (unsigned i = 0; i < n->secret_count; i++)
		buf_printf(b, "%s\"%s\"", i > 0 ? "," : "", n->secrets[i].name);
	buf_put_u8(b, ']');
	put_ports(b, n);
	buf_put_str(b, ",\"counters\":{");
	put_counters(b, &n->gate);
	buf_put_u8(b, ',');
	put_counters(b, &n->vault);
	buf_printf(b, "},\"records\":%" PRIu64 ",\"records_lost\":%" PRIu64 "}", n->log.written,
	           n->log.lost + n->records_lost);
}
