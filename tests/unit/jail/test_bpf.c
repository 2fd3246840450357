/*
 * The filter's compiler against two others: the table itself, read rule by rule, and libseccomp,
 * which knows nothing of ours. All programs are run by an interpreter here.
 */
#include "base/fdio.h"
#include "jail/bpf.h"
#include "test.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum {
	SELF = 4711,
	CALLS = 1024, /* beyond the last number the kernel has */
	VALUES_MAX = 512,
	RANDOM_TABLES = 200,
	RANDOM_RULES = 60,
	RANDOM_INPUTS = 400,
};

struct code {
	struct sock_filter at[JAIL_BPF_MAX];
	size_t count;
};

/* What the kernel's interpreter does, for the instructions a filter may have. */
static uint32_t run(const struct code *c, const struct seccomp_data *d)
{
	uint32_t a = 0;

	for (size_t at = 0; at < c->count;) {
		const struct sock_filter *f = &c->at[at++];

		switch (f->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			CHECK(f->k % 4 == 0 && f->k < sizeof(*d));
			memcpy(&a, (const uint8_t *)d + f->k, sizeof(a));
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= f->k;
			break;
		case BPF_JMP | BPF_JA:
			at += f->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			at += a == f->k ? f->jt : f->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			at += a >= f->k ? f->jt : f->jf;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			at += a > f->k ? f->jt : f->jf;
			break;
		case BPF_RET | BPF_K:
			return f->k;
		default:
			test_fail(__FILE__, __LINE__, "instruction %#x", f->code);
		}
	}
	test_fail(__FILE__, __LINE__, "the program has no end");
}

static uint64_t value_of(const struct jail_arg *a)
{
	return a->self ? SELF : a->value;
}

/* The meaning of a table, in the plainest words. */
static uint32_t read_table(const struct jail_rule *rules, size_t count,
                           const struct seccomp_data *d)
{
	for (size_t i = 0; i < count; i++) {
		const struct jail_rule *r = &rules[i];
		bool fits = r->call == d->nr;

		for (size_t k = 0; k < JAIL_ARGS_MAX; k++)
			if (r->args[k].used &&
			    (d->args[r->args[k].index] & r->args[k].mask) != value_of(&r->args[k]))
				fits = false;
		if (fits)
			return r->act == JAIL_ERRNO ? SECCOMP_RET_ERRNO | (uint32_t)r->err
			                            : SECCOMP_RET_ALLOW;
	}
	return SECCOMP_RET_KILL_PROCESS;
}

static void compile(const struct jail_rule *rules, size_t count, struct code *ret)
{
	struct err e = { 0 };

	CHECK_OK(jail_bpf_compile(rules, count, SELF, ret->at, JAIL_BPF_MAX, &ret->count, &e), &e);
	CHECK(ret->count > 0 && ret->count <= JAIL_BPF_MAX);
}

static void add_to_oracle(scmp_filter_ctx ctx, const struct jail_rule *r)
{
	struct scmp_arg_cmp cmp[JAIL_ARGS_MAX];
	unsigned n = 0;

	for (size_t i = 0; i < JAIL_ARGS_MAX; i++)
		if (r->args[i].used)
			cmp[n++] = (struct scmp_arg_cmp){ .arg = r->args[i].index,
				                          .op = SCMP_CMP_MASKED_EQ,
				                          .datum_a = r->args[i].mask,
				                          .datum_b = value_of(&r->args[i]) };
	CHECK_EQ(seccomp_rule_add_array(ctx,
	                                r->act == JAIL_ERRNO ? SCMP_ACT_ERRNO((uint16_t)r->err)
	                                                     : SCMP_ACT_ALLOW,
	                                r->call, n, cmp),
	         0);
}

static void ask_oracle(const struct jail_profile *p, struct code *ret)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int fd = memfd_create("filter", MFD_CLOEXEC);
	struct err e = { 0 };
	off_t bytes;

	CHECK(ctx && fd >= 0);
	CHECK_EQ(seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), 0);
	for (size_t i = 0; i < p->rule_count; i++)
		add_to_oracle(ctx, &p->rules[i]);
	CHECK_EQ(seccomp_export_bpf(ctx, fd), 0);
	bytes = lseek(fd, 0, SEEK_END);
	CHECK(bytes > 0 && (size_t)bytes <= sizeof(ret->at));
	CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
	CHECK_OK(fd_read_all(fd, ret->at, (size_t)bytes, &e), &e);
	ret->count = (size_t)bytes / sizeof(ret->at[0]);
	CHECK_EQ(close(fd), 0);
	seccomp_release(ctx);
}

/* Values that decide: those of the table, what is next to them, and bits above and below masks. */
static size_t values_of(const struct jail_rule *rules, size_t count, int call, uint64_t *ret)
{
	static const uint64_t always[] = { 0,          1,  UINT32_MAX, UINT64_MAX,
		                           0x80000000, 42, SELF,       UINT64_C(1) << 32 };
	size_t n = sizeof(always) / sizeof(always[0]);

	memcpy(ret, always, sizeof(always));
	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; rules[i].call == call && k < JAIL_ARGS_MAX; k++) {
			const struct jail_arg *a = &rules[i].args[k];

			if (!a->used || n + 6 > VALUES_MAX)
				continue;
			ret[n++] = value_of(a);
			ret[n++] = value_of(a) ^ 1;
			ret[n++] = value_of(a) | ~a->mask;
			ret[n++] = value_of(a) ^ a->mask;
			ret[n++] = value_of(a) | UINT64_C(0xa5a5a5a5) << 32;
			ret[n++] = value_of(a) ^ (a->mask & -a->mask);
		}
	}
	return n;
}

static void compare(const char *name, const struct code *ours, const struct code *theirs,
                    const struct jail_rule *rules, size_t count, const struct seccomp_data *d)
{
	uint32_t want = read_table(rules, count, d);
	uint32_t got = run(ours, d);
	uint32_t other = theirs ? run(theirs, d) : want;

	if (got == want && other == want)
		return;
	test_fail(__FILE__, __LINE__, "%s: call %d (%llx, %llx, %llx, %llx): %x, %x, table %x",
	          name, d->nr, d->args[0], d->args[1], d->args[2], d->args[3], got, other, want);
}

/* Each pair of values, one for arguments of even and one for those of odd numbers. */
static void check_call(const struct jail_profile *p, const struct code *ours,
                       const struct code *theirs, int call)
{
	uint64_t values[VALUES_MAX];
	size_t n = values_of(p->rules, p->rule_count, call, values);

	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < n; k++) {
			struct seccomp_data d = { .nr = call, .arch = AUDIT_ARCH_X86_64 };

			for (size_t a = 0; a < 6; a++)
				d.args[a] = values[a % 2 ? i : k];
			compare(p->name, ours, theirs, p->rules, p->rule_count, &d);
		}
	}
}

static void check_other_doors(const struct jail_profile *p, const struct code *ours)
{
	for (int nr = 0; nr < CALLS; nr++) {
		struct seccomp_data d = { .nr = nr, .arch = AUDIT_ARCH_I386 };

		CHECK_EQ(run(ours, &d), SECCOMP_RET_KILL_PROCESS);
		d.arch = AUDIT_ARCH_X86_64;
		d.nr = nr | 0x40000000;
		CHECK_EQ(run(ours, &d), SECCOMP_RET_KILL_PROCESS);
		d.nr = nr | INT32_MIN;
		CHECK_EQ(run(ours, &d), SECCOMP_RET_KILL_PROCESS);
	}
	CHECK_EQ(run(ours, &(struct seccomp_data){ .nr = -1, .arch = AUDIT_ARCH_X86_64 }),
	         SECCOMP_RET_KILL_PROCESS);
	CHECK(p->rule_count > 0);
}

static void check_profile(const struct jail_profile *p)
{
	static struct code ours;
	static struct code theirs;

	compile(p->rules, p->rule_count, &ours);
	ask_oracle(p, &theirs);
	for (int call = 0; call < CALLS; call++)
		check_call(p, &ours, &theirs, call);
	check_other_doors(p, &ours);
}

TEST(qemu_says_what_its_table_says)
{
	check_profile(&jail_profile_qemu);
}

TEST(unpack_says_what_its_table_says)
{
	check_profile(&jail_profile_unpack);
}

TEST(gate_says_what_its_table_says)
{
	check_profile(&jail_profile_gate);
}

TEST(vault_says_what_its_table_says)
{
	check_profile(&jail_profile_vault);
}

TEST(supervisor_says_what_its_table_says)
{
	check_profile(&jail_profile_supervisor);
}

TEST(the_vmm_says_what_its_tables_say)
{
	check_profile(&jail_profile_vmm);
	check_profile(&jail_profile_vmm_cpu);
	check_profile(&jail_profile_vmm_io);
	check_profile(&jail_profile_vmm_control);
}

/* A fixed sequence: a failure here is one there. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void make_rule(uint64_t *seed, struct jail_rule *ret)
{
	static const uint64_t masks[] = { UINT32_MAX, UINT64_MAX, 4, UINT64_C(0xff) << 32, 0xff00 };

	*ret = (struct jail_rule){ .call = (int)(next_random(seed) % 40), .why = "test" };
	if (next_random(seed) % 3 == 0) {
		ret->act = JAIL_ERRNO;
		ret->err = (int)(next_random(seed) % 4096);
	}
	for (size_t k = 0; k < next_random(seed) % (JAIL_ARGS_MAX + 1); k++) {
		uint64_t mask = masks[next_random(seed) % 5];

		ret->args[k] = (struct jail_arg){
			.used = true,
			.index = (uint8_t)(next_random(seed) % 6),
			.mask = mask,
			.value =
				(next_random(seed) % 2 ? next_random(seed) % 3 : UINT64_MAX) & mask,
		};
	}
}

TEST(tables_made_at_random_mean_what_they_say)
{
	static struct jail_rule rules[RANDOM_RULES];
	static struct code ours;
	uint64_t seed = 88172645463325252;

	for (unsigned table = 0; table < RANDOM_TABLES; table++) {
		size_t count = 1 + next_random(&seed) % RANDOM_RULES;

		for (size_t i = 0; i < count; i++)
			make_rule(&seed, &rules[i]);
		compile(rules, count, &ours);
		for (unsigned n = 0; n < RANDOM_INPUTS; n++) {
			struct seccomp_data d = { .nr = (int)(next_random(&seed) % 42),
				                  .arch = AUDIT_ARCH_X86_64 };

			for (size_t a = 0; a < 6; a++)
				d.args[a] = next_random(&seed) % 2 ? next_random(&seed) % 3
				                                   : UINT64_MAX;
			compare("random", &ours, NULL, rules, count, &d);
		}
	}
}

TEST(a_program_that_does_not_fit_is_refused)
{
	static struct code c;
	struct sock_filter before;
	struct err e = { 0 };

	compile(jail_profile_unpack.rules, jail_profile_unpack.rule_count, &c);
	for (size_t max = 0; max < c.count; max++) {
		static struct code small;
		size_t count = 0xa5;

		memset(&small, 0xa5, sizeof(small));
		before = small.at[max];
		CHECK_EQ(jail_bpf_compile(jail_profile_unpack.rules, jail_profile_unpack.rule_count,
		                          SELF, small.at, max, &count, &e),
		         -E2BIG);
		CHECK_EQ(count, 0xa5);
		CHECK_EQ(memcmp(&small.at[max], &before, sizeof(before)), 0);
	}
}

TEST_MAIN()
