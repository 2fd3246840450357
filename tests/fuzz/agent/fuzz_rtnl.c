/*
 * The kernel's answers to the messages of a card. Contracts: 0 or -EBADMSG; untouched on failure;
 * an error is one, and only ours are counted.
 */
#include "agent/rtnl.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t address[4] = { 10, 0, 0, 1 };
	uint8_t room[RTNL_BYTES_MAX];
	uint32_t count = 0xa5a5a5a5;
	int error = 99;
	struct rtnl r;
	int code;

	rtnl_init(&r, room, 1);
	rtnl_link_up(&r, 2, 1500);
	rtnl_address(&r, 2, span_of(address, sizeof(address)), 24, false);
	rtnl_address(&r, 2, span_of(address, sizeof(address)), 24, true);
	must(buf_ok(&r.out) && r.count == 3);
	code = rtnl_parse_answers(&r, span_of(data, size), &count, &error);
	must(code == 0 || code == -EBADMSG);
	if (code < 0)
		must(count == 0xa5a5a5a5 && error == 99);
	else
		must(count <= size / 16 && error <= 0 && error >= -4095);
	return 0;
}
