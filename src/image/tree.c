/*
 * Theory of operation
 *
 * A layer is a list of changes to the layers below it. Applied bottom up, as the format was meant,
 * every file is unpacked, and many are then replaced or removed. Here the layers come top down and
 * the first word on a path is the last: a file is taken only if no layer above has said anything
 * about it, so each layer is decompressed once, hidden content is skipped, and what is taken goes
 * straight to its place in the image.
 *
 * For that, each node knows up to which layer it is closed. `self_floor` is the layer that said
 * what the node is (or removed it): lower layers cannot. `kids_floor` is the layer that emptied it,
 * by an opaque mark, a whiteout, or by being something other than a directory there: lower layers
 * cannot add to it, although layers above and the layer itself did. A directory that is only
 * implied by a path below it has no self_floor yet: a lower layer may still give it its owner and
 * mode. If a lower layer has a file or a symbolic link there, the directory wins and closes: this
 * is what an overlay of the layers' directories shows, and it means that no path is ever resolved
 * through a symbolic link. A name below a link, file or device of its own layer has no meaning
 * anybody agrees on, and is refused.
 *
 * Hard links are names for an inode. The target stands before the link in the same layer, as tar
 * writes it. It may be hidden by a layer above while the link is not: then its content has been
 * skipped, and is fetched in a second pass over that layer, by the ordinal of its entry
 * (tree_end_layer). A target that is in a lower layer is looked up at the end: when the path then
 * shows a file that came from no higher layer than the link, that is the file the link meant.
 */
#include "image/tree.h"

#include "image/table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	CHUNK_BYTES = 1 << 20,
	SHOWN_MAX = 200,           /* of a path in a message */
	ALIAS_HOPS_MAX = 64,       /* a link to a link to a ... across layers */
	DROP_VISITS_MAX = 4 << 20, /* a layer that makes and unmakes the same directory for ever */
};

struct chunk {
	struct chunk *next;
	size_t used, size;
	uint8_t bytes[] __attribute__((aligned(16)));
};

struct tree {
	struct chunk *chunks;
	size_t mem_bytes;
	struct tree_node *root;
	struct table nodes;  /* (parent's scope, name) to node */
	struct table hidden; /* (0, path) to inode: this layer's entries that layers above hide */
	struct tree_wanted *wanted;
	size_t wanted_count, wanted_size;
	struct tree_inode **pending;
	size_t pending_count, pending_size;
	uint64_t scopes, entries, drop_visits;
	uint32_t inodes;
	int16_t layer;
};

static int shown(struct span path)
{
	return path.len < SHOWN_MAX ? (int)path.len : SHOWN_MAX;
}

void *tree_alloc(struct tree *t, size_t size, struct err *e)
{
	struct chunk *c = t->chunks;
	size_t want = (size + 15) & ~(size_t)15;
	void *got;

	if (want < size || want > TREE_MEM_MAX - t->mem_bytes) {
		(void)err_set(e, -E2BIG, "its names and files take more than %d MiB of memory",
		              TREE_MEM_MAX >> 20);
		return NULL;
	}
	if (!c || c->size - c->used < want) {
		size_t room = want > CHUNK_BYTES ? want : CHUNK_BYTES;

		c = calloc(1, sizeof(*c) + room);
		if (!c) {
			(void)err_set(e, -ENOMEM, "out of memory");
			return NULL;
		}
		c->size = room;
		c->next = t->chunks;
		t->chunks = c;
	}
	got = c->bytes + c->used;
	c->used += want;
	t->mem_bytes += want;
	return got;
}

/* Why tree_alloc() gave nothing. */
static int alloc_code(const struct err *e)
{
	return e && e->code < 0 ? e->code : -ENOMEM;
}

static int copy_span(struct tree *t, struct span s, struct span *ret, struct err *e)
{
	uint8_t *at = tree_alloc(t, s.len + 1, e);

	if (!at)
		return alloc_code(e);
	if (s.len > 0)
		memcpy(at, s.at, s.len);
	at[s.len] = 0;
	*ret = span_of(at, s.len);
	return 0;
}

static struct tree_inode *new_inode(struct tree *t, const struct tree_meta *m, struct err *e)
{
	struct tree_inode *in = tree_alloc(t, sizeof(*in), e);

	if (!in)
		return NULL;
	in->meta = *m;
	in->layer = t->layer;
	in->ordinal = TREE_NO_ORDINAL;
	in->xattr = TREE_NO_XATTR;
	if (m->target.len > 0 && copy_span(t, m->target, &in->meta.target, e) < 0)
		return NULL;
	return in;
}

static int new_node(struct tree *t, struct tree_node *parent, struct span name,
                    struct tree_node **ret, struct err *e)
{
	struct tree_node *n = tree_alloc(t, sizeof(*n), e);
	int r;

	if (!n)
		return alloc_code(e);
	r = copy_span(t, name, &n->name, e);
	if (r < 0)
		return r;
	n->scope = ++t->scopes;
	n->self_floor = -1;
	n->kids_floor = -1;
	n->dir_layer = -1;
	n->nondir_layer = -1;
	n->absent = true;
	n->parent = parent;
	if (parent) {
		r = table_put(&t->nodes, parent->scope, n->name, n, e);
		if (r < 0)
			return r;
		n->next = parent->kids;
		parent->kids = n;
	}
	*ret = n;
	return 0;
}

static bool is_dir(const struct tree_node *n)
{
	return !n->absent && n->inode->meta.kind == TREE_DIR;
}

/* Makes the node a directory nobody has described yet. */
static int imply_dir(struct tree *t, struct tree_node *n, struct err *e)
{
	static const struct tree_meta meta = { .kind = TREE_DIR, .mode = 0755 };

	n->inode = new_inode(t, &meta, e);
	if (!n->inode)
		return alloc_code(e);
	n->inode->implied = true;
	n->absent = false;
	n->dir_layer = t->layer;
	return 0;
}

int tree_new(const uint64_t seed[2], struct tree **ret, struct err *e)
{
	_own_(tree_free) struct tree *t = calloc(1, sizeof(*t));
	struct err local = { 0 };
	int r;

	if (!e)
		e = &local;
	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	table_init(&t->nodes, seed);
	table_init(&t->hidden, seed);
	r = new_node(t, NULL, span_str(""), &t->root, e);
	if (r == 0)
		r = imply_dir(t, t->root, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&t);
	return 0;
}

void tree_free(struct tree *t)
{
	if (!t)
		return;
	while (t->chunks) {
		struct chunk *c = t->chunks;

		t->chunks = c->next;
		free(c);
	}
	table_fini(&t->nodes);
	table_fini(&t->hidden);
	free(t->wanted);
	free(t->pending);
	free(t);
}

void tree_begin_layer(struct tree *t, int16_t layer)
{
	t->layer = layer;
	t->wanted_count = 0;
	table_clear(&t->hidden);
}

/* May this layer still add to the directory? */
static bool open_to(const struct tree *t, const struct tree_node *dir)
{
	return dir->kids_floor <= t->layer;
}

/*
 * Steps into one directory of a path, made if need be. ret is NULL when the step leads into what a
 * higher layer replaced or removed.
 */
static int step(struct tree *t, struct tree_node *dir, struct span name, struct span path,
                struct tree_node **ret, struct err *e)
{
	struct tree_node *n;
	int r;

	*ret = NULL;
	if (!open_to(t, dir))
		return 0;
	n = table_get(&t->nodes, dir->scope, name);
	if (!n) {
		r = new_node(t, dir, name, &n, e);
		if (r < 0)
			return r;
	}
	if (n->nondir_layer == t->layer)
		return err_set(e, -EPERM,
		               "'%.*s': '%.*s' on the way to it is not a directory in this layer",
		               shown(path), (const char *)path.at, shown(name),
		               (const char *)name.at);
	if (n->absent) {
		if (n->self_floor > t->layer)
			return 0;
		r = imply_dir(t, n, e);
		if (r < 0)
			return r;
	} else if (!is_dir(n)) {
		return 0; /* of a higher layer: this layer's would have been refused above */
	}
	*ret = n;
	return 0;
}

/* The directory a path's last name is in, and that name. ret_dir NULL: hidden. */
static int walk_to_parent(struct tree *t, struct span path, struct tree_node **ret_dir,
                          struct span *ret_name, struct err *e)
{
	struct tree_node *dir = t->root;
	struct span rest = path;
	struct span name;

	while (take_until(&rest, '/', &name)) {
		int r;

		if (rest.len == 0)
			break;
		r = step(t, dir, name, path, &dir, e);
		if (r < 0)
			return r;
		if (!dir)
			break;
	}
	*ret_dir = dir;
	*ret_name = name;
	return 0;
}

/* Drops this layer's own entries below a directory that higher layers have too. */
static int drop_own(struct tree *t, struct tree_node *dir, struct err *e)
{
	for (struct tree_node *n = dir->kids; n; n = n->next) {
		int r;

		if (++t->drop_visits > DROP_VISITS_MAX)
			return err_set(e, -E2BIG,
			               "a layer replaces its own directories too many times");
		if (n->absent)
			continue;
		if (is_dir(n)) {
			r = drop_own(t, n, e);
			if (r < 0)
				return r;
		}
		if (is_dir(n) ? n->dir_layer == t->layer : n->self_floor == t->layer) {
			n->absent = true;
			n->self_floor = t->layer;
			n->kids_floor = t->layer;
		}
	}
	return 0;
}

/* Forgets all that is in a directory, at once: its kids' keys are never asked for again. */
static void drop_all(struct tree *t, struct tree_node *dir)
{
	dir->scope = ++t->scopes;
	dir->kids = NULL;
}

/*
 * Finds or makes the node for an entry that is (or is not) a directory, and closes it against lower
 * layers. ret_node is NULL when a higher layer hides the entry; the node is left without inode when
 * the caller is to give it one.
 */
static int claim(struct tree *t, struct span path, bool dir, struct tree_node **ret_node,
                 struct err *e)
{
	struct tree_node *parent;
	struct tree_node *n;
	struct span name;
	int r = walk_to_parent(t, path, &parent, &name, e);

	*ret_node = NULL;
	if (r < 0 || !parent || !open_to(t, parent))
		return r;
	n = table_get(&t->nodes, parent->scope, name);
	if (!n) {
		r = new_node(t, parent, name, &n, e);
		if (r < 0)
			return r;
	}
	n->nondir_layer = dir ? -1 : t->layer;
	if (is_dir(n) && !dir && n->dir_layer > t->layer) {
		/* a directory above wins, and closes against all below this layer */
		n->self_floor = n->self_floor > t->layer ? n->self_floor : t->layer;
		n->kids_floor = n->kids_floor > t->layer ? n->kids_floor : t->layer;
		return drop_own(t, n, e);
	}
	if (n->self_floor > t->layer)
		return 0;
	if (is_dir(n) && !dir)
		drop_all(t, n);
	if (dir && !is_dir(n))
		n->dir_layer = t->layer;
	n->self_floor = t->layer;
	if (!dir) {
		n->kids_floor = t->layer;
		n->dir_layer = -1;
	}
	*ret_node = n;
	return 0;
}

static int count_entry(struct tree *t, struct err *e)
{
	if (t->entries >= TREE_ENTRIES_MAX)
		return err_set(e, -E2BIG, "more than %d entries", TREE_ENTRIES_MAX);
	t->entries++;
	return 0;
}

/* Remembers a hidden entry for the hard links that may follow. */
static int remember(struct tree *t, struct span path, struct tree_inode *in, struct err *e)
{
	struct span key = { 0 };
	int r = copy_span(t, path, &key, e);

	return r != 0 ? r : table_put(&t->hidden, 0, key, in, e);
}

static int add_root(struct tree *t, const struct tree_meta *m, struct tree_inode **ret_inode,
                    struct err *e)
{
	struct tree_node *n = t->root;

	if (m->kind != TREE_DIR)
		return err_set(e, -EPERM, "the root of the image is not a directory");
	*ret_inode = NULL;
	if (n->self_floor > t->layer)
		return 0;
	n->self_floor = t->layer;
	n->inode->implied = false;
	n->inode->meta = *m;
	n->inode->layer = t->layer;
	n->inode->xattr = TREE_NO_XATTR;
	*ret_inode = n->inode;
	return 0;
}

int tree_add(struct tree *t, struct span path, const struct tree_meta *m, uint64_t ordinal,
             struct tree_inode **ret_inode, struct err *e)
{
	struct tree_inode *in;
	struct tree_node *n;
	struct err local = { 0 };
	int r;

	if (!e)
		e = &local;
	r = count_entry(t, e);
	if (r < 0)
		return r;
	if (path.len == 0)
		return add_root(t, m, ret_inode, e);
	r = claim(t, path, m->kind == TREE_DIR, &n, e);
	if (r < 0)
		return r;
	if (!n && m->kind == TREE_DIR) {
		*ret_inode = NULL;
		return 0;
	}
	in = new_inode(t, m, e);
	if (!in)
		return e->code;
	if (!n) {
		in->ordinal = ordinal;
		*ret_inode = NULL;
		return remember(t, path, in, e);
	}
	n->inode = in;
	n->absent = false;
	*ret_inode = in;
	return 0;
}

/* What this layer has at a path, seen or hidden, if it is there by now. */
static struct tree_inode *find_own(const struct tree *t, struct span path)
{
	struct tree_inode *hidden = table_get(&t->hidden, 0, path);
	struct tree_node *n = t->root;
	struct span name;

	if (hidden)
		return hidden;
	while (n && take_until(&path, '/', &name))
		n = table_get(&t->nodes, n->scope, name);
	if (!n || n->absent || n->self_floor != t->layer || is_dir(n))
		return NULL;
	return n->inode;
}

static bool is_own_dir(const struct tree *t, struct span path)
{
	struct tree_node *n = t->root;
	struct span name;

	while (n && take_until(&path, '/', &name))
		n = table_get(&t->nodes, n->scope, name);
	return n && is_dir(n) && n->dir_layer == t->layer;
}

static int grow_array(void **at, size_t *size, size_t count, size_t item, struct err *e)
{
	size_t bigger = *size == 0 ? 64 : *size * 2;
	void *got;

	if (count < *size)
		return 0;
	got = reallocarray(*at, bigger, item);
	if (!got)
		return err_set(e, -ENOMEM, "out of memory");
	*at = got;
	*size = bigger;
	return 0;
}

static struct tree_inode *new_pending(struct tree *t, struct span target, struct err *e)
{
	static const struct tree_meta meta = { .kind = TREE_PENDING };
	struct tree_inode *in = new_inode(t, &meta, e);
	void *list = t->pending;
	int r;

	if (!in || copy_span(t, target, &in->pending, e) < 0)
		return NULL;
	/* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers */
	r = grow_array(&list, &t->pending_size, t->pending_count, sizeof(*t->pending), e);
	t->pending = list;
	if (r < 0)
		return NULL;
	t->pending[t->pending_count++] = in;
	return in;
}

/* A visible link to a hidden file: the file's content must be fetched after all. */
static int want(struct tree *t, struct tree_inode *in, struct err *e)
{
	void *list = t->wanted;
	int r;

	if (in->wanted || in->ordinal == TREE_NO_ORDINAL) {
		in->wanted = true;
		return 0;
	}
	r = grow_array(&list, &t->wanted_size, t->wanted_count, sizeof(*t->wanted), e);
	t->wanted = list;
	if (r < 0)
		return r;
	in->wanted = true;
	t->wanted[t->wanted_count++] = (struct tree_wanted){ in->ordinal, in };
	return 0;
}

int tree_link(struct tree *t, struct span path, struct span target, struct err *e)
{
	struct tree_inode *in;
	struct tree_node *n;
	struct err local = { 0 };
	int r;

	if (!e)
		e = &local;
	r = count_entry(t, e);
	if (r < 0)
		return r;
	if (path.len == 0 || target.len == 0 || span_equal(path, target) || is_own_dir(t, target))
		return err_set(e, -EPERM, "'%.*s': a hard link to a directory or to itself",
		               shown(path), (const char *)path.at);
	in = find_own(t, target);
	if (!in)
		in = new_pending(t, target, e);
	if (!in)
		return e->code;
	r = claim(t, path, false, &n, e);
	if (r < 0)
		return r;
	if (!n)
		return remember(t, path, in, e);
	n->inode = in;
	n->absent = false;
	return want(t, in, e);
}

int tree_whiteout(struct tree *t, struct span path, struct err *e)
{
	struct tree_node *parent;
	struct tree_node *n;
	struct span name;
	struct err local = { 0 };
	int r;

	if (!e)
		e = &local;
	r = count_entry(t, e);
	if (r < 0)
		return r;
	if (path.len == 0)
		return err_set(e, -EPERM, "a whiteout of the image's root");
	r = walk_to_parent(t, path, &parent, &name, e);
	if (r < 0 || !parent || !open_to(t, parent))
		return r;
	n = table_get(&t->nodes, parent->scope, name);
	if (!n) {
		r = new_node(t, parent, name, &n, e);
		if (r < 0)
			return r;
	}
	if (n->self_floor < t->layer)
		n->self_floor = t->layer;
	if (n->kids_floor < t->layer)
		n->kids_floor = t->layer;
	return 0;
}

int tree_opaque(struct tree *t, struct span dir, struct err *e)
{
	struct tree_node *n = t->root;
	struct span path = dir;
	struct span name;
	struct err local = { 0 };
	int r;

	if (!e)
		e = &local;
	r = count_entry(t, e);
	while (r == 0 && n && take_until(&path, '/', &name))
		r = step(t, n, name, dir, &n, e);
	if (r < 0 || !n)
		return r;
	if (n->kids_floor < t->layer)
		n->kids_floor = t->layer;
	return 0;
}

static int by_ordinal(const void *a, const void *b)
{
	uint64_t x = ((const struct tree_wanted *)a)->ordinal;
	uint64_t y = ((const struct tree_wanted *)b)->ordinal;

	return x < y ? -1 : x > y;
}

void tree_end_layer(struct tree *t, const struct tree_wanted **ret_wanted, size_t *ret_count)
{
	if (t->wanted_count > 0)
		qsort(t->wanted, t->wanted_count, sizeof(*t->wanted), by_ordinal);
	*ret_wanted = t->wanted;
	*ret_count = t->wanted_count;
}

struct tree_node *tree_root(const struct tree *t)
{
	return t->root;
}

struct tree_inode *tree_inode_of(const struct tree_node *n)
{
	struct tree_inode *in = n->inode;

	for (int i = 0; in->alias && i < ALIAS_HOPS_MAX; i++)
		in = in->alias;
	return in;
}

uint32_t tree_inode_count(const struct tree *t)
{
	return t->inodes;
}

uint64_t tree_entry_count(const struct tree *t)
{
	return t->entries;
}

/* The node a path leads to in the merged image, or NULL. */
static struct tree_node *find_final(const struct tree *t, struct span path)
{
	struct tree_node *n = t->root;
	struct span name;

	while (n && take_until(&path, '/', &name)) {
		if (!is_dir(n))
			return NULL;
		n = table_get(&t->nodes, n->scope, name);
	}
	return n && !n->absent ? n : NULL;
}

/* A link to a link to nowhere may be a circle; hops are bounded. */
static bool leads_somewhere(const struct tree_inode *in)
{
	for (int i = 0; in->alias && i < ALIAS_HOPS_MAX; i++)
		in = in->alias;
	return in->meta.kind != TREE_PENDING;
}

static int settle_links(struct tree *t, struct err *e)
{
	for (size_t i = 0; i < t->pending_count; i++) {
		struct tree_inode *in = t->pending[i];
		struct tree_node *n = find_final(t, in->pending);

		if (n && !is_dir(n) && n->inode != in && n->inode->layer <= in->layer)
			in->alias = n->inode;
	}
	for (size_t i = 0; i < t->pending_count; i++) {
		struct tree_inode *in = t->pending[i];

		if (in->wanted && !leads_somewhere(in))
			return err_set(e, -EPERM,
			               "a hard link to '%.*s', which is not in the image (or only "
			               "in a layer that a higher one hides)",
			               shown(in->pending), (const char *)in->pending.at);
	}
	return 0;
}

static int by_name(const void *a, const void *b)
{
	struct span x = (*(struct tree_node *const *)a)->name;
	struct span y = (*(struct tree_node *const *)b)->name;
	int r = memcmp(x.at, y.at, x.len < y.len ? x.len : y.len);

	return r != 0 ? r : (x.len > y.len) - (x.len < y.len);
}

/* Sorts the kids of one directory and drops the absent ones, for good. */
static int sort_kids(struct tree_node *dir, struct err *e)
{
	_own_free_ struct tree_node **list = NULL;
	struct tree_node **link = &dir->kids;
	size_t count = 0;
	size_t i = 0;

	for (struct tree_node *n = dir->kids; n; n = n->next)
		count += !n->absent;
	if (count > 0) {
		list = calloc(count, sizeof(struct tree_node *));
		if (!list)
			return err_set(e, -ENOMEM, "out of memory");
	}
	for (struct tree_node *n = dir->kids; n; n = n->next)
		if (!n->absent)
			list[i++] = n;
	if (count > 1)
		qsort(list, count, sizeof(struct tree_node *), by_name);
	for (i = 0; i < count; i++) {
		*link = list[i];
		link = &list[i]->next;
	}
	*link = NULL;
	return 0;
}

/* Depth is bounded by TREE_DEPTH_MAX. The kids of one directory get numbers in a row. */
static int number_kids(struct tree *t, struct tree_node *dir, struct err *e)
{
	int r = sort_kids(dir, e);

	if (r < 0)
		return r;
	for (struct tree_node *n = dir->kids; n; n = n->next) {
		struct tree_inode *in = tree_inode_of(n);

		if (in->number == 0)
			in->number = ++t->inodes;
		in->links++;
	}
	for (struct tree_node *n = dir->kids; r == 0 && n; n = n->next) {
		if (!is_dir(n))
			continue;
		n->inode->links++; /* its own "." */
		tree_inode_of(dir)->links++;
		r = number_kids(t, n, e);
	}
	return r;
}

int tree_finish(struct tree *t, struct err *e)
{
	int r = settle_links(t, e);

	if (r < 0)
		return r;
	t->inodes = 1;
	t->root->inode->number = 1;
	t->root->inode->links = 2;
	return number_kids(t, t->root, e);
}
