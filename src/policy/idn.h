/*
 * idn: names in other scripts as people write them, in the policy file and on the command line. A
 * guest's names never come here: they are compared as A-labels.
 *
 * Source    RFC 5891 and UTS 46 (non-transitional), through libidn2
 */
#pragma once

#include "base/err.h"
#include "policy/host.h"

/*
 * A host pattern of the user's, made ASCII and judged. On failure the message is the sentence's end
 * from host_fault_text(), or libidn2's. Returns 0, -EINVAL or -ENOMEM.
 */
_must_ int idn_pattern_parse(struct span text, struct host_pattern *ret, struct err *e);
