#include "image/registries.h"

#include "guardpage.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

static struct registries all;

static void read_file(const char *path, const char *text)
{
	const size_t len = strlen(text);

	registries_begin(&all, span_str(path), len);
	for (size_t i = 0; i < len; i += 7) /* as an archive's blocks come, a few bytes each */
		registries_data(&all, i, guard_span(text + i, len - i < 7 ? len - i : 7));
	registries_end(&all);
}

TEST(which_files)
{
	static const char *const yes[] = {
		"etc/apt/sources.list",          "etc/apt/sources.list.d/debian.sources",
		"etc/apt/sources.list.d/x.list", "root/.npmrc",
		"home/dev/.config/pip/pip.conf", "usr/local/cargo/config.toml",
		"etc/yum.repos.d/base.repo"
	};
	static const char *const no[] = { "",
		                          "etc",
		                          "etc/apt",
		                          "etc/apt/sources.list/x",
		                          "etc/apt/sources.list.d",
		                          "etc/apt/sources.list.d/x.list.save",
		                          "etc/apt/sources.list.d/.list/x",
		                          "etc/apt/sources.list.d/a/b.list",
		                          "x/etc/pip.conf",
		                          "home/.npmrc",
		                          "home/a/b/.npmrc",
		                          "srv/app/node_modules/x/.npmrc",
		                          "root/root/.npmrc" };

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		if (!registries_parse_path(guard_span(yes[i], strlen(yes[i]))))
			test_fail(__FILE__, __LINE__, "'%s' is not read", yes[i]);
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		if (registries_parse_path(guard_span(no[i], strlen(no[i]))))
			test_fail(__FILE__, __LINE__, "'%s' is read", no[i]);
}

TEST(files_of_the_managers)
{
	memset(&all, 0, sizeof(all));
	read_file("etc/apt/sources.list",
	          "# deb http://commented.example.com/debian x main\n"
	          "deb [signed-by=/usr/share/k.gpg] http://Deb.Example.com/debian bookworm main\n"
	          "  ; https://also.example.com/\n"
	          "deb-src http://deb.example.com/debian bookworm main # http://deb.example.com/y\n"
	          "deb cdrom://[x]/ y z\n");
	read_file("etc/apt/sources.list.d/a.sources",
	          "Types: deb\nURIs: https://sec.example.com:8443/d http://me:pw@in.example.com\n");
	read_file("etc/pip.conf", "[global]\nindex-url=https://pip.example.com/simple/\n"
	                          "trusted-host = other.example.com\n");
	read_file("root/.npmrc", "registry=\"https://npm.example.com\"\n"
	                         "//npm.example.com/:_authToken=abc\n");
	read_file("root/.cargo/config.toml",
	          "[source.m]\nregistry = \"sparse+https://cargo.example.com/\"");
	read_file("root/.config/go/env",
	          "GOPROXY=https://go.example.com,direct|https://go2.example.com\n");
	read_file("etc/hosts", "http://never.example.com/\n");
	CHECK_EQ(all.count, 8);
	CHECK_STR(all.list[0], "deb.example.com");
	CHECK_STR(all.list[1], "sec.example.com:8443");
	CHECK_STR(all.list[2], "in.example.com");
	CHECK_STR(all.list[3], "pip.example.com");
	CHECK_STR(all.list[4], "npm.example.com");
	CHECK_STR(all.list[5], "cargo.example.com");
	CHECK_STR(all.list[6], "go.example.com");
	CHECK_STR(all.list[7], "go2.example.com");
	CHECK(!all.list[8]);
}

TEST(what_is_no_host)
{
	static const char text[] =
		"http://10.0.0.1/ https://[::1]/ http://localhost/ http://a..b/ http:///x\n"
		"https://*.example.com/ ftp://f.example.com/ http://a.example.com:0/\n"
		"http://a.example.com:65536/ http://a.example.com:/ http://a.b.\n"
		"file:///etc://x.example.com http://\xc3\xa9.example.com/ http://a b.example.com\n"
		"http://user@ :// https://";

	memset(&all, 0, sizeof(all));
	read_file("etc/pip.conf", text);
	CHECK_EQ(all.count, 0);
}

TEST(every_prefix)
{
	static const char text[] =
		"# x\nq = http://u:p@A-b.example.com:8080/x, https://c_d.example.org\n";

	for (size_t n = 0; n < sizeof(text); n++) {
		struct span in = guard_span(text, n);
		struct span host;

		while (registries_take_host(&in, &host))
			CHECK(host.len > 0 && host.len <= IMAGE_REGISTRY_MAX);
		CHECK_EQ(in.len, 0);
	}
}

TEST(what_may_be_stored)
{
	CHECK(registries_parse_ok(span_str("a.example.com")));
	CHECK(registries_parse_ok(span_str("a.example.com:8080")));
	CHECK(!registries_parse_ok(span_str("A.example.com")));
	CHECK(!registries_parse_ok(span_str("")));
	CHECK(!registries_parse_ok(span_str("a.example.com:")));
	CHECK(!registries_parse_ok(span_str("a.example.com:80x")));
	CHECK(!registries_parse_ok(span_str("https://a.example.com")));
	CHECK(!registries_parse_ok(span_str("a.1")));
}

TEST(too_much)
{
	char line[64];

	memset(&all, 0, sizeof(all));
	registries_begin(&all, span_str("etc/pip.conf"), IMAGE_REGISTRY_FILE_MAX + 1);
	registries_data(&all, 0, span_str("http://big.example.com/"));
	registries_end(&all);
	CHECK_EQ(all.count, 0);
	registries_begin(&all, span_str("etc/pip.conf"), 4);
	registries_data(&all, 2, span_str("http://longer.example.com/")); /* than it said */
	registries_data(&all, UINT64_MAX, span_str("x"));
	registries_end(&all);
	CHECK_EQ(all.count, 0);
	for (int i = 0; i < IMAGE_REGISTRIES_MAX + 10; i++) {
		(void)snprintf(line, sizeof(line), "http://h%d.example.com/\n", i);
		read_file("etc/pip.conf", line);
	}
	CHECK_EQ(all.count, IMAGE_REGISTRIES_MAX);
	CHECK(!all.list[IMAGE_REGISTRIES_MAX]);
	registries_begin(NULL, span_str("etc/pip.conf"), 4);
	registries_data(NULL, 0, span_str("x"));
	registries_end(NULL);
}

TEST_MAIN()
