#include "vmm/cpu_state.h"

#include <errno.h>
#include <string.h>

#define EFER_SVME (UINT64_C(1) << 12) /* Source: AMD APM volume 2, 3.1.7 */

/*
 * Shape: a length and that many bytes for each of mp, regs, sregs, xcrs, debug, lapic, events; u32
 * tsc_khz | u64 tsc_offset | u32 count of MSRs, each u32 index | u64 value | u32 bytes of xsave and
 * they.
 */

static void put_blob(struct buf *b, const void *data, uint32_t len)
{
	buf_put_le32(b, len);
	buf_put(b, data, len);
}

void cpu_state_put(const struct cpu_state *s, struct buf *b)
{
	put_blob(b, &s->mp, sizeof(s->mp));
	put_blob(b, &s->regs, sizeof(s->regs));
	put_blob(b, &s->sregs, sizeof(s->sregs));
	put_blob(b, &s->xcrs, sizeof(s->xcrs));
	put_blob(b, &s->debug, sizeof(s->debug));
	put_blob(b, &s->lapic, sizeof(s->lapic));
	put_blob(b, &s->events, sizeof(s->events));
	buf_put_le32(b, s->tsc_khz);
	buf_put_le64(b, s->tsc_offset);
	buf_put_le32(b, s->msr_count);
	for (uint32_t i = 0; i < s->msr_count; i++) {
		buf_put_le32(b, s->msrs[i].index);
		buf_put_le64(b, s->msrs[i].data);
	}
	put_blob(b, s->xsave, s->xsave_bytes);
}

/* A structure of exactly this size. */
static bool take_blob(struct span *in, void *ret, uint32_t len)
{
	uint32_t got;

	return take_le32(in, &got) && got == len && take_bytes(in, ret, len);
}

static bool take_msrs(struct span *in, struct cpu_state *ret)
{
	uint32_t count;

	if (!take_le32(in, &count) || count > CPU_MSRS_MAX)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		struct kvm_msr_entry *m = &ret->msrs[i];
		uint32_t index;
		uint64_t value;

		if (!take_le32(in, &index) || !take_le64(in, &value))
			return false;
		*m = (struct kvm_msr_entry){ .index = index, .data = value };
	}
	ret->msr_count = count;
	return true;
}

static bool take_xsave(struct span *in, struct cpu_state *ret)
{
	uint32_t bytes;

	if (!take_le32(in, &bytes) || bytes < CPU_XSAVE_MIN || bytes > CPU_XSAVE_MAX)
		return false;
	memset(ret->xsave, 0, sizeof(ret->xsave));
	ret->xsave_bytes = bytes;
	return take_bytes(in, ret->xsave, bytes);
}

/* Nobody sees a machine that is half read: the caller's stays as it was. */
static bool take_all(struct span *in, struct cpu_state *got)
{
	return take_blob(in, &got->mp, sizeof(got->mp)) &&
	       take_blob(in, &got->regs, sizeof(got->regs)) &&
	       take_blob(in, &got->sregs, sizeof(got->sregs)) &&
	       take_blob(in, &got->xcrs, sizeof(got->xcrs)) &&
	       take_blob(in, &got->debug, sizeof(got->debug)) &&
	       take_blob(in, &got->lapic, sizeof(got->lapic)) &&
	       take_blob(in, &got->events, sizeof(got->events)) && take_le32(in, &got->tsc_khz) &&
	       take_le64(in, &got->tsc_offset) && take_msrs(in, got) && take_xsave(in, got) &&
	       in->len == 0;
}

int cpu_state_parse(struct span in, struct cpu_state *ret)
{
	struct cpu_state got = { .msr_count = 0 };

	if (!take_all(&in, &got))
		return -EBADMSG;
	/* a guest of ours has no firmware: nobody put a handler where SMM would begin */
	if (got.xcrs.nr_xcrs > KVM_MAX_XCRS || got.tsc_khz == 0 || got.events.smi.smm != 0)
		return -EBADMSG;
	/* a guest cannot set it, as its CPUID lacks SVM; KVM_SET_SREGS does not ask the CPUID */
	if (got.sregs.efer & EFER_SVME)
		return -EBADMSG;
	*ret = got;
	return 0;
}
