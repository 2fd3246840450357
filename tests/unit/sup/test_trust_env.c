#include "sup/trust_env.h"

#include "test.h"

#include <string.h>

static const struct wire_trusted where = { { (const uint8_t *)"/a/one.crt", 10 },
	                                   { (const uint8_t *)"/b/all.pem", 10 } };
static const struct wire_exec plain = { .flags = WIRE_EXEC_TTY,
	                                .user = { (const uint8_t *)"me", 2 },
	                                .cwd = { (const uint8_t *)"/here", 5 },
	                                .rlimit_count = 1,
	                                .rlimits = { { 7, 1, 2 } } };
static const char *const words[] = { "sh", "-c", "SSL_CERT_FILE=x", NULL };

/* The EXEC behind another frame, with the variables added. */
static void make(struct buf *b, const char *const *envv, const struct wire_trusted *w,
                 struct wire_exec *ret)
{
	struct wire_frame f;
	struct span in;
	size_t start;

	wire_put_u64(b, WIRE_PING, 0, 1, 5);
	start = b->len;
	wire_put_exec(b, 1, 1, &plain, words, envv);
	trust_env_add(b, start, w);
	CHECK(buf_ok(b));
	in = buf_span(b);
	CHECK_EQ(wire_parse_frame(&in, WIRE_FROM_HOST, &f), 0);
	CHECK_EQ(wire_parse_frame(&in, WIRE_FROM_HOST, &f), 0);
	CHECK_EQ(in.len, 0);
	CHECK_EQ(wire_parse_exec(f.payload, ret), 0);
}

static bool has(const struct wire_exec *x, const char *text)
{
	struct span list = x->envv;
	struct span one;

	while (wire_next_str(&list, &one))
		if (span_is(one, text))
			return true;
	return false;
}

TEST(each_gets_the_file_it_can_use)
{
	static const char *const envv[] = { "A=1", "MY_SSL_CERT_FILE=x", NULL };
	uint8_t room[4096];
	struct wire_exec x;
	struct buf b;

	buf_init(&b, room, sizeof(room));
	make(&b, envv, &where, &x);
	CHECK_EQ(x.argc, 3);
	CHECK_EQ(x.envc, 2 + 12);
	CHECK(has(&x, "A=1") && has(&x, "NODE_EXTRA_CA_CERTS=/a/one.crt"));
	CHECK(has(&x, "DENO_CERT=/a/one.crt") && has(&x, "SSL_CERT_FILE=/b/all.pem"));
	CHECK(has(&x, "GIT_SSL_CAINFO=/b/all.pem") && has(&x, "NIX_SSL_CERT_FILE=/b/all.pem"));
	CHECK_SPAN(x.user, "me");
	CHECK_SPAN(x.cwd, "/here");
	CHECK_EQ(x.rlimits[0].hard, 2);
}

TEST(what_is_set_stays)
{
	static const char *const envv[] = { "SSL_CERT_FILE=/mine", "PIP_CERT=", "DENO_CERT", NULL };
	uint8_t room[4096];
	struct wire_exec x;
	struct buf b;

	buf_init(&b, room, sizeof(room));
	make(&b, envv, &where, &x);
	CHECK(has(&x, "SSL_CERT_FILE=/mine") && !has(&x, "SSL_CERT_FILE=/b/all.pem"));
	CHECK(has(&x, "PIP_CERT=") && !has(&x, "PIP_CERT=/b/all.pem"));
	CHECK(has(&x, "DENO_CERT=/a/one.crt")); /* that was no variable */
	CHECK_EQ(x.envc, 3 + 10);
}

TEST(nothing_without_a_certificate)
{
	static const char *const envv[] = { NULL };
	static const struct wire_trusted none;
	uint8_t room[4096];
	struct wire_exec x;
	struct buf b;

	buf_init(&b, room, sizeof(room));
	make(&b, envv, &none, &x);
	CHECK_EQ(x.envc, 0);
}

TEST(one_that_does_not_fit_is_as_it_was)
{
	static const char *const envv[] = { "A=1", NULL };
	uint8_t room[4096];
	uint8_t before[4096];
	struct wire_exec x;
	struct buf b;
	size_t whole;
	size_t bare;

	buf_init(&b, room, sizeof(room));
	wire_put_exec(&b, 1, 1, &plain, words, envv);
	bare = b.len;
	memcpy(before, room, bare);
	trust_env_add(&b, 0, &where);
	whole = b.len;
	for (size_t size = bare; size <= whole; size++) {
		buf_init(&b, room, size);
		wire_put_exec(&b, 1, 1, &plain, words, envv);
		trust_env_add(&b, 0, &where);
		CHECK(buf_ok(&b));
		CHECK_EQ(b.len, size < whole ? bare : whole);
		if (size < whole)
			CHECK_MEM(span_of(room, bare), span_of(before, bare));
	}
	CHECK_EQ(wire_parse_exec(span_of(room + WIRE_HEADER_BYTES, whole - WIRE_HEADER_BYTES), &x),
	         0);
}

TEST(what_is_no_command_is_left_alone)
{
	uint8_t room[64];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	wire_put(&b, WIRE_EXEC, 0, 1, 1, span_of("no command", 10));
	trust_env_add(&b, 0, &where);
	CHECK_EQ(b.len, WIRE_HEADER_BYTES + 10);
	CHECK(buf_ok(&b));
}

TEST_MAIN()
