/*
 * utf8: characters of text that somebody else wrote, for those who show it.
 *
 * Pure. Source: Unicode 15, table 3-7; Default_Ignorable_Code_Point of DerivedCoreProperties.txt.
 */
#pragma once

#include "base/span.h"

/*
 * Bytes of the valid sequence at the front of s, 1 to 4, and its character; 0 where there is none
 * (s is empty, overlong forms, surrogates, above U+10FFFF). ret_char may be NULL.
 */
size_t utf8_front(struct span s, uint32_t *ret_char);

/*
 * Does this character show nothing, or does it move others about? Controls (C0, DEL, C1), line and
 * paragraph separators, overrides of direction, zero-width and filling characters, variation
 * selectors, tags. Shown as they are they would make one text look like another.
 */
bool utf8_deceives(uint32_t c);
