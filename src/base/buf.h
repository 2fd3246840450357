/*
 * buf: bounded output over storage the caller owns.
 *
 * Past its end a buf writes nothing more and remembers that it did; ask buf_ok() once, at the
 * end. A put is all or nothing, so what stands in it is always a prefix of whole puts.
 */
#pragma once

#include "base/own.h"
#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *at; /* borrowed */
	size_t len;
	size_t size;
	bool over; /* something did not fit */
};

void buf_init(struct buf *b, void *storage, size_t size);
void buf_reset(struct buf *b);

_must_ static inline bool buf_ok(const struct buf *b)
{
	return !b->over;
}

static inline struct span buf_span(const struct buf *b)
{
	return span_of(b->at, b->len);
}

void buf_put(struct buf *b, const void *data, size_t len);
void buf_put_span(struct buf *b, struct span s);
void buf_put_u8(struct buf *b, uint8_t v);
void buf_put_le16(struct buf *b, uint16_t v);
void buf_put_le32(struct buf *b, uint32_t v);
void buf_put_le64(struct buf *b, uint64_t v);
void buf_put_str(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) _printf_(2, 3);

/* A le16 length, then the bytes; over 65535 bytes it does not fit. Read back by take_str16(). */
void buf_put_str16(struct buf *b, struct span s);

/* A JSON string with its quotes; the same characters are \uNNNN. No valid UTF-8 becomes U+FFFD. */
void buf_put_json_str(struct buf *b, struct span s);

/*
 * Text for a terminal: control characters, non-UTF-8, and what is not seen or turns text round
 * (zero width, right to left marks) become \xNN a byte. So nothing moves the cursor, and what is
 * read is what is there.
 */
void buf_put_escaped(struct buf *b, struct span s);

/* Ends the text with a NUL that is not counted in len. Returns it, or "" if it does not fit. */
const char *buf_cstr(struct buf *b);
