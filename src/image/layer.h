/*
 * layer: one tar of files into the tree, contents straight into the image.
 *
 * Hostile   every entry: names, links, sizes, owners, devices, attributes
 */
#pragma once

#include "image/registries.h"
#include "image/squash.h"
#include "image/stream.h"
#include "image/tree.h"

struct layer {
	struct blob blob;
	int16_t number;      /* 0 is the bottom */
	bool whiteouts;      /* .wh. names have their meaning; in a plain root file system not */
	const char *name;    /* for messages: "layer 3 of 7" */
	const char *digest;  /* hex the blob must have, or NULL */
	const char *diff_id; /* hex its unpacked bytes must have, or NULL */
	struct registries *registries; /* what its files say of them comes here; or NULL */
};

/* ret_plain may be NULL: the digest of the unpacked bytes. */
_must_ int layer_apply(struct job *j, const struct layer *l, struct tree *t, struct squash *s,
                       char ret_plain[IMAGE_ID_LEN + 1], struct err *e);
