#include "image/table.h"

#include "test.h"

#include <stdio.h>
#include <string.h>

enum { KEYS = 5000 };

TEST(puts_and_gets)
{
	static char keys[KEYS][12];
	const uint64_t seed[2] = { 1, 2 };
	struct err e = { 0 };
	struct table t;

	table_init(&t, seed);
	CHECK(!table_get(&t, 0, span_str("x")));
	for (int i = 0; i < KEYS; i++) {
		(void)snprintf(keys[i], sizeof(keys[i]), "key%d", i);
		CHECK_OK(table_put(&t, (uint64_t)(i % 3), span_str(keys[i]), keys[i], &e), &e);
	}
	CHECK_EQ(t.count, KEYS);
	for (int i = 0; i < KEYS; i++) {
		CHECK(table_get(&t, (uint64_t)(i % 3), span_str(keys[i])) == keys[i]);
		CHECK(!table_get(&t, (uint64_t)(i % 3 + 1) % 3, span_str(keys[i])));
	}
	CHECK_OK(table_put(&t, 0, span_str(keys[0]), keys[1], &e), &e);
	CHECK_EQ(t.count, KEYS);
	CHECK(table_get(&t, 0, span_str(keys[0])) == keys[1]);
	table_clear(&t);
	CHECK(!table_get(&t, 0, span_str(keys[0])));
	table_fini(&t);
}

TEST_MAIN()
