/* What doctor says of installations that lack one thing or another. */
#include "base/fdio.h"
#include "lib/doctor.h"
#include "test.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void put(const char *dir, const char *name, const char *text, mode_t mode)
{
	struct err e = { 0 };
	_own_fd_ int dir_fd = -1;

	CHECK_OK(fd_make_dirs(dir, &dir_fd, &e), &e);
	CHECK_OK(fd_replace_file(dir_fd, name, text, strlen(text), mode, &e), &e);
}

static void make_paths(struct paths *p)
{
	memset(p, 0, sizeof(*p));
	(void)snprintf(p->share, sizeof(p->share), "%s/share", test_tmpdir());
	(void)snprintf(p->libexec, sizeof(p->libexec), "%s/libexec", test_tmpdir());
	(void)snprintf(p->state, sizeof(p->state), "%s/state", test_tmpdir());
}

static struct doctor_report examine(const struct paths *p)
{
	static struct doctor_report r;
	struct err e = { 0 };

	CHECK_OK(doctor_examine(p, &r, &e), &e);
	return r;
}

static const struct doctor_finding *find(const struct doctor_report *r, const char *id)
{
	const struct doctor_finding *got = NULL;

	for (unsigned i = 0; i < r->count; i++)
		if (strcmp(r->findings[i].id, id) == 0) {
			CHECK(!got); /* each id once */
			got = &r->findings[i];
		}
	if (!got)
		test_fail(__FILE__, __LINE__, "no finding '%s'", id);
	return got;
}

TEST(an_empty_installation_fails_with_remedies)
{
	static const char *const failing[] = { "kernel", "agent", "programs" };
	static struct paths p;
	struct doctor_report r;

	make_paths(&p);
	r = examine(&p);
	CHECK(!r.can_run);
	CHECK_EQ(find(&r, "network")->severity, DOCTOR_WARN); /* others run without */
	CHECK(strstr(find(&r, "network")->text, "berm-vault"));
	for (size_t i = 0; i < sizeof(failing) / sizeof(failing[0]); i++) {
		const struct doctor_finding *f = find(&r, failing[i]);

		CHECK_EQ(f->severity, DOCTOR_FAIL);
		CHECK(*f->text);
		CHECK(*f->remedy);
	}
	CHECK_EQ(find(&r, "image")->severity, DOCTOR_WARN);
	CHECK_EQ(find(&r, "state")->severity, DOCTOR_OK);
}

TEST(files_that_are_something_else_fail)
{
	static struct paths p;
	struct doctor_report r;

	make_paths(&p);
	put(p.share, "vmlinux", "#!/bin/sh\n", 0644);
	put(p.share, "initramfs.cpio", "not a cpio", 0644);
	r = examine(&p);
	CHECK(strstr(find(&r, "kernel")->text, "ELF"));
	CHECK_EQ(find(&r, "agent")->severity, DOCTOR_FAIL);
}

TEST(what_is_there_is_ok)
{
	static const char *const names[] = { "berm-supervisor", "berm-template", "berm-qemu",
		                             "berm-unpack", "berm-qemu-ram.so" };
	static struct paths p;
	char dir[PATH_MAX + 32];
	struct doctor_report r;

	make_paths(&p);
	put(p.share, "initramfs.cpio", "070701000000", 0644);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		put(p.libexec, names[i], "", 0755);
	(void)snprintf(dir, sizeof(dir), "%s/images/names", p.state);
	put(dir, "default", "id", 0600);
	r = examine(&p);
	CHECK_EQ(find(&r, "agent")->severity, DOCTOR_OK);
	CHECK_EQ(find(&r, "programs")->severity, DOCTOR_OK);
	CHECK_EQ(find(&r, "image")->severity, DOCTOR_OK);
	CHECK_EQ(find(&r, "kernel")->severity, DOCTOR_FAIL);
}

TEST(sessions_need_a_program_and_lists)
{
	static const char *const lists[] = { "secret.ignore", "cost.ignore" };
	static struct paths p;
	char dir[PATH_MAX + 32];
	struct doctor_report r;

	make_paths(&p);
	r = examine(&p);
	CHECK_EQ(find(&r, "sessions")->severity, DOCTOR_WARN);
	CHECK(strstr(find(&r, "sessions")->text, "berm-diff"));
	put(p.libexec, "berm-diff", "", 0755);
	r = examine(&p);
	CHECK(strstr(find(&r, "sessions")->text, "secret.ignore"));
	(void)snprintf(dir, sizeof(dir), "%s/exclude", p.share);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		put(dir, lists[i], "", 0644);
	put(p.share, "classes.list", "", 0644);
	(void)snprintf(dir, sizeof(dir), "%s/agents", p.share);
	put(dir, "custom.yaml", "", 0644);
	r = examine(&p);
	CHECK_EQ(find(&r, "sessions")->severity, DOCTOR_OK);
}

TEST(a_state_directory_that_is_a_file_fails)
{
	static struct paths p;
	struct doctor_report r;

	make_paths(&p);
	put(test_tmpdir(), "state", "", 0600);
	r = examine(&p);
	CHECK_EQ(find(&r, "state")->severity, DOCTOR_FAIL);
	CHECK(strstr(find(&r, "state")->remedy, "BERM_STATE_DIR"));
	(void)find(&r, "kvm"); /* is probed all the same */
}

TEST(json_says_the_same)
{
	static char text[DOCTOR_JSON_MAX];
	static struct paths p;
	struct doctor_report r;
	json_error_t why;
	json_t *o;
	struct buf b;

	make_paths(&p);
	r = examine(&p);
	(void)snprintf(r.findings[0].text, sizeof(r.findings[0].text), "\"\\\n\x1b[31m");
	buf_init(&b, text, sizeof(text));
	doctor_put_json(&b, &r);
	CHECK(buf_ok(&b));
	o = json_loads(buf_cstr(&b), 0, &why);
	CHECK(o);
	CHECK(json_is_false(json_object_get(o, "ok")));
	CHECK_EQ(json_array_size(json_object_get(o, "findings")), r.count);
	for (unsigned i = 0; i < r.count; i++) {
		const json_t *f = json_array_get(json_object_get(o, "findings"), i);

		CHECK_STR(json_string_value(json_object_get(f, "id")), r.findings[i].id);
		CHECK_STR(json_string_value(json_object_get(f, "text")), r.findings[i].text);
		CHECK_STR(json_string_value(json_object_get(f, "remedy")), r.findings[i].remedy);
		CHECK_STR(json_string_value(json_object_get(f, "severity")),
		          doctor_severity_name(r.findings[i].severity));
	}
	json_decref(o);
}

TEST_MAIN()
