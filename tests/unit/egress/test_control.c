#include "control_samples.h"
#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static uint8_t room[CONTROL_PACKET_MAX];
static uint8_t again[CONTROL_PACKET_MAX];

static struct span sample(uint8_t kind)
{
	struct buf b;

	buf_init(&b, room, sizeof(room));
	if (!sample_control(&b, kind))
		return span_of(NULL, 0);
	CHECK(buf_ok(&b));
	return buf_span(&b);
}

/* Header and payload, against a guard page. What parses is written again as the same bytes. */
static int parse(struct span bytes, enum control_side from)
{
	uint8_t *at = guard_copy(bytes.at, bytes.len);
	struct control_packet p;
	struct control_packet before;
	struct buf b;
	int r;

	memset(&p, 0xa5, sizeof(p));
	memset(&before, 0xa5, sizeof(before));
	r = control_parse_packet(span_of(at, bytes.len), from, &p);
	if (r < 0)
		CHECK(memcmp(&p, &before, sizeof(p)) == 0);
	buf_init(&b, again, sizeof(again));
	if (r == 0)
		r = control_again(&p, &b);
	if (r == 0)
		CHECK_MEM(buf_span(&b), bytes);
	guard_free(at, bytes.len);
	return r;
}

static bool from(uint8_t kind, enum control_side side)
{
	return parse(sample(kind), side) == 0;
}

TEST(every_kind_has_its_senders)
{
	unsigned kinds = 0;
	unsigned both = 0;
	unsigned asked = 0;

	for (unsigned i = 0; i < 256; i++) {
		const uint8_t kind = (uint8_t)i;
		const bool is = sample(kind).len > 0;
		bool sup, gate, vault, command;

		CHECK_EQ(is, strcmp(control_kind_name(kind), "unknown kind") != 0);
		if (!is) {
			CHECK(!control_carries_fd(kind));
			continue;
		}
		kinds++;
		sup = from(kind, CONTROL_FROM_SUPERVISOR);
		gate = from(kind, CONTROL_FROM_GATE);
		vault = from(kind, CONTROL_FROM_VAULT);
		command = from(kind, CONTROL_FROM_COMMAND);
		/* the gate says nothing that the vault may not; what a command asks is passed on */
		CHECK(sup || command ? !gate && !vault : vault);
		CHECK(!control_carries_fd(kind) || command);
		both += gate && vault;
		asked += command;
	}
	CHECK_EQ(kinds, 17);
	CHECK_EQ(both, 3); /* READY, STATS_OK, RECORD */
	CHECK_EQ(asked, 8);
}

static enum control_side sender(uint8_t kind)
{
	if (from(kind, CONTROL_FROM_VAULT))
		return CONTROL_FROM_VAULT;
	return from(kind, CONTROL_FROM_COMMAND) ? CONTROL_FROM_COMMAND : CONTROL_FROM_SUPERVISOR;
}

/* READY is the one kind whose end is not stated. */
TEST(every_prefix_is_refused)
{
	for (uint8_t kind = 1; kind < CONTROL_KIND_COUNT; kind++) {
		const enum control_side side = sender(kind);
		uint8_t longer[CONTROL_PACKET_MAX];
		struct span s = sample(kind);

		for (size_t len = 0; len < s.len; len++) {
			int r = parse(span_of(s.at, len), side);

			CHECK(r == -EBADMSG || (kind == CONTROL_READY && len > 8));
		}
		memcpy(longer, s.at, s.len);
		longer[s.len] = 0;
		if (kind != CONTROL_READY)
			CHECK_EQ(parse(span_of(longer, s.len + 1), side), -EBADMSG);
	}
}

TEST(a_bad_header_is_refused)
{
	static const struct {
		size_t at;
		uint8_t byte;
	} faults[] = { { 0, 0 }, { 0, 2 }, { 1, 0 }, { 1, 18 }, { 1, 255 }, { 2, 1 }, { 3, 1 } };

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		uint8_t bytes[64];
		struct span s = sample(CONTROL_STATS);

		memcpy(bytes, s.at, s.len);
		bytes[faults[i].at] = faults[i].byte;
		CHECK_EQ(parse(span_of(bytes, s.len), CONTROL_FROM_SUPERVISOR), -EBADMSG);
	}
}

static int put_record(const struct egress_record *rec)
{
	struct buf b;

	buf_init(&b, room, sizeof(room));
	control_put_record(&b, rec);
	CHECK(buf_ok(&b));
	return parse(buf_span(&b), CONTROL_FROM_GATE);
}

TEST(a_record_says_what_is_in_range)
{
	const struct egress_record good = sample_record();
	struct egress_record bad[12];

	for (size_t i = 0; i < 12; i++)
		bad[i] = good;
	bad[0].event = 0;
	bad[1].event = EGRESS_EVENT_COUNT;
	bad[2].layer = 0;
	bad[3].layer = EGRESS_LAYER_COUNT;
	bad[4].reason = CONTROL_REASON_MAX + 1;
	bad[5].flags = 8;
	bad[6].family = 5;
	bad[7].addr[4] = 1; /* of family 4 there are four */
	bad[8].family = 0;
	bad[9].secret = span_str("no name");
	bad[10].secret = span_str("1ST");
	bad[11].secret = span_str("A-B");
	CHECK_EQ(put_record(&good), 0);
	for (size_t i = 0; i < 12; i++)
		CHECK_EQ(put_record(&bad[i]), -EBADMSG);
}

/* The writer cuts, so a sender need not; the reader takes nothing that is longer. */
TEST(the_longest_record_fits_and_a_longer_one_is_cut)
{
	static char text[2 * CONTROL_PATH_MAX];
	struct egress_record rec = sample_record();
	struct control_packet p;
	struct egress_record got;
	struct buf b;

	memset(text, 'a', sizeof(text));
	rec.host = rec.method = rec.path = rec.secret = span_of(text, sizeof(text));
	CHECK_EQ(put_record(&rec), 0);
	buf_init(&b, room, sizeof(room));
	control_put_record(&b, &rec);
	CHECK_EQ(control_parse_packet(buf_span(&b), CONTROL_FROM_VAULT, &p), 0);
	CHECK_EQ(control_parse_record(p.payload, &got), 0);
	CHECK_EQ(got.host.len, CONTROL_HOST_MAX);
	CHECK_EQ(got.method.len, CONTROL_METHOD_MAX);
	CHECK_EQ(got.path.len, CONTROL_PATH_MAX);
	CHECK_EQ(got.secret.len, CONTROL_SECRET_NAME_MAX);
	CHECK_EQ(got.bytes_down, UINT64_MAX);
}

static int put_secret(uint8_t kind, const char *name, const char *placeholder)
{
	const struct control_secret s = { 1, span_str(name), span_str(placeholder) };
	struct buf b;

	buf_init(&b, room, sizeof(room));
	control_put_secret(&b, kind, &s);
	CHECK(buf_ok(&b));
	return parse(buf_span(&b),
	             kind == CONTROL_SECRET_OK ? CONTROL_FROM_VAULT : CONTROL_FROM_SUPERVISOR);
}

/* They become variables of a guest's environment. */
TEST(names_and_placeholders_are_plain)
{
	CHECK_EQ(put_secret(CONTROL_SECRET, "_a9Z", ""), 0);
	CHECK_EQ(put_secret(CONTROL_SECRET_OK, "", ""), 0);
	CHECK_EQ(put_secret(CONTROL_SECRET_OK, "A", ""), 0);
	CHECK_EQ(put_secret(CONTROL_SECRET_OK, "A", "!~"), 0);
	CHECK_EQ(put_secret(CONTROL_SECRET_OK, "", "x"), -EBADMSG);
	CHECK_EQ(put_secret(CONTROL_SECRET_OK, "A", "a b"), -EBADMSG);
	CHECK_EQ(put_secret(CONTROL_SECRET_OK, "A", "a\n"), -EBADMSG);
	CHECK_EQ(put_secret(CONTROL_SECRET_OK, "A", "\x7f"), -EBADMSG);
	CHECK_EQ(put_secret(CONTROL_SECRET_OK, "A", "\xc3\xa9"), -EBADMSG);
	CHECK_EQ(put_secret(CONTROL_SECRET, "", ""), -EBADMSG);
	CHECK_EQ(put_secret(CONTROL_SECRET_RM, "9A", ""), -EBADMSG);
	CHECK_EQ(put_secret(CONTROL_SECRET, "A=B", ""), -EBADMSG);
	CHECK_EQ(put_secret(CONTROL_SECRET, "A\xc3\xa9", ""), -EBADMSG);
}

TEST(counters_have_plain_names_and_a_maximum)
{
	struct control_stats s = { .count = CONTROL_STATS_MAX };
	struct buf b;

	for (size_t i = 0; i < CONTROL_STATS_MAX; i++)
		s.item[i] =
			(struct control_stat){ span_str("abcdefghijklmnopqrstuvwxyz_01234"), i };
	buf_init(&b, room, sizeof(room));
	control_put_stats(&b, &s);
	CHECK(buf_ok(&b));
	CHECK_EQ(parse(buf_span(&b), CONTROL_FROM_GATE), 0);
	s.item[3].name = span_str("Upper");
	buf_init(&b, room, sizeof(room));
	control_put_stats(&b, &s);
	CHECK_EQ(parse(buf_span(&b), CONTROL_FROM_GATE), -EBADMSG);
	s.item[3].name = span_str("");
	buf_init(&b, room, sizeof(room));
	control_put_stats(&b, &s);
	CHECK_EQ(parse(buf_span(&b), CONTROL_FROM_GATE), -EBADMSG);
	room[CONTROL_HEADER_BYTES + 4] = CONTROL_STATS_MAX + 1;
	CHECK_EQ(parse(buf_span(&b), CONTROL_FROM_GATE), -EBADMSG);
}

TEST(what_is_no_peer_is_refused)
{
	struct control_accepted bad[3] = {
		{ .guest_port = 0, .family = 4 },
		{ .guest_port = 1, .family = 0 },
		{ .guest_port = 1, .family = 4, .addr = { [4] = 1 } },
	};

	for (size_t i = 0; i < 3; i++) {
		struct buf b;

		buf_init(&b, room, sizeof(room));
		control_put_accepted(&b, CONTROL_ACCEPTED, &bad[i]);
		CHECK_EQ(parse(buf_span(&b), CONTROL_FROM_SUPERVISOR), -EBADMSG);
	}
}

TEST(a_refusal_always_has_a_sentence)
{
	static char text[CONTROL_WHY_MAX + 1];
	struct control_packet p;
	struct control_text got;
	struct buf b;

	memset(text, 'a', sizeof(text));
	buf_init(&b, room, sizeof(room));
	control_put_text(&b, CONTROL_POLICY_BAD, 1, span_of(text, sizeof(text)));
	CHECK_EQ(parse(buf_span(&b), CONTROL_FROM_VAULT), 0);
	buf_init(&b, room, sizeof(room));
	control_put_text(&b, CONTROL_POLICY_BAD, 1, span_of(NULL, 0));
	CHECK_EQ(control_parse_packet(buf_span(&b), CONTROL_FROM_VAULT, &p), 0);
	CHECK_EQ(control_parse_text(p.payload, &got), 0);
	CHECK_SPAN(got.why, "no reason given");
}

TEST(what_does_not_fit_leaves_nothing)
{
	static uint8_t long_pem[CONTROL_PACKET_MAX];
	static uint8_t large[2 * CONTROL_PACKET_MAX];
	const struct control_ready r = { .pem = span_of(long_pem, sizeof(long_pem)) };
	const struct egress_record rec = sample_record();
	struct buf b;

	buf_init(&b, large, sizeof(large));
	control_put_ready(&b, &r);
	CHECK(!buf_ok(&b) && b.len == 0);
	buf_init(&b, large, 64);
	control_put_record(&b, &rec);
	CHECK(!buf_ok(&b) && b.len == 0);
}

static void make_pair(int fds[2])
{
	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
}

static void send_fds(int sock, const int *fds, size_t count, size_t bytes)
{
	static uint8_t data[2 * CONTROL_PACKET_MAX];
	_Alignas(struct cmsghdr) char space[CMSG_SPACE(16 * sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = data, .iov_len = bytes };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space };
	struct cmsghdr *h;

	m.msg_controllen = CMSG_SPACE(count * sizeof(int));
	h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(h), fds, count * sizeof(int));
	CHECK_EQ(sendmsg(sock, &m, 0), bytes);
}

static unsigned count_fds(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

TEST(a_packet_comes_with_its_descriptor)
{
	uint8_t in[CONTROL_PACKET_MAX];
	struct span got = { 0 };
	unsigned before;
	int fds[2], fd = -2;

	make_pair(fds);
	before = count_fds();
	CHECK_EQ(control_recv(fds[1], in, &got, &fd), -EAGAIN);
	CHECK_EQ(control_send(fds[0], sample(CONTROL_STATS), -1), 0);
	CHECK_EQ(control_recv(fds[1], in, &got, &fd), 0);
	CHECK_MEM(got, sample(CONTROL_STATS));
	CHECK_EQ(fd, -1);
	CHECK_EQ(control_send(fds[0], sample(CONTROL_POLICY), fds[0]), 0);
	CHECK_EQ(control_recv(fds[1], in, &got, &fd), 0);
	CHECK_MEM(got, sample(CONTROL_POLICY));
	CHECK(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(count_fds(), before);
	CHECK_EQ(close(fds[0]), 0);
	CHECK_EQ(control_recv(fds[1], in, &got, &fd), -EPIPE);
	CHECK_EQ(control_send(fds[1], sample(CONTROL_STATS), -1), -EPIPE);
}

TEST(what_is_too_much_is_closed)
{
	uint8_t in[CONTROL_PACKET_MAX];
	struct span got;
	unsigned before;
	int fds[2], fd = -2;
	int many[16];

	make_pair(fds);
	for (size_t i = 0; i < 16; i++)
		many[i] = fds[0];
	before = count_fds();
	send_fds(fds[0], many, 2, 4);
	CHECK_EQ(control_recv(fds[1], in, &got, &fd), -EBADMSG);
	send_fds(fds[0], many, 16, 4);
	CHECK_EQ(control_recv(fds[1], in, &got, &fd), -EBADMSG);
	send_fds(fds[0], many, 1, CONTROL_PACKET_MAX + 1);
	CHECK_EQ(control_recv(fds[1], in, &got, &fd), -EBADMSG);
	CHECK_EQ(fd, -2);
	CHECK_EQ(count_fds(), before);
}

TEST(a_full_socket_is_no_fault)
{
	int fds[2];
	int r = 0;

	make_pair(fds);
	for (unsigned i = 0; i < 1000000 && r == 0; i++)
		r = control_send(fds[0], sample(CONTROL_RECORD), -1);
	CHECK_EQ(r, -EAGAIN);
}

TEST_MAIN()
