/* A processor's state in bytes, and in a KVM that a table plays. */
#include "test.h"

#include "vmm/cpu_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CPUS = 2, MSRS = 8, CALLS = 64, ROOM = 65536 };

/* KVM as the test wants it. A CPU's fd is its index. */
struct fake {
	uint32_t khz;
	bool scaling, offsets;
	uint32_t xsave_bytes;
	uint32_t listed[MSRS];
	uint32_t listed_count;
	struct kvm_msr_entry msrs[CPUS][MSRS]; /* what the CPUs have; others cannot be read */
	uint32_t msr_count;
	uint32_t stubborn; /* an MSR that takes no value */
	uint64_t host_tsc;
	uint64_t offset[CPUS];
	unsigned long fails; /* a request that is refused */
	unsigned long calls[CALLS];
	int call_fds[CALLS];
	unsigned call_count;
	unsigned long set_khz;
};

static struct kvm_msr_entry *find(struct fake *f, int fd, uint32_t index)
{
	for (uint32_t i = 0; i < f->msr_count; i++)
		if (f->msrs[fd][i].index == index)
			return &f->msrs[fd][i];
	return NULL;
}

static int get_msrs(struct fake *f, int fd, struct kvm_msrs *all)
{
	for (uint32_t i = 0; i < all->nmsrs; i++) {
		const struct kvm_msr_entry *m = find(f, fd, all->entries[i].index);

		if (!m)
			return (int)i;
		all->entries[i].data = m->data;
	}
	return (int)all->nmsrs;
}

static int set_msrs(struct fake *f, int fd, const struct kvm_msrs *all)
{
	for (uint32_t i = 0; i < all->nmsrs; i++) {
		struct kvm_msr_entry *m = find(f, fd, all->entries[i].index);

		if (!m || m->index == f->stubborn)
			return (int)i;
		m->data = all->entries[i].data;
		if (m->index == CPU_MSR_TSC)
			f->offset[fd] = m->data - f->host_tsc;
	}
	return (int)all->nmsrs;
}

static int list(struct fake *f, struct kvm_msr_list *ret)
{
	if (ret->nmsrs < f->listed_count)
		return -E2BIG;
	ret->nmsrs = f->listed_count;
	memcpy(ret->indices, f->listed, f->listed_count * sizeof(f->listed[0]));
	return 0;
}

static int cap(const struct fake *f, unsigned long cap)
{
	switch (cap) {
	case KVM_CAP_XSAVE2:
		return (int)f->xsave_bytes;
	case KVM_CAP_VCPU_ATTRIBUTES:
		return f->offsets;
	case KVM_CAP_TSC_CONTROL:
		return f->scaling;
	default:
		return 0;
	}
}

static uint64_t *attr_at(void *data)
{
	const struct kvm_device_attr *a = data;

	return (uint64_t *)(uintptr_t)a->addr;
}

static int answer(void *arg, int fd, unsigned long request, void *data)
{
	struct fake *f = arg;

	if (f->call_count < CALLS) {
		f->call_fds[f->call_count] = fd;
		f->calls[f->call_count++] = request;
	}
	if (request == f->fails)
		return -EINVAL;
	switch (request) {
	case KVM_CHECK_EXTENSION:
		return cap(f, (unsigned long)data);
	case KVM_GET_MSR_INDEX_LIST:
		return list(f, data);
	case KVM_GET_MSRS:
		return get_msrs(f, fd, data);
	case KVM_SET_MSRS:
		return set_msrs(f, fd, data);
	case KVM_GET_TSC_KHZ:
		return (int)f->khz;
	case KVM_SET_TSC_KHZ:
		f->set_khz = (unsigned long)data;
		return 0;
	case KVM_GET_DEVICE_ATTR:
		*attr_at(data) = f->offset[fd];
		return 0;
	case KVM_SET_DEVICE_ATTR:
		f->offset[fd] = *attr_at(data);
		return 0;
	default:
		return 0;
	}
}

static struct fake good(void)
{
	struct fake f = {
		.khz = 2000000,
		.offsets = true,
		.xsave_bytes = 4096,
		.listed = { CPU_MSR_TSC, 0x174, 0x8b, CPU_MSR_TSC_DEADLINE, 0x999 },
		.listed_count = 5,
		.msr_count = 4,
		.host_tsc = 1000,
		.offset = { 500, 530 },
	};

	for (int i = 0; i < CPUS; i++) {
		f.msrs[i][0] = (struct kvm_msr_entry){ .index = CPU_MSR_TSC, .data = 7000 };
		f.msrs[i][1] = (struct kvm_msr_entry){ .index = 0x174, .data = 0x10 };
		f.msrs[i][2] = (struct kvm_msr_entry){ .index = CPU_MSR_TSC_DEADLINE };
		f.msrs[i][3] = (struct kvm_msr_entry){ .index = 0x2ff, .data = 6 };
	}
	return f;
}

static void host_of(struct fake *f, struct kvm_ops *ops, struct cpu_host *h)
{
	struct err e = { 0 };

	*ops = (struct kvm_ops){ answer, f };
	CHECK_OK(cpu_host_init(ops, 0, 0, h, &e), &e);
	f->call_count = 0;
}

static int called(const struct fake *f, unsigned long request)
{
	for (unsigned i = 0; i < f->call_count; i++)
		if (f->calls[i] == request)
			return (int)i;
	return -1;
}

static int called_last(const struct fake *f)
{
	return (int)f->call_count - 1;
}

TEST(what_is_skipped_has_a_reason)
{
	static const uint32_t skipped[] = { 0x8b,       0x9e,       0x186,      0x480,      0x491,
		                            0x40000000, 0x4b564d00, 0x4b564d03, 0xc0010117, 0x12 };
	static const uint32_t kept[] = { 0x10,       0x3b,       0x174,      0x277,
		                         0x6e0,      0x48,       0x49,       0x1a0,
		                         0xda0,      0x10a,      0x122,      0xc0000081,
		                         0xc0000102, 0xc0000103, 0x4b564d01, 0x4b564d04 };

	for (size_t i = 0; i < sizeof(skipped) / sizeof(skipped[0]); i++)
		CHECK(cpu_msr_skipped(skipped[i]) != NULL);
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		CHECK(cpu_msr_skipped(kept[i]) == NULL);
}

TEST(the_list_of_msrs_is_bounded)
{
	struct fake f = good();
	struct kvm_ops ops = { answer, &f };
	struct err e = { 0 };
	static struct cpu_host h;

	CHECK_OK(cpu_host_init(&ops, 0, 0, &h, &e), &e);
	CHECK(h.msr_count > 4); /* MTRRs, which KVM does not list */
	for (uint32_t i = 0; i < h.msr_count; i++)
		CHECK(h.msrs[i] != 0x8b);
	f.fails = KVM_GET_MSR_INDEX_LIST;
	CHECK_EQ(cpu_host_init(&ops, 0, 0, &h, &e), -EINVAL);
	f = good();
	f.xsave_bytes = CPU_XSAVE_MAX + 1;
	CHECK_EQ(cpu_host_init(&ops, 0, 0, &h, &e), -ENOTSUP);
}

TEST(reading_keeps_the_order)
{
	struct fake f = good();
	struct kvm_ops ops;
	struct err e = { 0 };
	static struct cpu_host h;
	static struct cpu_state s;

	host_of(&f, &ops, &h);
	CHECK_OK(cpu_state_read(&h, 1, &s, &e), &e);
	CHECK_EQ(called(&f, KVM_GET_MP_STATE), 0);
	CHECK_EQ(called(&f, KVM_GET_VCPU_EVENTS), called_last(&f));
	CHECK(called(&f, KVM_GET_LAPIC) < called(&f, KVM_GET_MSRS));
	/* 0x999 cannot be read and is left out; what follows it is there */
	CHECK_EQ(s.msr_count, 4);
	CHECK_EQ(s.msrs[3].index, 0x2ff);
	CHECK_EQ(s.msrs[3].data, 6);
	CHECK_EQ(s.tsc_offset, 530);
	CHECK_EQ(s.tsc_khz, 2000000);
}

static void read_both(struct fake *f, struct kvm_ops *ops, struct cpu_host *h, struct cpu_state *s)
{
	struct err e = { 0 };

	host_of(f, ops, h);
	for (int i = 0; i < CPUS; i++)
		CHECK_OK(cpu_state_read(h, i, &s[i], &e), &e);
	f->call_count = 0;
}

TEST(writing_keeps_the_order)
{
	static const unsigned long want[] = { KVM_GET_TSC_KHZ,   KVM_SET_MP_STATE, KVM_SET_REGS,
		                              KVM_SET_SREGS,     KVM_SET_XSAVE,    KVM_SET_XCRS,
		                              KVM_SET_DEBUGREGS, KVM_SET_LAPIC,    KVM_SET_MSRS };
	struct fake f = good();
	struct kvm_ops ops;
	struct err e = { 0 };
	static struct cpu_host h;
	static struct cpu_state s[CPUS];

	read_both(&f, &ops, &h, s);
	CHECK_OK(cpu_state_write(&h, 0, &s[0], 0, &s[0], &e), &e);
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		CHECK_EQ(f.calls[i], want[i]);
	CHECK_EQ(called(&f, KVM_SET_VCPU_EVENTS), called_last(&f));
}

/* Elsewhere, later: the guest's counters go on at 7000, and keep their distance of 30. */
TEST(counters_go_on_and_stay_apart)
{
	struct fake f = good();
	struct kvm_ops ops;
	struct err e = { 0 };
	static struct cpu_host h;
	static struct cpu_state s[CPUS];

	read_both(&f, &ops, &h, s);
	f.host_tsc = 90000;
	for (int i = 0; i < CPUS; i++)
		CHECK_OK(cpu_state_write(&h, i, &s[i], 0, &s[0], &e), &e);
	CHECK_EQ(f.offset[0], (uint64_t)7000 - 90000);
	CHECK_EQ(f.offset[1], (uint64_t)7030 - 90000);
}

static uint64_t value(struct fake *f, int fd, uint32_t index)
{
	const struct kvm_msr_entry *m = find(f, fd, index);

	CHECK(m != NULL);
	return m->data;
}

TEST(a_deadline_of_zero_is_now)
{
	struct fake f = good();
	struct kvm_ops ops;
	struct err e = { 0 };
	static struct cpu_host h;
	static struct cpu_state s[CPUS];

	read_both(&f, &ops, &h, s);
	CHECK_OK(cpu_state_write(&h, 0, &s[0], 0, &s[0], &e), &e);
	CHECK_EQ(value(&f, 0, CPU_MSR_TSC_DEADLINE), 7000);
	s[0].msrs[2].data = 12345;
	CHECK_EQ(s[0].msrs[2].index, CPU_MSR_TSC_DEADLINE);
	CHECK_OK(cpu_state_write(&h, 0, &s[0], 0, &s[0], &e), &e);
	CHECK_EQ(value(&f, 0, CPU_MSR_TSC_DEADLINE), 12345);
}

TEST(another_frequency_is_scaled_or_refused)
{
	struct fake f = good();
	struct kvm_ops ops;
	struct err e = { 0 };
	static struct cpu_host h;

	host_of(&f, &ops, &h);
	/* 250 ppm of 2 GHz are 500 kHz */
	CHECK_OK(cpu_state_fit_tsc(&h, 0, 2000500, &e), &e);
	CHECK_OK(cpu_state_fit_tsc(&h, 0, 1999500, &e), &e);
	CHECK_EQ(cpu_state_fit_tsc(&h, 0, 2000501, &e), -EXDEV);
	CHECK_STR(e.text, "its TSC ran at 2000501 kHz; this machine's runs at 2000000 and cannot "
	                  "be scaled");
	CHECK_EQ(cpu_state_fit_tsc(&h, 0, 1999499, &e), -EXDEV);
	CHECK_EQ(called(&f, KVM_SET_TSC_KHZ), -1);
	f.scaling = true;
	host_of(&f, &ops, &h);
	CHECK_OK(cpu_state_fit_tsc(&h, 0, 2000500, &e), &e);
	CHECK_EQ(f.set_khz, 0);
	CHECK_OK(cpu_state_fit_tsc(&h, 0, 3000000, &e), &e);
	CHECK_EQ(f.set_khz, 3000000);
	f.fails = KVM_SET_TSC_KHZ;
	CHECK_EQ(cpu_state_fit_tsc(&h, 0, UINT32_MAX, &e), -EXDEV);
	f.khz = 0;
	CHECK_EQ(cpu_state_fit_tsc(&h, 0, 2000000, &e), -ENOTSUP);
}

TEST(an_msr_that_takes_no_value_must_have_it)
{
	struct fake f = good();
	struct kvm_ops ops;
	struct err e = { 0 };
	static struct cpu_host h;
	static struct cpu_state s[CPUS];

	read_both(&f, &ops, &h, s);
	f.stubborn = 0x174;
	CHECK_OK(cpu_state_write(&h, 0, &s[0], 0, &s[0], &e), &e);
	CHECK_EQ(s[0].msrs[1].index, 0x174);
	s[0].msrs[1].data = 0x20;
	CHECK_EQ(cpu_state_write(&h, 0, &s[0], 0, &s[0], &e), -EXDEV);
	CHECK_STR(e.text, "MSR 0x174 cannot be 0x20 here");
}

TEST(msrs_come_from_the_list_only)
{
	struct fake f = good();
	struct kvm_ops ops;
	struct err e = { 0 };
	static struct cpu_host h;
	static struct cpu_state s[CPUS];

	read_both(&f, &ops, &h, s);
	s[0].msrs[1].index = 0x48f;
	CHECK_EQ(cpu_state_write(&h, 0, &s[0], 0, &s[0], &e), -EBADMSG);
	s[0].msrs[1].index = 0x4242;
	CHECK_EQ(cpu_state_write(&h, 0, &s[0], 0, &s[0], &e), -EXDEV);
	CHECK_STR(e.text, "KVM here does not know MSR 0x4242");
}

TEST(a_hole_the_guest_does_not_know_of)
{
	struct fake f = good();
	struct kvm_ops ops;
	struct err e = { 0 };
	static struct cpu_host h;
	static struct cpu_state s[CPUS];

	f.listed[1] = CPU_MSR_ARCH_CAPABILITIES;
	for (int i = 0; i < CPUS; i++)
		f.msrs[i][1] =
			(struct kvm_msr_entry){ .index = CPU_MSR_ARCH_CAPABILITIES, .data = 0x21 };
	read_both(&f, &ops, &h, s);
	CHECK_OK(cpu_state_write(&h, 0, &s[0], 0, &s[0], &e), &e);
	f.msrs[0][1].data = 1; /* MDS_NO is gone */
	CHECK_EQ(cpu_state_write(&h, 0, &s[0], 0, &s[0], &e), -EXDEV);
	CHECK_STR(e.text, "this machine's processor has a hole the guest does not know of "
	                  "(IA32_ARCH_CAPABILITIES bit 5)");
}

TEST(every_refusal_is_told)
{
	static const unsigned long requests[] = {
		KVM_SET_MP_STATE,    KVM_SET_REGS,      KVM_SET_SREGS, KVM_SET_XSAVE,
		KVM_SET_XCRS,        KVM_SET_DEBUGREGS, KVM_SET_LAPIC, KVM_SET_MSRS,
		KVM_SET_VCPU_EVENTS, KVM_GET_TSC_KHZ,
	};
	static struct cpu_host h;
	static struct cpu_state s[CPUS];

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		struct fake f = good();
		struct kvm_ops ops;
		struct err e = { 0 };

		read_both(&f, &ops, &h, s);
		f.fails = requests[i];
		CHECK_EQ(cpu_state_write(&h, 0, &s[0], 0, &s[0], &e), -EINVAL);
		CHECK(strstr(e.text, "KVM_") != NULL);
	}
}

TEST(larger_register_state_is_refused)
{
	struct fake f = good();
	struct kvm_ops ops;
	struct err e = { 0 };
	static struct cpu_host h;
	static struct cpu_state s[CPUS];

	read_both(&f, &ops, &h, s);
	s[0].xsave_bytes = 11008;
	CHECK_EQ(cpu_state_write(&h, 0, &s[0], 0, &s[0], &e), -EXDEV);
}

/* --- bytes --- */

static void sample(struct cpu_state *s)
{
	memset(s, 0, sizeof(*s));
	s->mp.mp_state = KVM_MP_STATE_HALTED;
	s->regs.rip = 0x1122334455667788;
	s->sregs.cr3 = 0x9000;
	s->xcrs.nr_xcrs = 1;
	s->debug.dr7 = 0x400;
	s->lapic.regs[0x20] = 7;
	s->events.nmi.masked = 1;
	s->tsc_khz = 2000000;
	s->tsc_offset = UINT64_MAX - 5;
	s->msr_count = 2;
	s->msrs[0] = (struct kvm_msr_entry){ .index = CPU_MSR_TSC, .data = 42 };
	s->msrs[1] = (struct kvm_msr_entry){ .index = 0x174, .data = UINT64_MAX };
	s->xsave_bytes = 4096;
	s->xsave[4095] = 9;
}

static struct span put_sample(const struct cpu_state *s, uint8_t *room)
{
	struct buf b;

	buf_init(&b, room, ROOM);
	cpu_state_put(s, &b);
	CHECK(buf_ok(&b));
	return buf_span(&b);
}

TEST(bytes_give_the_state_back)
{
	static uint8_t room[ROOM];
	static struct cpu_state s;
	static struct cpu_state got;

	sample(&s);
	CHECK_EQ(cpu_state_parse(put_sample(&s, room), &got), 0);
	CHECK_MEM(span_of(&got, sizeof(got)), span_of(&s, sizeof(s)));
}

TEST(every_prefix_is_refused)
{
	static uint8_t room[ROOM];
	static struct cpu_state s;
	static struct cpu_state got;
	struct span in;

	sample(&s);
	in = put_sample(&s, room);
	memset(&got, 0xa5, sizeof(got));
	for (size_t len = 0; len < in.len; len++)
		CHECK_EQ(cpu_state_parse(span_of(in.at, len), &got), -EBADMSG);
	CHECK_EQ(cpu_state_parse(span_of(in.at, in.len + 1), &got), -EBADMSG);
	for (size_t i = 0; i < sizeof(got); i++)
		CHECK_EQ(((const uint8_t *)&got)[i], 0xa5);
}

TEST(counts_and_sizes_are_bounded)
{
	static uint8_t room[ROOM];
	static struct cpu_state s;
	static struct cpu_state got;
	struct span in;

	sample(&s);
	s.msr_count = CPU_MSRS_MAX;
	in = put_sample(&s, room);
	CHECK_EQ(cpu_state_parse(in, &got), 0);
	sample(&s);
	s.xcrs.nr_xcrs = KVM_MAX_XCRS + 1;
	CHECK_EQ(cpu_state_parse(put_sample(&s, room), &got), -EBADMSG);
	sample(&s);
	s.tsc_khz = 0;
	CHECK_EQ(cpu_state_parse(put_sample(&s, room), &got), -EBADMSG);
	sample(&s);
	s.events.smi.smm = 1;
	CHECK_EQ(cpu_state_parse(put_sample(&s, room), &got), -EBADMSG);
	sample(&s);
	s.sregs.efer |= 1 << 12; /* SVM: nested virtualization */
	CHECK_EQ(cpu_state_parse(put_sample(&s, room), &got), -EBADMSG);
	sample(&s);
	s.xsave_bytes = 4095;
	CHECK_EQ(cpu_state_parse(put_sample(&s, room), &got), -EBADMSG);
	/* the count of MSRs, made too large in place */
	sample(&s);
	in = put_sample(&s, room);
	for (size_t at = 0; at + 4 < in.len; at++) {
		uint8_t was[4];

		memcpy(was, room + at, 4);
		memset(room + at, 0xff, 4);
		if (cpu_state_parse(in, &got) == 0)
			CHECK(got.msr_count <= CPU_MSRS_MAX && got.xsave_bytes <= CPU_XSAVE_MAX);
		memcpy(room + at, was, 4);
	}
}

TEST_MAIN()
