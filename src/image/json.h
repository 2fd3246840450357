/*
 * json: jansson behind our limits. Sizes and depth are judged before it sees a byte.
 *
 * Hostile   the text
 * Errors    -EBADMSG: not JSON, or not of the shape asked for; -E2BIG: too large or too deep
 */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "image/limits.h"

#include <jansson.h>

OWN_DEFINE(json_t, json_decref)

/* Pure (json_parse.c): how deep arrays and objects nest, without judging the rest. */
_must_ int json_parse_depth(struct span in, unsigned *ret_depth);

/* An object; duplicate keys and text behind it are refused. `what` is for messages. */
_must_ int json_load(struct span in, size_t max, const char *what, json_t **ret, struct err *e);

/* A member's string, or "" when it is absent or null. -EBADMSG if it is something else. */
_must_ int json_get_text(const json_t *o, const char *key, const char **ret, struct err *e);

/* An array of strings as a NULL-ended list that borrows from o; absent or null: an empty one. */
_must_ int json_get_list(const json_t *o, const char *key, size_t max, const char ***ret,
                         struct err *e);

/* An object of strings as key, value, key, value ... NULL, sorted by key. */
_must_ int json_get_pairs(const json_t *o, const char *key, size_t max, const char ***ret,
                          struct err *e);

/* A number from 0 to 2^63 - 1. */
_must_ int json_get_u64(const json_t *o, const char *key, uint64_t *ret, struct err *e);

/* Refuses a key that is not in the NULL-ended list. */
_must_ int json_only_keys(const json_t *o, const char *const *keys, const char *what,
                          struct err *e);
