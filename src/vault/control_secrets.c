/* What the supervisor says of values and of roots. */
#include "vault/inner.h"

#include <errno.h>
#include <string.h>
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

/* All values, to the vault of a copy: it reads them when it starts. */
static int export_all(struct vault *v, int fd, struct err *e)
{
	uint8_t room[CONTROL_PACKET_MAX];
	unsigned at = 0;

	for (;;) {
		struct control_secret s = { 0 };
		_own_fd_ int value = -1;
		struct buf b;
		int r = store_export(v->store, &at, &s.name, &value, e);

		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return r;
		buf_init(&b, room, sizeof(room));
		control_put_secret(&b, CONTROL_SECRET, &s);
		r = control_send(fd, buf_span(&b), value);
		if (r < 0)
			return err_set(e, r, "a value could not be handed on");
	}
}

/* 0 with a value taken and its name noted, -EPIPE at the end. */
static int import_one(struct vault *v, int fd, uint8_t *ret_name, uint8_t *ret_len, struct err *e)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_packet p;
	struct control_secret s;
	_own_fd_ int value = -1;
	struct span packet;
	int r = control_recv(fd, room, &packet, &value);

	if (r == -EPIPE)
		return r;
	if (r < 0 || value < 0 || control_parse_packet(packet, CONTROL_FROM_SUPERVISOR, &p) < 0 ||
	    p.kind != CONTROL_SECRET || control_parse_secret(p.kind, p.payload, &s) < 0)
		return err_set(e, -EBADMSG, "the values that were handed on are not whole");
	r = store_read(v->store, s.name, value, e);
	if (r < 0)
		return r == -EPIPE ? -EIO : r;
	memcpy(ret_name, s.name.at, s.name.len);
	*ret_len = (uint8_t)s.name.len;
	return 0;
}

struct import {
	unsigned count;
	uint8_t len[CONTROL_SECRETS_MAX];
	uint8_t name[CONTROL_SECRETS_MAX][CONTROL_SECRET_NAME_MAX];
};

/* Of what was taken nothing stays, if not all could be. */
static int import_all(struct vault *v, int fd, struct import *got, struct err *e)
{
	int r = 0;

	while (r == 0 && got->count < CONTROL_SECRETS_MAX) {
		unsigned i = got->count;

		r = import_one(v, fd, got->name[i], &got->len[i], e);
		got->count += r == 0;
	}
	if (r == 0 || r == -EPIPE)
		return 0;
	while (got->count > 0) {
		unsigned i = --got->count;

		(void)!store_remove(v->store, span_of(got->name[i], got->len[i]));
	}
	return r;
}

static int on_export(struct vault *v, struct span payload, int fd)
{
	struct err e = { 0 };
	uint32_t serial;

	if (control_parse_u32(payload, &serial) < 0)
		return -EBADMSG;
	if (export_all(v, fd, &e) < 0)
		say_bad(v, serial, e.text);
	else
		say_ok(v, serial, span_of(NULL, 0));
	return 0;
}

static int on_import(struct vault *v, struct span payload, int fd)
{
	struct import got = { 0 };
	struct err e = { 0 };
	uint32_t serial;

	if (control_parse_u32(payload, &serial) < 0)
		return -EBADMSG;
	if (import_all(v, fd, &got, &e) < 0) {
		say_bad(v, serial, e.text);
		return 0;
	}
	for (unsigned i = 0; i < got.count; i++)
		say_ok(v, serial, span_of(got.name[i], got.len[i]));
	say_ok(v, serial, span_of(NULL, 0));
	return 0;
}

int control_secrets(struct vault *v, const struct control_packet *p, int fd)
{
	switch (p->kind) {
	case CONTROL_SECRET:
		return on_secret(v, p->payload, fd);
	case CONTROL_SECRET_RM:
		return on_remove(v, p->payload);
	case CONTROL_ROOTS:
		return on_roots(v, p->payload, fd);
	case CONTROL_EXPORT:
		return on_export(v, p->payload, fd);
	case CONTROL_IMPORT:
		return on_import(v, p->payload, fd);
	default:
		return -EBADMSG;
	}
}
