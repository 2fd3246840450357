#include "agents/settings.h"

#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const keys[] = { "model", "permissions", "profiles", "tui", "list", NULL };

/* The text that is left, in room that the next call takes again. */
static const char *left(enum settings_format f, const char *text)
{
	static char room[4096];
	_own_(settings_file_free) struct settings_file *got = NULL;
	struct err e = { 0 };

	CHECK_OK(settings_filter("f", f, span_str(text), keys, &got, &e), &e);
	CHECK(got->len < sizeof(room));
	memcpy(room, got->text, got->len + 1);
	return room;
}

/* The names of what was left out, with a ';' behind each. */
static const char *removed(enum settings_format f, const char *text)
{
	static char room[4096];
	_own_(settings_file_free) struct settings_file *got = NULL;
	struct err e = { 0 };

	CHECK_OK(settings_filter("f", f, span_str(text), keys, &got, &e), &e);
	CHECK(got->removed_len < sizeof(room));
	memcpy(room, got->removed, got->removed_len + 1);
	for (size_t i = 0; i < got->removed_len; i++)
		room[i] = room[i] ? room[i] : ';';
	return room;
}

static void refused(enum settings_format f, const char *text, const char *why)
{
	struct settings_file *got = NULL;
	struct err e = { 0 };

	CHECK_EQ(settings_filter("f", f, span_str(text), keys, &got, &e), -EINVAL);
	CHECK(!got);
	if (!strstr(e.text, why))
		CHECK_STR(e.text, why);
}

TEST(names_of_credentials)
{
	static const char *const yes[] = { "apiKey",        "api_key",       "API-KEY",
		                           "authToken",     "client_secret", "password",
		                           "Authorization", "accessKeyId",   NULL };
	static const char *const no[] = { "model",       "keybinds", "theme", "author",
		                          "permissions", "",         NULL };

	for (unsigned i = 0; yes[i]; i++)
		CHECK(settings_parse_secret_key(span_str(yes[i])));
	for (unsigned i = 0; no[i]; i++)
		CHECK(!settings_parse_secret_key(span_str(no[i])));
	CHECK(settings_parse_secret_value(span_str("sk-ant-api03-x")));
	CHECK(settings_parse_secret_value(span_str("x\n-----BEGIN PRIVATE KEY-----")));
	CHECK(!settings_parse_secret_value(span_str("sk-")));
	CHECK(!settings_parse_secret_value(span_str("claude-opus")));
}

TEST(files_of_credentials)
{
	static const char *const yes[] = { ".ssh",
		                           ".ssh/config",
		                           ".aws/credentials",
		                           ".x/skills/.env.local",
		                           ".config/gh",
		                           ".x/auth.json",
		                           ".config/gh/hosts.yml",
		                           ".x/y/key.pem",
		                           ".gnupg/a/b",
		                           ".x/skills/.ssh/a",
		                           ".netrc",
		                           NULL };
	static const char *const no[] = { ".claude/CLAUDE.md", ".sshx/a", "x.ssh/a",
		                          ".config/ghost",     ".config", "config/a",
		                          ".x/.envy.d/a",      "",        NULL };

	for (unsigned i = 0; yes[i]; i++)
		CHECK(settings_parse_secret_path(span_str(yes[i])));
	for (unsigned i = 0; no[i]; i++)
		CHECK(!settings_parse_secret_path(span_str(no[i])));
}

TEST(json_keeps_what_is_listed)
{
	const char *text =
		"{\"model\":\"m\",\"hooks\":{\"a\":1},\"permissions\":{\"allow\":[\"x\"],"
		"\"apiKey\":\"k\",\"deep\":[{\"token\":1,\"ok\":2}]}}";

	CHECK_STR(
		left(SETTINGS_JSON, text),
		"{\n  \"model\": \"m\",\n  \"permissions\": {\n    \"allow\": [\n      \"x\"\n    ],\n"
		"    \"deep\": [\n      {\n        \"ok\": 2\n      }\n    ]\n  }\n}\n");
	CHECK(strstr(removed(SETTINGS_JSON, text), "hooks;"));
	CHECK(strstr(removed(SETTINGS_JSON, text), "permissions.apiKey;"));
	CHECK(strstr(removed(SETTINGS_JSON, text), "permissions.deep.token;"));
}

TEST(json_values_that_look_like_keys_go)
{
	CHECK_STR(left(SETTINGS_JSON, "{\"model\":\"sk-ant-1\",\"list\":[\"ghp_1\",\"b\"]}"),
	          "{\n  \"list\": [\n    \"b\"\n  ]\n}\n");
	/* written with an escape it is the same text */
	CHECK_STR(left(SETTINGS_JSON, "{\"model\":\"\\u0073k-ant-1\"}"), "{}\n");
	CHECK_STR(left(SETTINGS_JSON, "{\"permissions\":{\"api\\u004bey\":1}}"),
	          "{\n  \"permissions\": {}\n}\n");
}

TEST(json_is_strict)
{
	refused(SETTINGS_JSON, "{\"model\": 1 // x\n}", "is no JSON");
	refused(SETTINGS_JSON, "{\"model\": 1,}", "is no JSON");
	refused(SETTINGS_JSON, "[]", "is no object");
	refused(SETTINGS_JSON, "{\"model\":1,\"model\":2}", "f:1: ");
	refused(SETTINGS_JSON, "", "f:");
	refused(SETTINGS_JSON, "{\"model\":1}}", "is no JSON");
	refused(SETTINGS_JSON, "{\"model\":\"\xff\"}", "f:1: ");
}

TEST(jsonc_takes_comments)
{
	CHECK_STR(left(SETTINGS_JSONC,
	               "// a\n{ /* \" */ \"model\": \"a//b\", /* , */ \"tui\": [1,],}"),
	          "{\n  \"model\": \"a//b\",\n  \"tui\": [\n    1\n  ]\n}\n");
	refused(SETTINGS_JSONC, "{ /* no end", "is no JSON");
	refused(SETTINGS_JSONC, "{ / \"model\": 1 }", "is no JSON");
	refused(SETTINGS_JSONC, "{ \"list\": [,] }", "is no JSON");
	refused(SETTINGS_JSONC, "{ \"list\": [1,,] }", "is no JSON");
	refused(SETTINGS_JSONC, "{ \"model\":,}", "is no JSON");
	/* a comment that ends in a text, and a text that ends in a comment */
	refused(SETTINGS_JSONC, "{ \"a /* b\": 1 */ }", "is no JSON");
}

TEST(jsonc_has_a_depth)
{
	char text[2 * (SETTINGS_DEPTH_MAX + 1) + 1];
	char room[sizeof(text)];
	struct buf b;

	memset(text, '[', SETTINGS_DEPTH_MAX + 1);
	memset(text + SETTINGS_DEPTH_MAX + 1, ']', SETTINGS_DEPTH_MAX + 1);
	buf_init(&b, room, sizeof(room));
	CHECK_EQ(settings_jsonc_parse(span_of(text, sizeof(text) - 1), true, &b), -EBADMSG);
	buf_init(&b, room, sizeof(room));
	CHECK_EQ(settings_jsonc_parse(span_of(text + 1, sizeof(text) - 3), true, &b), 0);
}

TEST(toml_keeps_what_is_listed)
{
	const char *text = "# top\nmodel = \"m\" # why\nother = 1\n"
			   "[profiles.fast]\nmodel = 'x'\napi_key = \"k\"\n"
			   "[mcp_servers.x]\nenv = { A = \"b\" }\n"
			   "[[tui]]\nlist = [ 1, # one\n 2, ]\n";

	CHECK_STR(left(SETTINGS_TOML, text), "model = \"m\"\n[profiles.fast]\nmodel = 'x'\n"
	                                     "[[tui]]\nlist = [1, 2]\n");
	CHECK_STR(removed(SETTINGS_TOML, text), "other;profiles.fast.api_key;mcp_servers.x;");
}

TEST(toml_inner_tables_and_dotted_keys)
{
	CHECK_STR(left(SETTINGS_TOML,
	               "tui.a.b = true\ntui = { x = 1, token = 2, y = [ { z = 3 } ] }\n"),
	          "tui.a.b = true\ntui = { x = 1, y = [{ z = 3 }] }\n");
	CHECK_STR(left(SETTINGS_TOML, "x = { model = 1 }\ntui.secret.x = 1\n\"model\" = 2\n"),
	          "model = 2\n");
	CHECK_STR(removed(SETTINGS_TOML, "x = { model = 1 }\n"), "x;");
	CHECK_STR(left(SETTINGS_TOML, "tui = { token = 2, x = 1 }\n"), "tui = { x = 1 }\n");
	CHECK_STR(left(SETTINGS_TOML, "tui = { token = 2 }\ntui.b = { }\n"),
	          "tui = {}\ntui.b = {}\n");
	CHECK_STR(left(SETTINGS_TOML, "tui.'a b' = 1\ntui.\"it's\" = 2\n"),
	          "tui.'a b' = 1\ntui.\"it's\" = 2\n");
	CHECK_STR(left(SETTINGS_TOML, "[profiles]\r\nx = 1979-05-27T07:32:00Z\r\n"),
	          "[profiles]\nx = 1979-05-27T07:32:00Z\n");
}

TEST(toml_values_that_look_like_keys_go)
{
	CHECK_STR(left(SETTINGS_TOML,
	               "model = \"sk-1\"\ntui = \"\"\"\nsk-x\"\"\"\nlist = ['AKIA1', 'b']\n"),
	          "tui = \"\"\"\nsk-x\"\"\"\nlist = ['b']\n");
	CHECK_STR(left(SETTINGS_TOML, "model = \"s\\u006b-1\"\n"), "");
	CHECK_STR(left(SETTINGS_TOML, "model = \"a\\tb\"\n"), "model = \"a\\tb\"\n");
}

TEST(toml_is_strict)
{
	static const char *const bad[] = {
		"model",
		"model =",
		"model = x",
		"model = \"a",
		"model = 1 2",
		"[a",
		"[a]]",
		"= 1",
		"a..b = 1",
		"\"\\u0061\" = 1",
		"model = [1",
		"model = [,]",
		"model = { a = 1",
		"model = {,}",
		"model = '\n'",
		"model = \"\\x\"",
		"model = \"\\u00g0\"",
		"model = 1\x01",
		"# \x01",
		"[]",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refused(SETTINGS_TOML, bad[i], "f:1: ");
	refused(SETTINGS_TOML, "model = 1\n\n x y\n", "f:3: ");
}

/* Of any prefix the reader says yes or no, and reads no byte beyond it. */
TEST(every_prefix)
{
	const char *toml = "model = \"m\\n\"\n[tui.'x']\na = [ 1, { b = '''x''' } ]\n# end";
	const char *json = "{ \"model\": [1, /* x */ {\"a\": \"b\\\"\"}], // y\n }";
	char room[512];
	char gone[512];

	for (size_t len = 0; len <= strlen(toml); len++) {
		struct settings_out out = { .removed_count = 0 };
		unsigned line = 0;

		buf_init(&out.text, room, sizeof(room));
		buf_init(&out.removed, gone, sizeof(gone));
		if (settings_toml_parse(span_of(guard_copy(toml, len), len), keys, &out, &line) < 0)
			CHECK(line > 0);
	}
	for (size_t len = 0; len <= strlen(json); len++) {
		struct buf b;
		int r;

		buf_init(&b, room, sizeof(room));
		r = settings_jsonc_parse(span_of(guard_copy(json, len), len), true, &b);
		CHECK(r == 0 || r == -EBADMSG);
		CHECK(r < 0 || b.len == len);
	}
}

TEST(text_goes_as_it_is)
{
	CHECK_STR(left(SETTINGS_TEXT, "# You are\nhelpful.\n"), "# You are\nhelpful.\n");
}

TEST(a_file_has_a_maximum)
{
	_own_free_ char *text = calloc(1, SETTINGS_FILE_MAX + 1);
	struct settings_file *got = NULL;
	struct err e = { 0 };

	CHECK(text != NULL);
	memset(text, ' ', SETTINGS_FILE_MAX + 1);
	CHECK_EQ(settings_filter("f", SETTINGS_TEXT, span_of(text, SETTINGS_FILE_MAX + 1), keys,
	                         &got, &e),
	         -EFBIG);
	CHECK(!got);
}

TEST_MAIN()
