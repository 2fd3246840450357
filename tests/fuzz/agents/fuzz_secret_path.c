/*
 * A path beneath a home directory, and what it is said to be. Contracts: a path that usually holds
 * a credential does so in any folder; what lies in such a folder does, whatever its name; an ending
 * that tells is not hidden by what stands in front of it.
 */
#include "agents/settings_parse.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 4096 };

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* Of front, path and back together, at the very end of its memory. */
static bool judge(const char *front, struct span path, const char *back)
{
	size_t front_len = strlen(front);
	size_t back_len = strlen(back);
	size_t len = front_len + path.len + back_len;
	uint8_t *at = malloc(len + 1);
	bool got;

	must(at != NULL);
	memcpy(at, front, front_len);
	if (path.len > 0)
		memcpy(at + front_len, path.at, path.len);
	memcpy(at + front_len + path.len, back, back_len);
	at = realloc(at, len > 0 ? len : 1);
	must(at != NULL);
	got = settings_parse_secret_path(span_of(at, len));
	free(at);
	return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span path = span_of(data, size);

	if (size > INPUT_MAX)
		return 0;
	if (judge("", path, ""))
		must(judge("a/", path, "") && judge("a/b c/", path, ""));
	must(judge(".ssh/", path, "") && judge("a/.config/gh/", path, ""));
	must(judge("", path, "/.env") && judge("", path, ".pem") && judge("", path, "/.aws"));
	must(!judge("notes-", span_of("", 0), ""));
	(void)settings_parse_secret_key(path);
	(void)settings_parse_secret_value(path);
	return 0;
}
