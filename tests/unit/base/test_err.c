#include "base/err.h"

#include "test.h"

#include <errno.h>
#include <string.h>

TEST(set_records_and_returns_the_code)
{
	struct err e = { 0 };

	CHECK_EQ(err_set(&e, -EINVAL, "%d is no %s", 3, "size"), -EINVAL);
	CHECK_EQ(e.code, -EINVAL);
	CHECK_STR(e.text, "3 is no size");
	CHECK_EQ(e.len, strlen(e.text));
}

TEST(sys_adds_what_errno_means)
{
	struct err e = { 0 };

	errno = ENOENT;
	CHECK_EQ(err_sys(&e, "open '%s'", "x"), -ENOENT);
	CHECK_STR(e.text, "open 'x': No such file or directory");
	CHECK_EQ(e.len, strlen(e.text));
}

TEST(sys_without_errno_is_still_an_error)
{
	struct err e = { 0 };

	errno = 0;
	CHECK(err_sys(&e, "read") < 0);
	CHECK(e.code < 0);
}

TEST(wrap_puts_context_in_front)
{
	struct err e = { 0 };

	(void)err_set(&e, -EACCES, "KVM_CREATE_VM: Permission denied");
	CHECK_EQ(err_wrap(&e, "start sandbox '%s'", "a1"), -EACCES);
	CHECK_STR(e.text, "start sandbox 'a1': KVM_CREATE_VM: Permission denied");
	CHECK_EQ(e.code, -EACCES);
}

/* An err may quote itself: the text is built aside before it replaces the old one. */
TEST(set_may_use_its_own_text)
{
	struct err e = { 0 };

	(void)err_set(&e, -EIO, "inner");
	(void)err_set(&e, -EPROTO, "outer (%s)", e.text);
	CHECK_STR(e.text, "outer (inner)");
}

TEST(long_text_is_cut_not_spilled)
{
	struct {
		struct err e;
		uint8_t after[8];
	} box;
	char big[3 * ERR_TEXT_MAX];

	memset(&box, 0, sizeof(box));
	memset(box.after, 0xa5, sizeof(box.after));
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	(void)err_set(&box.e, -EINVAL, "%s", big);
	CHECK_EQ(box.e.len, ERR_TEXT_MAX - 1);
	CHECK_EQ(strlen(box.e.text), ERR_TEXT_MAX - 1);
	(void)err_wrap(&box.e, "outer");
	CHECK_EQ(box.e.len, ERR_TEXT_MAX - 1);
	CHECK(strncmp(box.e.text, "outer: xxx", 10) == 0);
	(void)err_wrap(&box.e, "%s", big);
	CHECK_EQ(strlen(box.e.text), ERR_TEXT_MAX - 1);
	errno = ENOENT;
	CHECK_EQ(err_sys(&box.e, "%s", big), -ENOENT);
	CHECK_EQ(box.e.len, strlen(box.e.text));
	CHECK_EQ(box.e.len, ERR_TEXT_MAX - 1);
	for (size_t i = 0; i < sizeof(box.after); i++)
		CHECK_EQ(box.after[i], 0xa5);
}

TEST(null_is_a_caller_without_interest)
{
	CHECK_EQ(err_set(NULL, -EINVAL, "x"), -EINVAL);
	errno = EPERM;
	CHECK_EQ(err_sys(NULL, "x"), -EPERM);
	CHECK(err_wrap(NULL, "x") < 0);
	err_clear(NULL);
}

TEST(clear_forgets)
{
	struct err e = { 0 };

	(void)err_set(&e, -EINVAL, "x");
	err_clear(&e);
	CHECK_EQ(e.code, 0);
	CHECK_STR(e.text, "");
	CHECK_EQ(e.len, 0);
}

TEST_MAIN()
