#include "frames.h"
#include "guardpage.h"
#include "test.h"

static uint8_t frame[NET_FRAME_MAX];

static enum net_drop parse(struct span l4, bool fix, struct tcp_segment *ret)
{
	struct net_tuple t = frame_tuple(true);
	size_t len = fix && l4.len >= TCP_HEAD_BYTES
	                     ? frame_l4(frame, &t.guest, &t.remote, NET_PROTO_TCP, l4, TCP_SUM_AT)
	                     : frame_ip(frame, &t.guest, &t.remote, NET_PROTO_TCP, l4);
	uint8_t *at = guard_copy(frame + FRAME_IP_AT, len - FRAME_IP_AT);
	struct ip ip;

	CHECK_EQ(ip6_parse(span_of(at, len - FRAME_IP_AT), &ip), NET_OK);
	return tcp_parse(&ip, ret);
}

/* A segment of 20 bytes of header and the options given, padded to whole words. */
static enum net_drop parse_options(uint8_t flags, struct span options, struct tcp_segment *ret)
{
	uint8_t l4[60] = { 0x9c, 0x40, 1, 0xbb };
	size_t words = (options.len + 3) / 4;

	l4[12] = (uint8_t)((5 + words) << 4);
	l4[13] = flags;
	memcpy(l4 + 20, options.at, options.len);
	return parse(span_of(l4, 20 + words * 4), true, ret);
}

TEST(what_is_put_is_read)
{
	struct tcp_segment in = {
		.src_port = 40000,
		.dst_port = 443,
		.seq = 0xfffffff0,
		.ack = 7,
		.flags = TCP_SYN | TCP_ACK,
		.window = 65535,
		.mss = 65460,
		.has_scale = true,
		.scale = 3,
	};
	uint8_t l4[TCP_HEAD_BYTES + TCP_SYN_OPTION_BYTES];
	struct tcp_segment got;

	for (int scale = 0; scale < 2; scale++) {
		in.has_scale = scale;
		CHECK_EQ(tcp_segment_put(l4, &in), sizeof(l4));
		CHECK_EQ(parse(span_of(l4, sizeof(l4)), true, &got), NET_OK);
		CHECK(got.seq == in.seq && got.ack == in.ack && got.flags == in.flags);
		CHECK(got.window == 65535 && got.mss == 65460 && got.has_scale == scale);
		CHECK(got.src_port == 40000 && got.dst_port == 443 && got.data.len == 0);
	}
}

TEST(every_prefix_is_refused)
{
	struct tcp_segment in = { .src_port = 1, .dst_port = 2, .flags = TCP_SYN, .mss = 1400 };
	uint8_t l4[TCP_HEAD_BYTES + TCP_SYN_OPTION_BYTES];
	size_t len = tcp_segment_put(l4, &in);
	struct tcp_segment got;

	for (size_t cut = 0; cut < len; cut++)
		CHECK_EQ(parse(span_of(l4, cut), true, &got), NET_RUNT);
	CHECK_EQ(parse(span_of(l4, len), true, &got), NET_OK);
	CHECK_EQ(parse(span_of(l4, len), false, &got), NET_CHECKSUM);
}

TEST(options_good_and_bad)
{
	static const struct {
		uint8_t len;
		uint8_t at[40];
		enum net_drop why;
		uint16_t mss;
		int scale;
	} rows[] = {
		{ 4, { 2, 4, 5, 0xb4 }, NET_OK, 1460, -1 },
		{ 4, { 1, 3, 3, 7 }, NET_OK, 0, 7 },
		{ 4, { 1, 3, 3, 200 }, NET_OK, 0, 14 },
		{ 20,
		  { 2, 4, 0xff, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7 },
		  NET_OK,
		  0xffb4,
		  7 },
		{ 4, { 0, 2, 4, 9 }, NET_OK, 0, -1 },
		{ 4, { 2, 3, 9, 0 }, NET_MALFORMED, 0, 0 },
		{ 8, { 2, 5, 9, 0, 0 }, NET_MALFORMED, 0, 0 },
		{ 4, { 3, 2, 1, 1 }, NET_MALFORMED, 0, 0 },
		{ 4, { 9, 0, 1, 1 }, NET_MALFORMED, 0, 0 },
		{ 4, { 9, 1, 1, 1 }, NET_MALFORMED, 0, 0 },
		{ 4, { 9, 5, 1, 1 }, NET_MALFORMED, 0, 0 },
		{ 4, { 1, 1, 1, 9 }, NET_MALFORMED, 0, 0 },
		{ 40, { 8, 40 }, NET_OK, 0, -1 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tcp_segment got = { 0 };

		CHECK_EQ(parse_options(TCP_SYN, span_of(rows[i].at, rows[i].len), &got),
		         rows[i].why);
		if (rows[i].why != NET_OK)
			continue;
		CHECK_EQ(got.mss, rows[i].mss);
		CHECK_EQ(got.has_scale, rows[i].scale >= 0);
		CHECK(!got.has_scale || got.scale == rows[i].scale);
	}
}

TEST(options_without_syn_mean_nothing)
{
	static const uint8_t mss[] = { 2, 4, 5, 0xb4, 1, 3, 3, 7 };
	struct tcp_segment got;

	CHECK_EQ(parse_options(TCP_ACK, span_of(mss, sizeof(mss)), &got), NET_OK);
	CHECK(got.mss == 0 && !got.has_scale);
}

TEST(flags_and_lengths_that_contradict)
{
	struct tcp_segment got;
	uint8_t l4[24] = { 1, 1, 2, 2, [12] = 0x50 };

	for (unsigned flags = 0; flags < 256; flags++) {
		bool bad = flags & TCP_SYN && flags & (TCP_FIN | TCP_RST);

		l4[13] = (uint8_t)flags;
		CHECK_EQ(parse(span_of(l4, 24), true, &got), bad ? NET_MALFORMED : NET_OK);
		CHECK(bad || (got.data.len == 4 && got.flags == (flags & 63)));
	}
	l4[13] = TCP_ACK;
	l4[12] = 0x40;
	CHECK_EQ(parse(span_of(l4, 24), true, &got), NET_MALFORMED);
	l4[12] = 0x70;
	CHECK_EQ(parse(span_of(l4, 24), true, &got), NET_RUNT);
	l4[12] = 0x50;
	l4[2] = l4[3] = 0;
	CHECK_EQ(parse(span_of(l4, 24), true, &got), NET_MALFORMED);
}

TEST_MAIN()
