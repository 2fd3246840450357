/*
 * view: the same bytes as somebody reads them who undoes escapes or joins lines. Pure.
 *
 * A view is a text and a map: of each of its bytes, where it stood and how many bytes it was.
 */
#pragma once

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a view from `at` on, up to the next segment's: each was `width` bytes, at `from` and so
 * on. */
struct view_segment {
	uint32_t at;
	uint32_t from;
	uint32_t width; /* over 1: the segment has this one byte */
};

struct view {
	uint8_t *text; /* the caller's, as long as the input */
	size_t len;
	struct view_segment *segments; /* the caller's: one for each byte of the input */
	size_t segments_count;
	const bool *has; /* for view_unescape(): of 256 bytes, those that matter */
};

enum view_escapes {
	VIEW_ESCAPES,         /* %41, \u0041, \x41, \" \\ \/ \n \r \t, &#65; &#x41; &amp; and kin */
	VIEW_QUOTED_PRINTABLE /* =41 */
};

enum {
	VIEW_ESCAPE_MAX = 10, /* bytes of the longest: &#x000041; */
	VIEW_LINE_MIN = 16,   /* real lines have 60 or more */
};

/*
 * Undoes escapes, but only those of bytes that matter: v->has says it of each, and so do the
 * beginnings of a second escape and line ends within base64 (VIEW_LINE_MIN such bytes before them).
 * The others stay as they are, which spares most texts a copy. An escape that `in` ends in the
 * middle of is left out, with all behind it, so the view may end earlier. False: there is none of
 * either, and *v holds nothing.
 */
_must_ bool view_unescape(struct span in, enum view_escapes which, struct view *v);

/*
 * Leaves out NUL, CR and LF, blanks at the beginning of lines and '=' at their end or at the end of
 * `in`: lines are joined as base64 and quoted-printable break them, and UTF-16 becomes ASCII.
 * False: nothing was left out.
 */
_must_ bool view_squeeze(struct span in, struct view *v);

/* Where the i-th byte of the view stood, and how many bytes it was there. */
size_t view_from(const struct view *v, size_t i, size_t *ret_width);
