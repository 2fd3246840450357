#include "policy/words.h"
#include "test.h"

TEST(nearest)
{
	static const char *const words[] = { "port", "protocol", "host", "http", "deny", NULL };

	CHECK_STR(words_nearest(span_str("prot"), words), "port");
	CHECK_STR(words_nearest(span_str("hots"), words), "host");
	CHECK_STR(words_nearest(span_str("Deny"), words), "deny");
	CHECK_STR(words_nearest(span_str("protocl"), words), "protocol");
	CHECK_STR(words_nearest(span_str("zebra"), words), NULL);
	CHECK_STR(words_nearest(span_str(""), words), NULL);
	CHECK_STR(words_nearest(span_str("a very long word that is nobody's key"), words), NULL);
}

TEST_MAIN()
