/*
 * image_hold: images that snapshots run on are in use while `image rm` and `prune` look at them.
 *
 * A sandbox holds its image's lock for as long as it lives; a snapshot is only files, so whoever
 * removes images takes the locks in its stead.
 */
#pragma once

#include "cli/cli.h"
#include "image/store.h"

struct image_hold;

void image_hold_free(struct image_hold *h);
OWN_DEFINE(struct image_hold, image_hold_free)

/* Those of all snapshots that are there. s is borrowed. */
_must_ int image_hold_new(int state_fd, struct image_store *s, struct image_hold **ret,
                          struct err *e);

/* The names of live sandboxes on what `ref` names, for a message; "" if none says so. */
void image_hold_sandboxes(struct cli *c, struct image_store *s, const char *ref, struct buf *out);

/* The name of a snapshot that runs on what `ref` names, or NULL. */
const char *image_hold_user(const struct image_hold *h, struct image_store *s, const char *ref);
