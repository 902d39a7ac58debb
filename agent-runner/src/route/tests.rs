use exec_policy::{Class, Coverage, Verdict};
use protocol::{SandboxPermissions, TriggerKind};

use super::{Category, Facts, Way, decide, may_ask};
use crate::config::{ApprovalPolicy, Granular, SandboxMode};

const EXPECTED: &str = include_str!("expected.txt");

fn granular([sandbox_approval, rules]: [bool; 2]) -> Granular {
    Granular {
        sandbox_approval,
        rules,
        mcp_elicitations: false,
        request_permissions: false,
        skill_approval: false,
    }
}

/// The policies in the order of the columns.
fn policies() -> [ApprovalPolicy; 8] {
    [
        ApprovalPolicy::Never,
        ApprovalPolicy::Untrusted,
        ApprovalPolicy::Granular(granular([true, true])),
        ApprovalPolicy::Granular(granular([true, false])),
        ApprovalPolicy::Granular(granular([false, true])),
        ApprovalPolicy::Granular(granular([false, false])),
        ApprovalPolicy::OnRequest,
        ApprovalPolicy::OnFailure,
    ]
}

const PERMISSIONS: [(&str, SandboxPermissions); 4] = [
    ("default", SandboxPermissions::UseDefault),
    ("additional", SandboxPermissions::WithAdditionalPermissions),
    ("escalated", SandboxPermissions::RequireEscalated),
    ("unconfined", SandboxPermissions::RequireUnconfined),
];

const RULES: [(&str, Option<Verdict>, Coverage); 6] = [
    ("none", None, Coverage::None),
    ("allow", Some(Verdict::Allow), Coverage::Whole),
    ("allow-part", Some(Verdict::Allow), Coverage::Partial),
    ("prompt", Some(Verdict::Prompt), Coverage::None),
    ("prompt-user", Some(Verdict::PromptUser), Coverage::None),
    ("forbidden", Some(Verdict::Forbidden), Coverage::None),
];

const CLASSES: [(&str, Class); 3] = [
    ("safe", Class::KnownSafe),
    ("unknown", Class::Unknown),
    ("dangerous", Class::Dangerous),
];

/// The cells of the rows in `section` whose first words fit `keys`, each row with its number.
fn rows<'t>(section: &str, keys: &[&str]) -> Vec<(usize, Vec<&'t str>)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (number, line) in EXPECTED.lines().enumerate() {
        if let Some(name) = line.strip_prefix('[') {
            inside = name
                .trim_end_matches(']')
                .split(' ')
                .any(|name| name == section);
        }
        let Some((row, cells)) = line.split_once('|').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let row: Vec<&str> = row.split_whitespace().collect();
        let fits = row.len() == keys.len()
            && row
                .iter()
                .zip(keys)
                .all(|(word, key)| *word == "*" || word == key);
        if inside && fits {
            found.push((number + 1, cells.split_whitespace().collect()));
        }
    }
    found
}

fn cell(way: Way) -> String {
    let mark = |trigger| match trigger {
        TriggerKind::EscalationRequested => "e",
        TriggerKind::UntrustedCommand => "c",
        TriggerKind::RulePrompt => "r",
        TriggerKind::SandboxDenied
        | TriggerKind::NetworkBlocked
        | TriggerKind::PermissionRequested
        | TriggerKind::ToolSideEffect
        | TriggerKind::SkillApproval => panic!("{trigger:?} is no trigger of a command"),
    };
    match way {
        Way::Run => "run".to_owned(),
        Way::ByRule => "rule".to_owned(),
        Way::Ask(trigger) => format!("ask+{}", mark(trigger)),
        Way::AskPerson(trigger) => format!("per+{}", mark(trigger)),
        Way::Refuse(_) => "no".to_owned(),
    }
}

#[test]
fn every_cell_of_the_table_holds() {
    let mut held = 0;
    for sandbox in [
        SandboxMode::ReadOnly,
        SandboxMode::WorkspaceWrite,
        SandboxMode::DangerFullAccess,
    ] {
        for (permission, permissions) in PERMISSIONS {
            for (rule, verdict, coverage) in RULES {
                for (kind, class) in CLASSES {
                    let facts = Facts {
                        sandbox,
                        permissions,
                        verdict,
                        coverage,
                        class,
                    };
                    let found = rows(sandbox.as_str(), &[permission, rule, kind]);
                    let [(number, cells)] = found.as_slice() else {
                        panic!("{facts:?} has {} rows", found.len());
                    };
                    assert_eq!(cells.len(), policies().len(), "line {number}");
                    for (policy, wanted) in policies().into_iter().zip(cells) {
                        let way = cell(decide(policy, facts));
                        assert_eq!(way, *wanted, "line {number}: {policy:?} {facts:?}");
                        held += 1;
                    }
                }
            }
        }
    }
    assert_eq!(held, 3 * 4 * 6 * 3 * 8);
}

#[test]
fn a_stricter_rule_never_turns_a_refusal_into_a_run() {
    let verdicts = [
        None,
        Some(Verdict::Allow),
        Some(Verdict::Prompt),
        Some(Verdict::PromptUser),
        Some(Verdict::Forbidden),
    ];
    let runs = |way| matches!(way, Way::Run | Way::ByRule);
    let modes = [
        SandboxMode::ReadOnly,
        SandboxMode::WorkspaceWrite,
        SandboxMode::DangerFullAccess,
    ];
    for (sandbox, policy) in modes
        .into_iter()
        .flat_map(|sandbox| policies().map(|policy| (sandbox, policy)))
    {
        for (_, permissions) in PERMISSIONS {
            for (_, class) in CLASSES {
                for coverage in [Coverage::None, Coverage::Partial, Coverage::Whole] {
                    let way = |verdict| {
                        let facts = Facts {
                            sandbox,
                            permissions,
                            verdict,
                            coverage,
                            class,
                        };
                        decide(policy, facts)
                    };
                    for (at, milder) in verdicts.iter().enumerate() {
                        for stricter in &verdicts[at..] {
                            let restricts =
                                stricter.is_some_and(|verdict| verdict > Verdict::Allow);
                            let (before, after) = (way(*milder), way(*stricter));
                            assert!(
                                !restricts || runs(before) || !runs(after),
                                "{policy:?} {sandbox:?} {permissions:?}: {before:?}, then {after:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_kind_of_question_is_asked_or_refused_as_the_table_says() {
    let off = granular([false, false]);
    let kinds: [(&str, Category, Granular); 7] = [
        ("sandbox", Category::Sandbox, granular([true, false])),
        ("rules", Category::Rules, granular([false, true])),
        (
            "tool-server",
            Category::ToolServer,
            Granular {
                mcp_elicitations: true,
                ..off
            },
        ),
        (
            "permissions",
            Category::Permissions,
            Granular {
                request_permissions: true,
                ..off
            },
        ),
        (
            "skill",
            Category::Skill,
            Granular {
                skill_approval: true,
                ..off
            },
        ),
        ("tool-call", Category::ToolCall, off),
        ("host", Category::Host, off),
    ];
    for (kind, category, on) in kinds {
        let found = rows("kinds", &[kind]);
        let [(number, cells)] = found.as_slice() else {
            panic!("{kind} has {} rows", found.len());
        };
        let policies = [
            ApprovalPolicy::Never,
            ApprovalPolicy::Untrusted,
            ApprovalPolicy::OnRequest,
            ApprovalPolicy::OnFailure,
            ApprovalPolicy::Granular(off),
            ApprovalPolicy::Granular(on),
        ];
        assert_eq!(cells.len(), policies.len(), "line {number}");
        for (policy, wanted) in policies.into_iter().zip(cells) {
            let may = may_ask(policy, category).is_ok();
            assert_eq!(may, *wanted == "yes", "line {number}: {policy:?}");
        }
    }
}
