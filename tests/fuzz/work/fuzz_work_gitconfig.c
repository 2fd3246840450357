/*
 * A git configuration. Contracts: what is cleaned parses; cleaned again it is the same bytes, and
 * nothing is left to drop; nothing that is known to name a program is in it.
 */
#include "work/gitconfig.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DEPTH = 2 };

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void never(void *arg, const struct gitconfig_item *item, enum gitconfig_why why)
{
	(void)arg;
	(void)item;
	(void)why;
	abort();
}

/* Git takes it for an address of a repository, which may be that of a helper. */
static bool is_address(const struct gitconfig_item *item)
{
	if (span_is(item->section, "branch"))
		return span_is(item->key, "remote") || span_is(item->key, "pushremote");
	return (span_is(item->section, "remote") || span_is(item->section, "submodule")) &&
	       (span_is(item->key, "url") || span_is(item->key, "pushurl"));
}

static void look(struct span clean)
{
	struct gitconfig_reader reader;
	struct gitconfig_item item;

	gitconfig_begin(&reader, clean);
	while (gitconfig_next(&reader, &item) == 0) {
		must(!span_is(item.section, "filter") && !span_is(item.section, "include"));
		must(!span_is(item.section, "core") || !span_is(item.key, "fsmonitor"));
		must(!span_is(item.section, "gc") || !span_is(item.key, "recentobjectshook"));
		must(memmem(item.value.at, item.value.len, "ext::", 5) != item.value.at ||
		     !is_address(&item));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t once[1 << 16], twice[1 << 16];
	struct buf first, second;
	struct err e;

	buf_init(&first, once, sizeof(once));
	buf_init(&second, twice, sizeof(twice));
	if (gitconfig_clean(span_of(data, size), DEPTH, &first, NULL, NULL, &e) < 0) {
		must(first.len == 0);
		return 0;
	}
	must(gitconfig_clean(buf_span(&first), DEPTH, &second, never, NULL, &e) == 0);
	must(span_equal(buf_span(&first), buf_span(&second)));
	look(buf_span(&first));
	return 0;
}
