#include "image/meta.h"

#include "failalloc.h"
#include "test.h"

#include <errno.h>
#include <string.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const char good[] =
	"{\"format\":1,\"id\":\"" HEX64
	"\",\"kind\":\"oci\",\"architecture\":\"amd64\",\"os\":\"linux\","
	"\"created\":\"\",\"config\":{\"env\":[\"A=b\"],\"entrypoint\":[],\"cmd\":[\"x\",\"\\u00e9\"],"
	"\"labels\":{\"berm.warm\":\"[\\\"true\\\",\\\"ls -l\\\"]\",\"z\":\"\"},\"user\":\"1000:50\","
	"\"workdir\":\"/w\",\"stop_signal\":\"SIGINT\"},\"layers\":[\"" HEX64
	"\"],\"names\":[\"a:1\"],\"registries\":[\"a.example.com\",\"b.example.com:81\"],"
	"\"unpacked_bytes\":5,\"disk_bytes\":4096,\"entries\":3}\n";

TEST(round_trip)
{
	_own_(image_meta_free) struct image_meta *m = NULL;
	_own_(image_meta_free) struct image_meta *again = NULL;
	char text[2 * sizeof(good)];
	char second[2 * sizeof(good)];
	struct err e = { 0 };
	struct buf b;
	struct buf b2;

	CHECK_OK(image_meta_parse(span_str(good), &m, &e), &e);
	CHECK_STR(m->id, HEX64);
	CHECK_STR(m->config.cmd[1], "\xc3\xa9");
	CHECK_STR(image_label(&m->config, "z"), "");
	CHECK(!image_label(&m->config, "y"));
	buf_init(&b, text, sizeof(text));
	image_meta_put(&b, m);
	CHECK(buf_ok(&b));
	CHECK_OK(image_meta_parse(buf_span(&b), &again, &e), &e);
	buf_init(&b2, second, sizeof(second));
	image_meta_put(&b2, again);
	CHECK_MEM(buf_span(&b), buf_span(&b2));
}

TEST(warm)
{
	_own_(image_meta_free) struct image_meta *m = NULL;
	_own_free_ const char **warm = NULL;
	struct err e = { 0 };

	CHECK_OK(image_meta_parse(span_str(good), &m, &e), &e);
	CHECK_OK(image_warm(&m->config, &warm, &e), &e);
	CHECK_STR(warm[0], "true");
	CHECK_STR(warm[1], "ls -l");
	CHECK(!warm[2]);
}

/* `good` with one text replaced by another, which must then be refused. */
static int parse_with(const char *from, const char *to)
{
	_own_(image_meta_free) struct image_meta *m = NULL;
	const char *at = strstr(good, from);
	char text[2 * sizeof(good)];
	struct buf b;

	CHECK(at);
	buf_init(&b, text, sizeof(text));
	buf_put(&b, good, (size_t)(at - good));
	buf_put_str(&b, to);
	buf_put_str(&b, at + strlen(from));
	return image_meta_parse(buf_span(&b), &m, NULL);
}

TEST(strict)
{
	CHECK_EQ(parse_with("\"format\":1", "\"format\":2"), -EBADMSG);
	CHECK_EQ(parse_with("\"format\":1,", "\"format\":1,\"more\":1,"), -EBADMSG);
	CHECK_EQ(parse_with("A=b", "A"), -EBADMSG);
	CHECK_EQ(parse_with("A=b", "=b"), -EBADMSG);
	CHECK_EQ(parse_with("/w", "w"), -EBADMSG);
	CHECK_EQ(parse_with("1000:50", "a\\u001bb"), -EBADMSG);
	CHECK_EQ(parse_with("a:1", "../a"), -EBADMSG);
	CHECK_EQ(parse_with("\"entries\":3", "\"entries\":-3"), -EBADMSG);
	CHECK_EQ(parse_with("\"entries\":3", "\"entries\":\"3\""), -EBADMSG);
	CHECK_EQ(parse_with("0123", "012X"), -EBADMSG);
	CHECK_EQ(parse_with("\"config\":{", "\"config\":{\"Env\":[],"), -EBADMSG);
	for (size_t i = 0; i + 2 < sizeof(good); i += 7) {
		_own_(image_meta_free) struct image_meta *m = NULL;

		CHECK(image_meta_parse(span_of(good, i), &m, NULL) < 0);
	}
}

TEST(config_of_a_person)
{
	_own_(image_meta_free) struct image_meta *m = calloc(1, sizeof(*m));
	_own_(image_meta_free) struct image_meta *bad = calloc(1, sizeof(*bad));
	struct err e = { 0 };

	CHECK(m && bad);
	CHECK_OK(image_config_parse(span_str("{\"cmd\": [\"x\"]}"), m, &e), &e);
	CHECK_STR(m->config.cmd[0], "x");
	CHECK(!m->config.env[0] && !m->config.labels[0]);
	CHECK_STR(m->config.user, "");
	CHECK_EQ(image_config_parse(span_str("{\"Cmd\": [\"x\"]}"), bad, &e), -EBADMSG);
}

TEST(out_of_memory)
{
	FAILALLOC_EACH()
	{
		struct image_meta *m = NULL;
		struct err e = { 0 };
		int r = image_meta_parse(span_str(good), &m, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!m);
		} else {
			CHECK_OK(r, &e);
			image_meta_free(m);
		}
	}
}

TEST_MAIN()
