#include "policy/yaml_tree.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void refuses(int line, const char *yaml, const char *want)
{
	struct yaml_tree *t = NULL;
	struct err e = { 0 };

	if (yaml_tree_parse("f", span_str(yaml), &t, &e) >= 0 || t)
		test_fail(__FILE__, line, "'%s' is accepted", yaml);
	if (!strstr(e.text, want))
		test_fail(__FILE__, line, "'%s' lacks '%s'", e.text, want);
}

#define REFUSES(yaml_, want_) refuses(__LINE__, yaml_, want_)

TEST(a_tree_with_places)
{
	struct yaml_tree *t;
	struct err e = { 0 };
	const struct yaml_node *n;

	CHECK_OK(yaml_tree_parse("f", span_str("a: [1, \"2\"]\nb: { c: d }\n"), &t, &e), &e);
	n = yaml_root(t);
	CHECK_EQ(n->kind, YAML_MAP);
	CHECK_EQ(yaml_count(n), 2);
	n = n->first;
	CHECK_SPAN(n->text, "a");
	n = n->next;
	CHECK_EQ(yaml_count(n), 2);
	CHECK(n->first->plain);
	CHECK(!n->first->next->plain);
	n = n->next->next->first->next;
	CHECK_SPAN(n->text, "d");
	CHECK_EQ(n->line, 2);
	CHECK_EQ(n->column, 9);
	yaml_tree_free(t);
}

TEST(less_than_yaml)
{
	REFUSES("a: &x 1\n", "f:1:4: an anchor");
	REFUSES("a: *x\n", "f:1:4: an alias");
	REFUSES("a: !!str 1\n", "f:1:4: a tag");
	REFUSES("a: 1\n---\nb: 2\n", "f:2:1: a second document");
	REFUSES("a: 1\nb: 2\na: 3\n", "f:3:1: 'a' is here twice; first in line 1");
	REFUSES("? [a]\n: 1\n", "no plain word");
	REFUSES("a: \"x\\0y\"\n", "f:1:4: a value with a NUL byte");
	REFUSES("", "is empty");
	REFUSES("# only a remark\n", "is empty");
	REFUSES("a: [1, 2\n", "f:");
	REFUSES("a: \xff\n", "f:1:4: ");
	REFUSES("a:\n\t- b\n", "f:2:");
}

TEST(bounds)
{
	static char text[POLICY_FILE_MAX + 2];
	struct yaml_tree *t;
	struct err e = { 0 };

	memset(text, '[', 17);
	REFUSES(text, "nested too deeply");
	memset(text, 'a', POLICY_SCALAR_MAX + 1);
	REFUSES(text, "over 4096 bytes");
	memset(text, ' ', POLICY_FILE_MAX + 1);
	CHECK_EQ(yaml_tree_parse("f", span_of(text, POLICY_FILE_MAX + 1), &t, &e), -EFBIG);
	for (size_t i = 0; i < POLICY_FILE_MAX; i += 2)
		memcpy(text + i, i == 0 ? " [" : "1,", 2);
	CHECK_EQ(yaml_tree_parse("f", span_of(text, POLICY_FILE_MAX), &t, &e), -EFBIG);
}

TEST(too_many_keys)
{
	static char text[300 * 8];
	size_t len = 0;

	for (int i = 0; i < 300; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "k%d: 1\n", i);
	REFUSES(text, "more than 256 keys");
}

TEST_MAIN()
