#include "cli/verbs.h"

const struct verb *const cli_verbs[] = {
	&verb_help,
	&verb_version,
	NULL,
};
