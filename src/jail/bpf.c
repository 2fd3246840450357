#include "jail/bpf.h"

#include <assert.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>

#if !defined(__x86_64__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the profiles list the system calls of x86-64"
#endif

enum {
	CALL_X32 = 0x40000000, /* the x32 door: the bit no call of ours has */
	LOAD = BPF_LD | BPF_W | BPF_ABS,
	AND = BPF_ALU | BPF_AND | BPF_K,
	IF_EQUAL = BPF_JMP | BPF_JEQ | BPF_K,
	IF_AT_LEAST = BPF_JMP | BPF_JGE | BPF_K,
	GOTO = BPF_JMP | BPF_JA,
	RETURN = BPF_RET | BPF_K,

};

/* The rules of one call: order[first] up to order[first + count]. */
struct group {
	size_t first, count;
};

struct program {
	struct sock_filter *at;
	size_t len, max; /* len goes on beyond max, where nothing is written */
	uint32_t self;
	const struct jail_rule *rules;
	uint16_t order[JAIL_RULES_MAX]; /* indices of rules, by call, then as in the table */
	struct group groups[JAIL_RULES_MAX];
	size_t group_count;
};

static void emit(struct program *p, unsigned code, uint32_t k, size_t jt, size_t jf)
{
	assert(jt <= UINT8_MAX && jf <= UINT8_MAX);
	if (p->len < p->max)
		p->at[p->len] = (struct sock_filter){
			.code = (uint16_t)code, .jt = (uint8_t)jt, .jf = (uint8_t)jf, .k = k
		};
	p->len++;
}

static uint32_t answer_of(const struct jail_rule *r)
{
	if (r->act == JAIL_ERRNO)
		return SECCOMP_RET_ERRNO | ((uint32_t)r->err & SECCOMP_RET_DATA);
	return SECCOMP_RET_ALLOW;
}

/* One half of an argument: true when nothing of it is asked for. */
static bool half_is_free(uint64_t mask, bool high)
{
	return (uint32_t)(high ? mask >> 32 : mask) == 0;
}

static size_t half_length(uint64_t mask, bool high)
{
	if (half_is_free(mask, high))
		return 0;
	return (uint32_t)(high ? mask >> 32 : mask) == UINT32_MAX ? 2 : 3;
}

static size_t rule_length(const struct jail_rule *r)
{
	size_t n = 1;

	for (size_t i = 0; i < JAIL_ARGS_MAX; i++)
		if (r->args[i].used)
			n += half_length(r->args[i].mask, false) +
			     half_length(r->args[i].mask, true);
	return n;
}

/* Compares one half, and jumps to `end`, where the next rule begins, if it differs. */
static void emit_half(struct program *p, const struct jail_arg *a, bool high, size_t end)
{
	uint32_t at = (uint32_t)(offsetof(struct seccomp_data, args) + 8U * a->index);
	uint64_t value = a->self ? p->self : a->value;
	uint32_t mask = (uint32_t)(high ? a->mask >> 32 : a->mask);

	if (half_is_free(a->mask, high))
		return;
	emit(p, LOAD, high ? at + 4 : at, 0, 0);
	if (mask != UINT32_MAX)
		emit(p, AND, mask, 0, 0);
	emit(p, IF_EQUAL, (uint32_t)(high ? value >> 32 : value), 0, end - p->len - 1);
}

static bool emit_rule(struct program *p, const struct jail_rule *r)
{
	size_t end = p->len + rule_length(r);
	bool always = true;

	for (size_t i = 0; i < JAIL_ARGS_MAX; i++) {
		if (!r->args[i].used)
			continue;
		always = false;
		emit_half(p, &r->args[i], false, end);
		emit_half(p, &r->args[i], true, end);
	}
	emit(p, RETURN, answer_of(r), 0, 0);
	assert(p->len == end);
	return always;
}

static void emit_group(struct program *p, const struct group *g)
{
	uint32_t call = (uint32_t)p->rules[p->order[g->first]].call;
	bool always = false;

	emit(p, IF_EQUAL, call, 1, 0);
	emit(p, RETURN, SECCOMP_RET_KILL_PROCESS, 0, 0);
	for (size_t i = 0; i < g->count && !always; i++)
		always = emit_rule(p, &p->rules[p->order[g->first + i]]);
	if (!always)
		emit(p, RETURN, SECCOMP_RET_KILL_PROCESS, 0, 0);
}

/* Groups [lo, hi). The accumulator holds the number of the call until a group takes over. */
static void emit_tree(struct program *p, size_t lo, size_t hi)
{
	size_t mid = lo + (hi - lo) / 2;
	size_t jump;

	if (hi - lo == 1) {
		emit_group(p, &p->groups[lo]);
		return;
	}
	/* a conditional jump reaches 255 instructions, a plain one any number */
	emit(p, IF_AT_LEAST, (uint32_t)p->rules[p->order[p->groups[mid].first]].call, 0, 1);
	jump = p->len;
	emit(p, GOTO, 0, 0, 0);
	emit_tree(p, lo, mid);
	if (jump < p->max)
		p->at[jump].k = (uint32_t)(p->len - jump - 1);
	emit_tree(p, mid, hi);
}

static void sort_rules(struct program *p, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t at = i;

		/* insertion keeps rules of one call in the order of the table */
		for (; at > 0 && p->rules[p->order[at - 1]].call > p->rules[i].call; at--)
			p->order[at] = p->order[at - 1];
		p->order[at] = (uint16_t)i;
	}
	for (size_t i = 0; i < count; i++) {
		if (i == 0 || p->rules[p->order[i]].call != p->rules[p->order[i - 1]].call)
			p->groups[p->group_count++].first = i;
		p->groups[p->group_count - 1].count++;
	}
}

static void check_rule(const struct jail_rule *r)
{
	assert(r->call >= 0 && r->call < CALL_X32);
	assert(r->err >= 0 && r->err <= (int)SECCOMP_RET_DATA);
	for (size_t i = 0; i < JAIL_ARGS_MAX; i++) {
		const struct jail_arg *a = &r->args[i];

		/* a value outside the mask never fits: somebody misread */
		assert(!a->used || (a->index < 6 && a->mask != 0 && (a->value & ~a->mask) == 0));
	}
}

int jail_bpf_compile(const struct jail_rule *rules, size_t count, uint32_t self,
                     struct sock_filter *ret, size_t max, size_t *ret_count, struct err *e)
{
	struct program p = { .at = ret, .max = max, .self = self, .rules = rules };

	assert(count > 0 && count <= JAIL_RULES_MAX);
	for (size_t i = 0; i < count; i++)
		check_rule(&rules[i]);
	sort_rules(&p, count);
	emit(&p, LOAD, offsetof(struct seccomp_data, arch), 0, 0);
	emit(&p, IF_EQUAL, AUDIT_ARCH_X86_64, 1, 0);
	emit(&p, RETURN, SECCOMP_RET_KILL_PROCESS, 0, 0);
	emit(&p, LOAD, offsetof(struct seccomp_data, nr), 0, 0);
	emit_tree(&p, 0, p.group_count);
	if (p.len > max)
		return err_set(e, -E2BIG, "the filter is over %zu instructions", max);
	*ret_count = p.len;
	return 0;
}
