/* store_internal: what the store's files share. */
#pragma once

#include "image/store.h"

enum { STORE_SALT_LEN = 16, STORE_DIR_NAME_MAX = 64 };

struct image_store {
	int user_fd;      /* images/ of the state directory, or -1 */
	int installed_fd; /* or -1 */
};

/* The lock on the store's own names; released by closing. */
_must_ int store_lock(const struct image_store *s, int *ret_fd, struct err *e);

/* ".staging-<salt>" and the like. */
void store_salted(struct buf *b, const char *prefix);

/* Is there an image of this id, and in which store? -1: no. The fd is the store's. */
int store_find_id(const struct image_store *s, const char *id);

/* The id a name stands for, in the user's store, then the installed one. -ENOENT. */
_must_ int store_name_get(const struct image_store *s, struct span name,
                          char ret_id[IMAGE_ID_LEN + 1], struct err *e);

/* The same, of the installed store alone. */
_must_ int store_name_installed(const struct image_store *s, struct span name,
                                char ret_id[IMAGE_ID_LEN + 1]);

/* Can the store keep this name? One of many '/' can be valid and yet too long for a file's name. */
_must_ bool store_name_fits(const char *name);

/* Turns what a user typed into an id. */
_must_ int store_resolve(const struct image_store *s, const char *ref,
                         char ret_id[IMAGE_ID_LEN + 1], struct err *e);

/* Calls back for each image id in a store's directory until it answers something but 0. */
_must_ int store_each(int store_fd, int (*each)(void *arg, int store_fd, const char *id), void *arg,
                      struct err *e);

/* disk.sqfs of one image directory: what image.json says, by its size and its first bytes. */
_must_ int store_open_disk(int image_fd, const struct image_meta *m, int *ret_fd, struct err *e);

/* image.json of one image directory, judged; berm's own spelling of it and no other. */
_must_ int store_read_meta(int image_fd, const char *id, struct image_meta **ret, struct err *e);

bool store_is_id(const char *name);
