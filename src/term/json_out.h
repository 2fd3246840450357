/*
 * json_out: JSON text of a size known only when it is there.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

/* Valid UTF-8, no surrogates, nothing beyond U+10FFFF? Pure. */
bool utf8_ok(struct span s);

/* Standard alphabet, padded. Pure. */
void buf_put_base64(struct buf *b, struct span s);

/* Bytes that suffice for `"key":"text","key_encoding":...` of s, whichever way it is written. */
size_t json_output_bytes(struct span s);

/*
 * A program's output as three members: "NAME" (a string), "NAME_encoding" ("utf-8" or "base64",
 * when it is no text) and "NAME_truncated".
 */
void buf_put_json_output(struct buf *b, const char *name, struct span s, bool truncated);
