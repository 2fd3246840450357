/* A record of a log: whole, or unread; and what is read says how much was used. */
#include "base/buf.h"
#include "state/outlog.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_record(const struct outlog_record *rec, struct span before, struct span after)
{
	assert(rec->channel >= OUTLOG_OUT && rec->channel <= OUTLOG_GAP);
	assert(rec->data.len > 0 && rec->data.len <= OUTLOG_DATA_MAX);
	assert(rec->data.at == before.at + OUTLOG_HEADER_BYTES);
	assert(after.at == rec->data.at + rec->data.len);
	assert(before.len - after.len == OUTLOG_HEADER_BYTES + rec->data.len);
	if (rec->channel == OUTLOG_GAP)
		assert(rec->data.len == 8);
	(void)outlog_gap_bytes(rec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);

	for (;;) {
		struct outlog_record rec;
		struct span before = in;
		int r;

		memset(&rec, 0xa5, sizeof(rec));
		r = outlog_parse(&in, &rec);
		if (r < 0) {
			assert(r == -EAGAIN || r == -EBADMSG);
			assert(in.at == before.at && in.len == before.len);
			assert(rec.channel == 0xa5 && rec.data.len == (size_t)0xa5a5a5a5a5a5a5a5);
			/* a record's worth of bytes is always enough for an answer */
			assert(r == -EBADMSG || in.len < OUTLOG_RECORD_MAX);
			return 0;
		}
		check_record(&rec, before, in);
	}
}
