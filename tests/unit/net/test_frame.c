#include "frames.h"
#include "guardpage.h"
#include "test.h"

#include <errno.h>

static uint8_t frame[NET_FRAME_MAX];

static struct ip parsed_ip(size_t len, bool six)
{
	struct eth eth;
	struct ip ip;

	CHECK_EQ(eth_parse(span_of(frame, len), &eth), NET_OK);
	CHECK_EQ(six ? ip6_parse(eth.payload, &ip) : ip4_parse(eth.payload, &ip), NET_OK);
	return ip;
}

TEST(stream_of_frames_by_every_prefix)
{
	uint8_t stream[4 + 20 + 4 + 14];
	struct span got;

	memset(stream, 7, sizeof(stream));
	put_be32(stream, 20);
	put_be32(stream + 24, 14);
	for (size_t len = 0; len <= sizeof(stream); len++) {
		uint8_t *at = guard_copy(stream, len);
		struct span in = span_of(at, len);

		CHECK_EQ(frame_parse(&in, &got), len < 24 ? -EAGAIN : 0);
		if (len >= 24) {
			CHECK_EQ(got.len, 20);
			CHECK_EQ(frame_parse(&in, &got), len < sizeof(stream) ? -EAGAIN : 0);
		}
		guard_free(at, len);
	}
}

TEST(stream_with_a_length_no_frame_has)
{
	const uint32_t bad[] = { 0, NET_FRAME_MIN - 1, NET_FRAME_MAX + 1, UINT32_MAX };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint8_t at[4];
		struct span in = span_of(at, sizeof(at));
		struct span got = { 0 };

		put_be32(at, bad[i]);
		CHECK_EQ(frame_parse(&in, &got), -EBADMSG);
		CHECK(in.len == 4 && got.at == NULL);
	}
}

TEST(eth_runt_giant_vlan)
{
	static uint8_t giant[NET_FRAME_MAX + 1];
	struct eth eth;

	(void)frame_eth(frame, NET_TYPE_IP4);
	for (size_t len = 0; len < NET_ETH_BYTES; len++)
		CHECK_EQ(eth_parse(guard_span(frame, len), &eth), NET_RUNT);
	CHECK_EQ(eth_parse(guard_span(frame, NET_ETH_BYTES), &eth), NET_OK);
	CHECK_EQ(eth_parse(span_of(giant, sizeof(giant)), &eth), NET_GIANT);
	for (int i = 0; i < 3; i++) {
		put_be16(frame + 12, (const uint16_t[]){ 0x8100, 0x88a8, 0x9100 }[i]);
		CHECK_EQ(eth_parse(span_of(frame, 60), &eth), NET_VLAN);
	}
}

TEST(arp_by_every_prefix)
{
	static const uint8_t good[ARP_BYTES] = { 0, 1, 8, 0, 6, 4, 0, 1, [14] = 100, 96, 0, 2 };
	uint8_t bad[ARP_BYTES];
	struct arp arp;

	for (size_t len = 0; len < sizeof(good); len++)
		CHECK_EQ(arp_parse(guard_span(good, len), &arp), NET_RUNT);
	CHECK_EQ(arp_parse(guard_span(good, sizeof(good)), &arp), NET_OK);
	CHECK(net_addr_equal(arp.sender, net_addr4(100, 96, 0, 2)));
	for (size_t i = 0; i < 8; i++) {
		memcpy(bad, good, sizeof(bad));
		bad[i] ^= 0x40;
		CHECK_EQ(arp_parse(guard_span(bad, sizeof(bad)), &arp), NET_MALFORMED);
	}
}

TEST(ip_by_every_prefix)
{
	for (int six = 0; six < 2; six++) {
		struct net_tuple t = frame_tuple(six);
		size_t len = frame_udp(frame, &t, span_str("payload"));
		struct ip ip;

		memset(&ip, 0xa5, sizeof(ip));
		for (size_t cut = FRAME_IP_AT; cut <= len; cut++) {
			struct span in = guard_span(frame + FRAME_IP_AT, cut - FRAME_IP_AT);
			enum net_drop why = six ? ip6_parse(in, &ip) : ip4_parse(in, &ip);

			CHECK_EQ(why, cut < len ? NET_RUNT : NET_OK);
			CHECK(cut == len || ip.proto == 0xa5);
		}
		CHECK(net_addr_equal(ip.src, t.guest) && net_addr_equal(ip.dst, t.remote));
		CHECK_EQ(ip.payload.len, NET_UDP_BYTES + 7);
	}
}

TEST(ip_padding_is_cut)
{
	struct net_tuple t = frame_tuple(false);
	size_t len = frame_udp(frame, &t, span_str("x"));
	struct ip ip;

	memset(frame + len, 0xee, 20);
	CHECK_EQ(ip4_parse(span_of(frame + FRAME_IP_AT, len - FRAME_IP_AT + 20), &ip), NET_OK);
	CHECK_EQ(ip.payload.len, NET_UDP_BYTES + 1);
	CHECK_EQ(ip.whole.len, len - FRAME_IP_AT);
}

static enum net_drop changed_ip4(size_t at, uint8_t to, bool fix)
{
	struct net_tuple t = frame_tuple(false);
	size_t len = frame_udp(frame, &t, span_str("payload of twenty bytes"));
	struct ip ip;

	frame[FRAME_IP_AT + at] = to;
	if (fix)
		frame_fix_ip4(frame);
	return ip4_parse(guard_span(frame + FRAME_IP_AT, len - FRAME_IP_AT), &ip);
}

TEST(ip4_refusals)
{
	CHECK_EQ(changed_ip4(0, 0x65, true), NET_MALFORMED);
	CHECK_EQ(changed_ip4(0, 0x44, true), NET_MALFORMED);
	CHECK_EQ(changed_ip4(0, 0x46, true), NET_IP_OPTIONS);
	CHECK_EQ(changed_ip4(3, 19, true), NET_MALFORMED);
	CHECK_EQ(changed_ip4(2, 1, true), NET_RUNT);
	CHECK_EQ(changed_ip4(6, 0x20, true), NET_FRAGMENT);
	CHECK_EQ(changed_ip4(7, 1, true), NET_FRAGMENT);
	CHECK_EQ(changed_ip4(6, 0x80, true), NET_MALFORMED);
	CHECK_EQ(changed_ip4(6, 0x40, true), NET_OK);
	CHECK_EQ(changed_ip4(8, 0, true), NET_MALFORMED);
	CHECK_EQ(changed_ip4(8, 63, false), NET_CHECKSUM);
	CHECK_EQ(changed_ip4(12, 9, false), NET_CHECKSUM);
}

TEST(ip6_extensions_and_fragments)
{
	static const struct {
		uint8_t proto;
		uint8_t l4[24];
		enum net_drop why;
	} rows[] = {
		{ 44, { 17 }, NET_FRAGMENT },
		{ 0, { 17, 0 }, NET_EXTENSION },
		{ 0, { 44, 0, [8] = 17 }, NET_FRAGMENT },
		{ 43, { 60, 0, [8] = 44, 0, [16] = 17 }, NET_FRAGMENT },
		{ 60, { 60, 200 }, NET_RUNT },
		{ 60, { 60, 0, [8] = 60, 0, [16] = 60 }, NET_RUNT },
		{ 51, { 6, 1 }, NET_EXTENSION },
	};
	struct net_tuple t = frame_tuple(true);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t len = frame_ip(frame, &t.guest, &t.remote, rows[i].proto,
		                      span_of(rows[i].l4, sizeof(rows[i].l4)));
		struct ip ip;

		CHECK_EQ(ip6_parse(guard_span(frame + FRAME_IP_AT, len - FRAME_IP_AT), &ip),
		         rows[i].why);
	}
}

TEST(udp_lengths_and_checksums)
{
	for (int six = 0; six < 2; six++) {
		struct net_tuple t = frame_tuple(six);
		size_t len = frame_udp(frame, &t, span_str("odd"));
		struct ip ip = parsed_ip(len, six);
		uint8_t *udp = frame + len - NET_UDP_BYTES - 3;
		struct udp got;

		CHECK_EQ(udp_parse(&ip, &got), NET_OK);
		CHECK_SPAN(got.data, "odd");
		CHECK_EQ(got.dst_port, 443);
		frame[len - 1] ^= 1;
		CHECK_EQ(udp_parse(&ip, &got), NET_CHECKSUM);
		put_be16(udp + 6, 0); /* no checksum at all: IPv4 knows that, IPv6 does not */
		CHECK_EQ(udp_parse(&ip, &got), six ? NET_CHECKSUM : NET_OK);
		put_be16(udp + 4, 10);
		CHECK_EQ(udp_parse(&ip, &got), NET_MALFORMED);
		ip.payload.len = 7;
		CHECK_EQ(udp_parse(&ip, &got), NET_RUNT);
	}
}

TEST(icmp_checksums)
{
	static const uint8_t echo[] = { ICMP_ECHO, 0, 0, 0, 1, 2, 3, 4, 'a' };
	struct net_tuple t = frame_tuple(false);
	size_t len = frame_l4(frame, &t.guest, &t.remote, NET_PROTO_ICMP,
	                      span_of(echo, sizeof(echo)), 2);
	struct ip ip = parsed_ip(len, false);
	struct icmp got;

	CHECK_EQ(icmp_parse(&ip, &got), NET_OK);
	CHECK_SPAN(got.body, "a");
	frame[len - 1]++;
	CHECK_EQ(icmp_parse(&ip, &got), NET_CHECKSUM);
	ip.payload.len = 7;
	CHECK_EQ(icmp_parse(&ip, &got), NET_RUNT);
}

TEST(neighbour_discovery_is_checked)
{
	uint8_t solicit[8 + 16 + 8] = { ICMP6_SOLICIT, [8] = 0xfd, [24] = 1, [25] = 1 };
	struct net_tuple t = frame_tuple(true);
	struct net_addr target;
	struct icmp icmp;
	struct ip ip;
	size_t len;

	for (int i = 0; i < 5; i++) {
		solicit[1] = i == 1;
		solicit[8] = i == 2 ? 0xff : 0xfd;
		solicit[25] = (const uint8_t[]){ 1, 1, 1, 0, 2 }[i];
		len = frame_l4(frame, &t.guest, &t.remote, NET_PROTO_ICMP6,
		               span_of(solicit, sizeof(solicit)), 2);
		ip = parsed_ip(len, true);
		CHECK_EQ(icmp_parse(&ip, &icmp), NET_OK);
		CHECK_EQ(icmp_parse_nd(&ip, &icmp, &target), i ? NET_MALFORMED : NET_OK);
	}
	ip.hops = 64;
	CHECK_EQ(icmp_parse_nd(&ip, &icmp, &target), NET_MALFORMED);
	icmp.body.len = 15;
	CHECK_EQ(icmp_parse_nd(&ip, &icmp, &target), NET_RUNT);
}

TEST(every_reason_has_a_word)
{
	for (int i = 0; i < NET_DROP_COUNT; i++)
		CHECK(net_drop_word((enum net_drop)i) != NULL);
	CHECK_STR(net_drop_word(NET_SPOOFED_MAC), "spoofed-mac");
	CHECK_STR(net_drop_word(NET_DROP_COUNT), "unknown");
}

TEST_MAIN()
