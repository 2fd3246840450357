#include "image/tree.h"

#include "base/buf.h"

#include "failalloc.h"
#include "test.h"

#include <errno.h>
#include <string.h>

enum { TEXT_MAX = 4096 };

static struct tree *new_tree(void)
{
	const uint64_t seed[2] = { 3, 4 };
	struct err e = { 0 };
	struct tree *t = NULL;

	CHECK_OK(tree_new(seed, &t, &e), &e);
	return t;
}

static int add(struct tree *t, const char *path, enum tree_kind kind, uint32_t uid,
               struct tree_inode **ret)
{
	const struct tree_meta m = { .kind = kind,
		                     .mode = 0644,
		                     .uid = uid,
		                     .target = span_str(kind == TREE_SYMLINK ? "target" : "") };
	static uint64_t ordinal;
	struct tree_inode *in = NULL;
	int r = tree_add(t, span_str(path), &m, ordinal++, &in, NULL);

	if (ret)
		*ret = in;
	return r;
}

/* Visible? */
static bool file(struct tree *t, const char *path, uint32_t uid)
{
	struct tree_inode *in;

	CHECK_EQ(add(t, path, TREE_FILE, uid, &in), 0);
	return in != NULL;
}

static bool dir(struct tree *t, const char *path, uint32_t uid)
{
	struct tree_inode *in;

	CHECK_EQ(add(t, path, TREE_DIR, uid, &in), 0);
	return in != NULL;
}

static void put_node(struct buf *b, const struct tree_node *dir)
{
	for (const struct tree_node *n = dir->kids; n; n = n->next) {
		const struct tree_inode *in = tree_inode_of(n);

		buf_put_span(b, n->name);
		buf_printf(b, "=%u", in->meta.uid);
		if (in->meta.kind == TREE_DIR) {
			buf_put_str(b, "(");
			put_node(b, n);
			buf_put_str(b, ")");
		}
		buf_put_str(b, n->next ? " " : "");
	}
}

/* The tree as text: name=uid, a directory's kids in brackets, all in order. */
static const char *shown(struct tree *t)
{
	static char text[TEXT_MAX];
	struct err e = { 0 };
	struct buf b;

	CHECK_OK(tree_finish(t, &e), &e);
	buf_init(&b, text, sizeof(text));
	put_node(&b, tree_root(t));
	return buf_cstr(&b);
}

TEST(top_layer_wins)
{
	_own_(tree_free) struct tree *t = new_tree();

	tree_begin_layer(t, 1);
	CHECK(file(t, "a", 1) && dir(t, "d", 1) && file(t, "d/x", 1));
	tree_begin_layer(t, 0);
	CHECK(!file(t, "a", 2) && !dir(t, "d", 2) && !file(t, "d/x", 2) && file(t, "d/y", 2));
	CHECK_STR(shown(t), "a=1 d=1(x=1 y=2)");
}

TEST(implied_directory_gets_its_owner_from_below)
{
	_own_(tree_free) struct tree *t = new_tree();

	tree_begin_layer(t, 1);
	CHECK(file(t, "d/e/x", 1));
	tree_begin_layer(t, 0);
	CHECK(dir(t, "d", 7) && !file(t, "d/e", 8));
	CHECK_STR(shown(t), "d=7(e=0(x=1))");
}

TEST(whiteouts)
{
	_own_(tree_free) struct tree *t = new_tree();

	tree_begin_layer(t, 2);
	CHECK_EQ(tree_whiteout(t, span_str("a"), NULL), 0);
	CHECK_EQ(tree_whiteout(t, span_str("d/gone"), NULL), 0);
	CHECK_EQ(tree_whiteout(t, span_str("again"), NULL), 0);
	CHECK(file(t, "again/new", 2));
	tree_begin_layer(t, 1);
	CHECK(!file(t, "a", 1) && !file(t, "d/gone/deep", 1) && file(t, "d/kept", 1));
	CHECK(!file(t, "again/old", 1));
	tree_begin_layer(t, 0);
	CHECK(!dir(t, "a", 0) && !file(t, "a/x", 0));
	CHECK_STR(shown(t), "again=0(new=2) d=0(kept=1)");
}

TEST(a_whiteout_spares_its_own_layer)
{
	_own_(tree_free) struct tree *t = new_tree();

	tree_begin_layer(t, 1);
	CHECK(file(t, "a", 1) && file(t, "d/x", 1));
	CHECK_EQ(tree_whiteout(t, span_str("a"), NULL), 0);
	CHECK_EQ(tree_opaque(t, span_str("d"), NULL), 0);
	CHECK(file(t, "d/y", 1));
	tree_begin_layer(t, 0);
	CHECK(!file(t, "a", 0) && !file(t, "d/z", 0) && dir(t, "d", 5));
	CHECK_STR(shown(t), "a=1 d=5(x=1 y=1)");
}

TEST(file_over_directory_and_back)
{
	_own_(tree_free) struct tree *t = new_tree();

	tree_begin_layer(t, 2);
	CHECK(dir(t, "p", 2) && file(t, "q", 2));
	tree_begin_layer(t, 1);
	CHECK(!file(t, "p", 1) && !file(t, "q/x", 1));
	tree_begin_layer(t, 0);
	CHECK(!file(t, "p/old", 0) && !file(t, "q/y", 0));
	CHECK_STR(shown(t), "p=2() q=2");
}

TEST(last_wins_within_a_layer)
{
	_own_(tree_free) struct tree *t = new_tree();

	tree_begin_layer(t, 1);
	CHECK(file(t, "up/keep", 1));
	tree_begin_layer(t, 0);
	CHECK(file(t, "a", 1) && file(t, "a", 2) && dir(t, "d", 1) && file(t, "d/x", 1));
	CHECK(file(t, "d", 3) && file(t, "e", 1) && dir(t, "e", 4) && file(t, "e/f", 5));
	CHECK(file(t, "up/own", 1) && file(t, "up/sub/deep", 1) && !file(t, "up", 1));
	CHECK_STR(shown(t), "a=2 d=3 e=4(f=5) up=0(keep=1)");
}

TEST(never_through_a_link)
{
	_own_(tree_free) struct tree *t = new_tree();

	tree_begin_layer(t, 1);
	CHECK(file(t, "lib/b", 1));
	tree_begin_layer(t, 0);
	CHECK_EQ(add(t, "lib", TREE_SYMLINK, 0, NULL), 0);
	CHECK_EQ(add(t, "l", TREE_SYMLINK, 0, NULL), 0);
	CHECK_EQ(add(t, "l/x", TREE_FILE, 0, NULL), -EPERM);
	CHECK_EQ(add(t, "lib/x", TREE_FILE, 0, NULL), -EPERM);
	CHECK_EQ(tree_whiteout(t, span_str("l/x"), NULL), -EPERM);
	CHECK_EQ(tree_opaque(t, span_str("l"), NULL), -EPERM);
	CHECK_STR(shown(t), "l=0 lib=0(b=1)");
}

static struct tree_inode *inode_at(struct tree *t, const char *name)
{
	for (struct tree_node *n = tree_root(t)->kids; n; n = n->next)
		if (span_is(n->name, name))
			return tree_inode_of(n);
	return NULL;
}

TEST(hard_links)
{
	_own_(tree_free) struct tree *t = new_tree();
	const struct tree_wanted *wanted;
	struct tree_inode *in;
	size_t count;

	tree_begin_layer(t, 1);
	CHECK_EQ(tree_whiteout(t, span_str("hidden"), NULL), 0);
	CHECK_EQ(tree_link(t, span_str("across"), span_str("low"), NULL), 0);
	tree_begin_layer(t, 0);
	CHECK(file(t, "low", 1) && !file(t, "hidden", 2));
	CHECK_EQ(tree_link(t, span_str("b"), span_str("hidden"), NULL), 0);
	CHECK_EQ(tree_link(t, span_str("c"), span_str("b"), NULL), 0);
	tree_end_layer(t, &wanted, &count);
	CHECK_EQ(count, 1);
	CHECK_EQ(wanted[0].inode->meta.uid, 2);
	CHECK_STR(shown(t), "across=1 b=2 c=2 low=1");
	in = inode_at(t, "b");
	CHECK(in == inode_at(t, "c") && in == wanted[0].inode && in->links == 2);
	CHECK(inode_at(t, "low") == inode_at(t, "across"));
}

TEST(hard_links_that_must_not_be)
{
	_own_(tree_free) struct tree *t = new_tree();

	tree_begin_layer(t, 1);
	CHECK(dir(t, "d", 0) && file(t, "a", 1));
	CHECK_EQ(tree_link(t, span_str("x"), span_str("d"), NULL), -EPERM);
	CHECK_EQ(tree_link(t, span_str("x"), span_str("x"), NULL), -EPERM);
	CHECK_EQ(tree_link(t, span_str("x"), span_str(""), NULL), -EPERM);
	tree_begin_layer(t, 0);
	/* the path now shows a file of a higher layer, which the link cannot have meant */
	CHECK_EQ(tree_link(t, span_str("y"), span_str("a"), NULL), 0);
	CHECK_EQ(tree_finish(t, NULL), -EPERM);
}

TEST(link_circles_end)
{
	_own_(tree_free) struct tree *t = new_tree();

	tree_begin_layer(t, 1);
	CHECK_EQ(tree_link(t, span_str("a"), span_str("b"), NULL), 0);
	CHECK_EQ(tree_link(t, span_str("b"), span_str("c"), NULL), 0);
	CHECK_EQ(tree_link(t, span_str("c"), span_str("a"), NULL), 0);
	CHECK_EQ(tree_finish(t, NULL), -EPERM);
}

TEST(the_root)
{
	_own_(tree_free) struct tree *t = new_tree();

	tree_begin_layer(t, 1);
	CHECK(dir(t, "", 5));
	CHECK_EQ(add(t, "", TREE_FILE, 0, NULL), -EPERM);
	CHECK_EQ(tree_whiteout(t, span_str(""), NULL), -EPERM);
	CHECK_EQ(tree_opaque(t, span_str(""), NULL), 0);
	tree_begin_layer(t, 0);
	CHECK(!dir(t, "", 6) && !file(t, "x", 0));
	CHECK_STR(shown(t), "");
	CHECK_EQ(tree_root(t)->inode->meta.uid, 5);
}

TEST(out_of_memory)
{
	FAILALLOC_EACH()
	{
		const uint64_t seed[2] = { 3, 4 };
		const struct tree_meta m = { .kind = TREE_FILE };
		struct tree_inode *in;
		struct tree *t = NULL;
		int r = tree_new(seed, &t, NULL);

		if (r == 0)
			tree_begin_layer(t, 0);
		if (r == 0)
			r = tree_add(t, span_str("a/b"), &m, 0, &in, NULL);
		if (r == 0)
			r = tree_link(t, span_str("c"), span_str("later"), NULL);
		if (r == 0)
			r = tree_add(t, span_str("later"), &m, 1, &in, NULL);
		if (r == 0)
			r = tree_finish(t, NULL);
		if (failalloc_hit())
			CHECK_EQ(r, -ENOMEM);
		else
			CHECK_EQ(r, 0);
		tree_free(t);
	}
}

TEST_MAIN()
