/*
 * The link as a hostile guest meets it. Cases L4-9, L4-10, L4-12 and BYP-2 of the catalogue of
 * acceptance cases, as far as they can be seen on the wire alone.
 */
#include "frames.h"
#include "guardpage.h"
#include "test.h"

static uint8_t frame[NET_FRAME_MAX + 16];
static uint8_t sent[NET_FRAME_MAX + NET_PREFIX_BYTES];
static size_t sent_len;
static unsigned sent_count;
static bool full;
static struct net_link link_;
static struct net_link_config usual;
static uint64_t now = 1000;

static bool emit(void *ctx, const struct iovec *iov, unsigned count, size_t bytes)
{
	(void)ctx;
	CHECK(count >= 1 && count <= NET_FRAME_IOVS && bytes <= sizeof(sent));
	if (full)
		return false;
	sent_len = 0;
	for (unsigned i = 0; i < count; i++) {
		memcpy(sent + sent_len, iov[i].iov_base, iov[i].iov_len);
		sent_len += iov[i].iov_len;
	}
	CHECK_EQ(sent_len, bytes);
	sent_count++;
	return true;
}

static void begin(bool six)
{
	usual = net_link_config_usual(true);
	struct net_link_config c = net_link_config_usual(six);

	net_link_init(&link_, &c, (struct net_out){ .emit = emit });
	sent_count = 0;
	full = false;
}

static bool input(size_t len, struct net_packet *ret)
{
	uint8_t *at = guard_copy(frame, len);
	bool got = net_link_input(&link_, span_of(at, len), now, ret);

	guard_free(at, len);
	return got;
}

/* The frame goes nowhere, is counted as why and nothing else, and gets `answers` answers. */
static void refused(size_t len, enum net_drop why, unsigned answers)
{
	struct net_link_stats before = link_.stats;
	struct net_packet p;
	unsigned count = sent_count;

	CHECK(!input(len, &p));
	for (int i = 0; i < NET_DROP_COUNT; i++)
		if (link_.stats.dropped[i] - before.dropped[i] != (i == (int)why))
			test_fail(__FILE__, __LINE__, "%s counted, not %s",
			          net_drop_word((enum net_drop)i), net_drop_word(why));
	CHECK_EQ(sent_count - count, answers);
}

static struct ip answer_ip(void)
{
	struct span in = span_of(sent, sent_len);
	struct span got;
	struct eth eth;
	struct ip ip;

	CHECK_EQ(frame_parse(&in, &got), 0);
	CHECK_EQ(in.len, 0);
	CHECK_EQ(eth_parse(got, &eth), NET_OK);
	CHECK(net_mac_equal(eth.src, usual.router_mac) && net_mac_equal(eth.dst, usual.guest_mac));
	CHECK_EQ(eth.type == NET_TYPE_IP6 ? ip6_parse(eth.payload, &ip)
	                                  : ip4_parse(eth.payload, &ip),
	         NET_OK);
	return ip;
}

static struct icmp answer_icmp(void)
{
	struct ip ip = answer_ip();
	struct icmp icmp;

	CHECK_EQ(icmp_parse(&ip, &icmp), NET_OK);
	return icmp;
}

static size_t arp_frame(uint16_t op, struct net_addr sender, struct net_addr target)
{
	uint8_t *put = frame + frame_eth(frame, NET_TYPE_ARP);

	memset(frame, 0xff, 6);
	memset(put, 0, ARP_BYTES);
	memcpy(put, (const uint8_t[]){ 0, 1, 8, 0, 6, 4, 0, (uint8_t)op }, 8);
	memcpy(put + 8, usual.guest_mac.at, 6);
	memcpy(put + 14, sender.at, 4);
	memcpy(put + 24, target.at, 4);
	return NET_ETH_BYTES + ARP_BYTES;
}

TEST(arp_for_the_router_is_answered)
{
	struct net_packet p;

	begin(false);
	CHECK(!input(arp_frame(ARP_REQUEST, usual.guest4, usual.router4), &p));
	CHECK_EQ(sent_count, 1);
	CHECK_EQ(sent_len, 4 + 14 + 28);
	CHECK_MEM(span_of(sent + 4, 6), span_of(usual.guest_mac.at, 6));
	CHECK_EQ(sent[4 + 14 + 7], ARP_REPLY);
	CHECK_MEM(span_of(sent + 4 + 14 + 8, 6), span_of(usual.router_mac.at, 6));
	CHECK_MEM(span_of(sent + 4 + 14 + 14, 4), span_of(usual.router4.at, 4));
	CHECK_EQ(link_.stats.answered, 1);
}

TEST(l4_9_arp_claims_have_no_effect)
{
	begin(false);
	refused(arp_frame(ARP_REPLY, usual.router4, usual.guest4), NET_CLAIM, 0);
	refused(arp_frame(ARP_REQUEST, usual.router4, usual.router4), NET_CLAIM, 0);
	refused(arp_frame(ARP_REQUEST, net_addr4(100, 96, 0, 3), usual.router4), NET_CLAIM, 0);
	refused(arp_frame(ARP_REQUEST, net_addr4(0, 0, 0, 0), usual.router4), NET_CLAIM, 0);
	refused(arp_frame(ARP_REQUEST, usual.guest4, net_addr4(100, 96, 0, 3)), NET_ARP_OTHER, 0);
	refused(arp_frame(ARP_REQUEST, usual.guest4, usual.guest4), NET_ARP_OTHER, 0);
	refused(arp_frame(ARP_REPLY, usual.guest4, usual.router4), NET_ARP_OTHER, 0);
	(void)arp_frame(ARP_REQUEST, usual.guest4, usual.router4);
	frame[14 + 8] ^= 2; /* the sender's MAC inside differs from the frame's */
	refused(NET_ETH_BYTES + ARP_BYTES, NET_CLAIM, 0);
}

TEST(l4_9_frames_that_are_not_the_guests)
{
	struct net_tuple t;

	begin(true);
	for (int six = 0; six < 2; six++) {
		size_t len;

		t = frame_tuple(six);
		len = frame_udp(frame, &t, span_str("hello"));
		frame[6] ^= 2;
		refused(len, NET_SPOOFED_MAC, 0);
		frame[6] ^= 2;
		frame[5] ^= 1;
		refused(len, NET_NOT_FOR_ROUTER, 0);
		t.guest.at[3] ^= 1;
		refused(frame_udp(frame, &t, span_str("hello")), NET_SPOOFED_ADDRESS, 0);
		t.guest = t.remote;
		refused(frame_udp(frame, &t, span_str("hello")), NET_SPOOFED_ADDRESS, 0);
		memset(t.guest.at, 0, 16);
		refused(frame_udp(frame, &t, span_str("hello")), NET_SPOOFED_ADDRESS, 0);
		t.guest = six ? usual.router6 : usual.router4;
		refused(frame_udp(frame, &t, span_str("hello")), NET_SPOOFED_ADDRESS, 0);
	}
	t = frame_tuple(true);
	t.guest = net_addr6((const uint8_t[16]){ 0xfe, 0x80, [15] = 1 });
	refused(frame_udp(frame, &t, span_str("link local")), NET_SPOOFED_ADDRESS, 0);
}

TEST(l4_9_runts_giants_tags_types)
{
	struct net_tuple t = frame_tuple(false);
	size_t len = frame_udp(frame, &t, span_str("hello"));

	begin(false);
	for (size_t cut = 0; cut < len; cut++)
		refused(cut, NET_RUNT, 0);
	refused(NET_FRAME_MAX + 1, NET_GIANT, 0);
	put_be16(frame + 12, 0x8100);
	refused(len, NET_VLAN, 0);
	put_be16(frame + 12, 0x86dd + 1);
	refused(len, NET_ETHERTYPE, 0);
	put_be16(frame + 12, 46); /* a length of IEEE 802.3 */
	refused(len, NET_ETHERTYPE, 0);
}

TEST(l4_9_groups_dhcp_and_discovery)
{
	static const uint8_t all6[16] = { 0xff, 2, [15] = 1 };
	uint8_t advert[16] = { ICMP6_ROUTER_ADVERT };
	uint8_t redirect[40] = { ICMP6_REDIRECT };
	struct net_tuple t = frame_tuple(false);
	struct net_addr group = net_addr6(all6);
	size_t len;

	begin(true);
	t.guest_port = 67; /* an offer of a DHCP server, to all */
	t.remote_port = 68;
	t.remote = net_addr4(255, 255, 255, 255);
	len = frame_udp(frame, &t, span_str("offer"));
	refused(len, NET_MULTICAST, 0);
	memset(frame, 0xff, 6);
	refused(len, NET_MULTICAST, 0);
	t.remote = net_addr4(224, 0, 0, 251);
	refused(frame_udp(frame, &t, span_str("mdns")), NET_MULTICAST, 0);
	t.remote = net_addr4(8, 8, 8, 8); /* an address of one in a frame to all */
	len = frame_udp(frame, &t, span_str("x"));
	memset(frame, 0xff, 6);
	refused(len, NET_MULTICAST, 0);

	len = frame_l4(frame, &usual.guest6, &group, NET_PROTO_ICMP6,
	               span_of(advert, sizeof(advert)), 2);
	refused(len, NET_CLAIM, 0);
	len = frame_l4(frame, &usual.guest6, &usual.router6, NET_PROTO_ICMP6,
	               span_of(redirect, sizeof(redirect)), 2);
	refused(len, NET_CLAIM, 0);
	advert[0] = ICMP6_ROUTER_SOLICIT;
	len = frame_l4(frame, &usual.guest6, &group, NET_PROTO_ICMP6,
	               span_of(advert, sizeof(advert)), 2);
	refused(len, NET_MULTICAST, 0);
	frame[len - 1] ^= 1;
	refused(len, NET_CHECKSUM, 0);
}

static size_t nd_frame(uint8_t type, struct net_addr from, struct net_addr target)
{
	uint8_t message[32] = { type, [24] = 1, 1 };
	struct net_addr to = usual.router6;

	memcpy(message + 8, target.at, 16);
	memcpy(message + 26, usual.guest_mac.at, 6);
	return frame_l4(frame, &from, &to, NET_PROTO_ICMP6, span_of(message, 32), 2);
}

TEST(solicitations_for_the_router_are_answered)
{
	struct net_addr local = net_addr6((const uint8_t[16]){ 0xfe, 0x80, [15] = 9 });
	struct net_packet p;

	begin(true);
	for (int i = 0; i < 2; i++) {
		struct net_addr src = i ? local : usual.guest6;
		struct icmp got;
		struct ip ip;

		CHECK(!input(nd_frame(ICMP6_SOLICIT, src, usual.router6), &p));
		CHECK_EQ(sent_count, i + 1);
		ip = answer_ip();
		got = answer_icmp();
		CHECK(net_addr_equal(ip.src, usual.router6) && net_addr_equal(ip.dst, src));
		CHECK_EQ(ip.hops, 255);
		CHECK(got.type == ICMP6_ADVERT && got.rest[0] == 0xe0 && got.body.len == 24);
		CHECK_MEM(span_of(got.body.at + 18, 6), span_of(usual.router_mac.at, 6));
	}
}

TEST(l4_9_discovery_claims_have_no_effect)
{
	struct net_addr none = { .family = 6 };
	struct net_addr other;

	begin(true);
	other = usual.guest6;
	other.at[15] = 3;
	refused(nd_frame(ICMP6_ADVERT, usual.guest6, usual.router6), NET_CLAIM, 0);
	refused(nd_frame(ICMP6_ADVERT, usual.guest6, other), NET_CLAIM, 0);
	refused(nd_frame(ICMP6_ADVERT, usual.guest6, usual.guest6), NET_ND_OTHER, 0);
	refused(nd_frame(ICMP6_SOLICIT, none, usual.router6), NET_CLAIM, 0);
	refused(nd_frame(ICMP6_SOLICIT, other, usual.router6), NET_CLAIM, 0);
	refused(nd_frame(ICMP6_SOLICIT, usual.guest6, other), NET_ND_OTHER, 0);
	refused(nd_frame(ICMP6_SOLICIT, none, usual.guest6), NET_ND_OTHER, 0);
}

TEST(l4_10_no_ip6_where_there_is_none)
{
	struct net_tuple t = frame_tuple(true);

	begin(false);
	refused(frame_udp(frame, &t, span_str("x")), NET_V6_OFF, 0);
	refused(nd_frame(ICMP6_SOLICIT, usual.guest6, usual.router6), NET_V6_OFF, 0);
}

TEST(l4_12_other_protocols_are_told_once)
{
	static const uint8_t protos[] = { 47, 50, 132, 4, 41, 2, 255 };

	begin(true);
	for (int six = 0; six < 2; six++) {
		struct net_tuple t = frame_tuple(six);

		begin(true);
		for (size_t i = 0; i < sizeof(protos); i++) {
			size_t len = frame_ip(frame, &t.guest, &t.remote, protos[i],
			                      span_str("payload!"));
			struct icmp got;

			refused(len, NET_PROTOCOL, 1);
			got = answer_icmp();
			CHECK_EQ(got.type, six ? ICMP6_PARAMETER : ICMP_UNREACHABLE);
			CHECK_EQ(got.code, six ? 1 : ICMP_CODE_PROTOCOL);
			CHECK_MEM(got.body, span_of(frame + 14, len - 14));
			refused(len, NET_PROTOCOL, 0);
		}
		CHECK_EQ(link_.stats.errors, sizeof(protos));
	}
}

TEST(l4_12_echo_to_the_router_alone)
{
	begin(true);
	for (int six = 0; six < 2; six++) {
		uint8_t echo[] = {
			six ? ICMP6_ECHO : ICMP_ECHO, 0, 0, 0, 1, 2, 3, 4, 'a', 'b', 'c'
		};
		uint8_t proto = six ? NET_PROTO_ICMP6 : NET_PROTO_ICMP;
		struct net_tuple t = frame_tuple(six);
		struct net_addr router = six ? usual.router6 : usual.router4;
		struct net_packet p;
		struct icmp got;
		struct ip ip;

		CHECK(!input(frame_l4(frame, &t.guest, &router, proto, span_of(echo, 11), 2), &p));
		ip = answer_ip();
		got = answer_icmp();
		CHECK_EQ(got.type, six ? ICMP6_ECHO_REPLY : ICMP_ECHO_REPLY);
		CHECK_MEM(span_of(got.rest, 4), span_of(echo + 4, 4));
		CHECK_SPAN(got.body, "abc");
		CHECK(net_addr_equal(ip.src, router));

		refused(frame_l4(frame, &t.guest, &t.remote, proto, span_of(echo, 11), 2),
		        NET_ICMP_OTHER, 1);
		got = answer_icmp();
		CHECK_EQ(got.code, six ? ICMP6_CODE_PROHIBITED : ICMP_CODE_PROHIBITED);
		echo[0] = six ? 1 : 3; /* an error of the guest's own */
		refused(frame_l4(frame, &t.guest, &router, proto, span_of(echo, 11), 2),
		        NET_ICMP_OTHER, 0);
	}
}

TEST(l4_12_port_unreachable_at_once_and_bounded)
{
	struct net_tuple t = frame_tuple(true);
	struct net_packet p;

	begin(true);
	CHECK(input(frame_udp(frame, &t, span_str("ntp")), &p));
	CHECK_EQ(p.proto, NET_PROTO_UDP);
	CHECK(net_tuple_equal(&p.tuple, &t));
	for (int i = 0; i < 3 * NET_ICMP_ERRORS_PER_S; i++) {
		/* the frame's bytes are gone by now in a test; quote what the test holds */
		p.ip.whole = span_of(frame + 14, p.ip.whole.len);
		net_link_refuse(&link_, &p.ip, now);
	}
	CHECK_EQ(sent_count, NET_ICMP_ERRORS_PER_S);
	CHECK_EQ(link_.stats.dropped[NET_ERROR_RATE], 2 * NET_ICMP_ERRORS_PER_S);
	CHECK(answer_icmp().type == ICMP6_UNREACHABLE && answer_icmp().code == ICMP6_CODE_PORT);
	net_link_refuse(&link_, &p.ip, now + 10);
	CHECK_EQ(sent_count, NET_ICMP_ERRORS_PER_S + 1);
	net_link_refuse(&link_, &p.ip, now + 10);
	CHECK_EQ(sent_count, NET_ICMP_ERRORS_PER_S + 1);
}

TEST(byp_2_options_extensions_fragments)
{
	struct net_tuple t = frame_tuple(false);
	uint8_t l4[64] = { 17, 0 };
	size_t len;

	begin(true);
	len = frame_udp(frame, &t, span_str("with an option in its header"));
	frame[FRAME_IP_AT] = 0x46;
	frame_fix_ip4(frame);
	refused(len, NET_IP_OPTIONS, 0);
	len = frame_udp(frame, &t, span_str("fragment"));
	frame[FRAME_IP_AT + 6] = 0x20;
	frame_fix_ip4(frame);
	refused(len, NET_FRAGMENT, 0);
	t = frame_tuple(true);
	refused(frame_ip(frame, &t.guest, &t.remote, 60, span_of(l4, 64)), NET_EXTENSION, 0);
	refused(frame_ip(frame, &t.guest, &t.remote, 44, span_of(l4, 64)), NET_FRAGMENT, 0);
}

TEST(l4_8_bad_checksums_go_nowhere)
{
	begin(true);
	for (int six = 0; six < 2; six++) {
		struct net_tuple t = frame_tuple(six);
		struct tcp_segment s = {
			.src_port = 40000, .dst_port = 443, .flags = TCP_SYN, .mss = 1400
		};
		struct net_packet p;
		size_t len = frame_tcp(frame, &t, &s);

		CHECK(input(len, &p));
		CHECK(p.proto == NET_PROTO_TCP && p.tcp.mss == 1400);
		frame[len - 1] ^= 0x10;
		refused(len, NET_CHECKSUM, 0);
		len = frame_udp(frame, &t, span_str("data"));
		frame[len - 1] ^= 0x10;
		refused(len, NET_CHECKSUM, 0);
	}
}

TEST(datagrams_to_the_guest)
{
	static uint8_t big[NET_UDP_DATA_MAX + 1];

	begin(true);
	for (int six = 0; six < 2; six++) {
		struct net_tuple t = frame_tuple(six);
		size_t max = NET_UDP_DATA_MAX - (six ? 20 : 0);
		struct udp got;
		struct ip ip;

		for (size_t len = 0; len < 70; len++) {
			memset(big, (int)len, len);
			CHECK(net_link_send_udp(&link_, &t, span_of(big, len)));
			ip = answer_ip();
			CHECK_EQ(udp_parse(&ip, &got), NET_OK);
			CHECK(got.src_port == t.remote_port && got.dst_port == t.guest_port);
			CHECK_MEM(got.data, span_of(big, len));
		}
		CHECK(net_link_send_udp(&link_, &t, span_of(big, max)));
		CHECK_EQ(sent_len, 4 + NET_FRAME_MAX);
		ip = answer_ip();
		CHECK_EQ(udp_parse(&ip, &got), NET_OK);
		CHECK(!net_link_send_udp(&link_, &t, span_of(big, max + 1)));
		full = true;
		CHECK(!net_link_send_udp(&link_, &t, span_of(big, 1)));
		full = false;
	}
	CHECK_EQ(link_.stats.dropped[NET_GIANT], 2);
	CHECK_EQ(link_.stats.dropped[NET_NO_ROOM], 2);
}

TEST(any_byte_changed_is_harmless)
{
	struct net_tuple t = frame_tuple(true);
	struct net_packet p;
	size_t len;

	begin(true);
	for (size_t at = 0; at < 80; at++) {
		for (unsigned to = 0; to < 256; to += 5) {
			len = frame_udp(frame, &t, span_str("0123456789012345678901234"));
			frame[at] = (uint8_t)to;
			if (input(len, &p))
				CHECK(net_addr_equal(p.tuple.guest, usual.guest6));
		}
	}
}

TEST_MAIN()
