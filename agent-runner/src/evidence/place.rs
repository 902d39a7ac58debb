//! Where the command would run: in a container, in CI, by whom, and whether anything here speaks of production.
//!
//! Pure but for asking whether two files exist. Invariant: a sign is told with where it was seen; that there is none proves
//! nothing, and is told as such.

use std::path::Path;

use serde_json::{Value, json};

use crate::config::Environment;

/// Variables that CI services set.
const CI: [&str; 10] = [
    "CI",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "JENKINS_URL",
    "BUILDKITE",
    "CIRCLECI",
    "TF_BUILD",
    "TEAMCITY_VERSION",
    "TRAVIS",
    "CODEBUILD_BUILD_ID",
];
/// Variables that name what a machine is for.
const STAGES: [&str; 16] = [
    "APP_ENV",
    "ENV",
    "ENVIRONMENT",
    "RAILS_ENV",
    "RACK_ENV",
    "NODE_ENV",
    "DJANGO_SETTINGS_MODULE",
    "FLASK_ENV",
    "ASPNETCORE_ENVIRONMENT",
    "STAGE",
    "DEPLOY_ENV",
    "DEPLOYMENT",
    "AWS_PROFILE",
    "KUBE_CONTEXT",
    "CLOUDSDK_ACTIVE_CONFIG_NAME",
    "TF_WORKSPACE",
];

/// What is known of the place.
pub(super) fn place(environment: &Environment, host: &str, words: &[String]) -> Value {
    let variable = |name: &str| {
        let mut all = environment.all.iter();
        all.find(|(known, _)| known == name)
            .map(|(_, value)| value.to_string_lossy().into_owned())
            .filter(|value| !value.is_empty())
    };
    let mut container = Vec::new();
    for file in ["/.dockerenv", "/run/.containerenv"] {
        if Path::new(file).exists() {
            container.push(file.to_owned());
        }
    }
    for name in ["container", "KUBERNETES_SERVICE_HOST"] {
        container.extend(variable(name).map(|_| format!("${name}")));
    }
    let ci: Vec<String> = CI
        .iter()
        .filter(|name| variable(name).is_some_and(|value| value != "false"))
        .map(|name| format!("${name}"))
        .collect();
    let mut production = Vec::new();
    for name in STAGES {
        let value = variable(name).filter(|value| is_production(value));
        production.extend(value.map(|value| format!("${name}={value}")));
    }
    if is_production(host) {
        production.push(format!("host {host}"));
    }
    let spoken = words
        .iter()
        .skip(1)
        .filter(|word| word.len() < 200 && is_production(word));
    production.extend(spoken.take(5).map(|word| format!("argument {word}")));
    json!({
        "container": container,
        "ci": ci,
        "production_markers": production,
        "root": rustix::process::geteuid().is_root(),
    })
}

/// Whether one of a text's words is a name for production.
fn is_production(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let mut words = lower.split(|c: char| !c.is_ascii_alphabetic());
    words.any(|word| matches!(word, "prod" | "production" | "prd" | "live"))
}

#[cfg(test)]
mod tests {
    use super::is_production;

    #[test]
    fn production_is_a_word_of_its_own() {
        for text in [
            "prod",
            "eu-prod-2",
            "app.production.example",
            "PRD",
            "db_live_1",
        ] {
            assert!(is_production(text), "{text}");
        }
        for text in [
            "product",
            "reproduce",
            "alive",
            "deliver",
            "dev",
            "production2x".trim_start_matches("production"),
        ] {
            assert!(!is_production(text), "{text}");
        }
    }
}
