/*
 * The entry stream, read as a receiver does: header, skip the content, next. Contracts: a failure
 * changes neither span nor output; ENTRY_HEADER_MAX bytes always decide; a good entry's path stays
 * inside the tree; writing it again gives the same bytes.
 */
#include "wire/entry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void path_stays_inside(struct span path)
{
	struct span part;
	unsigned depth = 0;

	must(path.len <= WIRE_PATH_MAX && (path.len == 0 || path.at[0] != '/'));
	must(path.len == 0 || !memchr(path.at, 0, path.len));
	while (take_until(&path, '/', &part)) {
		must(part.len > 0 && part.len <= WIRE_NAME_MAX);
		must(!span_is(part, ".") && !span_is(part, ".."));
		depth++;
	}
	must(depth <= ENTRY_DEPTH_MAX);
}

static int step(struct span *in, struct entry *en)
{
	uint8_t room[ENTRY_HEADER_MAX];
	struct entry filled;
	struct span before = *in;
	struct buf out;
	int r;

	memset(&filled, 0xa5, sizeof(filled));
	memset(en, 0xa5, sizeof(*en));
	r = entry_parse(in, en);
	if (r < 0) {
		must(r == -EAGAIN || r == -EBADMSG);
		must(in->at == before.at && in->len == before.len);
		must(memcmp(en, &filled, sizeof(filled)) == 0);
		must(r != -EAGAIN || before.len < ENTRY_HEADER_MAX);
		return r;
	}
	path_stays_inside(en->path);
	must(en->mode <= 07777 && (en->size == 0 || en->kind == ENTRY_FILE));
	must((en->target.len > 0) == (en->kind == ENTRY_LINK));
	buf_init(&out, room, sizeof(room));
	entry_put(&out, en);
	must(buf_ok(&out) && out.len == before.len - in->len);
	must(memcmp(room, before.at, out.len) == 0);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	struct span content;
	struct entry en;

	while (step(&in, &en) == 0 && en.kind != ENTRY_END)
		if (!take_span(&in, en.size, &content))
			break;
	return 0;
}
