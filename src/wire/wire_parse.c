#include "wire/wire.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * One table says everything about a frame that can be said without its meaning: who may send it,
 * on control or on a stream, on which channels, how long it may be. wire_parse_frame() judges the
 * header by it before a byte of the payload has to be there, so a peer cannot make us wait for, or
 * make room for, a frame that is not legal. The payload parsers then demand that every byte is
 * used, that numbers are in their ranges and that texts hold no NUL, so what they return can be
 * used without a second check.
 *
 * DATA and EOF travel one way on each channel, CREDIT the other: WIRE_IN from the host's side to
 * the agent's, WIRE_OUT and WIRE_ERR back.
 */

enum {
	HOSTS = WIRE_FROM_HOST | WIRE_FROM_COMMAND,      /* the side that opens streams */
	AGENTS = WIRE_FROM_AGENT | WIRE_FROM_SUPERVISOR, /* the side that has the processes */
	HOST = WIRE_FROM_HOST,
	AGENT = WIRE_FROM_AGENT,
	COMMAND = WIRE_FROM_COMMAND,
	SUPERVISOR = WIRE_FROM_SUPERVISOR,
	ALL = HOSTS | AGENTS,

	ON_IN = 1 << WIRE_IN,
	ON_OUTS = 1 << WIRE_OUT | 1 << WIRE_ERR,

	TEXT_BYTES_MAX = 2 + WIRE_TEXT_MAX,
	FAIL_BYTES_MIN = 4 + 1 + 2,
	FAIL_BYTES_MAX = FAIL_BYTES_MIN + WIRE_TEXT_MAX,
	HELLO_BYTES_MAX = 1024, /* a later version's may be longer than ours */
	IDENTITY_BYTES_MIN =
		8 + 4 + 8 + 4 + WIRE_ENTROPY_BYTES + WIRE_MACHINE_ID_BYTES + 2 + 1 + 1 + 1,
	NETWORK_BYTES = 3 * 4 + 1 + 1 + 2 * 16 + 2,
	IDENTITY_BYTES_MAX = IDENTITY_BYTES_MIN + WIRE_HOSTNAME_MAX + NETWORK_BYTES + 4 + 2 +
	                     WIRE_CERT_MAX + 2 + WIRE_PATH_MAX,
	TRUSTED_BYTES_MIN = 2 + 2,
	PREFIX4_MIN = 8,
	PREFIX4_MAX = 30,
	PREFIX6_MIN = 64,
	PREFIX6_MAX = 126,
	CERT_LINE_MAX = 64, /* RFC 7468 */
	EXEC_BYTES_MIN = 4 + 2 + 2 + 2 + 2 + 4 + 4 + 4 + 2,
	EXIT_BYTES = 1 + 4 + 8 + 8 + 8,
	FILE_BYTES_MIN = 2 + 2 + 1,
	EVENT_BYTES = 1 + 1 + 8,
	SNAPSHOT_BYTES_MIN = 1 + 2,
	STATS_BYTES = 5 * 8 + 2 * 4 + 3 * 8,

	ERRNO_MAX = 4095, /* the kernel's MAX_ERRNO */
	SIGNAL_MAX = 64,
};

struct rule {
	uint8_t from;          /* of enum wire_side */
	bool stream;           /* has an id other than 0 */
	uint8_t host_channels; /* legal from the hosts' side; 0: the field must be 0 */
	uint8_t agent_channels;
	uint32_t bytes_min;
	uint32_t bytes_max;
};

static const struct rule rules[WIRE_TYPE_COUNT] = {
	/* clang-format off: a table is read by its columns */
	/*                    from        stream host   agent    payload bytes */
	[WIRE_HELLO] = { AGENTS, false, 0, 0, 4, HELLO_BYTES_MAX },
	[WIRE_HELLO_OK] = { HOSTS, false, 0, 0, 4, 4 },
	[WIRE_REFUSE] = { ALL, false, 0, 0, 2, TEXT_BYTES_MAX },
	[WIRE_FATAL] = { AGENT, false, 0, 0, 2, TEXT_BYTES_MAX },
	[WIRE_IDENTITY] = { HOST, false, 0, 0, IDENTITY_BYTES_MIN, IDENTITY_BYTES_MAX },
	[WIRE_IDENTITY_OK] = { AGENT, false, 0, 0, TRUSTED_BYTES_MIN,
	                       TRUSTED_BYTES_MIN + 2 * WIRE_NAME_MAX },
	[WIRE_PING] = { HOSTS, false, 0, 0, 8, 8 },
	[WIRE_PONG] = { AGENTS, false, 0, 0, 8, 8 },
	[WIRE_STATS] = { HOSTS, false, 0, 0, 0, 0 },
	[WIRE_STATS_OK] = { AGENTS, false, 0, 0, STATS_BYTES, STATS_BYTES },
	[WIRE_FREEZE] = { HOST, false, 0, 0, 0, 0 },
	[WIRE_FREEZE_OK] = { AGENT, false, 0, 0, 0, 0 },
	[WIRE_THAW] = { HOST, false, 0, 0, 0, 0 },
	[WIRE_THAW_OK] = { AGENT, false, 0, 0, 0, 0 },
	[WIRE_QUIESCE] = { HOST, false, 0, 0, 0, 0 },
	[WIRE_QUIESCE_OK] = { AGENT, false, 0, 0, 0, 0 },
	[WIRE_POWEROFF] = { HOST, false, 0, 0, 4, 4 },
	[WIRE_EVENT] = { AGENT, false, 0, 0, EVENT_BYTES, EVENT_BYTES },
	[WIRE_HOLD] = { HOST, false, 0, 0, 0, 0 },
	[WIRE_HOLD_OK] = { AGENT, false, 0, 0, 0, 0 },
	[WIRE_RELEASE] = { HOST, false, 0, 0, 8, 8 },
	[WIRE_RELEASE_OK] = { AGENT, false, 0, 0, 0, 0 },

	[WIRE_EXEC] = { HOSTS, true, 0, 0, EXEC_BYTES_MIN, WIRE_EXEC_MAX },
	[WIRE_EXEC_OK] = { AGENTS, true, 0, 0, 4, 4 },
	[WIRE_EXEC_ERR] = { AGENTS, true, 0, 0, FAIL_BYTES_MIN, FAIL_BYTES_MAX },
	[WIRE_DATA] = { ALL, true, ON_IN, ON_OUTS, 1, WIRE_DATA_MAX },
	[WIRE_EOF] = { ALL, true, ON_IN, ON_OUTS, 0, 0 },
	[WIRE_CREDIT] = { ALL, true, ON_OUTS, ON_IN, 4, 4 },
	[WIRE_RESIZE] = { HOSTS, true, 0, 0, 4, 4 },
	[WIRE_SIGNAL] = { HOSTS, true, 0, 0, 4, 4 },
	[WIRE_EXIT] = { AGENTS, true, 0, 0, EXIT_BYTES, EXIT_BYTES },
	[WIRE_PUT] = { HOSTS, true, 0, 0, FILE_BYTES_MIN,
	               FILE_BYTES_MIN + WIRE_PATH_MAX + WIRE_USER_MAX },
	[WIRE_GET] = { HOSTS, true, 0, 0, FILE_BYTES_MIN,
	               FILE_BYTES_MIN + WIRE_PATH_MAX + WIRE_USER_MAX },
	[WIRE_RESULT] = { AGENTS, true, 0, 0, FAIL_BYTES_MIN, FAIL_BYTES_MAX },
	[WIRE_RESET] = { ALL, true, 0, 0, 4, 4 },
	[WIRE_COLLECT] = { HOST, true, 0, 0, 0, 0 },
	[WIRE_SIZE] = { AGENT, true, 0, 0, 8, 8 },

	[WIRE_INFO] = { COMMAND, false, 0, 0, 0, 0 },
	[WIRE_INFO_OK] = { SUPERVISOR, false, 0, 0, 2, WIRE_JSON_MAX },
	[WIRE_ATTACH] = { COMMAND, true, 0, 0, 1, 1 },
	[WIRE_STOP] = { COMMAND, false, 0, 0, 4, 4 },
	[WIRE_KILL] = { COMMAND, false, 0, 0, 4, 4 },
	[WIRE_END] = { SUPERVISOR, false, 0, 0, 2, WIRE_JSON_MAX },
	[WIRE_WAIT] = { COMMAND, false, 0, 0, 0, 0 },
	[WIRE_PROGRESS] = { SUPERVISOR, false, 0, 0, 2, TEXT_BYTES_MAX },
	[WIRE_SNAPSHOT] = { COMMAND, false, 0, 0, SNAPSHOT_BYTES_MIN,
	                    SNAPSHOT_BYTES_MIN + WIRE_NAME_MAX },
	[WIRE_PAUSE] = { COMMAND, false, 0, 0, 0, 0 },
	[WIRE_RESUME] = { COMMAND, false, 0, 0, 0, 0 },
	[WIRE_DONE] = { SUPERVISOR, false, 0, 0, FAIL_BYTES_MIN, FAIL_BYTES_MAX },
	/* clang-format on */
};

static bool channel_legal(const struct rule *rule, enum wire_side from, uint8_t channel)
{
	unsigned legal = (unsigned)from & HOSTS ? rule->host_channels : rule->agent_channels;

	if (legal == 0)
		return channel == 0;
	return channel < WIRE_CHANNEL_COUNT && (legal & 1U << channel) != 0;
}

static bool header_legal(const struct wire_frame *f, enum wire_side from, uint32_t bytes)
{
	const struct rule *rule;

	if (f->type >= WIRE_TYPE_COUNT)
		return false;
	rule = &rules[f->type]; /* a type that does not exist has a row of zeros: no sender */
	if (!((unsigned)from & rule->from) || rule->stream != (f->stream != 0))
		return false;
	return channel_legal(rule, from, f->channel) && bytes >= rule->bytes_min &&
	       bytes <= rule->bytes_max;
}

int wire_parse_frame(struct span *in, enum wire_side from, struct wire_frame *ret)
{
	struct wire_frame got = { 0 };
	struct span s = *in;
	uint32_t bytes;
	uint16_t magic;

	if (!take_le16(&s, &magic))
		return -EAGAIN;
	if (magic != WIRE_MAGIC)
		return -EBADMSG;
	if (!take_u8(&s, &got.type) || !take_u8(&s, &got.channel) || !take_le32(&s, &got.stream) ||
	    !take_le32(&s, &got.epoch) || !take_le32(&s, &bytes))
		return -EAGAIN;
	if (!header_legal(&got, from, bytes))
		return -EBADMSG;
	if (!take_span(&s, bytes, &got.payload))
		return -EAGAIN;
	*ret = got;
	*in = s;
	return 0;
}

static bool has_nul(struct span s)
{
	return s.len > 0 && memchr(s.at, 0, s.len);
}

/* A str16 that can become a C string. */
static bool take_text(struct span *s, size_t len_max, struct span *ret)
{
	struct span b = *s;
	struct span got;

	if (!take_str16(&b, len_max, &got) || has_nul(got))
		return false;
	*s = b;
	*ret = got;
	return true;
}

static bool take_flag(struct span *s, uint8_t *ret)
{
	return s->len > 0 && s->at[0] <= 1 && take_u8(s, ret);
}

/*
 * A peer of another version may have laid the rest out differently: only the number is read then,
 * so that it can be said in the refusal.
 */
int wire_parse_hello(struct span payload, struct wire_hello *ret)
{
	struct wire_hello got = { 0 };

	if (!take_le32(&payload, &got.version))
		return -EBADMSG;
	if (got.version == WIRE_VERSION &&
	    (!take_le32(&payload, &got.features) ||
	     !take_text(&payload, WIRE_NAME_MAX, &got.agent_version) ||
	     !take_text(&payload, WIRE_NAME_MAX, &got.kernel) || payload.len != 0))
		return -EBADMSG;
	*ret = got;
	return 0;
}

/* What the kernel and every tool agree on; an empty one keeps the present name. */
static bool hostname_ok(struct span name)
{
	for (size_t i = 0; i < name.len; i++) {
		uint8_t c = name.at[i];
		bool alnum =
			(c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

		if (!alnum && c != '-' && c != '_' && c != '.')
			return false;
	}
	return true;
}

/* Two addresses of one network: not the same one, neither of them multicast or all zeros. */
static bool same_network(const uint8_t *a, const uint8_t *b, size_t bytes, unsigned prefix)
{
	uint8_t mask = (uint8_t)(0xff00 >> prefix % 8);
	size_t whole = prefix / 8;

	if (memcmp(a, b, bytes) == 0 || memcmp(a, b, whole) != 0)
		return false;
	return prefix % 8 == 0 || ((a[whole] ^ b[whole]) & mask) == 0;
}

static bool network_ok(const struct wire_network *n)
{
	static const uint8_t none[16];

	if (n->prefix4 < PREFIX4_MIN || n->prefix4 > PREFIX4_MAX || n->mtu < WIRE_MTU_MIN ||
	    n->mtu > WIRE_MTU_MAX)
		return false;
	if (n->ip4[0] == 0 || n->ip4[0] == 127 || n->ip4[0] >= 224 || n->dns4[0] == 0)
		return false;
	if (!same_network(n->ip4, n->router4, sizeof(n->ip4), n->prefix4))
		return false;
	if (n->prefix6 == 0)
		return memcmp(n->ip6, none, sizeof(none)) == 0 &&
		       memcmp(n->router6, none, sizeof(none)) == 0;
	return n->prefix6 >= PREFIX6_MIN && n->prefix6 <= PREFIX6_MAX && n->ip6[0] != 0 &&
	       n->ip6[0] != 0xff && same_network(n->ip6, n->router6, sizeof(n->ip6), n->prefix6);
}

static bool take_network(struct span *s, struct wire_network *ret)
{
	return take_bytes(s, ret->ip4, sizeof(ret->ip4)) &&
	       take_bytes(s, ret->router4, sizeof(ret->router4)) &&
	       take_bytes(s, ret->dns4, sizeof(ret->dns4)) && take_u8(s, &ret->prefix4) &&
	       take_u8(s, &ret->prefix6) && take_bytes(s, ret->ip6, sizeof(ret->ip6)) &&
	       take_bytes(s, ret->router6, sizeof(ret->router6)) && take_le16(s, &ret->mtu) &&
	       network_ok(ret);
}

/* A line of base64; the last of them may end in padding. */
static bool base64_ok(struct span line)
{
	if (line.len == 0 || line.len > CERT_LINE_MAX)
		return false;
	for (size_t i = 0; i < line.len; i++) {
		uint8_t c = line.at[i];
		bool alnum =
			(c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

		if (!alnum && c != '+' && c != '/' && c != '=')
			return false;
	}
	return true;
}

int wire_parse_cert(struct span pem)
{
	struct span line;

	/* each line ends, the last one too */
	if (pem.len == 0 || pem.len > WIRE_CERT_MAX || pem.at[pem.len - 1] != '\n')
		return -EBADMSG;
	if (!take_until(&pem, '\n', &line) || !span_is(line, "-----BEGIN CERTIFICATE-----"))
		return -EBADMSG;
	for (unsigned lines = 0; take_until(&pem, '\n', &line); lines++) {
		if (span_is(line, "-----END CERTIFICATE-----"))
			return lines > 0 && pem.len == 0 ? 0 : -EBADMSG;
		if (!base64_ok(line))
			return -EBADMSG;
	}
	return -EBADMSG;
}

static bool take_trust(struct span *s, struct wire_trust *ret)
{
	return take_le32(s, &ret->name_hash) && take_text(s, WIRE_CERT_MAX, &ret->pem) &&
	       wire_parse_cert(ret->pem) == 0;
}

/* Is it that directory, or (if it has a slash at its end) anything below it? */
static bool is_place(struct span path, const char *place)
{
	size_t len = strlen(place);

	if (place[len - 1] != '/')
		return span_is(path, place);
	return path.len > len && memcmp(path.at, place, len) == 0;
}

static bool in_places(struct span path, const char *const *places, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (is_place(path, places[i]))
			return true;
	return false;
}

/* What a command finds there it needs, or the kernel and the agent do. */
static bool hides(struct span path)
{
	static const char *const taken[] = {
		"/bin",     "/boot",  "/dev",   "/etc",   "/home", "/lib",  "/lib32",  "/lib64",
		"/libx32",  "/proc",  "/root",  "/run",   "/sbin", "/sys",  "/tmp",    "/usr",
		"/var",     "/bin/",  "/boot/", "/dev/",  "/etc/", "/lib/", "/lib32/", "/lib64/",
		"/libx32/", "/proc/", "/run/",  "/sbin/", "/sys/", "/usr/",
	};
	static const char *const free[] = { "/usr/src/", "/usr/local/src/" };

	return in_places(path, taken, sizeof(taken) / sizeof(taken[0])) &&
	       !in_places(path, free, sizeof(free) / sizeof(free[0]));
}

static bool part_ok(struct span part)
{
	return part.len > 0 && part.len <= WIRE_NAME_MAX && !span_is(part, ".") &&
	       !span_is(part, "..");
}

int wire_parse_mount_point(struct span path)
{
	struct span rest = path;
	struct span part;

	if (path.len < 2 || path.len >= WIRE_PATH_MAX || has_nul(path) || path.at[0] != '/' ||
	    path.at[path.len - 1] == '/')
		return -EBADMSG;
	rest.at++;
	rest.len--;
	while (take_until(&rest, '/', &part))
		if (!part_ok(part))
			return -EBADMSG;
	return hides(path) ? -EPERM : 0;
}

static bool take_workspace(struct span *s, struct wire_workspace *ret)
{
	return take_text(s, WIRE_PATH_MAX, &ret->path) && wire_parse_mount_point(ret->path) == 0;
}

static bool take_parts(struct span *s, struct wire_identity *ret)
{
	uint8_t has;

	if (!take_flag(s, &has) || (has && !take_network(s, &ret->network)))
		return false;
	ret->has_network = has;
	if (!take_flag(s, &has) || (has && !take_trust(s, &ret->trust)))
		return false;
	ret->has_trust = has;
	if (!take_flag(s, &has) || (has && !take_workspace(s, &ret->workspace)))
		return false;
	ret->has_workspace = has;
	return s->len == 0;
}

/* A path that one may put into an environment variable. */
static bool path_ok(struct span path)
{
	return path.len == 0 || path.at[0] == '/';
}

int wire_parse_trusted(struct span payload, struct wire_trusted *ret)
{
	struct wire_trusted got = { 0 };

	if (!take_text(&payload, WIRE_NAME_MAX, &got.cert) ||
	    !take_text(&payload, WIRE_NAME_MAX, &got.bundle) || payload.len != 0)
		return -EBADMSG;
	if (!path_ok(got.cert) || !path_ok(got.bundle))
		return -EBADMSG;
	*ret = got;
	return 0;
}

int wire_parse_identity(struct span payload, struct wire_identity *ret)
{
	struct wire_identity got = { 0 };

	if (!take_le64(&payload, &got.realtime_ns) || !take_le32(&payload, &got.pids_max) ||
	    !take_le64(&payload, &got.memory_max) || !take_le32(&payload, &got.keep_stream) ||
	    !take_bytes(&payload, got.entropy, sizeof(got.entropy)) ||
	    !take_bytes(&payload, got.machine_id, sizeof(got.machine_id)) ||
	    !take_text(&payload, WIRE_HOSTNAME_MAX, &got.hostname) || !take_parts(&payload, &got))
		return -EBADMSG;
	if (!hostname_ok(got.hostname))
		return -EBADMSG;
	*ret = got;
	return 0;
}

static bool take_rlimits(struct span *s, struct wire_exec *x)
{
	if (!take_le32(s, &x->rlimit_count) || x->rlimit_count > WIRE_RLIMITS_MAX)
		return false;
	for (uint32_t i = 0; i < x->rlimit_count; i++) {
		struct wire_rlimit *l = &x->rlimits[i];

		if (!take_le32(s, &l->resource) || !take_le64(s, &l->soft) ||
		    !take_le64(s, &l->hard) || l->soft > l->hard)
			return false;
	}
	return true;
}

/* The span over `count` strings, each whole and without NUL. */
static bool take_list(struct span *s, uint32_t count, struct span *ret)
{
	struct span b = *s;
	struct span one;

	if (count > WIRE_ARGS_MAX)
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (!take_text(&b, UINT16_MAX, &one))
			return false;
	*ret = span_of(s->at, s->len - b.len);
	*s = b;
	return true;
}

int wire_parse_exec(struct span payload, struct wire_exec *ret)
{
	struct wire_exec got = { 0 };

	if (!take_le32(&payload, &got.flags) || !take_le16(&payload, &got.rows) ||
	    !take_le16(&payload, &got.cols) || !take_text(&payload, WIRE_USER_MAX, &got.user) ||
	    !take_text(&payload, WIRE_PATH_MAX, &got.cwd) || !take_le32(&payload, &got.argc) ||
	    !take_le32(&payload, &got.envc) || !take_rlimits(&payload, &got))
		return -EBADMSG;
	if (got.flags & ~(uint32_t)(WIRE_EXEC_TTY | WIRE_EXEC_STDIN | WIRE_EXEC_WARM) ||
	    got.argc == 0)
		return -EBADMSG;
	if (!take_list(&payload, got.argc, &got.argv) ||
	    !take_list(&payload, got.envc, &got.envv) || payload.len != 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}

int wire_parse_fail(struct span payload, struct wire_fail *ret)
{
	struct wire_fail got = { 0 };

	if (!take_le32(&payload, &got.code) || !take_u8(&payload, &got.stage) ||
	    !take_text(&payload, WIRE_TEXT_MAX, &got.text) || payload.len != 0)
		return -EBADMSG;
	if (got.code > ERRNO_MAX || got.stage > WIRE_AT_PATH)
		return -EBADMSG;
	*ret = got;
	return 0;
}

int wire_parse_exit(struct span payload, struct wire_exit *ret)
{
	struct wire_exit got = { 0 };

	if (!take_flag(&payload, &got.signaled) || !take_le32(&payload, &got.value) ||
	    !take_le64(&payload, &got.user_us) || !take_le64(&payload, &got.sys_us) ||
	    !take_le64(&payload, &got.maxrss_bytes) || payload.len != 0)
		return -EBADMSG;
	if (got.signaled ? got.value == 0 || got.value > SIGNAL_MAX : got.value > UINT8_MAX)
		return -EBADMSG;
	*ret = got;
	return 0;
}

int wire_parse_file(struct span payload, struct wire_file *ret)
{
	struct wire_file got = { 0 };

	if (!take_text(&payload, WIRE_PATH_MAX, &got.path) ||
	    !take_text(&payload, WIRE_USER_MAX, &got.user) || !take_flag(&payload, &got.follow) ||
	    payload.len != 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}

int wire_parse_event(struct span payload, struct wire_event *ret)
{
	struct wire_event got = { 0 };

	if (!take_u8(&payload, &got.kind) || !take_flag(&payload, &got.killed) ||
	    !take_le64(&payload, &got.count) || payload.len != 0)
		return -EBADMSG;
	if (got.kind < WIRE_EVENT_OOM || got.kind > WIRE_EVENT_DISK)
		return -EBADMSG;
	*ret = got;
	return 0;
}

int wire_parse_snapshot(struct span payload, struct wire_snapshot *ret)
{
	struct wire_snapshot got = { 0 };

	if (!take_u8(&payload, &got.flags) || !take_text(&payload, WIRE_NAME_MAX, &got.name) ||
	    payload.len != 0)
		return -EBADMSG;
	if (got.flags & ~WIRE_SNAPSHOT_REPLACE)
		return -EBADMSG;
	*ret = got;
	return 0;
}

int wire_parse_stats(struct span payload, struct wire_stats *ret)
{
	struct wire_stats got = { 0 };

	if (!take_le64(&payload, &got.cpu_us) || !take_le64(&payload, &got.memory_bytes) ||
	    !take_le64(&payload, &got.memory_peak_bytes) || !take_le64(&payload, &got.disk_bytes) ||
	    !take_le64(&payload, &got.disk_max_bytes) || !take_le32(&payload, &got.pids) ||
	    !take_le32(&payload, &got.streams) || !take_le64(&payload, &got.oom_kills) ||
	    !take_le64(&payload, &got.pids_refused) || !take_le64(&payload, &got.uptime_ms) ||
	    payload.len != 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}

int wire_parse_u8(struct span payload, uint8_t *ret)
{
	return payload.len == 1 && take_u8(&payload, ret) ? 0 : -EBADMSG;
}

int wire_parse_u32(struct span payload, uint32_t *ret)
{
	return payload.len == 4 && take_le32(&payload, ret) ? 0 : -EBADMSG;
}

int wire_parse_u64(struct span payload, uint64_t *ret)
{
	return payload.len == 8 && take_le64(&payload, ret) ? 0 : -EBADMSG;
}

int wire_parse_text(struct span payload, struct span *ret)
{
	struct span got;

	if (!take_text(&payload, WIRE_TEXT_MAX, &got) || payload.len != 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}

int wire_parse_resize(struct span payload, uint16_t *ret_rows, uint16_t *ret_cols)
{
	uint16_t rows;
	uint16_t cols;

	if (!take_le16(&payload, &rows) || !take_le16(&payload, &cols) || payload.len != 0)
		return -EBADMSG;
	*ret_rows = rows;
	*ret_cols = cols;
	return 0;
}

bool wire_next_str(struct span *list, struct span *ret)
{
	return take_str16(list, UINT16_MAX, ret);
}
