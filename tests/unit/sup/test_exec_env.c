#include "sup/exec_env.h"

#include "test.h"

#include <string.h>

static const char *const words[] = { "true", NULL };
static const struct exec_var vars[] = {
	{ { (const uint8_t *)"KEY", 3 }, { (const uint8_t *)"sk-1", 4 } },
	{ { (const uint8_t *)"TOKEN", 5 }, { (const uint8_t *)"ghp_2", 5 } },
};

static unsigned count(struct span envv, const char *text)
{
	struct span one;
	unsigned found = 0;

	while (wire_next_str(&envv, &one))
		found += span_is(one, text);
	return found;
}

TEST(what_is_set_wins)
{
	static const char *const envv[] = { "KEY=mine", "TOKENS=x", NULL };
	const struct wire_exec plain = { 0 };
	uint8_t room[1024];
	struct wire_frame f;
	struct wire_exec x;
	struct span in;
	struct buf b;

	buf_init(&b, room, sizeof(room));
	wire_put_exec(&b, 1, 1, &plain, words, envv);
	exec_env_add(&b, 0, vars, 2);
	in = buf_span(&b);
	CHECK_EQ(wire_parse_frame(&in, WIRE_FROM_HOST, &f), 0);
	CHECK_EQ(wire_parse_exec(f.payload, &x), 0);
	CHECK_EQ(x.envc, 3);
	CHECK(count(x.envv, "KEY=mine") == 1 && count(x.envv, "KEY=sk-1") == 0);
	CHECK(count(x.envv, "TOKEN=ghp_2") == 1);
}

TEST(what_is_named_as_a_secret_is_replaced)
{
	static const char *const envv[] = {
		"KEY=mine", "A=1", "TOKEN=", "KEYS=x", "KEY=again", NULL
	};
	const struct wire_exec plain = { .user = span_str("me"), .cwd = span_str("/here") };
	uint8_t room[1024];
	struct wire_frame f;
	struct wire_exec x;
	struct span in;
	struct buf b;

	buf_init(&b, room, sizeof(room));
	wire_put_u64(&b, WIRE_PING, 0, 1, 5);
	for (size_t start = b.len, i = 0; i < 2; i++) {
		b.len = start;
		wire_put_exec(&b, 1, 1, &plain, words, envv);
		if (i > 0) /* there is no room for what takes its place: it goes all the same */
			b.size = b.len - 13;
		exec_env_replace(&b, start, vars, 2);
		in = span_of(b.at + start, b.len - start);
		CHECK_EQ(wire_parse_frame(&in, WIRE_FROM_HOST, &f), 0);
		CHECK_EQ(in.len, 0);
		CHECK_EQ(wire_parse_exec(f.payload, &x), 0);
		CHECK_EQ(x.envc, i > 0 ? 3 : 4);
		CHECK_EQ(count(x.envv, "KEY=sk-1"), i > 0 ? 0 : 1);
		CHECK(count(x.envv, "KEY=mine") == 0 && count(x.envv, "KEY=again") == 0);
		CHECK(count(x.envv, "A=1") == 1 && count(x.envv, "KEYS=x") == 1);
		CHECK(count(x.envv, "TOKEN=") == 1 && count(x.envv, "TOKEN=ghp_2") == 0);
		CHECK(!memmem(b.at, b.len, "mine", 4));
	}
}

TEST(what_does_not_fit_changes_nothing)
{
	const struct wire_exec plain = { 0 };
	uint8_t room[128];
	uint8_t before[128];
	struct buf b;
	size_t len;

	buf_init(&b, room, sizeof(room));
	wire_put_exec(&b, 1, 1, &plain, words, words + 1);
	len = b.len;
	memcpy(before, room, len);
	b.size = len + 12;
	exec_env_add(&b, 0, vars, 2);
	CHECK(buf_ok(&b) && b.len == len && memcmp(room, before, len) == 0);
	exec_env_add(&b, 0, NULL, 0);
	CHECK(b.len == len);
}

TEST(what_is_no_command_stays)
{
	uint8_t room[64];
	struct buf b;
	size_t len;

	buf_init(&b, room, sizeof(room));
	wire_put_u64(&b, WIRE_PING, 0, 1, 5);
	len = b.len;
	exec_env_add(&b, 0, vars, 2);
	CHECK(buf_ok(&b) && b.len == len);
}

TEST_MAIN()
