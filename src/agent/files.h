/*
 * files: PUT and GET, each in a child of its own: entries (wire/entry.h) on stdin or stdout, the
 * result as its report (child.h). They block as they like; a hung file system hangs only them.
 */
#pragma once

#include "base/span.h"

enum {
	FILES_CHUNK_BYTES = 64 << 10,
	FILES_BUF_BYTES = 128 << 10, /* a header always fits beside a chunk */
};

/* The payload is a wire_file. */
_Noreturn void files_put_main(struct span payload);
_Noreturn void files_get_main(struct span payload);
