//! What the programs of the network reach, send and write.
//!
//! Apart from the other programs because each has its own way of naming a file. Invariant: a file that may be sent is
//! told, also where it may only be read.

use super::{Effect, copies};
use crate::options::Options;
use crate::word::Word;

/// curl's options whose value is sent.
const BODIES: &[&str] = &[
    "-d",
    "-F",
    "-H",
    "--data",
    "--data-binary",
    "--data-raw",
    "--data-ascii",
    "--data-urlencode",
    "--json",
    "--form",
    "--form-string",
    "--header",
    "--url-query",
];
/// curl's options that take a value.
const VALUED: &[&str] = &[
    "-d",
    "-F",
    "-H",
    "-T",
    "-o",
    "-K",
    "-X",
    "-u",
    "-A",
    "-e",
    "-b",
    "-c",
    "-x",
    "-m",
    "-w",
    "-D",
    "-E",
    "-Y",
    "-r",
    "-z",
    "--data",
    "--data-binary",
    "--data-raw",
    "--data-ascii",
    "--data-urlencode",
    "--json",
    "--form",
    "--header",
    "--upload-file",
    "--output",
    "--output-dir",
    "--config",
    "--request",
    "--user",
    "--cookie",
    "--cookie-jar",
    "--proxy",
    "--max-time",
    "--url",
    "--url-query",
    "--form-string",
    "--dump-header",
    "--netrc-file",
    "--cert",
    "--key",
    "--connect-timeout",
    "--retry",
    "--user-agent",
];

pub(super) fn network(program: &str, arguments: &[Word], effects: &mut Vec<Effect>) {
    match program {
        "curl" => transfer(arguments, effects),
        "wget" => {
            let options = Options::split(
                arguments,
                &[
                    "-O",
                    "-o",
                    "-P",
                    "--post-file",
                    "--body-file",
                    "--post-data",
                    "--output-document",
                    "--header",
                ],
            );
            for word in options.values_of(&["--post-file", "--body-file"]) {
                effects.push(Effect::Sends(word.clone()));
            }
            for word in options.values_of(&["-O", "-o", "-P", "--output-document"]) {
                effects.push(Effect::Writes(word.clone()));
            }
            hosts(&options, effects);
        }
        "nc" | "ncat" | "netcat" | "socat" | "telnet" | "sendmail" => {
            effects.push(Effect::Reaches(
                arguments
                    .iter()
                    .find(|word| !word.literal_prefix().starts_with('-'))
                    .cloned(),
            ));
            effects.push(Effect::SendsInput);
        }
        "mail" | "mutt" => {
            let options = Options::split(arguments, &["-a", "-A", "-s", "-c", "-b"]);
            for word in options.values_of(&["-a", "-A"]) {
                effects.push(Effect::Sends(word.clone()));
            }
            effects.push(Effect::SendsInput);
            hosts(&options, effects);
        }
        _ => copies_to_hosts(program, arguments, effects),
    }
}

fn hosts(options: &Options<'_>, effects: &mut Vec<Effect>) {
    if options.operands.is_empty() {
        effects.push(Effect::Reaches(None));
    }
    for word in &options.operands {
        effects.push(Effect::Reaches(Some((*word).clone())));
    }
}

/// curl(1): `@FILE` and `<FILE` are sent, `-T FILE` is sent, `-o FILE` is written, `-K FILE` says the rest.
fn transfer(arguments: &[Word], effects: &mut Vec<Effect>) {
    let options = Options::split(arguments, VALUED);
    for (name, value) in &options.values {
        if BODIES.contains(&name.as_str()) {
            effects.extend(sent_by(value).map(Effect::Sends));
        }
    }
    for word in options.values_of(&["-T", "--upload-file"]) {
        effects.push(Effect::Sends(word.clone()));
        effects.push(Effect::SendsInput);
    }
    for word in options.values_of(&[
        "-o",
        "--output",
        "--output-dir",
        "-c",
        "--cookie-jar",
        "-D",
        "--dump-header",
    ]) {
        effects.push(Effect::Writes(word.clone()));
    }
    for word in options.values_of(&["-K", "--config"]) {
        effects.push(Effect::Reads(word.clone()));
        effects.push(Effect::Runs);
    }
    for word in options.values_of(&["-b", "--cookie", "-E", "--cert", "--key", "--netrc-file"]) {
        effects.push(Effect::Sends(word.clone()));
    }
    if options.has(&["-O", "--remote-name", "-J", "--remote-header-name"]) {
        effects.push(Effect::Writes(Word::from_text(".")));
    }
    let input = options
        .values
        .iter()
        .any(|(name, value)| BODIES.contains(&name.as_str()) && value.to_string().ends_with("@-"));
    if input {
        effects.push(Effect::SendsInput);
    }
    hosts(&options, effects);
}

/// The file in `@FILE`, `name=@FILE`, `name=<FILE` or `name@FILE`.
fn sent_by(value: &Word) -> Option<Word> {
    let prefix = value.literal_prefix();
    let at = prefix
        .find("=@")
        .or_else(|| prefix.find("=<"))
        .map(|at| at + 2);
    let at = at.or_else(|| prefix.find('@').map(|at| at + 1))?;
    let file = value.without_prefix(prefix.get(..at)?)?;
    // `-F x=@file;type=text/plain`.
    match file.literal() {
        Some(text) => Some(Word::from_text(text.split(';').next().unwrap_or(text))),
        None => Some(file),
    }
}

/// scp, rsync, `aws s3 cp` and their like: what is not a remote name is a file of this machine.
fn copies_to_hosts(program: &str, arguments: &[Word], effects: &mut Vec<Effect>) {
    let options = Options::split(
        arguments,
        &[
            "-i",
            "-P",
            "-p",
            "-o",
            "-e",
            "-F",
            "-l",
            "-L",
            "-R",
            "-D",
            "-J",
            "--rsh",
            "--exclude",
            "--include",
        ],
    );
    let remote = |word: &Word| {
        let text = word.to_string();
        text.contains("://")
            || text
                .split('/')
                .next()
                .is_some_and(|host| host.contains([':', '@']))
    };
    let mut reached = false;
    for word in &options.operands {
        if remote(word) {
            reached = true;
            effects.push(Effect::Reaches(Some((*word).clone())));
        }
    }
    if !reached && program == "rsync" {
        copies("cp", arguments, effects);
        return;
    }
    if !reached {
        effects.push(Effect::Reaches(
            options.operands.first().map(|word| (*word).clone()),
        ));
    }
    let to_remote = options.operands.last().is_some_and(|word| remote(word));
    for word in options.operands.iter().filter(|word| !remote(word)) {
        effects.push(if to_remote {
            Effect::Sends((*word).clone())
        } else {
            Effect::Writes((*word).clone())
        });
    }
    effects.push(Effect::SendsInput);
    if matches!(program, "ssh" | "rsync" | "sftp" | "aws" | "gcloud" | "az") {
        effects.push(Effect::Runs);
    }
}
