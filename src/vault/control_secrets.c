/* What the supervisor says of values and of roots. */
#include "vault/inner.h"

#include "vault/upstream.h"

#include <errno.h>
#include <unistd.h>

static void say_ok(struct vault *v, uint32_t serial, struct span name)
{
	struct control_secret s = { .serial = serial, .name = name };
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf b;

	if (name.len > 0)
		s.placeholder = store_placeholder(v->store, name);
	buf_init(&b, room, sizeof(room));
	control_put_secret(&b, CONTROL_SECRET_OK, &s);
	control_say(v, buf_span(&b));
}

static void say_bad(struct vault *v, uint32_t serial, const char *why)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	control_put_text(&b, CONTROL_SECRET_BAD, serial, span_str(why));
	control_say(v, buf_span(&b));
}

static int on_secret(struct vault *v, struct span payload, int fd)
{
	struct control_secret s;
	struct err e = { 0 };

	if (control_parse_secret(CONTROL_SECRET, payload, &s) < 0)
		return -EBADMSG;
	if (store_read(v->store, s.name, fd, &e) < 0)
		say_bad(v, s.serial, e.text);
	else
		say_ok(v, s.serial, s.name);
	return 0;
}

/* Answered without a placeholder: the name means nothing any more. */
static int on_remove(struct vault *v, struct span payload)
{
	struct control_secret s, ok = { 0 };
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf b;

	if (control_parse_secret(CONTROL_SECRET_RM, payload, &s) < 0)
		return -EBADMSG;
	if (store_remove(v->store, s.name) < 0) {
		say_bad(v, s.serial, "there is no such secret");
		return 0;
	}
	ok.serial = s.serial;
	ok.name = s.name;
	buf_init(&b, room, sizeof(room));
	control_put_secret(&b, CONTROL_SECRET_OK, &ok);
	control_say(v, buf_span(&b));
	return 0;
}

static int read_roots(struct vault *v, int fd, struct err *e)
{
	_own_free_ uint8_t *bytes = malloc(VAULT_ROOTS_MAX);
	size_t len = 0;

	if (!bytes)
		return err_set(e, -ENOMEM, "out of memory");
	for (;;) {
		ssize_t n = pread(fd, bytes + len, VAULT_ROOTS_MAX - len, (off_t)len);

		if (n < 0)
			return err_sys(e, "read the roots");
		if (n == 0)
			break;
		len += (size_t)n;
		if (len == VAULT_ROOTS_MAX)
			return err_set(e, -EFBIG, "over %d bytes of roots", VAULT_ROOTS_MAX);
	}
	return roots_add(v->roots, span_of(bytes, len), e);
}

static int on_roots(struct vault *v, struct span payload, int fd)
{
	struct err e = { 0 };
	uint32_t serial;

	if (control_parse_u32(payload, &serial) < 0)
		return -EBADMSG;
	if (read_roots(v, fd, &e) < 0)
		say_bad(v, serial, e.text);
	else
		say_ok(v, serial, span_of(NULL, 0));
	return 0;
}

int control_secrets(struct vault *v, const struct control_packet *p, int fd)
{
	uint32_t serial;

	switch (p->kind) {
	case CONTROL_SECRET:
		return on_secret(v, p->payload, fd);
	case CONTROL_SECRET_RM:
		return on_remove(v, p->payload);
	case CONTROL_ROOTS:
		return on_roots(v, p->payload, fd);
	default:
		if (control_parse_u32(p->payload, &serial) < 0)
			return -EBADMSG;
		say_bad(v, serial, "values do not leave this vault");
		return 0;
	}
}
