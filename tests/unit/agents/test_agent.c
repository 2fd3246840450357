#include "agents/agent.h"

#include "base/fdio.h"
#include "policy/policy.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *const installed[] = { "claude-code", "codex", "custom", "gemini", "opencode" };

/* The user's folder is the test's own. */
static void places(struct agent_where *w)
{
	struct err e = { 0 };

	w->user_path = "~/.config/berm/agents";
	CHECK_OK(fd_open(AGENTS, O_RDONLY | O_DIRECTORY, 0, &w->installed_fd, &e), &e);
	CHECK_OK(fd_open(PRESETS, O_RDONLY | O_DIRECTORY, 0, &w->presets_fd, &e), &e);
	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &w->user_fd, &e), &e);
}

static void close_places(const struct agent_where *w)
{
	(void)close(w->installed_fd);
	(void)close(w->presets_fd);
	(void)close(w->user_fd);
}

static struct agent *load_text(const char *name, const char *text)
{
	struct agent_where w;
	struct agent *a = NULL;
	struct err e = { 0 };

	places(&w);
	CHECK_OK(agent_load_text(&w, name, "f", span_str(text), &a, &e), &e);
	close_places(&w);
	return a;
}

static void refused(const char *text, const char *why)
{
	struct agent_where w;
	struct agent *a = NULL;
	struct err e = { 0 };

	places(&w);
	CHECK_EQ(agent_load_text(&w, "codex", "f", span_str(text), &a, &e), -EINVAL);
	CHECK(!a);
	if (!strstr(e.text, why))
		CHECK_STR(e.text, why);
	close_places(&w);
}

TEST(every_installed_profile_is_valid)
{
	_own_free_ struct agent_list *l = NULL;
	struct agent_where w;
	struct err e = { 0 };

	places(&w);
	CHECK_OK(agent_list(&w, &l, &e), &e);
	CHECK_EQ(l->count, sizeof(installed) / sizeof(installed[0]));
	for (unsigned i = 0; i < l->count; i++) {
		_own_(agent_free) struct agent *a = NULL;

		CHECK_STR(l->rows[i].name, installed[i]);
		CHECK(l->rows[i].installed && !l->rows[i].user);
		CHECK_OK(agent_load(&w, installed[i], &a, &e), &e);
		CHECK(a->command.count > 0);
		/* a session starts locked or narrower, and what is kept is named files alone */
		CHECK(a->level <= AGENT_LOCKED);
		for (unsigned s = 0; s < a->state.count; s++)
			CHECK(strchr(a->state.at[s], '/') != NULL);
	}
	close_places(&w);
}

TEST(a_users_file_replaces_fields)
{
	_own_(agent_free) struct agent *a = load_text(
		"codex", "version: 1\nresources: { memory: 8GiB }\nimage:\n  base: mine\n");

	CHECK_EQ(a->memory_bytes, 8ull << 30);
	CHECK_STR(a->origin[AGENT_F_MEMORY], "f:2");
	CHECK_STR(a->base, "mine");
	CHECK_STR(a->origin[AGENT_F_BASE], "f:4");
	CHECK_EQ(a->cpus, 2);
	CHECK(strncmp(a->origin[AGENT_F_CPUS], "installed codex.yaml:", 21) == 0);
	CHECK_STR(a->command.at[0], "codex");
	CHECK_STR(a->origin[AGENT_F_PIP], "default");
	CHECK(a->user_own);
}

TEST(another_name_is_laid_upon_custom)
{
	_own_(agent_free) struct agent *a =
		load_text("mine", "version: 1\ncommand: [my-agent, --x]\n");

	CHECK_EQ(a->command.count, 2);
	CHECK_EQ(a->secrets.count, 0);
	CHECK_EQ(a->settings_count, 0);
	CHECK_EQ(a->forward.count, 0);
	CHECK_EQ(a->level, AGENT_MODEL_ONLY);
	for (unsigned l = 0; l < AGENT_LEVELS; l++)
		CHECK_EQ(a->rules[l].count, 0);
	CHECK(strncmp(a->origin[AGENT_F_CPUS], "installed custom.yaml:", 22) == 0);
}

TEST(levels_bring_each_other_and_origins_are_lines)
{
	struct agent_where w;
	_own_(agent_free) struct agent *a = load_text(
		"mine",
		"version: 1\nsecrets:\n  - { name: MY_KEY, hosts: [m.example.com], header: x-key }\n"
		"  - { name: OTHER_KEY, hosts: [m.example.com] }\negress:\n  default: locked\n  locked:\n"
		"    - host: l.example.com\n      port: 443\n  model-only: [ { host: m.example.com } ]\n");
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	_own_(policy_free) struct policy *p = NULL;
	_own_free_ uint8_t *tlv = NULL;
	struct err e = { 0 };
	size_t len;

	places(&w);
	CHECK_OK(policy_draft_new(policy_preset_dir, &w.presets_fd, &d, &e), &e);
	CHECK_OK(agent_policy(a, AGENT_LOCKED, 1, d, &e), &e);
	CHECK_OK(policy_draft_compile(d, 1, &tlv, &len, &e), &e);
	CHECK_OK(policy_load(span_of(tlv, len), &p, &e), &e);
	CHECK_EQ(policy_rules(p), 2);
	CHECK_SPAN(policy_rule_origin(p, 0), "f:8");
	CHECK_SPAN(policy_rule_origin(p, 1), "f:10");
	CHECK_EQ(policy_secrets(p), 1);
	CHECK_SPAN(policy_secret_at(p, 0)->name, "MY_KEY");
	close_places(&w);
}

TEST(the_narrowest_level_has_the_narrowest_rules)
{
	struct agent_where w;
	_own_(agent_free) struct agent *a = NULL;
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	_own_(policy_free) struct policy *p = NULL;
	_own_free_ uint8_t *tlv = NULL;
	struct err e = { 0 };
	size_t len;

	places(&w);
	CHECK_OK(agent_load(&w, "claude-code", &a, &e), &e);
	CHECK_OK(policy_draft_new(policy_preset_dir, &w.presets_fd, &d, &e), &e);
	CHECK_OK(agent_policy(a, AGENT_MODEL_ONLY, UINT64_MAX, d, &e), &e);
	CHECK_OK(policy_draft_compile(d, 1, &tlv, &len, &e), &e);
	CHECK_OK(policy_load(span_of(tlv, len), &p, &e), &e);
	CHECK_EQ(policy_rules(p), 1);
	CHECK_EQ(policy_secrets(p), 2);
	close_places(&w);
}

TEST(an_unknown_key_has_a_line_and_a_suggestion)
{
	refused("version: 1\nresources: { memroy: 1GiB }\n",
	        "f:2:14: 'memroy' is no key of resources:; did you mean 'memory'?");
	refused("version: 1\nxyz: 1\n", "f:2:1: 'xyz' is no key of an agent's profile");
	refused("version: 1\negress: { default: lokced }\n", "did you mean 'locked'?");
	refused("version: 1\nsettings: [ { path: a, category: setings, format: text } ]\n",
	        "did you mean 'settings'?");
}

TEST(what_a_profile_may_not_say)
{
	refused("", "f: is empty");
	refused("command: [x]\n", "no version");
	refused("version: 2\n", "is no version");
	refused("version: 1\ncommand: []\n", "f:2:10: the command has no word");
	refused("version: 1\ncommand: x\n", "a list belongs here");
	refused("version: 1\narguments: { task: [x] }\n", "\"{task}\"");
	refused("version: 1\nenvironment: { set: { BERM_X: y } }\n", "begins with BERM_");
	refused("version: 1\nenvironment: { set: { KEY: sk-ant-123 } }\n",
	        "looks like a credential");
	refused("version: 1\nenvironment: { forward: [GITHUB_TOKEN] }\n",
	        "looks like a credential");
	refused("version: 1\nenvironment: { set: { OPENAI_API_KEY: y } }\n", "is a secret as well");
	refused("version: 1\nstate: [/etc/passwd]\n", "is not beneath the home directory");
	refused("version: 1\nstate: [a/../b]\n", "'.' or '..'");
	refused("version: 1\nsettings: [ { path: a, category: rules, format: json } ]\n",
	        "needs keys");
	refused("version: 1\nsettings: [ { path: a, category: rules, format: text, keys: [b] } ]\n",
	        "keys are for");
	refused("version: 1\n"
	        "settings: [ { path: a, category: rules, format: json, keys: [token] } ]\n",
	        "credential");
	refused("version: 1\nimage: { packages: { npm: [\"https://x/y\"] } }\n", "is an address");
	refused("version: 1\nimage: { packages: { apt: [\"-x\"] } }\n", "is no package's name");
	refused("version: 1\nimage: { base: ../../etc }\n",
	        "f:2:16: '../../etc' is no image's name");
	refused("version: 1\nimage: { base: --x }\n", "is no image's name");
	refused("version: 1\nsettings: [ { path: .ssh/id_rsa, category: rules, format: text } ]\n",
	        "f:2:21: '.ssh/id_rsa' is where credentials usually are");
	refused("version: 1\nsettings: [ { path: .aws, category: rules, format: folder } ]\n",
	        "is where credentials usually are");
	refused("version: 1\nresources: { memory: 1MiB }\n", "less than 64MiB");
	refused("version: 1\ndescription: \"a\\e[31mb\"\n", "control character");
}

/* Rules and secrets are judged by the policy's own reader, in the profile's lines. */
TEST(rules_and_secrets_are_the_policys)
{
	refused("version: 1\nsecrets:\n  - { name: A_KEY, hosts: [x.example.com] }\n"
	        "  - { name: B_KEY }\n",
	        "f:4:");
	refused("version: 1\nsecrets: [ { name: A_KEY, hosts: [x.example.com], value: y } ]\n",
	        "'value' is no key of a secret");
	refused("version: 1\negress:\n  locked:\n    - { host: \"*\" }\n", "f:4:");
	refused("version: 1\negress:\n  locked:\n    - { preset: nosuch }\n", "nosuch");
	refused("version: 1\nsecrets: [ { name: BERM_KEY, hosts: [x.example.com] } ]\n", "BERM_");
}

TEST(no_regular_file)
{
	struct agent_where w;
	struct agent *a = NULL;
	struct err e = { 0 };

	places(&w);
	CHECK_EQ(mkfifoat(w.user_fd, "codex.yaml", 0600), 0);
	CHECK_EQ(agent_load(&w, "codex", &a, &e), -EINVAL);
	CHECK_STR(e.text, "~/.config/berm/agents/codex.yaml: is no regular file");
	close_places(&w);
}

TEST(a_wrong_file_of_the_users_is_fatal)
{
	struct agent_where w;
	struct agent *a = NULL;
	struct err e = { 0 };

	places(&w);
	CHECK_OK(fd_replace_file(w.user_fd, "codex.yaml", "x: 1\n", 5, 0600, &e), &e);
	CHECK_EQ(agent_load(&w, "codex", &a, &e), -EINVAL);
	CHECK_EQ(agent_load(&w, "codx", &a, &e), -ENOENT);
	CHECK_STR(e.text, "there is no agent 'codx'; did you mean 'codex'?");
	CHECK_EQ(agent_load(&w, "../codex", &a, &e), -EINVAL);
	close_places(&w);
}

TEST(heap_caps_follow_the_memory)
{
	_own_(agent_free) struct agent *a =
		load_text("mine", "version: 1\nheap: { node: 75, go: 70 }\n"
	                          "environment: { set: { NODE_OPTIONS: --no-warnings, A: b } }\n");
	char **env = NULL;
	struct err e = { 0 };

	CHECK_OK(agent_environment(a, 4ull << 30, &env, &e), &e);
	CHECK_STR(env[0], "NODE_OPTIONS=--no-warnings --max-old-space-size=3072");
	CHECK_STR(env[1], "A=b");
	CHECK_STR(env[2], "GOMEMLIMIT=2867MiB");
	CHECK(!env[3]);
	agent_environment_free(env);
}

struct seen {
	char text[2048];
	size_t len;
};

static int note(void *arg, const struct settings_found *f)
{
	static const char *const words[] = { "enters", "absent", "refused" };
	struct seen *s = arg;

	s->len += (size_t)snprintf(s->text + s->len, sizeof(s->text) - s->len, "%s %s;",
	                           words[f->fate], f->path);
	return 0;
}

TEST(settings_are_walked_in_order)
{
	_own_(agent_free) struct agent *a = load_text(
		"mine", "version: 1\nsettings:\n"
			"  - { path: .x/s.json, category: settings, format: json, keys: [a] }\n"
			"  - { path: .x/no.md, category: rules, format: text }\n"
			"  - { path: .x/skills, category: skills, format: folder }\n");
	struct seen s = { .len = 0 };
	_own_fd_ int fd = -1;
	struct err e = { 0 };

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	CHECK_EQ(mkdirat(fd, ".x", 0700), 0);
	CHECK_EQ(mkdirat(fd, ".x/skills", 0700), 0);
	CHECK_EQ(mkdirat(fd, ".x/skills/.git", 0700), 0);
	CHECK_OK(fd_replace_file(fd, ".x/s.json", "{\"a\":1}", 7, 0600, &e), &e);
	CHECK_OK(fd_replace_file(fd, ".x/skills/b.md", "b", 1, 0600, &e), &e);
	CHECK_OK(fd_replace_file(fd, ".x/skills/.env", "b", 1, 0600, &e), &e);
	CHECK_EQ(mkfifoat(fd, ".x/skills/a", 0600), 0);
	CHECK_EQ(symlinkat("/etc/passwd", fd, ".x/skills/c"), 0);
	CHECK_EQ(symlinkat("b.md", fd, ".x/skills/d"), 0);
	CHECK_EQ(mkdirat(fd, ".ssh", 0700), 0);
	CHECK_OK(fd_replace_file(fd, ".ssh/config", "b", 1, 0600, &e), &e);
	CHECK_EQ(symlinkat("../../.ssh/config", fd, ".x/skills/e"), 0);
	CHECK_EQ(symlinkat("../../.ssh", fd, ".x/skills/f"), 0);
	CHECK_OK(settings_walk(a, fd, note, &s, &e), &e);
	CHECK_STR(s.text, "enters .x/s.json;absent .x/no.md;refused .x/skills/.env;"
	                  "refused .x/skills/.git;refused .x/skills/a;enters .x/skills/b.md;"
	                  "refused .x/skills/c;enters .x/skills/d;refused .x/skills/e;"
	                  "refused .x/skills/f;");
}

TEST_MAIN()
