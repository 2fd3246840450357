#include "state/outlog.h"

#include <errno.h>

int outlog_parse(struct span *in, struct outlog_record *ret)
{
	struct outlog_record got = { 0 };
	struct span at = *in;
	uint32_t len;

	if (!take_u8(&at, &got.channel))
		return -EAGAIN;
	if (got.channel < OUTLOG_OUT || got.channel > OUTLOG_GAP)
		return -EBADMSG;
	if (!take_le64(&at, &got.realtime_ms) || !take_le32(&at, &len))
		return -EAGAIN;
	if (len == 0 || len > OUTLOG_DATA_MAX || (got.channel == OUTLOG_GAP && len != 8))
		return -EBADMSG;
	if (!take_span(&at, len, &got.data))
		return -EAGAIN;
	*ret = got;
	*in = at;
	return 0;
}

uint64_t outlog_gap_bytes(const struct outlog_record *gap)
{
	struct span data = gap->data;
	uint64_t v = 0;

	return take_le64(&data, &v) ? v : 0;
}
