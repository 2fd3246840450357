/*
 * Names, patterns and addresses. Contracts: a failure writes nothing; what is accepted is written
 * in a form that is accepted again as the same; no name is an address in any writing; a pattern
 * covers what it matches.
 */
#include "policy/addr.h"
#include "policy/host.h"
#include "policy/idn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static bool take_name(struct span text, struct host_name *ret)
{
	struct host_name filled;
	struct policy_addr addr;

	memset(ret, 0xa5, sizeof(*ret));
	filled = *ret;
	if (host_name_parse(text, ret) < 0) {
		must(memcmp(ret, &filled, sizeof(filled)) == 0);
		return false;
	}
	must(addr_literal_parse(text, &addr) < 0);
	must(host_name_parse(host_span(ret), &filled) == 0);
	must(span_equal(host_span(ret), host_span(&filled)));
	return true;
}

static void take_pattern(struct span text, const struct host_name *name)
{
	char room[POLICY_NAME_MAX + 4];
	struct host_pattern p;
	struct host_pattern again;
	struct err e = { 0 };
	struct buf b;

	if (idn_pattern_parse(text, &p, &e) < 0) {
		must(e.len > 0);
		return;
	}
	buf_init(&b, room, sizeof(room));
	host_pattern_put(&b, &p);
	must(buf_ok(&b) && host_pattern_parse(buf_span(&b), &again, NULL) == 0);
	must(again.kind == p.kind && span_equal(host_span(&again.base), host_span(&p.base)));
	must(host_pattern_covers(&p, &again));
	if (!name)
		return;
	again.kind = HOST_EXACT;
	again.base = *name;
	must(host_pattern_match(&p, name) == host_pattern_covers(&p, &again));
}

static void take_address(struct span text)
{
	char room[64];
	struct policy_addr a;
	struct policy_addr again;
	struct policy_cidr net;
	struct buf b;

	if (addr_parse(text, &a) == 0) {
		buf_init(&b, room, sizeof(room));
		addr_put(&b, &a);
		must(buf_ok(&b) && addr_parse(buf_span(&b), &again) == 0);
		must(addr_equal(&a, &again));
		must(addr_literal_parse(text, &again) == 0 && addr_equal(&a, &again));
		must(policy_address_verdict(&a).what != NULL);
	}
	if (addr_cidr_parse(text, &net) == 0) {
		must(addr_in(&net.base, &net));
		(void)addr_cidr_judge(&net);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size > 2048 ? 2048 : size);
	struct host_name name;
	struct span first;
	bool named;

	if (!take_until(&in, '\n', &first))
		return 0;
	named = take_name(first, &name);
	take_pattern(first, named ? &name : NULL);
	take_pattern(in, named ? &name : NULL);
	take_address(first);
	return 0;
}
