/*
 * verbs: one struct verb for each cmd_x.c.
 */
#pragma once

#include "cli/cli.h"

extern const struct verb verb_run;
extern const struct verb verb_code;
extern const struct verb verb_exec;
extern const struct verb verb_attach;
extern const struct verb verb_ps;
extern const struct verb verb_logs;
extern const struct verb verb_stats;
extern const struct verb verb_inspect;
extern const struct verb verb_cp;
extern const struct verb verb_wait;
extern const struct verb verb_stop;
extern const struct verb verb_rm;
extern const struct verb verb_pause;
extern const struct verb verb_resume;
extern const struct verb verb_snapshot;
extern const struct verb verb_fork;
extern const struct verb verb_restore;
extern const struct verb verb_image;
extern const struct verb verb_policy;
extern const struct verb verb_policy_show; /* of verb_policy */
extern const struct verb verb_policy_set;
extern const struct verb verb_secret;
extern const struct verb verb_agent;
extern const struct verb verb_agent_build; /* of verb_agent */
extern const struct verb verb_agent_doctor;
extern const struct verb verb_agent_forget;
extern const struct verb verb_forward;
extern const struct verb verb_diff;
extern const struct verb verb_apply;
extern const struct verb verb_undo;
extern const struct verb verb_discard;
extern const struct verb verb_sessions;
extern const struct verb verb_review;
extern const struct verb verb_review;
extern const struct verb verb_doctor;
extern const struct verb verb_help;
extern const struct verb verb_version;
extern const struct verb verb_complete; /* hidden: completion scripts and what they ask for */
