/*
 * The link, as a guest that writes any frames: the input is a stream of frames with their lengths,
 * its first bit says whether there is IPv6. Contracts: every frame is given on, answered or counted
 * once; what is given on is from the guest's own address; what goes back is a whole, right frame
 * from the router to the guest. A second pass makes the checksums right, so that what lies behind
 * them is reached.
 */
#include "../../unit/net/frames.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

struct seen {
	struct net_link_config config;
	uint64_t sent;
};

static bool emit(void *ctx, const struct iovec *iov, unsigned count, size_t bytes)
{
	static uint8_t at[NET_PREFIX_BYTES + NET_FRAME_MAX];
	struct seen *seen = ctx;
	struct span in = span_of(at, bytes);
	struct span frame;
	struct eth eth;
	struct ip ip;
	size_t len = 0;

	must(count >= 1 && count <= NET_FRAME_IOVS && bytes <= sizeof(at));
	for (unsigned i = 0; i < count; i++) {
		must(len + iov[i].iov_len <= bytes);
		memcpy(at + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	must(frame_parse(&in, &frame) == 0 && in.len == 0 && len == bytes);
	must(eth_parse(frame, &eth) == NET_OK);
	must(net_mac_equal(eth.src, seen->config.router_mac));
	must(net_mac_equal(eth.dst, seen->config.guest_mac));
	if (eth.type != NET_TYPE_ARP) {
		struct icmp icmp;

		must((eth.type == NET_TYPE_IP6 ? ip6_parse(eth.payload, &ip)
		                               : ip4_parse(eth.payload, &ip)) == NET_OK);
		must(icmp_parse(&ip, &icmp) == NET_OK);
	}
	seen->sent++;
	return true;
}

static uint64_t all_drops(const struct net_link *l)
{
	uint64_t sum = 0;

	for (int i = 0; i < NET_DROP_COUNT; i++)
		sum += l->stats.dropped[i];
	return sum - l->stats.dropped[NET_ERROR_RATE];
}

static bool untouched(const struct net_packet *p)
{
	const uint8_t *at = (const uint8_t *)p;

	for (size_t i = 0; i < sizeof(*p); i++)
		if (at[i] != 0xa5)
			return false;
	return true;
}

static void one_frame(struct net_link *l, struct seen *seen, struct span frame)
{
	uint64_t drops = all_drops(l);
	uint64_t answered = l->stats.answered;
	uint64_t sent = seen->sent;
	struct net_packet p;

	memset(&p, 0xa5, sizeof(p));
	if (!net_link_input(l, frame, 1, &p)) {
		must(untouched(&p));
		must(all_drops(l) + l->stats.answered == drops + answered + 1);
		must(seen->sent <= sent + 1);
		return;
	}
	must(all_drops(l) == drops && seen->sent == sent);
	must(net_addr_equal(p.tuple.guest, seen->config.guest4) ||
	     net_addr_equal(p.tuple.guest, seen->config.guest6));
	must(p.tuple.guest_port != 0 && p.tuple.remote_port != 0);
	must(p.proto == NET_PROTO_TCP || p.proto == NET_PROTO_UDP);
	net_link_refuse(l, &p.ip, 1);
	if (p.proto == NET_PROTO_TCP)
		must(p.tcp.data.len <= p.ip.payload.len - TCP_HEAD_BYTES);
	else
		must(p.udp.data.len == p.ip.payload.len - NET_UDP_BYTES);
}

/* Makes MACs, addresses and checksums of a copy what the guest's own kernel would write. */
static size_t mend(uint8_t *at, struct span frame, const struct net_link_config *c)
{
	static const uint8_t sum_at[256] = { [NET_PROTO_TCP] = 16,
		                             [NET_PROTO_UDP] = 6,
		                             [NET_PROTO_ICMP] = 2,
		                             [NET_PROTO_ICMP6] = 2 };
	bool six = frame.len > 13 && frame.at[12] == 0x86;
	size_t head = six ? NET_IP6_BYTES : NET_IP4_BYTES;
	struct net_addr src = six ? net_link_config_usual(true).guest6 : c->guest4;
	struct net_addr dst = { .family = six ? 6 : 4 };
	struct span l4;
	uint8_t proto;

	if (frame.len < FRAME_IP_AT + head || frame.len > NET_FRAME_MAX)
		return 0;
	proto = frame.at[FRAME_IP_AT + (six ? 6 : 9)];
	memcpy(dst.at, frame.at + FRAME_IP_AT + (six ? 24 : 16), six ? 16 : 4);
	l4 = span_of(frame.at + FRAME_IP_AT + head, frame.len - FRAME_IP_AT - head);
	if (l4.len < 20U && proto == NET_PROTO_TCP)
		return 0;
	if (l4.len < 8)
		return 0;
	if (sum_at[proto] == 0)
		return frame_ip(at, &src, &dst, proto, l4);
	return frame_l4(at, &src, &dst, proto, l4, sum_at[proto]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t mended[NET_FRAME_MAX];
	struct span in = span_of(data, size);
	struct net_link link;
	struct seen seen;
	struct span frame;
	uint8_t first;

	if (!take_u8(&in, &first))
		return 0;
	seen = (struct seen){ .config = net_link_config_usual(first & 1) };
	net_link_init(&link, &seen.config, (struct net_out){ .emit = emit, .ctx = &seen });
	while (frame_parse(&in, &frame) == 0) {
		size_t len = mend(mended, frame, &seen.config);

		one_frame(&link, &seen, frame);
		if (len > 0)
			one_frame(&link, &seen, span_of(mended, len));
	}
	return 0;
}
