#include "lib/registries.h"

#include "test.h"

#include "base/buf.h"

#include <string.h>

static struct strings hosts;

static void find(const char *const *env, const char *label)
{
	const char *const labels[] = { "berm.registries", label, NULL };
	const char *const files[] = { "f.example.com:81", "a.example.com", NULL };
	const struct image_meta meta = { .config.labels = labels, .registries = files };
	struct err e = { 0 };

	strings_init(&hosts, POLICY_SLOT_HOSTS_MAX);
	CHECK_OK(registries_find(&hosts, env, label ? &meta : NULL, &e), &e);
}

#define ENV(...) ((const char *const[]){ __VA_ARGS__, NULL })

TEST(variables)
{
	find(ENV("PATH=/bin", "PIP_INDEX_URL=https://me:secret@pip.example.com/simple/",
	         "PIP_EXTRA_INDEX_URL=https://a.example.com/x https://b.example.com:8443/y?z",
	         "npm_config_registry=https://npm.example.com",
	         "GOPROXY=https://go.example.com|https://go2.example.com,direct",
	         "GOSUMDB=sum.example.com+0123+abc https://sum2.example.com",
	         "CARGO_REGISTRIES_CRATES_IO_INDEX=sparse+https://cargo.example.com/index/",
	         "OTHER_URL=https://other.example.com", "MY_PIP_INDEX_URL=https://my.example.com"),
	     NULL);
	CHECK_EQ(hosts.count, 9);
	CHECK_STR(hosts.items[0], "pip.example.com");
	CHECK_STR(hosts.items[1], "a.example.com");
	CHECK_STR(hosts.items[2], "b.example.com:8443");
	CHECK_STR(hosts.items[3], "npm.example.com");
	CHECK_STR(hosts.items[4], "go.example.com");
	CHECK_STR(hosts.items[5], "go2.example.com");
	CHECK_STR(hosts.items[6], "sum.example.com");
	CHECK_STR(hosts.items[7], "sum2.example.com");
	CHECK_STR(hosts.items[8], "cargo.example.com");
	strings_fini(&hosts);
}

TEST(labels)
{
	find(ENV("PIP_INDEX_URL=https://a.example.com/"),
	     "a.example.com, https://b.example.com/x\nc.example.com:8080");
	CHECK_EQ(hosts.count, 4);
	CHECK_STR(hosts.items[2], "c.example.com:8080");
	CHECK_STR(hosts.items[3], "f.example.com:81");
	strings_fini(&hosts);
}

TEST(what_is_no_host)
{
	find(ENV("PIP_INDEX_URL=https://10.0.0.1/", "GOPROXY=off",
	         "NPM_CONFIG_REGISTRY=", "UV_INDEX_URL=https://[::1]:80/",
	         "YARN_REGISTRY=https://*.example.com/", "RUSTUP_DIST_SERVER=file:///var/x",
	         "GEM_HOST_URL=https://a..b/", "DEBIAN_MIRROR=https://metadata.google.internal/"),
	     NULL);
	CHECK_EQ(hosts.count, 0);
	strings_fini(&hosts);
	find(ENV("A=b"), "localhost **");
	CHECK_EQ(hosts.count, 2);
	CHECK_STR(hosts.items[0], "f.example.com:81");
	strings_fini(&hosts);
}

TEST(too_many)
{
	char text[64 * 1024];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	for (int i = 0; i < POLICY_SLOT_HOSTS_MAX + 10; i++)
		buf_printf(&b, "h%d.example.com ", i);
	find(ENV("A=b"), buf_cstr(&b));
	CHECK_EQ(hosts.count, POLICY_SLOT_HOSTS_MAX);
	strings_fini(&hosts);
}

TEST_MAIN()
