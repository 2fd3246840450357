#include "cli/verbs.h"

const struct verb *const cli_verbs[] = {
#ifdef CLI_IMAGES
	&verb_run,
#endif
	&verb_exec,    &verb_attach,  &verb_ps,       &verb_logs, &verb_stats,
	&verb_inspect, &verb_cp,      &verb_wait,     &verb_stop, &verb_rm,
#ifdef CLI_IMAGE_VERB
	&verb_image,
#endif
#ifdef CLI_DOCTOR_VERB
	&verb_doctor,
#endif
	&verb_help,    &verb_version, &verb_complete, NULL,
};
