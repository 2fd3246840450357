#include "net/tcp_segment.h"

enum {
	OPTION_END = 0,
	OPTION_NOP = 1,
	OPTION_MSS = 2,
	OPTION_SCALE = 3,
	FLAGS_KNOWN = TCP_FIN | TCP_SYN | TCP_RST | TCP_PSH | TCP_ACK | TCP_URG,
};

static bool take_option(struct span *in, struct tcp_segment *s)
{
	struct span value;
	uint8_t kind;
	uint8_t bytes;

	if (!take_u8(in, &kind))
		return false;
	if (kind == OPTION_END) {
		in->len = 0;
		return true;
	}
	if (kind == OPTION_NOP)
		return true;
	if (!take_u8(in, &bytes) || bytes < 2 || !take_span(in, bytes - 2U, &value))
		return false;
	if (kind == OPTION_MSS && s->flags & TCP_SYN)
		return take_be16(&value, &s->mss) && value.len == 0;
	if (kind == OPTION_SCALE && s->flags & TCP_SYN) {
		s->has_scale = true;
		if (!take_u8(&value, &s->scale) || value.len != 0)
			return false;
		if (s->scale > TCP_SCALE_MAX)
			s->scale = TCP_SCALE_MAX;
	}
	return true;
}

static bool flags_sane(uint8_t flags)
{
	return !(flags & TCP_SYN) || !(flags & (TCP_FIN | TCP_RST));
}

enum net_drop tcp_parse(const struct ip *ip, struct tcp_segment *ret)
{
	struct tcp_segment got = { 0 };
	struct span in = ip->payload;
	struct span options;
	uint16_t sum;
	uint16_t urgent;
	uint8_t words;
	size_t head;

	if (!take_be16(&in, &got.src_port) || !take_be16(&in, &got.dst_port) ||
	    !take_be32(&in, &got.seq) || !take_be32(&in, &got.ack) || !take_u8(&in, &words) ||
	    !take_u8(&in, &got.flags) || !take_be16(&in, &got.window) || !take_be16(&in, &sum) ||
	    !take_be16(&in, &urgent))
		return NET_RUNT;
	got.flags &= FLAGS_KNOWN; /* without ECN's, which nobody negotiated */
	head = (size_t)(words >> 4) * 4;
	if (head < TCP_HEAD_BYTES)
		return NET_MALFORMED;
	if (!take_span(&in, head - TCP_HEAD_BYTES, &options))
		return NET_RUNT;
	if (got.src_port == 0 || got.dst_port == 0 || !flags_sane(got.flags))
		return NET_MALFORMED;
	if (!ip_parse_sum_right(ip))
		return NET_CHECKSUM;
	for (int n = 0; n < TCP_OPTIONS_MAX && options.len > 0; n++)
		if (!take_option(&options, &got))
			return NET_MALFORMED;
	got.data = in;
	*ret = got;
	return NET_OK;
}
