#include "guardpage.h"
#include "samples.h"
#include "test.h"

#include <errno.h>

struct made {
	uint8_t bytes[SAMPLE_BYTES_MAX];
	struct buf buf;
};

static void make(struct made *m, const struct sample *s)
{
	buf_init(&m->buf, m->bytes, sizeof(m->bytes));
	sample_put(&m->buf, s);
	CHECK(buf_ok(&m->buf));
}

/* Parses a copy laid against the guard page; on failure nothing may have been written. */
static int parse_guarded(const uint8_t *data, size_t len, enum wire_side from, uint8_t *ret_type)
{
	uint8_t *at = guard_copy(data, len);
	struct span in = span_of(at, len);
	struct wire_frame f;
	struct wire_frame before;
	int r;

	memset(&f, 0xa5, sizeof(f));
	memset(&before, 0xa5, sizeof(before));
	r = wire_parse_frame(&in, from, &f);
	if (r < 0) {
		CHECK(in.at == at && in.len == len);
		CHECK(memcmp(&f, &before, sizeof(f)) == 0);
	} else if (ret_type) {
		*ret_type = f.type;
	}
	guard_free(at, len);
	return r;
}

TEST(every_type_has_a_sample)
{
	for (unsigned type = 0; type < 256; type++) {
		bool found = false;

		for (size_t i = 0; i < SAMPLE_COUNT; i++)
			found = found || samples[i].type == type;
		CHECK_EQ(found, strncmp(wire_type_name((uint8_t)type), "type ", 5) != 0);
	}
}

TEST(every_frame_round_trips)
{
	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		struct made m;
		struct wire_frame f;
		struct span in;

		make(&m, &samples[i]);
		in = buf_span(&m.buf);
		CHECK_EQ(wire_parse_frame(&in, samples[i].from, &f), 0);
		CHECK_EQ(in.len, 0);
		CHECK_EQ(f.type, samples[i].type);
		CHECK_EQ(f.stream, sample_stream(f.type));
		CHECK_EQ(f.epoch, SAMPLE_EPOCH);
		CHECK_EQ(f.payload.len, m.buf.len - WIRE_HEADER_BYTES);
	}
}

TEST(every_prefix_asks_for_more)
{
	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		struct made m;

		make(&m, &samples[i]);
		for (size_t len = 0; len < m.buf.len; len++)
			CHECK_EQ(parse_guarded(m.bytes, len, samples[i].from, NULL), -EAGAIN);
		CHECK_EQ(parse_guarded(m.bytes, m.buf.len, samples[i].from, NULL), 0);
	}
}

TEST(each_side_may_send_only_its_own)
{
	static const enum wire_side sides[] = { WIRE_FROM_HOST, WIRE_FROM_AGENT, WIRE_FROM_COMMAND,
		                                WIRE_FROM_SUPERVISOR };
	unsigned legal = 0;

	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		struct made m;

		make(&m, &samples[i]);
		for (size_t k = 0; k < 4; k++) {
			int r = parse_guarded(m.bytes, m.buf.len, sides[k], NULL);

			/* these three go both ways, on channels of their own */
			if (samples[i].type >= WIRE_DATA && samples[i].type <= WIRE_CREDIT)
				continue;
			CHECK(r == 0 || r == -EBADMSG);
			legal += r == 0;
		}
	}
	CHECK_EQ(legal, 67); /* the two sides of 15 types, all four of 2, one of 29 */
	for (size_t k = 0; k < 4; k++) {
		uint8_t raw[] = {
			0x7e, 0xb3, WIRE_FREEZE_OK, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0
		};

		CHECK_EQ(parse_guarded(raw, sizeof(raw), sides[k], NULL),
		         sides[k] == WIRE_FROM_AGENT ? 0 : -EBADMSG);
	}
}

TEST(data_and_credit_go_opposite_ways)
{
	static const struct {
		uint8_t type;
		uint8_t channel;
		bool host_may, agent_may;
	} rows[] = {
		{ WIRE_DATA, WIRE_IN, true, false },    { WIRE_DATA, WIRE_OUT, false, true },
		{ WIRE_DATA, WIRE_ERR, false, true },   { WIRE_DATA, 3, false, false },
		{ WIRE_EOF, WIRE_IN, true, false },     { WIRE_EOF, WIRE_OUT, false, true },
		{ WIRE_EOF, WIRE_ERR, false, true },    { WIRE_EOF, 255, false, false },
		{ WIRE_CREDIT, WIRE_IN, false, true },  { WIRE_CREDIT, WIRE_OUT, true, false },
		{ WIRE_CREDIT, WIRE_ERR, true, false }, { WIRE_CREDIT, 3, false, false },
		{ WIRE_EXEC_OK, 1, false, false },      { WIRE_SIGNAL, 1, false, false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t raw[64];
		struct buf b;

		buf_init(&b, raw, sizeof(raw));
		wire_put(&b, rows[i].type, rows[i].channel, 1, 1,
		         span_of("abcd", rows[i].type == WIRE_EOF ? 0 : 4));
		CHECK_EQ(parse_guarded(raw, b.len, WIRE_FROM_HOST, NULL),
		         rows[i].host_may ? 0 : -EBADMSG);
		CHECK_EQ(parse_guarded(raw, b.len, WIRE_FROM_COMMAND, NULL),
		         rows[i].host_may ? 0 : -EBADMSG);
		CHECK_EQ(parse_guarded(raw, b.len, WIRE_FROM_AGENT, NULL),
		         rows[i].agent_may ? 0 : -EBADMSG);
		CHECK_EQ(parse_guarded(raw, b.len, WIRE_FROM_SUPERVISOR, NULL),
		         rows[i].agent_may ? 0 : -EBADMSG);
	}
}

TEST(a_bad_header_is_bad_at_once)
{
	struct made m;
	static const struct sample data = { WIRE_DATA, WIRE_FROM_HOST, P_NONE };

	make(&m, &data);
	m.bytes[0] ^= 1;
	CHECK_EQ(parse_guarded(m.bytes, 2, WIRE_FROM_HOST, NULL), -EBADMSG);
	m.bytes[0] ^= 1;
	m.bytes[4] = 0; /* DATA on control */
	CHECK_EQ(parse_guarded(m.bytes, WIRE_HEADER_BYTES, WIRE_FROM_HOST, NULL), -EBADMSG);
	m.bytes[4] = 1;
	m.bytes[12] = 1; /* 64 KiB and a byte: bad with no payload there */
	m.bytes[13] = 0;
	m.bytes[14] = 1;
	CHECK_EQ(parse_guarded(m.bytes, WIRE_HEADER_BYTES, WIRE_FROM_HOST, NULL), -EBADMSG);
	m.bytes[12] = 0; /* 64 KiB are fine */
	CHECK_EQ(parse_guarded(m.bytes, WIRE_HEADER_BYTES, WIRE_FROM_HOST, NULL), -EAGAIN);
	m.bytes[14] = 0; /* none are not: it would cost the sender no credit */
	CHECK_EQ(parse_guarded(m.bytes, WIRE_HEADER_BYTES, WIRE_FROM_HOST, NULL), -EBADMSG);
	memset(m.bytes + 12, 0xff, 4);
	CHECK_EQ(parse_guarded(m.bytes, WIRE_HEADER_BYTES, WIRE_FROM_HOST, NULL), -EBADMSG);
}

TEST(control_types_have_no_stream)
{
	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		struct made m;

		make(&m, &samples[i]);
		m.bytes[4] = sample_stream(samples[i].type) ? 0 : 1;
		CHECK_EQ(parse_guarded(m.bytes, m.buf.len, samples[i].from, NULL), -EBADMSG);
	}
}

TEST(unknown_types_are_bad)
{
	static const uint8_t unknown[] = { 0, 19, 31, 45, 63, 72, 255 };

	for (size_t i = 0; i < sizeof(unknown); i++) {
		uint8_t raw[WIRE_HEADER_BYTES] = { 0x7e, 0xb3, unknown[i] };

		CHECK_EQ(parse_guarded(raw, sizeof(raw), WIRE_FROM_AGENT, NULL), -EBADMSG);
		raw[4] = 1;
		CHECK_EQ(parse_guarded(raw, sizeof(raw), WIRE_FROM_AGENT, NULL), -EBADMSG);
	}
}

TEST(payload_prefixes_and_tails_are_bad)
{
	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		struct made m;
		size_t bytes;

		if (samples[i].kind == P_NONE)
			continue;
		make(&m, &samples[i]);
		bytes = m.buf.len - WIRE_HEADER_BYTES;
		for (size_t len = 0; len <= bytes + 1; len++) {
			uint8_t *at = guard_copy(m.bytes + WIRE_HEADER_BYTES, len);
			union any_payload got;
			int r;

			memset(&got, 0xa5, sizeof(got));
			r = any_parse(samples[i].kind, span_of(at, len), &got);
			CHECK_EQ(r, len == bytes ? 0 : -EBADMSG);
			CHECK(r == 0 || any_untouched(&got));
			guard_free(at, len);
		}
	}
}

static struct span payload_of(struct made *m, uint8_t type)
{
	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		if (samples[i].type != type)
			continue;
		make(m, &samples[i]);
		return span_of(m->bytes + WIRE_HEADER_BYTES, m->buf.len - WIRE_HEADER_BYTES);
	}
	return span_of(NULL, 0);
}

TEST(hello_of_another_version_says_its_number)
{
	struct made m;
	struct wire_hello h = { 0 };
	struct span p = payload_of(&m, WIRE_HELLO);

	CHECK_EQ(wire_parse_hello(p, &h), 0);
	CHECK_SPAN(h.agent_version, "0.1.0");
	CHECK_SPAN(h.kernel, "6.12.1");
	m.bytes[WIRE_HEADER_BYTES] = 9;
	for (size_t len = 4; len <= p.len; len++) {
		CHECK_EQ(wire_parse_hello(span_of(p.at, len), &h), 0);
		CHECK_EQ(h.version, 9);
		CHECK_EQ(h.kernel.len, 0);
	}
}

TEST(identity_fields_and_hostnames)
{
	struct made m;
	struct wire_identity id = { 0 };
	struct span p = payload_of(&m, WIRE_IDENTITY);
	/* behind the host name: two flags, the network, the certificate */
	uint8_t *name = m.bytes + m.buf.len - SAMPLE_WORKSPACE_BYTES -
	                (1 + 48 + 1 + 4 + 2 + sizeof(SAMPLE_CERT) - 1) - 8;

	CHECK_EQ(wire_parse_identity(p, &id), 0);
	CHECK_EQ(id.realtime_ns, 1700000000123456789);
	CHECK_EQ(id.pids_max, 512);
	CHECK_EQ(id.memory_max, 1 << 28);
	CHECK_EQ(id.keep_stream, 1);
	CHECK_MEM(span_of(id.entropy, WIRE_ENTROPY_BYTES),
	          span_of(sample_identity.entropy, WIRE_ENTROPY_BYTES));
	CHECK_MEM(span_of(id.machine_id, WIRE_MACHINE_ID_BYTES),
	          span_of(sample_identity.machine_id, WIRE_MACHINE_ID_BYTES));
	CHECK_SPAN(id.hostname, "fork-1.x");
	name[3] = '\n';
	CHECK_EQ(wire_parse_identity(p, &id), -EBADMSG);
	name[3] = '\0';
	CHECK_EQ(wire_parse_identity(p, &id), -EBADMSG);
	name[3] = ' ';
	CHECK_EQ(wire_parse_identity(p, &id), -EBADMSG);
}

/* What the sample becomes with one byte of its network changed: at `at`, from the first. */
static int with_network_byte(size_t at, uint8_t value)
{
	struct made m;
	struct wire_identity id = { 0 };
	struct span p = payload_of(&m, WIRE_IDENTITY);
	uint8_t *network = m.bytes + m.buf.len - SAMPLE_WORKSPACE_BYTES -
	                   (48 + 1 + 4 + 2 + sizeof(SAMPLE_CERT) - 1);

	network[at] = value;
	return wire_parse_identity(p, &id);
}

TEST(identity_network)
{
	enum {
		ROUTER4 = 4,
		DNS4 = 8,
		PREFIX4 = 12,
		PREFIX6 = 13,
		IP6 = 14,
		ROUTER6 = 30,
		MTU = 46
	};
	struct made m;
	struct wire_identity id = { 0 };

	CHECK_EQ(wire_parse_identity(payload_of(&m, WIRE_IDENTITY), &id), 0);
	CHECK(id.has_network && id.has_trust);
	CHECK_EQ(id.network.prefix4, 30);
	CHECK_EQ(id.network.mtu, 65520);
	CHECK_MEM(span_of(id.network.router6, 16), span_of(sample_identity.network.router6, 16));
	CHECK_EQ(with_network_byte(0, 100), 0);
	CHECK_EQ(with_network_byte(0, 0), -EBADMSG);
	CHECK_EQ(with_network_byte(0, 127), -EBADMSG);
	CHECK_EQ(with_network_byte(0, 224), -EBADMSG);
	CHECK_EQ(with_network_byte(0, 101), -EBADMSG); /* not the router's network */
	CHECK_EQ(with_network_byte(3, 1), -EBADMSG);   /* the router's own address */
	CHECK_EQ(with_network_byte(3, 3), 0);
	CHECK_EQ(with_network_byte(3, 4), -EBADMSG); /* beyond /30 */
	CHECK_EQ(with_network_byte(ROUTER4 + 3, 4), -EBADMSG);
	CHECK_EQ(with_network_byte(DNS4, 0), -EBADMSG);
	CHECK_EQ(with_network_byte(DNS4, 8), 0);
	CHECK_EQ(with_network_byte(PREFIX4, 8), 0);
	CHECK_EQ(with_network_byte(PREFIX4, 7), -EBADMSG);
	CHECK_EQ(with_network_byte(PREFIX4, 31), -EBADMSG);
	CHECK_EQ(with_network_byte(PREFIX4, 255), -EBADMSG);
	CHECK_EQ(with_network_byte(PREFIX6, 63), -EBADMSG);
	CHECK_EQ(with_network_byte(PREFIX6, 126), 0); /* ...:1 and ...:2 */
	CHECK_EQ(with_network_byte(PREFIX6, 124), 0);
	CHECK_EQ(with_network_byte(PREFIX6, 127), -EBADMSG);
	CHECK_EQ(with_network_byte(PREFIX6, 0), -EBADMSG); /* with addresses */
	CHECK_EQ(with_network_byte(IP6, 0), -EBADMSG);
	CHECK_EQ(with_network_byte(IP6, 0xff), -EBADMSG);
	CHECK_EQ(with_network_byte(IP6 + 7, 1), -EBADMSG);
	CHECK_EQ(with_network_byte(IP6 + 15, 1), -EBADMSG);
	CHECK_EQ(with_network_byte(ROUTER6 + 15, 3), 0);
	CHECK_EQ(with_network_byte(MTU, 0xff), -EBADMSG);  /* 65535, over 65520 */
	CHECK_EQ(with_network_byte(MTU + 1, 4), -EBADMSG); /* under 1280 */
}

static int mount_point(const char *path)
{
	return wire_parse_mount_point(span_str(path));
}

TEST(identity_workspace)
{
	struct made m;
	struct wire_identity id = { 0 };
	struct span p = payload_of(&m, WIRE_IDENTITY);

	CHECK_EQ(wire_parse_identity(p, &id), 0);
	CHECK(id.has_workspace);
	CHECK_SPAN(id.workspace.path, "/workspace");
	m.bytes[m.buf.len - 10] = 'w'; /* not absolute */
	CHECK_EQ(wire_parse_identity(p, &id), -EBADMSG);
	m.bytes[m.buf.len - 10] = '/';
	memcpy(m.bytes + m.buf.len - 10, "/proc/work", 10);
	CHECK_EQ(wire_parse_identity(p, &id), -EBADMSG);
}

TEST(s18_where_a_workspace_may_be)
{
	char path[WIRE_PATH_MAX + 1];

	CHECK_EQ(mount_point("/workspace"), 0);
	CHECK_EQ(mount_point("/home/u/src/caf\xe9"), 0);
	CHECK_EQ(mount_point("/root/x"), 0);
	CHECK_EQ(mount_point("/tmp/x"), 0);
	CHECK_EQ(mount_point("/var/lib/x"), 0);
	CHECK_EQ(mount_point("/usr/src/linux"), 0);
	CHECK_EQ(mount_point("/usr/local/src/x"), 0);
	CHECK_EQ(mount_point("/binary"), 0);
	CHECK_EQ(mount_point("/..."), 0);
	CHECK_EQ(mount_point("/usr"), -EPERM);
	CHECK_EQ(mount_point("/usr/src"), -EPERM);
	CHECK_EQ(mount_point("/etc"), -EPERM);
	CHECK_EQ(mount_point("/etc/x"), -EPERM);
	CHECK_EQ(mount_point("/proc"), -EPERM);
	CHECK_EQ(mount_point("/proc/1/root"), -EPERM);
	CHECK_EQ(mount_point("/dev/shm"), -EPERM);
	CHECK_EQ(mount_point("/sys/fs/cgroup"), -EPERM);
	CHECK_EQ(mount_point("/run/berm"), -EPERM);
	CHECK_EQ(mount_point("/home"), -EPERM);
	CHECK_EQ(mount_point("/"), -EBADMSG);
	CHECK_EQ(mount_point(""), -EBADMSG);
	CHECK_EQ(mount_point("workspace"), -EBADMSG);
	CHECK_EQ(mount_point("/workspace/"), -EBADMSG);
	CHECK_EQ(mount_point("//workspace"), -EBADMSG);
	CHECK_EQ(mount_point("/a//b"), -EBADMSG);
	CHECK_EQ(mount_point("/a/./b"), -EBADMSG);
	CHECK_EQ(mount_point("/a/../b"), -EBADMSG);
	CHECK_EQ(mount_point("/a/.."), -EBADMSG);
	CHECK_EQ(wire_parse_mount_point(span_of("/a\0b", 4)), -EBADMSG);
	memset(path, 'a', sizeof(path));
	path[0] = '/';
	CHECK_EQ(wire_parse_mount_point(span_of(path, WIRE_NAME_MAX + 1)), 0);
	CHECK_EQ(wire_parse_mount_point(span_of(path, WIRE_NAME_MAX + 2)), -EBADMSG);
	for (size_t i = 0; i < WIRE_PATH_MAX; i += 100)
		path[i] = '/';
	CHECK_EQ(wire_parse_mount_point(span_of(path, WIRE_PATH_MAX - 1)), 0);
	CHECK_EQ(wire_parse_mount_point(span_of(path, WIRE_PATH_MAX)), -EBADMSG);
}

TEST(identity_without_parts)
{
	uint8_t raw[SAMPLE_BYTES_MAX];
	struct wire_identity in = sample_identity;
	struct wire_identity id = { 0 };
	struct wire_frame f;
	struct span s;
	struct buf b;

	in.has_network = in.has_trust = in.has_workspace = false;
	buf_init(&b, raw, sizeof(raw));
	wire_put_identity(&b, SAMPLE_EPOCH, &in);
	s = buf_span(&b);
	CHECK_EQ(wire_parse_frame(&s, WIRE_FROM_HOST, &f), 0);
	CHECK_EQ(wire_parse_identity(f.payload, &id), 0);
	CHECK(!id.has_network && !id.has_trust && id.trust.pem.len == 0);
	raw[b.len - 1] = 2; /* a flag is 0 or 1 */
	CHECK_EQ(wire_parse_identity(f.payload, &id), -EBADMSG);
	in.has_network = true;
	in.network.prefix6 = 0;
	memset(in.network.ip6, 0, 16);
	memset(in.network.router6, 0, 16);
	buf_init(&b, raw, sizeof(raw));
	wire_put_identity(&b, SAMPLE_EPOCH, &in);
	s = buf_span(&b);
	CHECK_EQ(wire_parse_frame(&s, WIRE_FROM_HOST, &f), 0);
	CHECK_EQ(wire_parse_identity(f.payload, &id), 0);
	CHECK_EQ(id.network.prefix6, 0);
}

TEST(certificates)
{
#define BEGIN "-----BEGIN CERTIFICATE-----\n"
#define END   "-----END CERTIFICATE-----\n"
	static const char *const bad[] = {
		"",
		"\n",
		BEGIN,
		BEGIN END,
		BEGIN "QUJD\n",
		BEGIN "QUJD\n-----END CERTIFICATE-----",
		BEGIN "QUJD\n" END "\n",
		BEGIN "QUJD\n" END BEGIN "QUJD\n" END,
		BEGIN "\n" END,
		BEGIN "QU JD\n" END,
		BEGIN "QUJD\r\n" END,
		BEGIN "QU\x1bJD\n" END,
		"x" BEGIN "QUJD\n" END,
		"-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n",
		BEGIN "QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDx\n" END,
	};

	CHECK_EQ(wire_parse_cert(span_str(
			 BEGIN
			 "QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD\n" END)),
	         0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(wire_parse_cert(span_str(bad[i])), -EBADMSG);
#undef BEGIN
#undef END
}

TEST(trusted_fields)
{
	struct made m;
	struct wire_trusted got = { 0 };
	struct span p = payload_of(&m, WIRE_IDENTITY_OK);

	CHECK_EQ(wire_parse_trusted(p, &got), 0);
	CHECK_SPAN(got.cert, "/a/berm.crt");
	CHECK_SPAN(got.bundle, "/b/all.pem");
	CHECK_EQ(wire_parse_trusted(span_of("\0\0\0\0", 4), &got), 0);
	CHECK_EQ(got.cert.len + got.bundle.len, 0);
	CHECK_EQ(wire_parse_trusted(span_of("\1\0x\0\0", 5), &got), -EBADMSG);
	CHECK_EQ(wire_parse_trusted(span_of("\0\0\1\0x", 5), &got), -EBADMSG);
	CHECK_EQ(wire_parse_trusted(span_of("\0\0\0\0\0", 5), &got), -EBADMSG);
}

TEST(snapshot_fields)
{
	struct made m;
	struct wire_snapshot got = { 0 };
	struct span p = payload_of(&m, WIRE_SNAPSHOT);
	uint8_t *at = m.bytes + WIRE_HEADER_BYTES;

	CHECK_EQ(wire_parse_snapshot(p, &got), 0);
	CHECK_EQ(got.flags, WIRE_SNAPSHOT_REPLACE);
	CHECK_SPAN(got.name, "base");
	at[0] = 2; /* a flag of a later version */
	CHECK_EQ(wire_parse_snapshot(p, &got), -EBADMSG);
	at[0] = 0;
	at[4] = '\0';
	CHECK_EQ(wire_parse_snapshot(p, &got), -EBADMSG);
	at[1] = 0; /* no name; then what follows is too much */
	CHECK_EQ(wire_parse_snapshot(p, &got), -EBADMSG);
	CHECK_EQ(wire_parse_snapshot(span_of(p.at, 3), &got), 0);
	CHECK_EQ(got.name.len, 0);
}

TEST(exec_fields)
{
	struct made m;
	struct wire_exec x = { 0 };
	struct span s;

	CHECK_EQ(wire_parse_exec(payload_of(&m, WIRE_EXEC), &x), 0);
	CHECK_EQ(x.flags, WIRE_EXEC_TTY | WIRE_EXEC_STDIN);
	CHECK_EQ(x.rows, 24);
	CHECK_EQ(x.cols, 80);
	CHECK_SPAN(x.user, "1000:dev");
	CHECK_SPAN(x.cwd, "/srv");
	CHECK_EQ(x.argc, 4);
	CHECK_EQ(x.envc, 2);
	CHECK_EQ(x.rlimit_count, 2);
	CHECK_EQ(x.rlimits[0].resource, 7);
	CHECK_EQ(x.rlimits[0].hard, 4096);
	CHECK(x.rlimits[1].hard == UINT64_MAX);
	for (size_t i = 0; sample_argv[i]; i++) {
		CHECK(wire_next_str(&x.argv, &s));
		CHECK_SPAN(s, sample_argv[i]);
	}
	CHECK(!wire_next_str(&x.argv, &s));
	for (size_t i = 0; sample_envv[i]; i++) {
		CHECK(wire_next_str(&x.envv, &s));
		CHECK_SPAN(s, sample_envv[i]);
	}
	CHECK(!wire_next_str(&x.envv, &s));
}

/* Changes one byte of the payload and expects it to be refused. */
static void refuse_change(uint8_t type, enum payload_kind kind, size_t at, uint8_t value)
{
	struct made m;
	struct span p = payload_of(&m, type);
	union any_payload got;

	memset(&got, 0xa5, sizeof(got));
	CHECK(at < p.len);
	m.bytes[WIRE_HEADER_BYTES + at] = value;
	CHECK_EQ(any_parse(kind, p, &got), -EBADMSG);
	CHECK(any_untouched(&got));
}

TEST(exec_refuses)
{
	/* flags 4 | rows 2 | cols 2 | user 2+8 | cwd 2+4 | argc | envc | rlimit_count | ... */
	refuse_change(WIRE_EXEC, P_EXEC, 0, 8);    /* an unknown flag */
	refuse_change(WIRE_EXEC, P_EXEC, 8, 129);  /* user too long */
	refuse_change(WIRE_EXEC, P_EXEC, 12, 0);   /* NUL in the user */
	refuse_change(WIRE_EXEC, P_EXEC, 20, 0);   /* NUL in the directory */
	refuse_change(WIRE_EXEC, P_EXEC, 24, 0);   /* argc 0 */
	refuse_change(WIRE_EXEC, P_EXEC, 24, 9);   /* more strings than there are */
	refuse_change(WIRE_EXEC, P_EXEC, 24, 3);   /* fewer */
	refuse_change(WIRE_EXEC, P_EXEC, 25, 17);  /* over WIRE_ARGS_MAX */
	refuse_change(WIRE_EXEC, P_EXEC, 31, 255); /* envc over it */
	refuse_change(WIRE_EXEC, P_EXEC, 32, 17);  /* over WIRE_RLIMITS_MAX */
	refuse_change(WIRE_EXEC, P_EXEC, 42, 255); /* soft above hard */
	refuse_change(WIRE_EXEC, P_EXEC, 78, 0);   /* NUL in argv[0] */
}

TEST(other_payloads_refuse)
{
	refuse_change(WIRE_RESULT, P_FAIL, 2, 1); /* code above the kernel's errnos */
	refuse_change(WIRE_RESULT, P_FAIL, 4, 6); /* no such stage */
	refuse_change(WIRE_RESULT, P_FAIL, 8, 0); /* NUL */
	refuse_change(WIRE_EXIT, P_EXIT, 0, 2);   /* signaled is a flag */
	refuse_change(WIRE_EXIT, P_EXIT, 1, 0);   /* signal 0 */
	refuse_change(WIRE_EXIT, P_EXIT, 1, 65);  /* signal 65 */
	refuse_change(WIRE_GET, P_FILE, 3, 0);    /* NUL in the path */
	refuse_change(WIRE_GET, P_FILE, 14, 2);   /* follow is a flag */
	refuse_change(WIRE_EVENT, P_EVENT, 0, 0); /* no such kind */
	refuse_change(WIRE_EVENT, P_EVENT, 0, 4);
	refuse_change(WIRE_EVENT, P_EVENT, 1, 2);   /* killed is a flag */
	refuse_change(WIRE_REFUSE, P_TEXT, 4, 0);   /* NUL */
	refuse_change(WIRE_REFUSE, P_TEXT, 0, 255); /* longer than what is there */
}

TEST(exit_codes_fit_a_byte)
{
	struct wire_exit x = { .signaled = 0, .value = 255 };
	uint8_t raw[64];
	struct wire_exit got;
	struct buf b;

	for (uint32_t v = 255; v <= 256; v++) {
		buf_init(&b, raw, sizeof(raw));
		x.value = v;
		wire_put_exit(&b, 1, 1, &x);
		CHECK_EQ(wire_parse_exit(
				 span_of(raw + WIRE_HEADER_BYTES, b.len - WIRE_HEADER_BYTES), &got),
		         v == 255 ? 0 : -EBADMSG);
	}
}

TEST(names_for_messages)
{
	CHECK_STR(wire_type_name(WIRE_EXEC), "EXEC");
	CHECK_STR(wire_type_name(WIRE_PROGRESS), "PROGRESS");
	CHECK_STR(wire_type_name(0), "type 0");
	CHECK_STR(wire_type_name(9 + 20), "type 29");
	CHECK_STR(wire_type_name(99), "type 99");
	CHECK_STR(wire_type_name(100), "type 100");
	CHECK_STR(wire_type_name(255), "type 255");
}

TEST_MAIN()
