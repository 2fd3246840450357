/*
 * unpack_work: the jobs of berm-unpack that are about a workspace. Each is a whole process: it
 * closes its jail around the fds it was started with, and answers with its exit code.
 */
#pragma once

/* --proposal: a spooled stream becomes an index. Fds and report: work/proposal_job.h */
int unpack_proposal(void);

/* --commits GIT_DIR: what a guest committed becomes a stream of objects. work/gitobj_job.h */
int unpack_commits(const char *git_dir);
