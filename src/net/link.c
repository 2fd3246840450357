#include "net/link.h"
#include "net/sum.h"

/*
 * Theory of operation
 *
 * There is one guest on the wire, with one MAC and one address of each family, set by us. So what
 * a frame may look like is nearly a constant, and each check is one comparison. The order is that
 * of the headers; the first that fails names the count. Nothing the guest says changes any state
 * but counters: there is no ARP cache to poison, no neighbour table, no route, and an
 * advertisement or claim has nobody to tell.
 *
 * The guest's link-local addresses (fe80::/10) are spoken to in neighbour discovery alone, since
 * the kernel probes its router from there.
 */

enum { ICMP_ERROR_REST = 4 };

struct net_link_config net_link_config_usual(bool with_ip6)
{
	static const uint8_t guest6[16] = { 0xfd, 0x62, 0x65, 0x72, 0x6d, [15] = 2 };
	static const uint8_t router6[16] = { 0xfd, 0x62, 0x65, 0x72, 0x6d, [15] = 1 };
	struct net_link_config c = {
		.guest_mac = { { 0x02, 0x62, 0x65, 0x72, 0x6d, 0x02 } },
		.router_mac = { { 0x02, 0x62, 0x65, 0x72, 0x6d, 0x01 } },
		.guest4 = net_addr4(100, 96, 0, 2),
		.router4 = net_addr4(100, 96, 0, 1),
	};

	if (with_ip6) {
		c.guest6 = net_addr6(guest6);
		c.router6 = net_addr6(router6);
	}
	return c;
}

void net_link_init(struct net_link *l, const struct net_link_config *config, struct net_out out)
{
	*l = (struct net_link){
		.config = *config,
		.out = out,
		.error_tokens = NET_ICMP_ERRORS_PER_S,
	};
}

static void drop(struct net_link *l, enum net_drop why)
{
	l->stats.dropped[why]++;
}

static bool emit(struct net_link *l, const struct iovec *iov, unsigned count)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < count; i++)
		bytes += iov[i].iov_len;
	if (l->out.emit(l->out.ctx, iov, count, bytes))
		return true;
	drop(l, NET_NO_ROOM);
	return false;
}

void net_link_head(const struct net_link *l, const struct net_tuple *t, uint8_t proto,
                   struct net_head *ret)
{
	net_head_init(ret, &l->config.router_mac, &l->config.guest_mac, &t->remote, &t->guest,
	              proto);
}

static struct iovec iov_of(struct span s)
{
	/* sendmsg(2) only reads, though its type does not say so */
	return (struct iovec){ .iov_base = (void *)(uintptr_t)s.at, .iov_len = s.len };
}

/* An ICMP message of 8 bytes, the checksum's still 0, and a body, to the guest. */
static bool send_icmp(struct net_link *l, const struct net_addr *from, const struct net_addr *to,
                      uint8_t message[NET_ICMP_BYTES], struct span body)
{
	uint8_t proto = from->family == 6 ? NET_PROTO_ICMP6 : NET_PROTO_ICMP;
	uint8_t at[NET_HEAD_MAX + NET_ICMP_BYTES];
	size_t bytes = NET_ICMP_BYTES + body.len;
	struct net_head head;
	struct iovec iov[2];
	uint64_t sum;

	net_head_init(&head, &l->config.router_mac, &l->config.guest_mac, from, to, proto);
	sum = span_sum(span_of(message, NET_ICMP_BYTES)) + span_sum(body);
	if (from->family == 6)
		sum += net_head_sum(&head, bytes);
	put_sum(message + 2, span_sum_done(sum));
	(void)net_head_put(&head, at, bytes);
	memcpy(at + head.bytes, message, NET_ICMP_BYTES);
	iov[0] = iov_of(span_of(at, head.bytes + (size_t)NET_ICMP_BYTES));
	iov[1] = iov_of(body);
	return emit(l, iov, body.len > 0 ? 2 : 1);
}

/* One more error now? The bucket holds a second's worth. */
static bool take_error_token(struct net_link *l, uint64_t now_ms)
{
	uint64_t more = (now_ms - l->errors_ms) * NET_ICMP_ERRORS_PER_S / 1000;

	if (now_ms < l->errors_ms || more > NET_ICMP_ERRORS_PER_S) {
		l->error_tokens = NET_ICMP_ERRORS_PER_S;
		l->errors_ms = now_ms;
	} else if (more > 0) {
		l->error_tokens += (uint32_t)more;
		if (l->error_tokens > NET_ICMP_ERRORS_PER_S)
			l->error_tokens = NET_ICMP_ERRORS_PER_S;
		l->errors_ms = now_ms;
	}
	if (l->error_tokens == 0)
		return false;
	l->error_tokens--;
	return true;
}

/* An error about ip, quoting its beginning, from the address it was sent to. */
static void send_error(struct net_link *l, const struct ip *ip, uint8_t type, uint8_t code,
                       uint8_t pointer, uint64_t now_ms)
{
	uint8_t message[NET_ICMP_BYTES] = { type, code, [7] = pointer };
	struct span quote = ip->whole;

	if (!take_error_token(l, now_ms)) {
		drop(l, NET_ERROR_RATE);
		return;
	}
	if (quote.len > NET_ICMP_QUOTE_MAX)
		quote.len = NET_ICMP_QUOTE_MAX;
	if (send_icmp(l, &ip->dst, &ip->src, message, quote))
		l->stats.errors++;
}

void net_link_refuse(struct net_link *l, const struct ip *ip, uint64_t now_ms)
{
	if (ip->src.family == 6)
		send_error(l, ip, ICMP6_UNREACHABLE, ICMP6_CODE_PORT, 0, now_ms);
	else
		send_error(l, ip, ICMP_UNREACHABLE, ICMP_CODE_PORT, 0, now_ms);
}

static void input_arp(struct net_link *l, const struct eth *eth)
{
	uint8_t at[NET_PREFIX_BYTES + NET_ETH_BYTES + ARP_BYTES];
	struct iovec iov = { .iov_base = at, .iov_len = sizeof(at) };
	const struct net_link_config *c = &l->config;
	struct arp arp;
	enum net_drop why = arp_parse(eth->payload, &arp);
	uint8_t *put;

	if (why != NET_OK) {
		drop(l, why);
		return;
	}
	/* the guest may speak of itself; everything else is a claim to be somebody else */
	if (!net_mac_equal(arp.sender_mac, c->guest_mac) ||
	    !net_addr_equal(arp.sender, c->guest4)) {
		drop(l, NET_CLAIM);
		return;
	}
	if (arp.op != ARP_REQUEST || !net_addr_equal(arp.target, c->router4)) {
		drop(l, NET_ARP_OTHER);
		return;
	}
	put = at + net_head_put_eth(at, &c->router_mac, &c->guest_mac, NET_TYPE_ARP, ARP_BYTES);
	memcpy(put, (const uint8_t[8]){ 0, 1, 8, 0, 6, 4, 0, ARP_REPLY }, 8);
	memcpy(put + 8, c->router_mac.at, 6);
	memcpy(put + 14, c->router4.at, 4);
	memcpy(put + 18, c->guest_mac.at, 6);
	memcpy(put + 24, c->guest4.at, 4);
	if (emit(l, &iov, 1))
		l->stats.answered++;
}

static bool is_link_local(const struct net_addr *a)
{
	return a->family == 6 && a->at[0] == 0xfe && (a->at[1] & 0xc0) == 0x80;
}

static bool is_group(const struct net_addr *a)
{
	if (a->family == 6)
		return a->at[0] == 0xff;
	return a->at[0] >> 4 == 14 || memcmp(a->at, "\xff\xff\xff\xff", 4) == 0;
}

/* The advertisement a solicitation for the router gets: solicited, a router, with its MAC. */
static void answer_solicit(struct net_link *l, const struct ip *ip)
{
	uint8_t message[NET_ICMP_BYTES] = { ICMP6_ADVERT, [4] = 0xe0 };
	uint8_t body[16 + 8] = { [16] = 2, [17] = 1 };

	memcpy(body, l->config.router6.at, 16);
	memcpy(body + 18, l->config.router_mac.at, 6);
	if (send_icmp(l, &l->config.router6, &ip->src, message, span_of(body, sizeof(body))))
		l->stats.answered++;
}

static void input_nd(struct net_link *l, const struct ip *ip, const struct icmp *icmp)
{
	struct net_addr target;
	enum net_drop why = icmp_parse_nd(ip, icmp, &target);
	bool about_router;

	if (why != NET_OK) {
		drop(l, why);
		return;
	}
	about_router = net_addr_equal(target, l->config.router6);
	if (icmp->type == ICMP6_ADVERT) {
		drop(l, net_addr_equal(target, l->config.guest6) || is_link_local(&target)
		                ? NET_ND_OTHER
		                : NET_CLAIM);
		return;
	}
	if (!about_router) {
		drop(l, NET_ND_OTHER);
		return;
	}
	if (!net_addr_equal(ip->src, l->config.guest6) && !is_link_local(&ip->src)) {
		drop(l, NET_CLAIM); /* from "::": whoever asks so wants the address */
		return;
	}
	answer_solicit(l, ip);
}

/* Is it neighbour discovery? That alone may come from link-local addresses and to groups. */
static bool is_nd(const struct ip *ip)
{
	return ip->proto == NET_PROTO_ICMP6 && ip->src.family == 6 && ip->payload.len > 0 &&
	       ip->payload.at[0] >= ICMP6_ROUTER_SOLICIT && ip->payload.at[0] <= ICMP6_REDIRECT;
}

static void input_discovery(struct net_link *l, const struct ip *ip)
{
	struct icmp icmp;
	enum net_drop why = icmp_parse(ip, &icmp);

	if (why != NET_OK)
		drop(l, why);
	else if (icmp.type == ICMP6_SOLICIT || icmp.type == ICMP6_ADVERT)
		input_nd(l, ip, &icmp);
	else if (icmp.type == ICMP6_ROUTER_SOLICIT)
		drop(l, NET_MULTICAST); /* no router advertises itself here; the route is static */
	else
		drop(l, NET_CLAIM);
}

static void input_icmp(struct net_link *l, const struct ip *ip, uint64_t now_ms)
{
	bool six = ip->src.family == 6;
	struct icmp icmp;
	enum net_drop why = icmp_parse(ip, &icmp);

	if (why != NET_OK) {
		drop(l, why);
		return;
	}
	if (icmp.type != (six ? ICMP6_ECHO : ICMP_ECHO)) {
		drop(l, NET_ICMP_OTHER);
		return;
	}
	if (net_addr_equal(ip->dst, six ? l->config.router6 : l->config.router4)) {
		uint8_t message[NET_ICMP_BYTES] = { six ? ICMP6_ECHO_REPLY : ICMP_ECHO_REPLY };

		memcpy(message + 4, icmp.rest, sizeof(icmp.rest));
		if (send_icmp(l, &ip->dst, &ip->src, message, icmp.body))
			l->stats.answered++;
		return;
	}
	drop(l, NET_ICMP_OTHER);
	if (six)
		send_error(l, ip, ICMP6_UNREACHABLE, ICMP6_CODE_PROHIBITED, 0, now_ms);
	else
		send_error(l, ip, ICMP_UNREACHABLE, ICMP_CODE_PROHIBITED, 0, now_ms);
}

/* Neither TCP, UDP nor ICMP: told once for each protocol, then only counted. */
static void input_unknown(struct net_link *l, const struct ip *ip, uint64_t now_ms)
{
	uint64_t bit = UINT64_C(1) << (ip->proto & 63);

	drop(l, NET_PROTOCOL);
	if (l->protocols_told[ip->proto >> 6] & bit)
		return;
	l->protocols_told[ip->proto >> 6] |= bit;
	if (ip->src.family == 6)
		send_error(l, ip, ICMP6_PARAMETER, 1, 6, now_ms); /* at "next header" */
	else
		send_error(l, ip, ICMP_UNREACHABLE, ICMP_CODE_PROTOCOL, 0, now_ms);
}

static bool input_transport(struct net_link *l, const struct ip *ip, struct net_packet *ret)
{
	struct net_packet got = { .proto = ip->proto, .ip = *ip };
	enum net_drop why;

	got.tuple.guest = ip->src;
	got.tuple.remote = ip->dst;
	if (ip->proto == NET_PROTO_TCP) {
		why = tcp_parse(ip, &got.tcp);
		got.tuple.guest_port = got.tcp.src_port;
		got.tuple.remote_port = got.tcp.dst_port;
	} else {
		why = udp_parse(ip, &got.udp);
		got.tuple.guest_port = got.udp.src_port;
		got.tuple.remote_port = got.udp.dst_port;
	}
	if (why != NET_OK) {
		drop(l, why);
		return false;
	}
	*ret = got;
	return true;
}

static bool input_ip(struct net_link *l, const struct eth *eth, uint64_t now_ms,
                     struct net_packet *ret)
{
	bool six = eth->type == NET_TYPE_IP6;
	enum net_drop why;
	struct ip ip;

	if (six && l->config.guest6.family == 0) {
		drop(l, NET_V6_OFF);
		return false;
	}
	why = six ? ip6_parse(eth->payload, &ip) : ip4_parse(eth->payload, &ip);
	if (why != NET_OK) {
		/* MLD carries a router alert; to a group it is the guest's own kernel talking */
		drop(l, why == NET_EXTENSION && (eth->dst.at[0] & 1) ? NET_MULTICAST : why);
		return false;
	}
	if (is_nd(&ip)) {
		input_discovery(l, &ip);
		return false;
	}
	if (is_group(&ip.dst) || (eth->dst.at[0] & 1)) {
		drop(l, NET_MULTICAST);
		return false;
	}
	if (!net_addr_equal(ip.src, six ? l->config.guest6 : l->config.guest4)) {
		drop(l, NET_SPOOFED_ADDRESS);
		return false;
	}
	if (ip.proto == NET_PROTO_TCP || ip.proto == NET_PROTO_UDP)
		return input_transport(l, &ip, ret);
	if (ip.proto == (six ? NET_PROTO_ICMP6 : NET_PROTO_ICMP))
		input_icmp(l, &ip, now_ms);
	else
		input_unknown(l, &ip, now_ms);
	return false;
}

bool net_link_input(struct net_link *l, struct span frame, uint64_t now_ms, struct net_packet *ret)
{
	enum net_drop why;
	struct eth eth;

	l->stats.frames++;
	l->stats.bytes += frame.len;
	why = eth_parse(frame, &eth);
	if (why == NET_OK && !net_mac_equal(eth.src, l->config.guest_mac))
		why = NET_SPOOFED_MAC;
	else if (why == NET_OK && !(eth.dst.at[0] & 1) &&
	         !net_mac_equal(eth.dst, l->config.router_mac))
		why = NET_NOT_FOR_ROUTER;
	if (why != NET_OK) {
		drop(l, why);
		return false;
	}
	if (eth.type == NET_TYPE_IP4 || eth.type == NET_TYPE_IP6)
		return input_ip(l, &eth, now_ms, ret);
	if (eth.type == NET_TYPE_ARP)
		input_arp(l, &eth);
	else
		drop(l, NET_ETHERTYPE);
	return false;
}

bool net_link_send_udp(struct net_link *l, const struct net_tuple *t, struct span data)
{
	uint8_t at[NET_HEAD_MAX + NET_UDP_BYTES];
	size_t bytes = NET_UDP_BYTES + data.len;
	struct net_head head;
	struct iovec iov[2];
	uint16_t sum;
	uint8_t *udp;

	net_link_head(l, t, NET_PROTO_UDP, &head);
	if (data.len > net_head_room(&head) - NET_UDP_BYTES) {
		drop(l, NET_GIANT);
		return false;
	}
	udp = at + net_head_put(&head, at, bytes);
	put_be16(udp, t->remote_port);
	put_be16(udp + 2, t->guest_port);
	put_be16(udp + 4, (uint16_t)bytes);
	put_be16(udp + 6, 0);
	sum = span_sum_done(net_head_sum(&head, bytes) + span_sum(data) +
	                    span_sum(span_of(udp, NET_UDP_BYTES)));
	put_sum(udp + 6, sum == 0 ? 0xffff : sum); /* 0 would say "none" (RFC 768) */
	iov[0] = iov_of(span_of(at, head.bytes + (size_t)NET_UDP_BYTES));
	iov[1] = iov_of(data);
	return emit(l, iov, data.len > 0 ? 2 : 1);
}
