#include "vmm/cpuid.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

enum reg { EAX, EBX, ECX, EDX, REGS };

#define ALL UINT32_MAX
#define ANY UINT32_MAX /* of the indices of a leaf that no other row names */

enum {
	LEAF_BASIC_MAX =
		0xd, /* of the baseline: nothing behind it tells more than features we hide */
	LEAF_BASIC_MAX_HOST = 0x1f,
	LEAF_TOPOLOGY = 0xb,
	LEAF_TOPOLOGY2 = 0x1f,
	LEAF_XSAVE = 0xd,
	LEVEL_CORE = 2, /* kind of level in the topology leaves */
	LEVEL_THREAD = 1,
	CACHE_LEVEL_SHARED = 3,
};
#define LEAF_KVM          0x40000000U
#define LEAF_KVM_FEATURES 0x40000001U
#define LEAF_EXT          0x80000000U
#define LEAF_EXT_MAX      0x80000021U

/* A bit of the baseline, or (HOST) one that only host_cpu gives and that deserves its name in a
 * message. */
struct feature {
	uint32_t leaf;
	uint8_t index;
	uint8_t reg;
	uint8_t bit;
	bool host;
	const char *name;
};

/* clang-format off: a table, some rows a line */
#define B(l, i, r, b, n)                                                                           \
	{                                                                                          \
		.leaf = (l), .index = (i), .reg = (r), .bit = (b), .name = (n)                     \
	}
#define H(l, i, r, b, n)                                                                           \
	{                                                                                          \
		.leaf = (l), .index = (i), .reg = (r), .bit = (b), .host = true, .name = (n)       \
	}
static const struct feature features[] = {
	B(1, 0, ECX, 0, "sse3"),
	B(1, 0, ECX, 1, "pclmulqdq"),
	B(1, 0, ECX, 9, "ssse3"),
	B(1, 0, ECX, 12, "fma"),
	B(1, 0, ECX, 13, "cmpxchg16b"),
	B(1, 0, ECX, 17, "pcid"),
	B(1, 0, ECX, 19, "sse4.1"),
	B(1, 0, ECX, 20, "sse4.2"),
	B(1, 0, ECX, 21, "x2apic"),
	B(1, 0, ECX, 22, "movbe"),
	B(1, 0, ECX, 23, "popcnt"),
	B(1, 0, ECX, 24, "tsc-deadline"),
	B(1, 0, ECX, 25, "aes"),
	B(1, 0, ECX, 26, "xsave"),
	B(1, 0, ECX, 28, "avx"),
	B(1, 0, ECX, 29, "f16c"),
	B(1, 0, ECX, 30, "rdrand"),
	B(1, 0, ECX, 31, "hypervisor"),

	B(1, 0, EDX, 0, "fpu"),
	B(1, 0, EDX, 1, "vme"),
	B(1, 0, EDX, 2, "de"),
	B(1, 0, EDX, 3, "pse"),
	B(1, 0, EDX, 4, "tsc"),
	B(1, 0, EDX, 5, "msr"),
	B(1, 0, EDX, 6, "pae"),
	B(1, 0, EDX, 7, "mce"),
	B(1, 0, EDX, 8, "cmpxchg8b"),
	B(1, 0, EDX, 9, "apic"),
	B(1, 0, EDX, 11, "sysenter"),
	B(1, 0, EDX, 12, "mtrr"),
	B(1, 0, EDX, 13, "pge"),
	B(1, 0, EDX, 14, "mca"),
	B(1, 0, EDX, 15, "cmov"),
	B(1, 0, EDX, 16, "pat"),
	B(1, 0, EDX, 17, "pse36"),
	B(1, 0, EDX, 19, "clflush"),
	B(1, 0, EDX, 23, "mmx"),
	B(1, 0, EDX, 24, "fxsave"),
	B(1, 0, EDX, 25, "sse"),
	B(1, 0, EDX, 26, "sse2"),
	B(1, 0, EDX, 27, "self-snoop"),
	B(1, 0, EDX, 28, "htt"),

	B(6, 0, EAX, 2, "arat"),

	B(7, 0, EBX, 0, "fsgsbase"),
	B(7, 0, EBX, 1, "tsc-adjust"),
	B(7, 0, EBX, 3, "bmi1"),
	B(7, 0, EBX, 5, "avx2"),
	B(7, 0, EBX, 7, "smep"),
	B(7, 0, EBX, 8, "bmi2"),
	B(7, 0, EBX, 9, "erms"),
	B(7, 0, EBX, 10, "invpcid"),
	B(7, 0, EBX, 18, "rdseed"),
	B(7, 0, EBX, 19, "adx"),
	B(7, 0, EBX, 20, "smap"),
	B(7, 0, EBX, 23, "clflushopt"),
	B(7, 0, EBX, 24, "clwb"),
	B(7, 0, EBX, 29, "sha"),
	B(7, 0, ECX, 2, "umip"),
	B(7, 0, ECX, 22, "rdpid"),
	B(7, 0, EDX, 4, "fsrm"),
	H(7, 0, EBX, 16, "avx512f"),
	H(7, 0, EBX, 17, "avx512dq"),
	H(7, 0, EBX, 28, "avx512cd"),
	H(7, 0, EBX, 30, "avx512bw"),
	H(7, 0, EBX, 31, "avx512vl"),
	H(7, 0, EBX, 21, "avx512-ifma"),
	H(7, 0, ECX, 1, "avx512-vbmi"),
	H(7, 0, ECX, 6, "avx512-vbmi2"),
	H(7, 0, ECX, 3, "pku"),
	H(7, 0, ECX, 8, "gfni"),
	H(7, 0, ECX, 9, "vaes"),
	H(7, 0, ECX, 10, "vpclmulqdq"),
	H(7, 0, ECX, 11, "avx512-vnni"),
	H(7, 0, ECX, 12, "avx512-bitalg"),
	H(7, 0, ECX, 14, "avx512-vpopcntdq"),
	H(7, 0, ECX, 16, "la57"),
	H(7, 0, EDX, 22, "amx-bf16"),
	H(7, 0, EDX, 23, "avx512-fp16"),
	H(7, 0, EDX, 24, "amx-tile"),
	H(7, 0, EDX, 25, "amx-int8"),
	H(7, 1, EAX, 4, "avx-vnni"),
	H(7, 1, EAX, 5, "avx512-bf16"),
	/* holes in the hardware: what closes them, and what tells that there is none */
	B(7, 0, EDX, 10, "md-clear"),
	B(7, 0, EDX, 26, "spec-ctrl"),
	B(7, 0, EDX, 27, "stibp"),
	B(7, 0, EDX, 28, "flush-l1d"),
	B(7, 0, EDX, 29, "arch-capabilities"),
	B(7, 0, EDX, 31, "ssbd"),
	B(7, 2, EDX, 0, "psfd"),
	B(7, 2, EDX, 1, "ipred-ctrl"),
	B(7, 2, EDX, 2, "rrsba-ctrl"),
	B(7, 2, EDX, 3, "ddpd-u"),
	B(7, 2, EDX, 4, "bhi-ctrl"),
	B(7, 2, EDX, 5, "mcdt-no"),

	B(0xd, 0, EAX, 0, "x87 state"),
	B(0xd, 0, EAX, 1, "sse state"),
	B(0xd, 0, EAX, 2, "avx state"),
	H(0xd, 0, EAX, 5, "avx512 state"),
	H(0xd, 0, EAX, 9, "pku state"),
	H(0xd, 0, EAX, 18, "amx state"),
	B(0xd, 1, EAX, 0, "xsaveopt"),
	B(0xd, 1, EAX, 1, "xsavec"),
	B(0xd, 1, EAX, 2, "xgetbv1"),
	B(0xd, 1, EAX, 3, "xsaves"),
	H(0xd, 1, EAX, 4, "xfd"),

	B(LEAF_KVM_FEATURES, 0, EAX, 1, "kvm-nop-io-delay"),
	B(LEAF_KVM_FEATURES, 0, EAX, 3, "kvm-clock"),
	B(LEAF_KVM_FEATURES, 0, EAX, 6, "kvm-pv-eoi"),
	B(LEAF_KVM_FEATURES, 0, EAX, 11, "kvm-pv-ipi"),
	B(LEAF_KVM_FEATURES, 0, EAX, 24, "kvm-clock-stable"),

	B(LEAF_EXT + 1, 0, ECX, 0, "lahf"),
	B(LEAF_EXT + 1, 0, ECX, 1, "cmp-legacy"),
	B(LEAF_EXT + 1, 0, ECX, 4, "cr8-legacy"),
	B(LEAF_EXT + 1, 0, ECX, 5, "lzcnt"),
	B(LEAF_EXT + 1, 0, ECX, 6, "sse4a"),
	B(LEAF_EXT + 1, 0, ECX, 7, "misalignsse"),
	B(LEAF_EXT + 1, 0, ECX, 8, "prefetchw"),
	B(LEAF_EXT + 1, 0, ECX, 22, "topoext"),
	B(LEAF_EXT + 1, 0, EDX, 11, "syscall"),
	B(LEAF_EXT + 1, 0, EDX, 20, "nx"),
	B(LEAF_EXT + 1, 0, EDX, 22, "mmxext"),
	B(LEAF_EXT + 1, 0, EDX, 25, "fxsave-opt"),
	B(LEAF_EXT + 1, 0, EDX, 26, "1-gib-pages"),
	B(LEAF_EXT + 1, 0, EDX, 27, "rdtscp"),
	B(LEAF_EXT + 1, 0, EDX, 29, "long-mode"),
	B(LEAF_EXT + 7, 0, EDX, 8, "invariant-tsc"),
	B(LEAF_EXT + 8, 0, EBX, 0, "clzero"),
	B(LEAF_EXT + 8, 0, EBX, 2, "xsaveerptr"),
	B(LEAF_EXT + 8, 0, EBX, 12, "ibpb"),
	B(LEAF_EXT + 8, 0, EBX, 14, "ibrs"),
	B(LEAF_EXT + 8, 0, EBX, 15, "amd-stibp"),
	B(LEAF_EXT + 8, 0, EBX, 16, "ibrs-always"),
	B(LEAF_EXT + 8, 0, EBX, 17, "stibp-always"),
	B(LEAF_EXT + 8, 0, EBX, 18, "ibrs-preferred"),
	B(LEAF_EXT + 8, 0, EBX, 24, "amd-ssbd"),
	B(LEAF_EXT + 8, 0, EBX, 25, "virt-ssbd"),
	B(LEAF_EXT + 8, 0, EBX, 26, "ssb-no"),
	B(LEAF_EXT + 8, 0, EBX, 28, "amd-psfd"),
	B(LEAF_EXT + 8, 0, EBX, 29, "btc-no"),
	B(LEAF_EXT + 8, 0, EBX, 30, "ibpb-ret"),
	B(LEAF_EXT_MAX, 0, EAX, 2, "lfence-serializing"),
	B(LEAF_EXT_MAX, 0, EAX, 5, "verw-clear"),
	B(LEAF_EXT_MAX, 0, EAX, 6, "null-sel-clears-base"),
	B(LEAF_EXT_MAX, 0, EAX, 8, "autoibrs"),
	B(LEAF_EXT_MAX, 0, EAX, 27, "sbpb"),
	B(LEAF_EXT_MAX, 0, EAX, 28, "ibpb-brtype"),
	B(LEAF_EXT_MAX, 0, EAX, 29, "srso-no"),
	B(LEAF_EXT_MAX, 0, EAX, 30, "srso-user-kernel-no"),
	B(LEAF_EXT_MAX, 0, ECX, 1, "tsa-sq-no"),
	B(LEAF_EXT_MAX, 0, ECX, 2, "tsa-l1-no"),
};

/* What legacy AMD leaves repeat of leaf 1: bits 0-9, 12-17, 23 and 24 of edx. */
#define EXT1_EDX_COPY 0x0183f3ffU

#define NO                                                                                         \
	{                                                                                          \
		ALL, ALL, ALL, ALL                                                                 \
	}
#define VALUE                                                                                      \
	{                                                                                          \
		ALL, ALL, ALL, ALL                                                                 \
	}

/* A leaf a guest may see. `value`: bits that are no features but numbers; `never`: features not
 * even host_cpu gives. */
struct leaf {
	uint32_t leaf;
	uint32_t index;
	uint32_t value[REGS];
	uint32_t never[REGS];
	bool host; /* host_cpu only */
};

static const struct leaf leaves[] = {
	{ 0, 0, VALUE, NO, false },
	/* dtes64, monitor, dscpl, vmx, smx, est, tm2, cnxt-id, sdbg, xtpr, pdcm, dca;
	 * psn, ds, acpi, tm, ia64, pbe */
	{ 1, 0, { ALL, ALL, 0, 0 }, { 0, 0, 0x0004cdfc, 0xe0640000 }, false },
	{ 4, ANY, VALUE, NO, false },
	{ 6, 0, { 0 }, NO, false },
	/* sgx, pqm, mpx, pqe, pt; shadow stacks, key locker, sgx-lc; uintr, pconfig, lbr, ibt */
	{ 7, 0, { ALL, 0, 0, 0 }, { 0, 0x0200d004, 0x40800080, 0x001c0020 }, false },
	{ 7,
	  1,
	  { 0 },
	  { 0x00020000, ALL, ALL, 0x000c8000 },
	  true }, /* fred; avx10, cet-sss, user-msr */
	{ 7, 2, { 0 }, { ALL, ALL, ALL, 0 }, false },
	{ LEAF_TOPOLOGY, ANY, VALUE, NO, false },
	{ LEAF_XSAVE, 0, { 0, ALL, ALL, 0 }, { 0xfff9fd18, 0, 0, ALL }, false },
	{ LEAF_XSAVE, 1, { 0, ALL, 0, 0 }, { 0, 0, ALL, ALL }, false },
	{ LEAF_XSAVE, ANY, VALUE, NO, false },
	{ 0x1d, ANY, VALUE, NO, true },
	{ 0x1e, ANY, VALUE, NO, true },
	{ LEAF_TOPOLOGY2, ANY, VALUE, NO, true },
	{ LEAF_KVM, 0, VALUE, NO, false },
	{ LEAF_KVM_FEATURES, 0, { 0 }, NO, false },
	{ LEAF_EXT, 0, VALUE, NO, false },
	/* svm, extapic, osvw, ibs, skinit, wdt, lwp, nodeid, counters, bpext, ptsc, mwaitx; mp */
	{ LEAF_EXT + 1,
	  0,
	  { ALL, ALL, 0, EXT1_EDX_COPY },
	  { 0, 0, 0x3d88b60c, 0x00080400 },
	  false },
	{ LEAF_EXT + 2, 0, VALUE, NO, false },
	{ LEAF_EXT + 3, 0, VALUE, NO, false },
	{ LEAF_EXT + 4, 0, VALUE, NO, false },
	{ LEAF_EXT + 5, 0, VALUE, NO, false },
	{ LEAF_EXT + 6, 0, VALUE, NO, false },
	{ LEAF_EXT + 7, 0, { 0 }, NO, false },
	{ LEAF_EXT + 8, 0, { ALL, 0, ALL, 0 }, { 0, 0, 0, ALL }, false },
	{ LEAF_EXT + 0x1d, ANY, VALUE, NO, false },
	{ LEAF_EXT + 0x1e, 0, VALUE, NO, false },
	{ LEAF_EXT_MAX, 0, { 0 }, { 0, ALL, 0, ALL }, false },
};
/* clang-format on */

static const struct leaf *find_rule(uint32_t leaf, uint32_t index)
{
	for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++)
		if (leaves[i].leaf == leaf && (leaves[i].index == index || leaves[i].index == ANY))
			return &leaves[i];
	return NULL;
}

static uint32_t *reg_of(struct kvm_cpuid_entry2 *e, unsigned reg)
{
	switch (reg) {
	case EAX:
		return &e->eax;
	case EBX:
		return &e->ebx;
	case ECX:
		return &e->ecx;
	default:
		return &e->edx;
	}
}

static void get_regs(const struct kvm_cpuid_entry2 *e, uint32_t ret[REGS])
{
	ret[EAX] = e->eax;
	ret[EBX] = e->ebx;
	ret[ECX] = e->ecx;
	ret[EDX] = e->edx;
}

static const struct feature *find_feature(uint32_t leaf, uint32_t index, unsigned reg, unsigned bit)
{
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		const struct feature *f = &features[i];

		if (f->leaf == leaf && f->index == index && f->reg == reg && f->bit == bit)
			return f;
	}
	return NULL;
}

const struct kvm_cpuid_entry2 *cpuid_find(const struct cpuid_set *set, uint32_t leaf,
                                          uint32_t index)
{
	for (uint32_t i = 0; i < set->count; i++)
		if (set->entries[i].function == leaf && set->entries[i].index == index)
			return &set->entries[i];
	return NULL;
}

static struct kvm_cpuid_entry2 *find_own(struct cpuid_set *set, uint32_t leaf, uint32_t index)
{
	for (uint32_t i = 0; i < set->count; i++)
		if (set->entries[i].function == leaf && set->entries[i].index == index)
			return &set->entries[i];
	return NULL;
}

uint32_t cpuid_address_bits(const struct cpuid_set *set)
{
	const struct kvm_cpuid_entry2 *sizes = cpuid_find(set, LEAF_EXT + 8, 0);

	return sizes ? sizes->eax & 0xff : 36; /* the least there is with long mode */
}

void cpuid_vendor(const struct cpuid_set *set, char ret[CPUID_VENDOR_BYTES + 1])
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(set, 0, 0);

	memset(ret, 0, CPUID_VENDOR_BYTES + 1);
	if (!e)
		return;
	memcpy(ret, &e->ebx, 4);
	memcpy(ret + 4, &e->edx, 4);
	memcpy(ret + 8, &e->ecx, 4);
}

/* Leaves what the rule and the baseline allow. */
static void mask(struct kvm_cpuid_entry2 *e, const struct leaf *rule, bool host_cpu)
{
	uint32_t keep[REGS];

	for (unsigned r = 0; r < REGS; r++)
		keep[r] = rule->value[r] | (host_cpu ? ~rule->never[r] : 0);
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		const struct feature *f = &features[i];

		if (f->leaf == e->function && f->index == e->index && !f->host)
			keep[f->reg] |= UINT32_C(1) << f->bit;
	}
	for (unsigned r = 0; r < REGS; r++)
		*reg_of(e, r) &= keep[r];
}

static void add(struct cpuid_set *set, struct kvm_cpuid_entry2 e)
{
	assert(set->count < CPUID_ENTRIES_MAX); /* cpuid_make() looked for room */
	memset(e.padding, 0, sizeof(e.padding));
	set->entries[set->count++] = e;
}

static bool has(const struct cpuid_set *set, uint32_t leaf, unsigned reg, unsigned bit)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(set, leaf, 0);
	uint32_t regs[REGS];

	if (!e)
		return false;
	get_regs(e, regs);
	return regs[reg] & UINT32_C(1) << bit;
}

/* Made here instead of copied: the topology, and who the hypervisor is. */
static bool is_ours(uint32_t leaf)
{
	return leaf == LEAF_TOPOLOGY || leaf == LEAF_TOPOLOGY2 || leaf == LEAF_KVM;
}

static bool is_above_max(uint32_t leaf, const struct cpuid_shape *shape)
{
	uint32_t max = shape->host_cpu ? LEAF_BASIC_MAX_HOST : LEAF_BASIC_MAX;

	return leaf < LEAF_KVM ? leaf > max : leaf > LEAF_EXT_MAX;
}

/* States of XCR0 a guest may turn on: none without XSAVE. */
static uint32_t xsave_states(const struct cpuid_set *host, bool host_cpu)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(host, LEAF_XSAVE, 0);
	struct kvm_cpuid_entry2 copy;

	if (!e || !has(host, 1, ECX, 26))
		return 0;
	copy = *e;
	mask(&copy, find_rule(LEAF_XSAVE, 0), host_cpu);
	return copy.eax;
}

static void copy_allowed(const struct cpuid_set *host, const struct cpuid_shape *shape,
                         struct cpuid_set *ret)
{
	uint32_t states = xsave_states(host, shape->host_cpu);

	for (uint32_t i = 0; i < host->count && i < CPUID_ENTRIES_MAX; i++) {
		struct kvm_cpuid_entry2 e = host->entries[i];
		const struct leaf *rule = find_rule(e.function, e.index);

		if (!rule || (rule->host && !shape->host_cpu) || is_ours(e.function) ||
		    is_above_max(e.function, shape) || cpuid_find(ret, e.function, e.index))
			continue;
		if (e.function == LEAF_XSAVE &&
		    (states == 0 || (e.index > 1 && (e.index > 31 || !(states >> e.index & 1)))))
			continue;
		mask(&e, rule, shape->host_cpu);
		add(ret, e);
	}
}

/* What needs a register state that XCR0 cannot have goes too. */
static void fix_xsave(struct cpuid_set *set)
{
	struct kvm_cpuid_entry2 *state = find_own(set, LEAF_XSAVE, 0);
	struct kvm_cpuid_entry2 *one = find_own(set, 1, 0);
	struct kvm_cpuid_entry2 *seven = find_own(set, 7, 0);
	uint32_t bytes = 576; /* the legacy area and the header */

	if (!state || !(state->eax & 4)) {
		if (one)
			one->ecx &= ~(UINT32_C(1) << 12 | UINT32_C(1) << 28 | UINT32_C(1) << 29);
		if (seven)
			seven->ebx &= ~(UINT32_C(1) << 5);
	}
	if (!state)
		return;
	for (uint32_t i = 0; i < set->count; i++) {
		const struct kvm_cpuid_entry2 *e = &set->entries[i];

		if (e->function == LEAF_XSAVE && e->index > 1 && e->ebx + e->eax > bytes)
			bytes = e->ebx + e->eax;
	}
	state->ebx = bytes; /* KVM says from now on what the states turned on take */
	state->ecx = bytes;
}

static void limit(uint32_t *max, uint32_t to)
{
	if (*max > to)
		*max = to;
}

static void add_kvm(struct cpuid_set *set)
{
	static const char name[CPUID_VENDOR_BYTES] = "KVMKVMKVM";
	struct kvm_cpuid_entry2 e = { .function = LEAF_KVM, .eax = LEAF_KVM_FEATURES };

	memcpy(&e.ebx, name, 4);
	memcpy(&e.ecx, name + 4, 4);
	memcpy(&e.edx, name + 8, 4);
	add(set, e);
}

static void add_levels(struct cpuid_set *set, uint32_t leaf)
{
	for (uint32_t i = 0; i <= LEVEL_CORE; i++)
		add(set, (struct kvm_cpuid_entry2){ .function = leaf,
		                                    .index = i,
		                                    .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX });
}

/* Numbers that follow from what was left. */
static void fix_limits(struct cpuid_set *set, const struct cpuid_shape *shape)
{
	struct kvm_cpuid_entry2 *zero = find_own(set, 0, 0);
	struct kvm_cpuid_entry2 *one = find_own(set, 1, 0);
	struct kvm_cpuid_entry2 *six = find_own(set, 6, 0);
	struct kvm_cpuid_entry2 *seven = find_own(set, 7, 0);
	struct kvm_cpuid_entry2 *ext = find_own(set, LEAF_EXT, 0);

	if (one && shape->tsc_deadline)
		one->ecx |= UINT32_C(1) << 24;
	if (one)
		one->ecx |= UINT32_C(1) << 31;
	if (six)
		six->eax |= UINT32_C(1) << 2; /* KVM's timer never stops */
	if (seven)
		seven->eax = cpuid_find(set, 7, 2) ? 2 : cpuid_find(set, 7, 1) ? 1 : 0;
	if (ext)
		limit(&ext->eax, LEAF_EXT_MAX);
	if (!zero)
		return;
	limit(&zero->eax, shape->host_cpu ? LEAF_BASIC_MAX_HOST : LEAF_BASIC_MAX);
	if (zero->eax >= LEAF_TOPOLOGY)
		add_levels(set, LEAF_TOPOLOGY);
	if (zero->eax >= LEAF_TOPOLOGY2)
		add_levels(set, LEAF_TOPOLOGY2);
}

int cpuid_make(const struct cpuid_set *host, const struct cpuid_shape *shape, struct cpuid_set *ret,
               struct err *e)
{
	static const struct {
		uint32_t leaf;
		uint8_t reg;
		uint8_t bit;
	} needed[] = {
		{ 1, EDX, 4 },
		{ 1, EDX, 9 },
		{ 1, EDX, 26 },
		{ 1, ECX, 24 },
		{ LEAF_EXT + 1, EDX, 29 },
		{ LEAF_KVM_FEATURES, EAX, 3 },
	};
	struct cpuid_set got = { .count = 0 };

	/* room for what is added: seven entries a host may not have had */
	if (host->count > CPUID_ENTRIES_MAX - 8)
		return err_set(e, -ENOTSUP, "KVM lists %u CPUID entries, more than %d", host->count,
		               CPUID_ENTRIES_MAX - 8);
	copy_allowed(host, shape, &got);
	fix_xsave(&got);
	add_kvm(&got);
	fix_limits(&got, shape);
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		const struct feature *f =
			find_feature(needed[i].leaf, 0, needed[i].reg, needed[i].bit);

		if (!has(&got, needed[i].leaf, needed[i].reg, needed[i].bit))
			return err_set(e, -ENOTSUP,
			               "KVM here offers no %s, which the guest kernel needs",
			               f ? f->name : "feature");
	}
	*ret = got;
	return 0;
}

/* How many bits a number below `count` needs. */
static uint32_t bits_for(uint32_t count)
{
	uint32_t bits = 0;

	while (UINT32_C(1) << bits < count)
		bits++;
	return bits;
}

/* A level of leaf 0xb or 0x1f: threads (one a core), cores, and the end. */
static void set_level(struct kvm_cpuid_entry2 *e, uint32_t index, uint32_t cpus)
{
	static const uint32_t kinds[] = { LEVEL_THREAD, LEVEL_CORE, 0 };

	e->eax = e->index == 1 ? bits_for(cpus) : 0;
	e->ebx = e->index == 0 ? 1 : e->index == 1 ? cpus : 0;
	e->ecx = (e->index < 3 ? kinds[e->index] << 8 : 0) | (e->index & 0xff);
	e->edx = index;
}

/* Bits 25-14 of a cache's eax: how many numbers of processors share it, less one. */
static uint32_t with_sharing(uint32_t eax, uint32_t cpus)
{
	uint32_t shared =
		(eax >> 5 & 7) >= CACHE_LEVEL_SHARED ? (UINT32_C(1) << bits_for(cpus)) - 1 : 0;

	return (eax & ~UINT32_C(0x03ffc000)) | shared << 14;
}

static void set_legacy_topology(struct cpuid_set *set, uint32_t index, uint32_t cpus)
{
	struct kvm_cpuid_entry2 *one = find_own(set, 1, 0);
	struct kvm_cpuid_entry2 *amd = find_own(set, LEAF_EXT + 1, 0);
	struct kvm_cpuid_entry2 *sizes = find_own(set, LEAF_EXT + 8, 0);
	struct kvm_cpuid_entry2 *node = find_own(set, LEAF_EXT + 0x1e, 0);

	if (one) {
		one->ebx = (one->ebx & 0xff00) | index << 24 | cpus << 16;
		one->edx &= ~(UINT32_C(1) << 28);
		one->edx |= (UINT32_C(1) << 28) * (cpus > 1);
	}
	if (amd && cpus == 1)
		amd->ecx &= ~UINT32_C(2); /* cmp-legacy */
	if (sizes)
		sizes->ecx = bits_for(cpus) << 12 | (cpus - 1);
	if (node) {
		node->eax = index;
		node->ebx = index; /* a core of one thread */
		node->ecx = 0;
		node->edx = 0;
	}
}

void cpuid_set_cpu(struct cpuid_set *set, uint32_t index, uint32_t cpus)
{
	assert(index < cpus && cpus <= 255);
	set_legacy_topology(set, index, cpus);
	for (uint32_t i = 0; i < set->count; i++) {
		struct kvm_cpuid_entry2 *e = &set->entries[i];

		if (e->function == LEAF_TOPOLOGY || e->function == LEAF_TOPOLOGY2)
			set_level(e, index, cpus);
		if ((e->function == 4 || e->function == LEAF_EXT + 0x1d) && (e->eax & 0x1f) != 0)
			e->eax = with_sharing(e->eax, cpus);
		if (e->function == 4 && (e->eax & 0x1f) != 0)
			e->eax = (e->eax & 0x03ffffff) | ((UINT32_C(1) << bits_for(cpus)) - 1)
			                                         << 26;
	}
}

static int missing(const struct kvm_cpuid_entry2 *e, unsigned reg, uint32_t bits, struct err *err)
{
	static const char *const regs[REGS] = { "eax", "ebx", "ecx", "edx" };
	unsigned bit = (unsigned)__builtin_ctz(bits);
	const struct feature *f = find_feature(e->function, e->index, reg, bit);

	if (f)
		return err_set(err, -EXDEV, "this machine's processor has no %s", f->name);
	return err_set(err, -EXDEV, "this machine's processor lacks bit %u of %s in CPUID 0x%x.%u",
	               bit, regs[reg], e->function, e->index);
}

/* What must be the same, whatever features there are. */
static int same_machine(const struct kvm_cpuid_entry2 *e, const struct kvm_cpuid_entry2 *o,
                        struct err *err)
{
	bool equal =
		o && e->eax == o->eax && e->ebx == o->ebx && e->ecx == o->ecx && e->edx == o->edx;

	if (e->function == 0 && (!o || e->ebx != o->ebx || e->ecx != o->ecx || e->edx != o->edx))
		return err_set(err, -EXDEV, "it was saved on a processor of another make");
	if (e->function == LEAF_KVM && !equal)
		return err_set(err, -EBADMSG, "its CPUID does not name KVM");
	if (e->function == LEAF_XSAVE && e->index > 1 && !equal)
		return err_set(err, -EXDEV,
		               "this machine's processor lays out register state %u "
		               "differently",
		               e->index);
	if (e->function == LEAF_EXT + 8 && (!o || (e->eax & 0xff) > (o->eax & 0xff) ||
	                                    (e->eax >> 8 & 0xff) > (o->eax >> 8 & 0xff)))
		return err_set(err, -EXDEV, "this machine's processor has shorter addresses");
	return 0;
}

static int entry_fits(const struct kvm_cpuid_entry2 *e, const struct cpuid_set *ours,
                      struct err *err)
{
	const struct leaf *rule = find_rule(e->function, e->index);
	const struct kvm_cpuid_entry2 *o = cpuid_find(ours, e->function, e->index);
	uint32_t saved[REGS];
	uint32_t have[REGS] = { 0 };
	int r;

	if (!rule || e->flags & ~(uint32_t)KVM_CPUID_FLAG_SIGNIFCANT_INDEX)
		return err_set(err, -EBADMSG, "CPUID 0x%x.%u is nothing a guest is given",
		               e->function, e->index);
	r = same_machine(e, o, err);
	if (r < 0)
		return r;
	get_regs(e, saved);
	if (o)
		get_regs(o, have);
	for (unsigned reg = 0; reg < REGS; reg++) {
		uint32_t lost = saved[reg] & ~rule->value[reg] & ~have[reg];

		if (lost != 0)
			return missing(e, reg, lost, err);
	}
	return 0;
}

int cpuid_fits(const struct cpuid_set *saved, const struct cpuid_set *ours, struct err *e)
{
	if (saved->count > CPUID_ENTRIES_MAX || !cpuid_find(saved, 0, 0) ||
	    !cpuid_find(saved, 1, 0) || !cpuid_find(saved, LEAF_KVM, 0))
		return err_set(e, -EBADMSG, "its CPUID is not whole");
	for (uint32_t i = 0; i < saved->count; i++) {
		const struct kvm_cpuid_entry2 *at = &saved->entries[i];
		int r;

		if (cpuid_find(saved, at->function, at->index) != at)
			return err_set(e, -EBADMSG, "CPUID 0x%x.%u is there twice", at->function,
			               at->index);
		r = entry_fits(at, ours, e);
		if (r < 0)
			return r;
	}
	return 0;
}
