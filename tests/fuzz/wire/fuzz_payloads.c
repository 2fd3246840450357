/*
 * Every payload parser on the same bytes: the input's first byte picks one. Contracts: 0 or
 * -EBADMSG; on failure the output is untouched; on success its texts lie within the input, hold no
 * NUL and keep their maxima, its lists have as many strings as they say, and writing the result
 * again gives the same bytes.
 */
#include "../../unit/wire/samples.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FRAME_ROOM = WIRE_FRAME_MAX + 64 };

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void text_ok(struct span text, struct span in, size_t len_max)
{
	must(text.len <= len_max);
	if (text.len == 0)
		return;
	must(text.at >= in.at && text.at + text.len <= in.at + in.len);
	must(!memchr(text.at, 0, text.len));
}

static void list_ok(struct span list, struct span in, uint32_t count)
{
	struct span s;

	must(count <= WIRE_ARGS_MAX);
	for (uint32_t i = 0; i < count; i++) {
		must(wire_next_str(&list, &s));
		text_ok(s, in, UINT16_MAX);
	}
	must(!wire_next_str(&list, &s) && list.len == 0);
}

static void texts_ok(enum payload_kind kind, const union any_payload *p, struct span in)
{
	if (kind == P_HELLO) {
		text_ok(p->hello.agent_version, in, WIRE_NAME_MAX);
		text_ok(p->hello.kernel, in, WIRE_NAME_MAX);
	} else if (kind == P_IDENTITY) {
		text_ok(p->identity.hostname, in, WIRE_HOSTNAME_MAX);
		text_ok(p->identity.trust.pem, in, WIRE_CERT_MAX);
		must(!p->identity.has_trust || wire_parse_cert(p->identity.trust.pem) == 0);
		text_ok(p->identity.workspace.path, in, WIRE_PATH_MAX - 1);
		must(!p->identity.has_workspace ||
		     wire_parse_mount_point(p->identity.workspace.path) == 0);
		must(!p->identity.has_network || p->identity.network.prefix4 <= 30);
	} else if (kind == P_TRUSTED) {
		text_ok(p->trusted.cert, in, WIRE_NAME_MAX);
		text_ok(p->trusted.bundle, in, WIRE_NAME_MAX);
	} else if (kind == P_EXEC) {
		must(p->exec.argc > 0 && p->exec.rlimit_count <= WIRE_RLIMITS_MAX);
		text_ok(p->exec.user, in, WIRE_USER_MAX);
		text_ok(p->exec.cwd, in, WIRE_PATH_MAX);
		list_ok(p->exec.argv, in, p->exec.argc);
		list_ok(p->exec.envv, in, p->exec.envc);
	} else if (kind == P_FAIL) {
		text_ok(p->fail.text, in, WIRE_TEXT_MAX);
	} else if (kind == P_FILE) {
		text_ok(p->file.path, in, WIRE_PATH_MAX);
		text_ok(p->file.user, in, WIRE_USER_MAX);
	} else if (kind == P_SNAPSHOT) {
		must(p->snapshot.flags <= WIRE_SNAPSHOT_REPLACE);
		text_ok(p->snapshot.name, in, WIRE_NAME_MAX);
	} else if (kind == P_TEXT) {
		text_ok(p->text, in, WIRE_TEXT_MAX);
	}
}

/* The writer's frame around the same bytes, for the kinds whose writer takes the parsed form. */
static bool put_again(enum payload_kind kind, const union any_payload *p, struct buf *out)
{
	if (kind == P_HELLO && p->hello.version == WIRE_VERSION)
		wire_put_hello(out, 1, &p->hello);
	else if (kind == P_IDENTITY)
		wire_put_identity(out, 1, &p->identity);
	else if (kind == P_TRUSTED)
		wire_put_trusted(out, 1, &p->trusted);
	else if (kind == P_FAIL)
		wire_put_fail(out, WIRE_RESULT, 1, 1, &p->fail);
	else if (kind == P_EXIT)
		wire_put_exit(out, 1, 1, &p->exit);
	else if (kind == P_FILE)
		wire_put_file(out, WIRE_GET, 1, 1, &p->file);
	else if (kind == P_EVENT)
		wire_put_event(out, 1, &p->event);
	else if (kind == P_SNAPSHOT)
		wire_put_snapshot(out, 1, &p->snapshot);
	else if (kind == P_STATS)
		wire_put_stats(out, 1, &p->stats);
	else
		return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t room[FRAME_ROOM];
	union any_payload got;
	enum payload_kind kind;
	struct span in;
	struct buf out;
	int r;

	if (size < 1 || size - 1 > WIRE_EXEC_MAX)
		return 0;
	kind = (enum payload_kind)(P_HELLO + data[0] % (P_KIND_COUNT - P_HELLO));
	in = span_of(data + 1, size - 1);
	memset(&got, 0xa5, sizeof(got));
	r = any_parse(kind, in, &got);
	must(r == 0 || r == -EBADMSG);
	if (r < 0) {
		must(any_untouched(&got));
		return 0;
	}
	texts_ok(kind, &got, in);
	buf_init(&out, room, sizeof(room));
	if (put_again(kind, &got, &out)) {
		must(buf_ok(&out) && out.len == WIRE_HEADER_BYTES + in.len);
		must(in.len == 0 || memcmp(room + WIRE_HEADER_BYTES, in.at, in.len) == 0);
	}
	return 0;
}
