#include "vault/inner.h"

#include "vault/request.h"
#include "vault/upstream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/*
 * Theory of operation
 *
 * Answers are kept until there is room for them: there are few, and the supervisor waits for each.
 * Records come as often as the guest likes and are never waited for: beyond VAULT_RECORDS_MAX they
 * are counted, and the count is the next record that finds room (LIM-6).
 *
 * A policy is in force here as soon as it is loaded, but said to be only when the gate judges by it
 * as well. Until then the stricter of the two decides, since both have to allow.
 */

_Static_assert((int)EGRESS_POLICY_MAX == (int)POLICY_TLV_MAX, "what compiles is taken");

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

/* --- sending --- */

static bool send_waiting(struct vault *v)
{
	while (v->said_first) {
		struct said *s = v->said_first;
		int r = control_send(v->control_fd, span_of(s->bytes, s->len), -1);

		if (r == -EAGAIN)
			return false;
		if (r == -EPIPE) /* it has ended, which reading tells as well */
			return false;
		if (r < 0) {
			vault_end(v, r, "speak to the supervisor: %s", strerror(-r));
			return false;
		}
		v->said_first = s->next;
		if (!s->next)
			v->said_last = &v->said_first;
		v->said_count--;
		free(s);
	}
	return true;
}

static void put_lost(struct vault *v, struct buf *b)
{
	const struct egress_record lost = {
		.event = EGRESS_EVENT_LOST,
		.layer = EGRESS_LAYER_HTTP,
		.generation = v->generation,
		.rule = POLICY_RULE_NONE,
		.count = v->lost,
	};

	control_put_record(b, &lost);
}

static void wait_for(struct vault *v, struct span packet)
{
	struct said *s = malloc(sizeof(*s) + packet.len);

	if (!s) {
		vault_end(v, -ENOMEM, "out of memory");
		return;
	}
	s->next = NULL;
	s->len = packet.len;
	memcpy(s->bytes, packet.at, packet.len);
	*v->said_last = s;
	v->said_last = &s->next;
	v->said_count++;
}

void control_say(struct vault *v, struct span packet)
{
	wait_for(v, packet);
	(void)send_waiting(v);
	control_watch_set(v);
}

void control_record(struct vault *v, const struct egress_record *r)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf b;

	v->refused += r->event == EGRESS_EVENT_REFUSED || r->event == EGRESS_EVENT_VIOLATION;
	buf_init(&b, room, sizeof(room));
	(void)send_waiting(v);
	if (v->said_count >= VAULT_RECORDS_MAX) {
		v->lost++;
		control_watch_set(v);
		return;
	}
	if (v->lost > 0) {
		put_lost(v, &b);
		v->lost = 0;
		wait_for(v, buf_span(&b));
		buf_reset(&b);
	}
	control_put_record(&b, r);
	if (!buf_ok(&b)) {
		v->lost++;
		return;
	}
	control_say(v, buf_span(&b));
}

void control_watch_set(struct vault *v)
{
	if (v->control_watch)
		watch_set(v->control_watch, true, v->said_first != NULL);
}

void control_fini(struct vault *v)
{
	while (v->said_first) {
		struct said *s = v->said_first;

		v->said_first = s->next;
		free(s);
	}
	own_close_fd(&v->control_fd);
}

static void say_number(struct vault *v, uint8_t kind, uint32_t number)
{
	uint8_t room[CONTROL_HEADER_BYTES + 4];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	control_put_u32(&b, kind, number);
	control_say(v, buf_span(&b));
}

static void say_bad(struct vault *v, uint8_t kind, uint32_t number, const char *why)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	control_put_text(&b, kind, number, span_str(why));
	control_say(v, buf_span(&b));
}

void control_say_ready(struct vault *v)
{
	uint8_t room[CONTROL_PACKET_MAX];
	const struct control_ready ready = { .name_hash = 0 };
	struct buf b;

	buf_init(&b, room, sizeof(room));
	control_put_ready(&b, &ready);
	control_say(v, buf_span(&b));
}

/* --- policy --- */

/* All of a memfd that nobody can change any more; ret_bytes is the caller's to free. */
static int read_sealed(int fd, size_t max, uint8_t **ret_bytes, size_t *ret_len, struct err *e)
{
	_own_free_ uint8_t *bytes = NULL;
	int seals = fcntl(fd, F_GET_SEALS);
	off_t size;
	ssize_t n;

	if (seals < 0 || (seals & SEALS) != SEALS)
		return err_set(e, -EINVAL, "not in a sealed memory file");
	size = lseek(fd, 0, SEEK_END);
	if (size <= 0 || (uint64_t)size > max)
		return err_set(e, -EFBIG, "has %lld bytes, and 1 to %zu are allowed",
		               (long long)size, max);
	bytes = malloc((size_t)size);
	if (!bytes)
		return err_set(e, -ENOMEM, "out of memory");
	n = pread(fd, bytes, (size_t)size, 0);
	if (n != size)
		return err_set(e, -EIO, "cannot be read whole");
	*ret_len = (size_t)n;
	*ret_bytes = steal_ptr(&bytes);
	return 0;
}

static int load(struct vault *v, uint32_t generation, int fd, struct err *e)
{
	_own_(policy_free) struct policy *p = NULL;
	_own_free_ uint8_t *bytes = NULL;
	size_t len = 0;
	int r = read_sealed(fd, EGRESS_POLICY_MAX, &bytes, &len, e);

	if (r == 0)
		r = policy_load(span_of(bytes, len), &p, e);
	if (r < 0)
		return r;
	if (policy_generation(p) != generation)
		return err_set(e, -EINVAL, "it is another generation than was said");
	if (v->told_count > 0 && generation != v->told_first + v->told_count)
		return err_set(e, -EBUSY, "the gate is still taking generation %u", v->told_first);
	egress_put_policy(peer_begin(v), generation, span_of(bytes, len));
	if (!peer_send(v, -1))
		return err_set(e, -EBUSY, "the gate does not read");
	if (v->told_count++ == 0)
		v->told_first = generation;
	alarm_set(v->policy_limit, VAULT_POLICY_MS);
	vault_adopt(v, steal_ptr(&p), generation);
	return 0;
}

void control_policy_taken(struct vault *v, uint32_t generation)
{
	if (v->told_count == 0 || generation != v->told_first) {
		vault_end(v, -EPROTO, "the gate took a policy that it was not told");
		return;
	}
	v->told_first++;
	if (--v->told_count == 0)
		alarm_stop(v->policy_limit);
	say_number(v, CONTROL_POLICY_OK, generation);
}

void control_policy_late(void *user)
{
	vault_end(user, -ETIMEDOUT, "the gate does not take its policy");
}

static void on_policy(struct vault *v, struct span payload, int fd)
{
	struct err e = { 0 };
	uint32_t generation;

	if (control_parse_u32(payload, &generation) < 0) {
		vault_end(v, -EBADMSG, "the supervisor's POLICY is damaged");
		return;
	}
	if (load(v, generation, fd, &e) < 0)
		say_bad(v, CONTROL_POLICY_BAD, generation, e.text);
}

/* --- the rest --- */

static void on_stats(struct vault *v, struct span payload)
{
	struct control_stats s = { 0 };
	uint8_t room[CONTROL_PACKET_MAX];
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{ "streams", v->order.count },
		{ "resolves", v->stats.resolves },
		{ "connects", v->stats.connects },
		{ "requests", v->stats.requests },
		{ "reused", v->stats.reused },
		{ "sent_bytes", v->stats.sent_bytes },
		{ "received_bytes", v->stats.received_bytes },
		{ "scrubbed", v->stats.scrubbed },
		{ "violations", v->stats.violations },
		{ "refused", v->refused },
		{ "flows", v->flows.count },
		{ "pins", pins_count(v->pins) },
		{ "open_requests", v->requests.count },
		{ "held_bytes", v->held_bytes },
		{ "upstreams", v->upstream_count },
		{ "upstreams_idle", upstream_idle(v) },
		{ "secrets", store_count(v->store) },
	};
	struct buf b;

	if (control_parse_u32(payload, &s.serial) < 0) {
		vault_end(v, -EBADMSG, "the supervisor's STATS is damaged");
		return;
	}
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		s.item[s.count++] = (struct control_stat){ span_str(rows[i].name), rows[i].value };
	buf_init(&b, room, sizeof(room));
	control_put_stats(&b, &s);
	control_say(v, buf_span(&b));
}

static void on_rest(struct vault *v, struct span payload)
{
	uint32_t rests;

	if (control_parse_u32(payload, &rests) < 0 || rests > 1) {
		vault_end(v, -EBADMSG, "the supervisor's REST is damaged");
		return;
	}
	v->resting = rests == 1;
	if (!v->resting)
		request_touch_all(v);
}

static void on_packet(struct vault *v, const struct control_packet *p, int fd)
{
	switch (p->kind) {
	case CONTROL_POLICY:
		on_policy(v, p->payload, fd);
		return;
	case CONTROL_STATS:
		on_stats(v, p->payload);
		return;
	case CONTROL_REST:
		on_rest(v, p->payload);
		return;
	default:
		if (control_secrets(v, p, fd) < 0)
			vault_end(v, -EBADMSG, "the supervisor's %s is damaged",
			          control_kind_name(p->kind));
	}
}

static void read_packet(struct vault *v, bool *ret_more)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_packet p;
	_own_fd_ int fd = -1;
	struct span packet;
	int r = control_recv(v->control_fd, room, &packet, &fd);

	*ret_more = false;
	if (r == -EAGAIN)
		return;
	if (r == -EPIPE) {
		vault_end(v, 0, "the supervisor ended");
		return;
	}
	if (r < 0 || control_parse_packet(packet, CONTROL_FROM_SUPERVISOR, &p) < 0 ||
	    control_carries_fd(p.kind) != (fd >= 0) || p.kind == CONTROL_ACCEPTED) {
		vault_end(v, -EBADMSG, "the supervisor said what it may not");
		return;
	}
	on_packet(v, &p, fd);
	*ret_more = !v->ended;
}

void control_readable(void *user, bool readable, bool writable)
{
	struct vault *v = user;
	bool more = readable;

	if (writable)
		(void)send_waiting(v);
	for (unsigned i = 0; more && i < VAULT_PACKETS_AT_ONCE; i++)
		read_packet(v, &more);
	if (!v->ended)
		control_watch_set(v);
}
