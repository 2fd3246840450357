/*
 * A settings file: a byte that says its format, then its text. Contracts: nothing is written on
 * failure, and there is a message; what a filter left it leaves as it is, and removes nothing more.
 */
#include "agents/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 8192 };

static void must(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const keys[] = { "model", "a", "profiles", "list", NULL };
	_own_(settings_file_free) struct settings_file *once = NULL;
	_own_(settings_file_free) struct settings_file *twice = NULL;
	struct err e = { 0 };
	enum settings_format f;
	int r;

	if (size < 1 || size > INPUT_MAX)
		return 0;
	f = (enum settings_format)(SETTINGS_JSON + data[0] % 3);
	r = settings_filter("f", f, span_of(data + 1, size - 1), keys, &once, &e);
	if (r < 0) {
		must(!once && r == -EINVAL && e.len > 0);
		return 0;
	}
	r = settings_filter("f", f, span_of(once->text, once->len), keys, &twice, &e);
	must(r == 0);
	must(twice->removed_count == 0);
	must(twice->len == once->len && memcmp(twice->text, once->text, once->len) == 0);
	return 0;
}
