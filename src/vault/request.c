#include "vault/request.h"

#include "vault/inner.h"

#include <errno.h>

int request_open(struct vault *v, uint32_t stream, struct span payload)
{
	(void)payload;
	peer_reset(v, stream, EGRESS_INTERNAL);
	return 0;
}

int request_frame(struct vault *v, uint32_t number, const struct egress_frame *f)
{
	(void)v;
	(void)number;
	(void)f;
	return 0;
}

void request_resume_all(struct vault *v)
{
	(void)v;
}
