//! Other spellings of what a rule forbids, and their everyday neighbours.

use super::{rules, script};
use crate::rule::Verdict;
use crate::ruleset::{HitCertainty, RuleSet};

const RULES: &str = "prefix_rule([\"terraform\", \"destroy\"], \"forbidden\")\n\
    prefix_rule([\"npm\", \"publish\"], \"forbidden\")\n\
    prefix_rule([\"npm\", \"access\", \"grant\"], \"forbidden\")\n\
    prefix_rule([\"git\", \"push\", \"--force\"], \"forbidden\")\n\
    prefix_rule([\"git\", \"clean\"], \"forbidden\")\n\
    prefix_rule([\"rm\"], \"forbidden\")";

fn certainty(rules: &RuleSet, text: &str) -> Option<HitCertainty> {
    let reading = script(text);
    let ruling = rules.judge(&reading);
    let deciding = ruling.deciding()?;
    assert_eq!(deciding.rule.verdict(), Verdict::Forbidden, "{text}");
    Some(deciding.certainty)
}

#[test]
fn another_spelling_of_what_is_forbidden_is_forbidden() {
    let rules = rules(RULES);
    for text in [
        "terraform destroy",
        "terraform apply -destroy",
        "terraform apply --destroy -auto-approve",
        "terraform apply -auto-approve -destroy=true",
        "terraform -chdir=infra apply -destroy=1",
        "terraform -chdir=infra apply -input=false -destroy=T x.tfvars",
        "sudo /usr/bin/terraform apply -destroy",
        "npm publish",
        "npm pub",
        "npm publ --access public",
        "npm --loglevel silly publis",
        "npm --tag=x pu",
        "/usr/local/bin/npm publi .",
        "npm acc grant read-only a b",
        "npm access --json grant x",
        "git-push --force",
        "git-push -f origin main && git-push origin main --forc",
        "/usr/lib/git-core/git-push origin --force main",
        "env git-clean -fdx",
        "xargs git-clean",
    ] {
        assert_eq!(
            certainty(&rules, text),
            Some(HitCertainty::Certain),
            "{text}"
        );
    }
    for text in [
        "terraform apply $FLAGS",
        "terraform apply \"$PLAN\"",
        "terraform apply -des$x",
        "git -c help.autocorrect=immediate claen",
        "npm pub$x",
        "npm $(cat cmd)",
        "git-push $X",
        "git-rebase --exec 'rm x' main",
        "git-bisect run rm x",
        "git-submodule foreach rm x",
        "git-filter-branch --tree-filter 'rm x'",
    ] {
        assert_eq!(
            certainty(&rules, text),
            Some(HitCertainty::Possible),
            "{text}"
        );
    }
}

#[test]
fn what_the_environment_makes_of_a_command_counts_wherever_it_is_set() {
    let rules = rules(RULES);
    let certain = [
        "env TF_CLI_ARGS_apply=-destroy terraform apply",
        "sudo TF_CLI_ARGS_apply=-destroy terraform apply",
        "export TF_CLI_ARGS_apply=-destroy; terraform apply",
        "export 'TF_CLI_ARGS_apply=-destroy' && cd infra && terraform apply",
        "declare -x TF_CLI_ARGS=-destroy\nterraform apply",
        "TF_CLI_ARGS=-destroy; export TF_CLI_ARGS; terraform apply",
        "f() { terraform apply; }; export TF_CLI_ARGS=-destroy; f",
        "TF_CLI_ARGS=-destroy bash -c 'cd infra; terraform apply'",
        "env -i PATH=/usr/bin TF_CLI_ARGS=-destroy bash -c 'terraform apply'",
        "TF_CLI_ARGS_apply=-destroy terraform apply",
        "TF_CLI_ARGS='-no-color -destroy' terraform apply -auto-approve",
    ];
    let possible = [
        "TF_CLI_ARGS_apply=$X terraform apply",
        "TF_CLI_ARGS_apply='\"-destroy\"' terraform apply",
        "TF_CLI_ARGS='-de\\stroy' terraform apply",
        "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=alias.p GIT_CONFIG_VALUE_0=clean git p",
        "GIT_CONFIG_PARAMETERS=\"'alias.p'='clean'\" git p",
        "GIT_CONFIG_GLOBAL=/tmp/x git p",
        "HOME=/tmp/x git p",
        "env HOME=/tmp/x git p",
        "export HOME=/tmp/x; git p",
        "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=alias.p GIT_CONFIG_VALUE_0=clean; git p",
        "XDG_CONFIG_HOME=/tmp/x sh -c 'git p'",
        "export TF_CLI_ARGS=$X; terraform apply",
    ];
    for (texts, wanted) in [
        (&certain[..], HitCertainty::Certain),
        (&possible[..], HitCertainty::Possible),
    ] {
        for text in texts {
            assert_eq!(certainty(&rules, text), Some(wanted), "{text}");
        }
    }
}

#[test]
fn their_everyday_neighbours_are_not_disturbed() {
    let rules = rules(RULES);
    for text in [
        "terraform apply",
        "terraform apply -auto-approve",
        "terraform apply -destroy=false",
        "terraform apply tfplan",
        "terraform apply -target=module.destroy",
        "terraform plan -destroy",
        "TF_CLI_ARGS_plan=-destroy terraform apply",
        "export TF_CLI_ARGS_plan=-destroy; terraform apply",
        "export TF_IN_AUTOMATION=1 TF_INPUT=0; terraform apply -auto-approve",
        "export PYTHONPATH=$PWD/src; pytest; git-status",
        "HOME=/tmp/x ls && git-status",
        "npm install",
        "npm i publish",
        "npm ci",
        "npm run publish",
        "npm test",
        "npm pack",
        "npm prune",
        "npm unpublish x",
        "npm access list packages",
        "yarn pub",
        "git-push origin main",
        "git-lfs ls-files",
        "git-status",
        "git-log --oneline",
        "git-rebase main",
        "git-secrets --scan",
        "git-subtree push --prefix=x origin main",
        "git-",
        "gitk",
    ] {
        assert_eq!(certainty(&rules, text), None, "{text}");
    }
}

#[test]
fn another_spelling_is_never_allowed_by_a_rule() {
    let rules = rules(
        "prefix_rule([\"git\", \"status\"])\nprefix_rule([\"npm\", \"test\"])\nprefix_rule([\"terraform\", \"destroy\"])",
    );
    for text in ["git-status", "npm tst", "npm t", "terraform apply -destroy"] {
        let reading = script(text);
        assert_eq!(rules.judge(&reading).verdict(), None, "{text}");
    }
}
