#include "policy/method.h"
#include "test.h"

TEST(L7_1_words)
{
	uint64_t read = method_word(span_str("read-only"));
	uint64_t write = method_word(span_str("write"));

	CHECK(read & method_bit(span_str("GET")));
	CHECK(read & method_bit(span_str("HEAD")));
	CHECK(read & method_bit(span_str("OPTIONS")));
	CHECK(!(read & method_bit(span_str("POST"))));
	CHECK((write & read) == read);
	CHECK(write & method_bit(span_str("PATCH")));
	CHECK(!(write & method_bit(span_str("DELETE"))));
	CHECK(method_word(span_str("any")) == METHODS_ANY);
}

TEST(L7_1_get_brings_head)
{
	CHECK(method_word(span_str("GET")) & method_bit(span_str("HEAD")));
	CHECK(!(method_word(span_str("HEAD")) & method_bit(span_str("GET"))));
}

TEST(unknown_ones)
{
	CHECK_EQ(method_bit(span_str("get")), 0);
	CHECK_EQ(method_bit(span_str("")), 0);
	CHECK_EQ(method_bit(span_str("CONNECT")), 0);
	CHECK_EQ(method_bit(span_str("TRACE")), 0);
	CHECK_EQ(method_word(span_str("frobnicate")), 0);
}

TEST(every_name_has_a_bit_of_its_own)
{
	uint64_t all = 0;

	for (unsigned i = 0; i < METHODS_COUNT; i++) {
		uint64_t bit = method_bit(span_str(method_name(i)));

		CHECK(bit != 0 && !(all & bit));
		all |= bit;
	}
	CHECK(all == METHODS_KNOWN);
	CHECK(method_name(METHODS_COUNT) == NULL);
}

TEST(in_words)
{
	char text[64];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	method_put(&b, method_word(span_str("read-only")));
	CHECK_STR(buf_cstr(&b), "GET, HEAD, OPTIONS");
	buf_reset(&b);
	method_put(&b, METHODS_ANY);
	CHECK_STR(buf_cstr(&b), "any method");
}

TEST_MAIN()
