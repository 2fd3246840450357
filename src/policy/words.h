/*
 * words: the nearest of some known words, for "did you mean".
 */
#pragma once

#include "base/span.h"

/* NULL if none is near: at most a third of its letters apart. words ends with NULL. Pure. */
const char *words_nearest(struct span got, const char *const *words);
