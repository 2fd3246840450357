#include "test.h"

#include "vmm/cpuid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ALL UINT32_MAX

/* A processor with every bit set in every leaf there is, as nothing that exists. */
static void put(struct cpuid_set *s, uint32_t leaf, uint32_t index, uint32_t eax, uint32_t ebx,
                uint32_t ecx, uint32_t edx)
{
	struct kvm_cpuid_entry2 *e = &s->entries[s->count++];

	*e = (struct kvm_cpuid_entry2){ .function = leaf, .index = index, .eax = eax };
	e->ebx = ebx;
	e->ecx = ecx;
	e->edx = edx;
}

static void rich_host(struct cpuid_set *s)
{
	memset(s, 0, sizeof(*s));
	put(s, 0, 0, 0x24, 0x756e6547, 0x6c65746e, 0x49656e69); /* GenuineIntel */
	put(s, 1, 0, 0x000806f8, 0x12345678, ALL, ALL);
	put(s, 2, 0, ALL, ALL, ALL, ALL);
	put(s, 4, 0, 0x1c004121, 1, 2, 3);
	put(s, 4, 3, 0x1c03c163, 1, 2, 3);
	put(s, 5, 0, ALL, ALL, ALL, ALL);
	put(s, 6, 0, ALL, ALL, ALL, ALL);
	put(s, 7, 0, 2, ALL, ALL, ALL);
	put(s, 7, 1, ALL, ALL, ALL, ALL);
	put(s, 7, 2, ALL, ALL, ALL, ALL);
	put(s, 0xa, 0, ALL, ALL, ALL, ALL);
	put(s, 0xb, 0, 1, 2, 0x100, 77);
	put(s, 0xd, 0, 0x602e7, 11008, 11008, 0);
	put(s, 0xd, 1, 0x1f, 0x240, ALL, ALL);
	put(s, 0xd, 2, 256, 576, 0, 0);
	put(s, 0xd, 5, 64, 1088, 0, 0);
	put(s, 0xd, 9, 8, 2688, 0, 0);
	put(s, 0xd, 17, 64, 2752, 2, 0);
	put(s, 0xd, 18, 8192, 2816, 6, 0);
	put(s, 0x12, 0, ALL, ALL, ALL, ALL);
	put(s, 0x14, 0, ALL, ALL, ALL, ALL);
	put(s, 0x1d, 0, 1, 0, 0, 0);
	put(s, 0x1e, 0, 0, 0x4010, 0, 0);
	put(s, 0x40000000, 0, 0x40000001, 1, 2, 3);
	put(s, 0x40000001, 0, ALL, ALL, ALL, ALL);
	put(s, 0x80000000, 0, 0x80000028, 0, 0, 0);
	put(s, 0x80000001, 0, 0, 0, ALL, ALL);
	put(s, 0x80000002, 0, 1, 2, 3, 4);
	put(s, 0x80000007, 0, ALL, ALL, ALL, ALL);
	put(s, 0x80000008, 0, 0x3934, ALL, ALL, ALL);
	put(s, 0x8000000a, 0, ALL, ALL, ALL, ALL);
	put(s, 0x8000001d, 3, 0x163, 1, 2, 3);
	put(s, 0x8000001e, 0, ALL, ALL, ALL, ALL);
	put(s, 0x8000001f, 0, ALL, ALL, ALL, ALL);
	put(s, 0x80000021, 0, ALL, ALL, ALL, ALL);
	put(s, 0x80000022, 0, ALL, ALL, ALL, ALL);
	put(s, 0xc0000000, 0, ALL, ALL, ALL, ALL);
}

static void make(const struct cpuid_set *host, bool host_cpu, struct cpuid_set *ret)
{
	struct cpuid_shape shape = { .cpus = 4, .host_cpu = host_cpu, .tsc_deadline = true };
	struct err e = { 0 };

	CHECK_OK(cpuid_make(host, &shape, ret, &e), &e);
}

static struct kvm_cpuid_entry2 *own(struct cpuid_set *s, uint32_t leaf, uint32_t index)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (s->entries[i].function == leaf && s->entries[i].index == index)
			return &s->entries[i];
	test_fail(__FILE__, __LINE__, "no leaf 0x%x.%u", leaf, index);
}

static struct kvm_cpuid_entry2 get(const struct cpuid_set *s, uint32_t leaf, uint32_t index)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(s, leaf, index);

	CHECK(e != NULL);
	return *e;
}

TEST(the_baseline_has_no_more_than_it_says)
{
	static struct cpuid_set host;
	static struct cpuid_set got;

	rich_host(&host);
	make(&host, false, &got);
	/* x86-64-v3 and a few; no vmx (5), monitor (3), pdcm (15) */
	CHECK_EQ(get(&got, 1, 0).ecx, 0xf7fa3203);
	CHECK_EQ(get(&got, 1, 0).edx, 0x1f8bfbff); /* no ds, acpi, tm; htt */
	/* no sgx, avx512, pt */
	CHECK_EQ(get(&got, 7, 0).ebx, 0x219c07ab);
	CHECK_EQ(get(&got, 7, 0).ecx, 0x00400004); /* umip and rdpid */
	CHECK_EQ(get(&got, 7, 0).edx, 0xbc000410);
	CHECK_EQ(get(&got, 7, 0).eax, 2);
	CHECK(!cpuid_find(&got, 7, 1));
	CHECK_EQ(get(&got, 7, 2).edx, 0x3f);
	CHECK_EQ(get(&got, 6, 0).eax, 4);
	CHECK_EQ(get(&got, 6, 0).ecx, 0);
	CHECK_EQ(get(&got, 0x40000001, 0).eax, 0x01000848 | 2);
	CHECK_EQ(get(&got, 0x40000001, 0).edx, 0);
	CHECK_EQ(get(&got, 0x80000001, 0).ecx & 4, 0); /* svm */
	CHECK_EQ(get(&got, 0x80000007, 0).edx, 0x100);
	CHECK_EQ(get(&got, 0, 0).eax, 0xd);
	CHECK_EQ(get(&got, 0x80000000, 0).eax, 0x80000021);
}

TEST(whole_leaves_are_left_out)
{
	static const uint32_t hidden[] = { 2,          5,          0xa,        0x12,
		                           0x14,       0x1d,       0x1e,       0x1f,
		                           0x8000000a, 0x8000001f, 0x80000022, 0xc0000000 };
	static struct cpuid_set host;
	static struct cpuid_set got;

	rich_host(&host);
	make(&host, false, &got);
	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
		CHECK(!cpuid_find(&got, hidden[i], 0));
}

TEST(register_state_follows_the_features)
{
	static struct cpuid_set host;
	static struct cpuid_set got;

	rich_host(&host);
	make(&host, false, &got);
	CHECK_EQ(get(&got, 0xd, 0).eax, 7);
	CHECK_EQ(get(&got, 0xd, 0).ecx, 832); /* up to the end of AVX */
	CHECK_EQ(get(&got, 0xd, 1).eax, 0xf);
	CHECK_EQ(get(&got, 0xd, 1).ecx, 0);
	CHECK(cpuid_find(&got, 0xd, 2));
	CHECK(!cpuid_find(&got, 0xd, 5));
	CHECK(!cpuid_find(&got, 0xd, 18));
	make(&host, true, &got);
	CHECK_EQ(get(&got, 0xd, 0).eax, 0x602e7);
	CHECK_EQ(get(&got, 0xd, 0).ecx, 11008);
	CHECK(cpuid_find(&got, 0xd, 18));
}

TEST(without_xsave_there_is_no_avx)
{
	static struct cpuid_set host;
	static struct cpuid_set got;

	rich_host(&host);
	own(&host, 1, 0)->ecx &= ~(1U << 26);
	make(&host, false, &got);
	CHECK(!cpuid_find(&got, 0xd, 0));
	CHECK(!cpuid_find(&got, 0xd, 2));
	CHECK_EQ(get(&got, 1, 0).ecx & (1U << 12 | 1U << 28 | 1U << 29), 0);
	CHECK_EQ(get(&got, 7, 0).ebx & 1U << 5, 0);
}

TEST(host_cpu_gives_all_but_what_never_can_be)
{
	static struct cpuid_set host;
	static struct cpuid_set got;

	rich_host(&host);
	make(&host, true, &got);
	CHECK(get(&got, 7, 0).ebx & 1U << 16); /* avx512f */
	CHECK(get(&got, 7, 0).edx & 1U << 24); /* amx-tile */
	CHECK(cpuid_find(&got, 7, 1));
	CHECK(cpuid_find(&got, 0x1d, 0));
	CHECK(cpuid_find(&got, 0x1f, 0));
	CHECK_EQ(get(&got, 1, 0).ecx & (1U << 5 | 1U << 3 | 1U << 15), 0);
	CHECK_EQ(get(&got, 7, 0).ebx & (1U << 2 | 1U << 25), 0);
	CHECK_EQ(get(&got, 7, 0).ecx & 1U << 7, 0);
	CHECK_EQ(get(&got, 0x80000001, 0).ecx & 4, 0);
	CHECK_EQ(get(&got, 0x40000001, 0).eax, 0x01000848 | 2);
	CHECK(!cpuid_find(&got, 0xa, 0));
	CHECK(!cpuid_find(&got, 0x12, 0));
	CHECK(!cpuid_find(&got, 0x8000001f, 0));
	CHECK_EQ(get(&got, 0, 0).eax, 0x1f);
}

TEST(what_a_kernel_needs_is_asked_for)
{
	static const struct {
		uint32_t leaf;
		uint32_t edx;
		const char *name;
	} lost[] = {
		{ 1, 1U << 9, "KVM here offers no apic, which the guest kernel needs" },
		{ 1, 1U << 26, "KVM here offers no sse2, which the guest kernel needs" },
		{ 0x80000001, 1U << 29,
		  "KVM here offers no long-mode, which the guest kernel needs" },
	};
	static struct cpuid_set host;
	static struct cpuid_set got;
	struct cpuid_shape shape = { .cpus = 1, .tsc_deadline = true };

	for (size_t i = 0; i < sizeof(lost) / sizeof(lost[0]); i++) {
		struct err e = { 0 };

		rich_host(&host);
		own(&host, lost[i].leaf, 0)->edx &= ~lost[i].edx;
		got.count = 77;
		CHECK_EQ(cpuid_make(&host, &shape, &got, &e), -ENOTSUP);
		CHECK_STR(e.text, lost[i].name);
		CHECK_EQ(got.count, 77);
	}
}

TEST(a_host_of_nothing_is_refused)
{
	static struct cpuid_set host;
	static struct cpuid_set got;
	struct cpuid_shape shape = { .cpus = 1 };
	struct err e = { 0 };

	memset(&host, 0, sizeof(host));
	CHECK_EQ(cpuid_make(&host, &shape, &got, &e), -ENOTSUP);
	host.count = CPUID_ENTRIES_MAX;
	CHECK_EQ(cpuid_make(&host, &shape, &got, &e), -ENOTSUP);
}

TEST(each_cpu_has_its_numbers)
{
	static struct cpuid_set host;
	static struct cpuid_set all;

	rich_host(&host);
	for (uint32_t cpus = 1; cpus <= 32; cpus = cpus * 2 + 1) {
		uint32_t shift = cpus == 1 ? 0 : cpus <= 4 ? 2 : cpus <= 8 ? 3 : cpus <= 16 ? 4 : 5;

		for (uint32_t i = 0; i < cpus; i++) {
			make(&host, true, &all);
			cpuid_set_cpu(&all, i, cpus);
			CHECK_EQ(get(&all, 1, 0).ebx >> 24, i);
			CHECK_EQ(get(&all, 1, 0).ebx >> 16 & 0xff, cpus);
			CHECK_EQ(get(&all, 1, 0).ebx & 0xff00, 0x5600);
			CHECK_EQ(get(&all, 1, 0).edx >> 28 & 1, cpus > 1);
			CHECK_EQ(get(&all, 0xb, 0).edx, i);
			CHECK_EQ(get(&all, 0xb, 0).eax, 0);
			CHECK_EQ(get(&all, 0xb, 0).ebx, 1);
			CHECK_EQ(get(&all, 0xb, 0).ecx, 0x100);
			CHECK_EQ(get(&all, 0xb, 1).eax, shift);
			CHECK_EQ(get(&all, 0xb, 1).ebx, cpus);
			CHECK_EQ(get(&all, 0xb, 1).ecx, 0x201);
			CHECK_EQ(get(&all, 0xb, 2).ebx, 0);
			CHECK_EQ(get(&all, 0xb, 2).ecx, 2);
			CHECK_EQ(get(&all, 0x1f, 1).edx, i);
			CHECK_EQ(get(&all, 4, 0).eax >> 14 & 0xfff, 0);
			CHECK_EQ(get(&all, 4, 3).eax >> 14 & 0xfff, (1U << shift) - 1);
			CHECK_EQ(get(&all, 4, 3).eax >> 26, (1U << shift) - 1);
			CHECK_EQ(get(&all, 0x8000001d, 3).eax >> 14 & 0xfff, (1U << shift) - 1);
			CHECK_EQ(get(&all, 0x8000001e, 0).eax, i);
			CHECK_EQ(get(&all, 0x8000001e, 0).ebx, i);
			CHECK_EQ(get(&all, 0x80000008, 0).ecx, shift << 12 | (cpus - 1));
		}
	}
}

TEST(who_we_are)
{
	static struct cpuid_set host;
	static struct cpuid_set got;
	char vendor[CPUID_VENDOR_BYTES + 1];

	rich_host(&host);
	make(&host, false, &got);
	cpuid_vendor(&got, vendor);
	CHECK_STR(vendor, "GenuineIntel");
	CHECK_EQ(cpuid_address_bits(&got), 0x34);
	CHECK_EQ(get(&got, 0x40000000, 0).eax, 0x40000001);
	CHECK_EQ(get(&got, 0x40000000, 0).ebx, 0x4b4d564b);
	CHECK_EQ(get(&got, 0x40000000, 0).edx, 0x4d);
	got.count = 0;
	cpuid_vendor(&got, vendor);
	CHECK_STR(vendor, "");
	CHECK_EQ(cpuid_address_bits(&got), 36);
}

/* Saved by a machine with all the baseline; loaded where something is missing. */
static int fits(uint32_t leaf, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx,
                uint32_t edx, struct err *e)
{
	static struct cpuid_set host;
	static struct cpuid_set saved;
	static struct cpuid_set ours;
	struct kvm_cpuid_entry2 *lose;

	rich_host(&host);
	make(&host, false, &saved);
	lose = own(&host, leaf, index);
	lose->eax &= ~eax;
	lose->ebx &= ~ebx;
	lose->ecx &= ~ecx;
	lose->edx &= ~edx;
	make(&host, false, &ours);
	return cpuid_fits(&saved, &ours, e);
}

TEST(a_missing_feature_is_named)
{
	struct err e = { 0 };

	CHECK_OK(fits(1, 0, 0, 0, 0, 0, &e), &e);
	CHECK_EQ(fits(7, 0, 0, 1U << 5, 0, 0, &e), -EXDEV);
	CHECK_STR(e.text, "this machine's processor has no avx2");
	CHECK_EQ(fits(7, 0, 0, 0, 0, 1U << 31, &e), -EXDEV);
	CHECK_STR(e.text, "this machine's processor has no ssbd");
	CHECK_EQ(fits(1, 0, 0, 0, 1U << 26, 0, &e), -EXDEV);
	CHECK_EQ(fits(0x80000001, 0, 0, 0, 1U << 5, 0, &e), -EXDEV);
	CHECK_STR(e.text, "this machine's processor has no lzcnt");
	CHECK_EQ(fits(0x40000001, 0, 1U << 6, 0, 0, 0, &e), -EXDEV);
	CHECK_EQ(fits(0x80000008, 0, 0x10, 0, 0, 0, &e), -EXDEV);
	CHECK_STR(e.text, "this machine's processor has shorter addresses");
	CHECK_EQ(fits(0, 0, 0, 1, 0, 0, &e), -EXDEV);
	CHECK_STR(e.text, "it was saved on a processor of another make");
	CHECK_EQ(fits(0xd, 2, 0, 64, 0, 0, &e), -EXDEV);
	CHECK_STR(e.text, "this machine's processor lays out register state 2 differently");
	/* what the baseline leaves out may be missing */
	CHECK_OK(fits(7, 0, 0, 1U << 16, 0, 0, &e), &e);
	CHECK_OK(fits(1, 0, 0xfff, 0, 0, 0, &e), &e); /* another model */
}

TEST(more_than_we_ever_give_is_refused)
{
	static struct cpuid_set host;
	static struct cpuid_set ours;
	static struct cpuid_set saved;
	struct err e = { 0 };

	rich_host(&host);
	make(&host, false, &ours);
	saved = ours;
	own(&saved, 1, 0)->ecx |= 1U << 5;
	CHECK_EQ(cpuid_fits(&saved, &ours, &e), -EXDEV);
	CHECK_STR(e.text, "this machine's processor lacks bit 5 of ecx in CPUID 0x1.0");
	saved = ours;
	own(&saved, 7, 0)->ebx |= 1U << 16;
	CHECK_EQ(cpuid_fits(&saved, &ours, &e), -EXDEV);
	CHECK_STR(e.text, "this machine's processor has no avx512f");
	saved = ours;
	own(&saved, 0xd, 1)->ecx |= 1U << 11;
	CHECK_EQ(cpuid_fits(&saved, &ours, &e), -EXDEV);
	saved = ours;
	put(&saved, 0x8000000a, 0, 1, 1, 1, 1);
	CHECK_EQ(cpuid_fits(&saved, &ours, &e), -EBADMSG);
	saved = ours;
	put(&saved, 0x40000100, 0, 1, 1, 1, 1);
	CHECK_EQ(cpuid_fits(&saved, &ours, &e), -EBADMSG);
	saved = ours;
	own(&saved, 0x40000000, 0)->ebx = 0x7263694d; /* "Micr" */
	CHECK_EQ(cpuid_fits(&saved, &ours, &e), -EBADMSG);
	saved = ours;
	put(&saved, 1, 0, 0, 0, 0, 0);
	CHECK_EQ(cpuid_fits(&saved, &ours, &e), -EBADMSG);
	saved = ours;
	own(&saved, 1, 0)->flags = 2;
	CHECK_EQ(cpuid_fits(&saved, &ours, &e), -EBADMSG);
	saved = ours;
	saved.count = CPUID_ENTRIES_MAX + 1;
	CHECK_EQ(cpuid_fits(&saved, &ours, &e), -EBADMSG);
	saved.count = 0;
	CHECK_EQ(cpuid_fits(&saved, &ours, &e), -EBADMSG);
	/* a feature leaf we do not have at all */
	saved = ours;
	put(&saved, 7, 1, 1U << 4, 0, 0, 0);
	CHECK_EQ(cpuid_fits(&saved, &ours, &e), -EXDEV);
	CHECK_STR(e.text, "this machine's processor has no avx-vnni");
}

TEST_MAIN()
