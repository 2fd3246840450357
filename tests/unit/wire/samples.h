/*
 * samples: one good frame of every type, with the side that may send it and its payload's parser.
 */
#pragma once

#include "wire/wire.h"

#include <string.h>

enum { SAMPLE_BYTES_MAX = 4096, SAMPLE_STREAM = 7, SAMPLE_EPOCH = 3 };

/* Room for what any payload parser returns. */
union any_payload {
	struct wire_hello hello;
	struct wire_identity identity;
	struct wire_trusted trusted;
	struct wire_exec exec;
	struct wire_fail fail;
	struct wire_exit exit;
	struct wire_file file;
	struct wire_event event;
	struct wire_snapshot snapshot;
	struct wire_stats stats;
	uint8_t u8;
	uint32_t u32;
	uint64_t u64;
	struct span text;
	uint16_t size[2];
	uint8_t raw[1024];
};

enum payload_kind {
	P_NONE,
	P_HELLO,
	P_IDENTITY,
	P_EXEC,
	P_FAIL,
	P_EXIT,
	P_FILE,
	P_EVENT,
	P_STATS,
	P_U8,
	P_U32,
	P_U64,
	P_TEXT,
	P_RESIZE,
	P_SNAPSHOT,
	P_TRUSTED, /* the last: the corpora of fuzz_payloads count from the first */
	P_KIND_COUNT
};

struct sample {
	uint8_t type;
	enum wire_side from;
	enum payload_kind kind; /* P_NONE: empty, or bytes without a shape */
};

static const struct sample samples[] = {
	{ WIRE_HELLO, WIRE_FROM_AGENT, P_HELLO },
	{ WIRE_HELLO_OK, WIRE_FROM_HOST, P_U32 },
	{ WIRE_REFUSE, WIRE_FROM_HOST, P_TEXT },
	{ WIRE_FATAL, WIRE_FROM_AGENT, P_TEXT },
	{ WIRE_IDENTITY, WIRE_FROM_HOST, P_IDENTITY },
	{ WIRE_IDENTITY_OK, WIRE_FROM_AGENT, P_TRUSTED },
	{ WIRE_PING, WIRE_FROM_HOST, P_U64 },
	{ WIRE_PONG, WIRE_FROM_AGENT, P_U64 },
	{ WIRE_STATS, WIRE_FROM_HOST, P_NONE },
	{ WIRE_STATS_OK, WIRE_FROM_AGENT, P_STATS },
	{ WIRE_FREEZE, WIRE_FROM_HOST, P_NONE },
	{ WIRE_FREEZE_OK, WIRE_FROM_AGENT, P_NONE },
	{ WIRE_THAW, WIRE_FROM_HOST, P_NONE },
	{ WIRE_THAW_OK, WIRE_FROM_AGENT, P_NONE },
	{ WIRE_QUIESCE, WIRE_FROM_HOST, P_NONE },
	{ WIRE_QUIESCE_OK, WIRE_FROM_AGENT, P_NONE },
	{ WIRE_POWEROFF, WIRE_FROM_HOST, P_U32 },
	{ WIRE_EVENT, WIRE_FROM_AGENT, P_EVENT },
	{ WIRE_HOLD, WIRE_FROM_HOST, P_NONE },
	{ WIRE_HOLD_OK, WIRE_FROM_AGENT, P_NONE },
	{ WIRE_RELEASE, WIRE_FROM_HOST, P_U64 },
	{ WIRE_RELEASE_OK, WIRE_FROM_AGENT, P_NONE },
	{ WIRE_EXEC, WIRE_FROM_HOST, P_EXEC },
	{ WIRE_EXEC_OK, WIRE_FROM_AGENT, P_U32 },
	{ WIRE_EXEC_ERR, WIRE_FROM_AGENT, P_FAIL },
	{ WIRE_DATA, WIRE_FROM_HOST, P_NONE },
	{ WIRE_EOF, WIRE_FROM_HOST, P_NONE },
	{ WIRE_CREDIT, WIRE_FROM_AGENT, P_U32 },
	{ WIRE_RESIZE, WIRE_FROM_HOST, P_RESIZE },
	{ WIRE_SIGNAL, WIRE_FROM_HOST, P_U32 },
	{ WIRE_EXIT, WIRE_FROM_AGENT, P_EXIT },
	{ WIRE_PUT, WIRE_FROM_HOST, P_FILE },
	{ WIRE_GET, WIRE_FROM_HOST, P_FILE },
	{ WIRE_RESULT, WIRE_FROM_AGENT, P_FAIL },
	{ WIRE_RESET, WIRE_FROM_AGENT, P_U32 },
	{ WIRE_COLLECT, WIRE_FROM_HOST, P_NONE },
	{ WIRE_SIZE, WIRE_FROM_AGENT, P_U64 },
	{ WIRE_INFO, WIRE_FROM_COMMAND, P_NONE },
	{ WIRE_INFO_OK, WIRE_FROM_SUPERVISOR, P_NONE },
	{ WIRE_ATTACH, WIRE_FROM_COMMAND, P_U8 },
	{ WIRE_STOP, WIRE_FROM_COMMAND, P_U32 },
	{ WIRE_KILL, WIRE_FROM_COMMAND, P_U32 },
	{ WIRE_END, WIRE_FROM_SUPERVISOR, P_NONE },
	{ WIRE_WAIT, WIRE_FROM_COMMAND, P_NONE },
	{ WIRE_PROGRESS, WIRE_FROM_SUPERVISOR, P_TEXT },
	{ WIRE_SNAPSHOT, WIRE_FROM_COMMAND, P_SNAPSHOT },
	{ WIRE_PAUSE, WIRE_FROM_COMMAND, P_NONE },
	{ WIRE_RESUME, WIRE_FROM_COMMAND, P_NONE },
	{ WIRE_DONE, WIRE_FROM_SUPERVISOR, P_FAIL },
};

enum { SAMPLE_COUNT = sizeof(samples) / sizeof(samples[0]) };

static const struct wire_hello sample_hello = { .version = WIRE_VERSION,
	                                        .agent_version = { (const uint8_t *)"0.1.0", 5 },
	                                        .kernel = { (const uint8_t *)"6.12.1", 6 } };
#define SAMPLE_CERT                                                                                \
	"-----BEGIN CERTIFICATE-----\nMIIBdGVzdA+/QUJD\nREVGRw==\n-----END CERTIFICATE-----\n"
static const struct wire_trusted sample_trusted = { { (const uint8_t *)"/a/berm.crt", 11 },
	                                            { (const uint8_t *)"/b/all.pem", 10 } };
static const struct wire_identity sample_identity = {
	.realtime_ns = 1700000000123456789,
	.pids_max = 512,
	.memory_max = 1 << 28,
	.keep_stream = 1,
	.entropy = { 1, 2, 3 },
	.machine_id = { 9, 8, 7 },
	.hostname = { (const uint8_t *)"fork-1.x", 8 },
	.has_network = true,
	.has_trust = true,
	.has_workspace = true,
	.network = { .ip4 = { 100, 96, 0, 2 },
	             .router4 = { 100, 96, 0, 1 },
	             .dns4 = { 100, 96, 0, 1 },
	             .prefix4 = 30,
	             .prefix6 = 64,
	             .ip6 = { 0xfd, [15] = 2 },
	             .router6 = { 0xfd, [15] = 1 },
	             .mtu = 65520 },
	.trust = { .name_hash = 0x1a2b3c4d,
	           .pem = { (const uint8_t *)SAMPLE_CERT, sizeof(SAMPLE_CERT) - 1 } },
	.workspace = { .path = { (const uint8_t *)"/workspace", 10 } }
};
enum { SAMPLE_WORKSPACE_BYTES = 1 + 2 + 10 }; /* of it in the frame: its last */
static const struct wire_exec sample_exec = { .flags = WIRE_EXEC_TTY | WIRE_EXEC_STDIN,
	                                      .rows = 24,
	                                      .cols = 80,
	                                      .user = { (const uint8_t *)"1000:dev", 8 },
	                                      .cwd = { (const uint8_t *)"/srv", 4 },
	                                      .rlimit_count = 2,
	                                      .rlimits = { { 7, 1024, 4096 },
	                                                   { 3, 0, UINT64_MAX } } };
static const char *const sample_argv[] = { "sh", "-c", "", "echo \xff", NULL };
static const char *const sample_envv[] = { "A=1", "B=", NULL };
static const struct wire_fail sample_fail = { .code = 2,
	                                      .stage = WIRE_AT_EXEC,
	                                      .text = { (const uint8_t *)"no such file", 12 } };
static const struct wire_exit sample_exit = { 1, 9, 1000, 2000, 1 << 20 };
static const struct wire_file sample_file = { { (const uint8_t *)"/etc/x", 6 },
	                                      { (const uint8_t *)"root", 4 },
	                                      1 };
static const struct wire_event sample_event = { WIRE_EVENT_OOM, 1, 3 };
static const struct wire_snapshot sample_snapshot = { WIRE_SNAPSHOT_REPLACE,
	                                              { (const uint8_t *)"base", 4 } };
static const struct wire_stats sample_stats = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 };

static inline uint32_t sample_stream(uint8_t type)
{
	bool stream = (type >= WIRE_EXEC && type <= WIRE_SIZE) || type == WIRE_ATTACH;

	return stream ? SAMPLE_STREAM : 0;
}

static inline void sample_put_plain(struct buf *out, uint8_t type)
{
	uint8_t channel = type == WIRE_CREDIT ? WIRE_IN : 0;
	struct span body = span_of(NULL, 0);

	if (type == WIRE_DATA || type == WIRE_INFO_OK || type == WIRE_END)
		body = span_of("{\"bytes\": 0}\0\xff", 14);
	wire_put(out, type, channel, sample_stream(type), SAMPLE_EPOCH, body);
}

/* Appends the sample's frame with the writer of its payload. */
static inline void sample_put(struct buf *out, const struct sample *s)
{
	uint32_t stream = sample_stream(s->type);

	switch (s->kind) {
	case P_HELLO:
		wire_put_hello(out, SAMPLE_EPOCH, &sample_hello);
		break;
	case P_IDENTITY:
		wire_put_identity(out, SAMPLE_EPOCH, &sample_identity);
		break;
	case P_EXEC:
		wire_put_exec(out, stream, SAMPLE_EPOCH, &sample_exec, sample_argv, sample_envv);
		break;
	case P_FAIL:
		wire_put_fail(out, s->type, stream, SAMPLE_EPOCH, &sample_fail);
		break;
	case P_EXIT:
		wire_put_exit(out, stream, SAMPLE_EPOCH, &sample_exit);
		break;
	case P_FILE:
		wire_put_file(out, s->type, stream, SAMPLE_EPOCH, &sample_file);
		break;
	case P_EVENT:
		wire_put_event(out, SAMPLE_EPOCH, &sample_event);
		break;
	case P_TRUSTED:
		wire_put_trusted(out, SAMPLE_EPOCH, &sample_trusted);
		break;
	case P_SNAPSHOT:
		wire_put_snapshot(out, SAMPLE_EPOCH, &sample_snapshot);
		break;
	case P_STATS:
		wire_put_stats(out, SAMPLE_EPOCH, &sample_stats);
		break;
	case P_U8:
		wire_put_u8(out, s->type, stream, SAMPLE_EPOCH, 1);
		break;
	case P_U32:
		wire_put_u32(out, s->type, 0, stream, SAMPLE_EPOCH, 1);
		break;
	case P_U64:
		wire_put_u64(out, s->type, stream, SAMPLE_EPOCH, UINT64_C(0x1122334455667788));
		break;
	case P_TEXT:
		wire_put_text(out, s->type, SAMPLE_EPOCH, "a sentence");
		break;
	case P_RESIZE:
		wire_put_resize(out, stream, SAMPLE_EPOCH, 50, 132);
		break;
	case P_NONE:
	case P_KIND_COUNT:
		sample_put_plain(out, s->type);
		break;
	}
}

/* Runs the payload parser of `kind` with its result in ret. */
static inline int any_parse(enum payload_kind kind, struct span in, union any_payload *ret)
{
	switch (kind) {
	case P_HELLO:
		return wire_parse_hello(in, &ret->hello);
	case P_IDENTITY:
		return wire_parse_identity(in, &ret->identity);
	case P_EXEC:
		return wire_parse_exec(in, &ret->exec);
	case P_FAIL:
		return wire_parse_fail(in, &ret->fail);
	case P_EXIT:
		return wire_parse_exit(in, &ret->exit);
	case P_FILE:
		return wire_parse_file(in, &ret->file);
	case P_EVENT:
		return wire_parse_event(in, &ret->event);
	case P_TRUSTED:
		return wire_parse_trusted(in, &ret->trusted);
	case P_SNAPSHOT:
		return wire_parse_snapshot(in, &ret->snapshot);
	case P_STATS:
		return wire_parse_stats(in, &ret->stats);
	case P_U8:
		return wire_parse_u8(in, &ret->u8);
	case P_U32:
		return wire_parse_u32(in, &ret->u32);
	case P_U64:
		return wire_parse_u64(in, &ret->u64);
	case P_TEXT:
		return wire_parse_text(in, &ret->text);
	case P_RESIZE:
		return wire_parse_resize(in, &ret->size[0], &ret->size[1]);
	case P_NONE:
	case P_KIND_COUNT:
		break;
	}
	return 0;
}

/* Is the result still as it was filled before the call? */
static inline bool any_untouched(const union any_payload *got)
{
	for (size_t i = 0; i < sizeof(*got); i++)
		if (((const uint8_t *)got)[i] != 0xa5)
			return false;
	return true;
}
