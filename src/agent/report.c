#include "agent/report.h"

#include "agent/child.h"

#include <errno.h>
#include <string.h>

void report_end(uint32_t code, uint8_t stage, const char *text)
{
	uint8_t raw[CHILD_REPORT_MAX];
	size_t len = strlen(text);
	struct buf b;

	buf_init(&b, raw, sizeof(raw));
	buf_put_le32(&b, code);
	buf_put_u8(&b, stage);
	buf_put(&b, text, len < WIRE_TEXT_MAX ? len : WIRE_TEXT_MAX);
	/* under PIPE_BUF: whole or not at all, and then the agent sees an end without a report */
	_exit(write(CHILD_STATUS_FD, b.at, b.len) == (ssize_t)b.len ? 0 : 125);
}

void report_err(const struct err *e, uint8_t stage)
{
	report_end((uint32_t)(e->code < 0 ? -e->code : EIO), stage, e->text);
}
