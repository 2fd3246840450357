/*
 * tree: what an image's layers come to, merged from the top layer down.
 *
 * Hostile   paths, link targets and the order of everything; paths come from image_path_parse()
 * Shape     layers are numbered from 0, the bottom, and are begun from the highest number down.
 *           Within a layer the last entry of a path wins, across layers the top one
 * Errors    -EPERM: an entry that must not be; -E2BIG: a maximum of limits.h; -ENOMEM
 * Owns      nodes, names, link targets; freed together by tree_free()
 */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "image/limits.h"

#include <stdbool.h>
#include <stdint.h>

#define TREE_NO_XATTR   UINT32_MAX
#define TREE_NO_ORDINAL UINT64_MAX

enum tree_kind {
	TREE_FILE = 1,
	TREE_DIR,
	TREE_SYMLINK,
	TREE_CHAR,
	TREE_BLOCK,
	TREE_FIFO,
	TREE_SOCKET,
	TREE_PENDING, /* a hard link whose target has not been seen; never left at the end */
};

struct tree_meta {
	enum tree_kind kind;
	uint16_t mode; /* 07777 */
	uint32_t uid, gid;
	uint32_t mtime_s;
	uint32_t dev_major, dev_minor; /* CHAR, BLOCK */
	struct span target;            /* SYMLINK; copied */
};

/* What hard links share. The fields below the line are the writer's. */
struct tree_inode {
	struct tree_meta meta;
	struct tree_inode *alias; /* PENDING: what it came to be */
	uint64_t ordinal;         /* of its entry in its layer, while its content is not taken */
	struct span pending;      /* PENDING: the target's path */
	int16_t layer;
	bool implied; /* a directory known only from the paths below it */
	bool wanted;  /* some visible name leads here */
	/* -- */
	bool written;   /* FILE: its content is in the image */
	bool placed;    /* ref is valid */
	uint32_t xattr; /* index or TREE_NO_XATTR */
	uint32_t number, links;
	uint64_t size, data_start, sparse_bytes;
	uint32_t *block_sizes;
	uint32_t block_count;
	uint64_t ref; /* where the inode stands in the image */
};

struct tree_node {
	struct tree_node *parent, *kids, *next; /* kids are sorted once tree_finish() is done */
	struct tree_inode *inode;
	struct span name;
	uint64_t scope;     /* the key of its kids in the table; changes when they are dropped */
	int16_t self_floor; /* layers below this one cannot say what it is */
	int16_t kids_floor; /* layers below this one cannot add to what is in it */
	int16_t dir_layer;  /* the highest layer that has it as a directory, or -1 */
	/* the last layer that had it as something else, shown or not, or -1 */
	int16_t nondir_layer;
	bool absent; /* whited out, and no higher or same layer brings it back */
};

struct tree;

_must_ int tree_new(const uint64_t seed[2], struct tree **ret, struct err *e);
void tree_free(struct tree *t);
OWN_DEFINE(struct tree, tree_free)

/* Layers come in descending order. */
void tree_begin_layer(struct tree *t, int16_t layer);

/*
 * One entry. ret_inode: whose metadata this is, when it is visible; NULL when a higher layer hides
 * it (then its content is skipped, but `ordinal`, the entry's place in its layer, is remembered for
 * hard links). A visible FILE's content is to be taken now.
 */
_must_ int tree_add(struct tree *t, struct span path, const struct tree_meta *m, uint64_t ordinal,
                    struct tree_inode **ret_inode, struct err *e);
_must_ int tree_link(struct tree *t, struct span path, struct span target, struct err *e);
_must_ int tree_whiteout(struct tree *t, struct span path, struct err *e);
_must_ int tree_opaque(struct tree *t, struct span dir, struct err *e);

/* Files of this layer that are hidden but have visible hard links: their entries, ascending. */
struct tree_wanted {
	uint64_t ordinal;
	struct tree_inode *inode;
};
void tree_end_layer(struct tree *t, const struct tree_wanted **ret_wanted, size_t *ret_count);

/* After the last layer: settles links across layers, sorts, numbers (from 1), counts links. */
_must_ int tree_finish(struct tree *t, struct err *e);

struct tree_node *tree_root(const struct tree *t);

/* The inode behind a node, links settled. */
struct tree_inode *tree_inode_of(const struct tree_node *n);

/* After tree_finish(): how many inodes there are, and how many entries were read in all. */
uint32_t tree_inode_count(const struct tree *t);
uint64_t tree_entry_count(const struct tree *t);

/* Memory that lives as long as the tree, within its maximum. NULL: -ENOMEM or -E2BIG, in e. */
void *tree_alloc(struct tree *t, size_t size, struct err *e);
