/*
 * glob: patterns for paths and values.
 *
 * In a path "*" stands for any bytes within one segment and "**", alone in its segment, for any
 * number of segments, none included: below "/a/" it covers "/a", "/a/" and "/a/b/c". In a
 * value "*" stands for any bytes. Nothing else is special. Paths are canonical when they come here
 * (another folder's work), so a pattern has to be canonical too, or it would never match.
 *
 * Hostile   paths and values, not patterns
 * Errors    -EBADMSG with a static sentence's end
 */
#pragma once

#include "base/span.h"
#include "policy/limits.h"

/* Is this a pattern that can match a canonical path? If not, *ret_why says why not. */
_must_ int glob_parse_path(struct span pattern, const char **ret_why);

/* Time is at most pattern bytes times path bytes. */
bool glob_path_match(struct span pattern, struct span path);

/* The same for values, where '/' is a byte like any other. */
bool glob_value_match(struct span pattern, struct span value);
