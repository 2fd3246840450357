#include "cli/verbs.h"

/* clang-format off */
const struct verb *const cli_verbs[] = {
	&verb_run,
	&verb_exec,
	&verb_attach,
	&verb_ps,
	&verb_logs,
	&verb_stats,
	&verb_inspect,
	&verb_cp,
	&verb_wait,
	&verb_stop,
	&verb_rm,
	&verb_pause,
	&verb_resume,
	&verb_snapshot,
	&verb_fork,
	&verb_restore,
	&verb_image,
	&verb_policy,
	&verb_secret,
	&verb_forward,
	&verb_agent,
	&verb_doctor,
	&verb_help,
	&verb_version,
	&verb_complete,
	NULL,
};
/* clang-format on */
