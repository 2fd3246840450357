/*
 * One packet: the first byte says whose, the rest is it. Contracts: what parses is written again as
 * the same bytes; a failure changes nothing; names and placeholders are plain.
 */
#include "../../unit/egress/control_samples.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check_secret(const struct control_packet *p)
{
	struct control_secret s;
	struct control_secret before;

	memset(&s, 0xa5, sizeof(s));
	memset(&before, 0xa5, sizeof(before));
	if (control_parse_secret(p->kind, p->payload, &s) < 0)
		must(memcmp(&s, &before, sizeof(s)) == 0);
	else
		must(s.name.len <= CONTROL_SECRET_NAME_MAX &&
		     s.placeholder.len <= CONTROL_PLACEHOLDER_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t room[CONTROL_PACKET_MAX];
	struct control_packet p;
	struct control_packet before;
	struct buf b;
	struct span in;
	int r;

	if (size == 0)
		return 0;
	in = span_of(data + 1, size - 1);
	memset(&p, 0xa5, sizeof(p));
	memset(&before, 0xa5, sizeof(before));
	r = control_parse_packet(in, (enum control_side)(1u << data[0] % 4), &p);
	if (r < 0) {
		must(r == -EBADMSG && memcmp(&p, &before, sizeof(p)) == 0);
		return 0;
	}
	must(strcmp(control_kind_name(p.kind), "unknown kind") != 0);
	check_secret(&p);
	buf_init(&b, room, sizeof(room));
	r = control_again(&p, &b);
	must(r == -EBADMSG || (r == 0 && span_equal(buf_span(&b), in)));
	return 0;
}
