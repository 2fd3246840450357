#include "net/tcp_segment.h"

size_t tcp_segment_put(uint8_t *at, const struct tcp_segment *s)
{
	size_t bytes = TCP_HEAD_BYTES;

	if (s->mss != 0) {
		uint8_t *o = at + TCP_HEAD_BYTES;

		o[0] = 2;
		o[1] = 4;
		put_be16(o + 2, s->mss);
		/* three no-operations stand where a scale is not offered: the length stays */
		o[4] = 1;
		o[5] = s->has_scale ? 3 : 1;
		o[6] = s->has_scale ? 3 : 1;
		o[7] = s->has_scale ? s->scale : 1;
		bytes += TCP_SYN_OPTION_BYTES;
	}
	put_be16(at, s->src_port);
	put_be16(at + 2, s->dst_port);
	put_be32(at + 4, s->seq);
	put_be32(at + 8, s->ack);
	at[12] = (uint8_t)(bytes / 4 << 4);
	at[13] = s->flags;
	put_be16(at + 14, s->window);
	put_be16(at + TCP_SUM_AT, 0);
	put_be16(at + 18, 0);
	return bytes;
}
