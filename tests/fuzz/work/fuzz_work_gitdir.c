/*
 * Texts of git directories. Contracts: a pointer's path lies in the text and has no NUL; a path
 * that stays below a directory stays below a deeper one; what is cut leaves pieces that follow each
 * other in the text, and cutting twice finds nothing that one cut has joined but a further secret.
 */
#include "work/gitdir.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DEPTHS = 4 };

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void look_at_pointer(struct span text)
{
	struct span path = span_of(NULL, 0);

	if (gitdir_parse_pointer(text, &path) < 0) {
		must(path.at == NULL);
		return;
	}
	must(path.len > 0 && path.at > text.at && path.at + path.len <= text.at + text.len);
	must(memchr(path.at, 0, path.len) == NULL);
}

static void look_at_path(struct span path)
{
	bool before = false;

	for (unsigned depth = 0; depth < DEPTHS; depth++) {
		bool stays = gitdir_path_stays(path, depth);

		must(stays || !before);
		before = stays;
	}
}

static void look_at_urls(struct span text)
{
	const uint8_t *end = text.at + text.len, *last = text.at;
	struct span piece;
	bool cut = true;

	while (gitdir_take_uncut(&text, &piece, &cut)) {
		must(piece.len > 0 && piece.at == last);
		must(text.at + text.len == end);
		must(cut ? text.at > piece.at + piece.len : text.len == 0);
		last = text.at;
	}
	must(text.len == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	look_at_pointer(span_of(data, size));
	look_at_path(span_of(data, size));
	look_at_urls(span_of(data, size));
	return 0;
}
