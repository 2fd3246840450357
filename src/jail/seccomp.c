/*
 * A profile's rules become a filter by libseccomp. What no rule names kills the whole process with
 * SIGSYS: a denial is then a visible reason, not an error path nobody tested.
 */
#include "jail/internal.h"

#include <errno.h>
#include <seccomp.h>

static void filter_free(void *ctx)
{
	if (ctx)
		seccomp_release(ctx);
}
OWN_DEFINE(void, filter_free)

static int add_rule(scmp_filter_ctx ctx, const struct jail_rule *r, struct err *e)
{
	uint32_t act = r->act == JAIL_ERRNO ? SCMP_ACT_ERRNO((uint16_t)r->err) : SCMP_ACT_ALLOW;
	struct scmp_arg_cmp cmp = {
		.arg = r->arg.index,
		.op = SCMP_CMP_MASKED_EQ,
		.datum_a = r->arg.mask,
		.datum_b = r->arg.self ? (scmp_datum_t)getpid() : r->arg.value,
	};
	int rc = seccomp_rule_add_array(ctx, act, r->call, r->arg.used ? 1 : 0, &cmp);

	if (rc < 0)
		return err_set(e, rc, "filter rule for system call %d (%s): %s", r->call, r->why,
		               strerror(-rc));
	return 0;
}

static int set_attributes(scmp_filter_ctx ctx, struct err *e)
{
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0); /* jail_enter() did */

	if (r == 0) /* the 32-bit and x32 doors */
		r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0) /* a search tree: every call pays for the filter's length otherwise */
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r < 0)
		return err_set(e, r, "filter attribute: %s", strerror(-r));
	return 0;
}

int jail_seccomp(const struct jail_profile *p, struct err *e)
{
	_own_(filter_free) void *ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r;

	if (!ctx)
		return err_set(e, -ENOMEM, "out of memory");
	r = set_attributes(ctx, e);
	for (size_t i = 0; r == 0 && i < p->rule_count; i++)
		r = add_rule(ctx, &p->rules[i], e);
	if (r < 0)
		return r;
	r = seccomp_load(ctx);
	if (r < 0)
		return err_set(e, r, "load the system call filter: %s", strerror(-r));
	return 0;
}
