/* compare_inner: what the parts of compare share. */
#pragma once

#include "work/compare.h"

#include <sys/stat.h>

struct compare {
	struct change *changes;
	size_t count, cap;
	char **blocks; /* of the arena paths are in */
	size_t block_count, blocks_cap, block_used;
};

/* Copies a path into the arena. An empty one stays empty. */
_must_ int compare_keep(struct compare *c, struct span s, struct span *ret, struct err *e);
/* Adds a change; its spans are copied. */
_must_ int compare_put(struct compare *c, const struct change *change, struct err *e);

/* The host's directory of the last path, so that neighbours do not open it again. */
struct host {
	int root_fd;
	int dir_fd; /* -1: none */
	struct span dir;
	uint8_t dir_storage[WPATH_MAX];
};

void host_init(struct host *h, int root_fd);
void host_done(struct host *h);

enum host_finds {
	HOST_ABSENT = 0,
	HOST_THERE,
	HOST_NO_WAY, /* a part on the way is there, and no directory */
};

/* What stands at path, links not followed. Sets *ret_st for HOST_THERE. Below 0: an error. */
_must_ int host_stat(struct host *h, struct span path, struct stat *ret_st, struct err *e);
/* Opens a file as host_stat() found it; -ESTALE if it is another one by now. */
_must_ int host_open(struct host *h, struct span path, const struct stat *st, int *ret_fd,
                     struct err *e);
/* A link's target; -ESTALE if it is none by now. */
_must_ int host_read_link(struct host *h, struct span path, char ret[BASE_LINK_MAX + 1],
                          size_t *ret_len, struct err *e);
/* Is anything in the host's directory that the base's does not have? 1, 0, below 0. */
_must_ int host_has_more(struct host *h, struct span path, struct base *b,
                         const struct base_node *dir, struct err *e);
/* Searches the directory `path` was in for a directory of this identity. 1 and its path, 0. */
_must_ int host_find_renamed(struct host *h, struct span path, const struct host_record *was,
                             uint8_t ret[WPATH_MAX], size_t *ret_len, struct err *e);

/*
 * Completes a change whose base and guest sides are filled in: the host's side, identity, state,
 * why, flags, mode.
 */
_must_ int compare_with_host(const struct compare_options *opt, struct host *h, struct change *c,
                             uint8_t hint[WPATH_MAX], struct err *e);

/* Meets every path the guest has touched, and puts what differs, in no order. */
_must_ int compare_walk(const struct compare_options *opt, struct compare *c, struct err *e);

/* 1 if the guest's content equals the base's, 0, below 0. Both are files, or both links. */
_must_ int compare_guest_base(const struct compare_options *opt, const struct proposal_node *p,
                              const struct base_node *b, struct err *e);

/* Turns a deleted and an added file of the same bytes into one that was renamed. c is sorted. */
_must_ int compare_pair_renames(const struct compare_options *opt, struct compare *c,
                                struct err *e);
