#include "engine/probe_parse.h"
#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <string.h>

static const char good[] = "berm-probe 1\n"
			   "boot 0f9d6a3e-8f3b-4d59-9a8e-7f1f3c1c2b11\n"
			   "kvm 10:232 6 123 8624\n"
			   "version 0.1.0\n"
			   "verdict slow 4012345\n";

TEST(a_record_is_read_and_written_alike)
{
	char text[PROBE_RECORD_MAX];
	struct probe_record got;
	struct buf b;

	CHECK_EQ(probe_parse_record(span_str(good), &got), 0);
	CHECK_STR(got.boot_id, "0f9d6a3e-8f3b-4d59-9a8e-7f1f3c1c2b11");
	CHECK_EQ(got.kvm_minor, 232);
	CHECK_EQ(got.inode, 123);
	CHECK_EQ(got.mode, 8624);
	CHECK_STR(got.version, "0.1.0");
	CHECK_EQ(got.kind, PROBE_SLOW);
	CHECK_EQ(got.insns_per_s, 4012345);
	buf_init(&b, text, sizeof(text));
	probe_put_record(&b, &got);
	CHECK_STR(buf_cstr(&b), good);
}

TEST(every_prefix_is_refused)
{
	struct probe_record got;

	for (size_t n = 0; n < sizeof(good) - 1; n++)
		CHECK_EQ(probe_parse_record(guard_span(good, n), &got), -EBADMSG);
}

TEST(every_changed_shape_is_refused)
{
	static const char *const bad[] = {
		"berm-probe 2\nboot 0f9d6a3e-8f3b-4d59-9a8e-7f1f3c1c2b11\nkvm 1:2 3 4 5\nversion x\n"
		"verdict slow 1\n",
		"berm-probe 1\nboot 0f9d6a3e-8f3b-4d59-9a8e-7f1f3c1c2b1/\nkvm 1:2 3 4 5\nversion x\n"
		"verdict slow 1\n",
		"berm-probe 1\nboot 0f9d6a3e-8f3b-4d59-9a8e-7f1f3c1c2b11\nkvm 1:2 3 4\nversion x\n"
		"verdict slow 1\n",
		"berm-probe 1\nboot 0f9d6a3e-8f3b-4d59-9a8e-7f1f3c1c2b11\nkvm 1:2 3 4 -5\nversion "
		"x\nverdict slow 1\n",
		"berm-probe 1\nboot 0f9d6a3e-8f3b-4d59-9a8e-7f1f3c1c2b11\nkvm 1:2 3 4 5\nversion x\n"
		"verdict broken 1\n",
		"berm-probe 1\nboot 0f9d6a3e-8f3b-4d59-9a8e-7f1f3c1c2b11\nkvm 1:2 3 4 5\nversion x\n"
		"verdict good 99999999999999999999\n",
		"berm-probe 1\nboot 0f9d6a3e-8f3b-4d59-9a8e-7f1f3c1c2b11\nkvm 1:2 3 4 5\nversion x\n"
		"verdict good 1\nmore\n",
	};
	struct probe_record got;
	struct probe_record before;

	memset(&got, 0xa5, sizeof(got));
	before = got;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (probe_parse_record(span_str(bad[i]), &got) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "took %zu", i);
	CHECK_EQ(memcmp(&got, &before, sizeof(got)), 0);
}

TEST(a_match_is_all_of_the_key)
{
	struct probe_record a;
	struct probe_record b;

	CHECK_EQ(probe_parse_record(span_str(good), &a), 0);
	b = a;
	b.kind = PROBE_GOOD;
	b.insns_per_s = 1;
	CHECK(probe_record_matches(&a, &b));
	b.boot_id[0] = '1';
	CHECK(!probe_record_matches(&a, &b));
	b = a;
	b.inode++;
	CHECK(!probe_record_matches(&a, &b));
	b = a;
	b.mode++;
	CHECK(!probe_record_matches(&a, &b));
	b = a;
	b.version[0] = '9';
	CHECK(!probe_record_matches(&a, &b));
}

TEST(qemu_version)
{
	static const char *const bad[] = { "",
		                           "QEMU emulator version ",
		                           "QEMU emulator version 7",
		                           "QEMU emulator version 7.",
		                           "QEMU emulator version x.2",
		                           "QEMU emulator version 7.2.x",
		                           "QEMU emulator version 1234567.2",
		                           "qemu emulator version 7.2.0",
		                           "GNU ld version 2.40" };
	struct probe_qemu got = { 0 };

	CHECK_EQ(probe_parse_qemu_version(
			 span_str("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nC"), &got),
	         0);
	CHECK_EQ(got.major, 7);
	CHECK_EQ(got.minor, 2);
	CHECK_EQ(got.micro, 22);
	CHECK_EQ(probe_parse_qemu_version(span_str("QEMU emulator version 10.0"), &got), 0);
	CHECK_EQ(got.major, 10);
	CHECK_EQ(got.micro, 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct span in = guard_span(bad[i], strlen(bad[i]));

		CHECK_EQ(probe_parse_qemu_version(in, &got), -EBADMSG);
	}
	CHECK_EQ(got.major, 10);
}

TEST_MAIN()
