/*
 * proposal_write: makes the index (proposal_index.h) in one pass, record by record.
 *
 * Limits    8 bytes of memory an entry, and one buffer
 * Errors    -E2BIG over PROPOSAL_INDEX_BYTES_MAX; -ENOSPC and the like: the disk's
 */
#pragma once

#include "work/proposal_index.h"

struct index_writer;

/* An empty file; the fd is borrowed until index_writer_free(). */
_must_ int index_writer_new(int fd, struct index_writer **ret, struct err *e);
void index_writer_free(struct index_writer *w);
OWN_DEFINE(struct index_writer, index_writer_free)

/* n->index and n->end of anything but a directory are set here; n->parent is the caller's. */
_must_ int index_writer_add(struct index_writer *w, const struct proposal_node *n,
                            struct span extents, uint32_t *ret_index, struct err *e);

/* All that was added since is below directory `index`. */
_must_ int index_writer_end(struct index_writer *w, uint32_t index, struct err *e);

/* Table and head: table_at, index_bytes and entries of h are set here. */
_must_ int index_writer_finish(struct index_writer *w, struct index_head *h, struct err *e);
