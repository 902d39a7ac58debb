//! The three functions that rules files call: each makes rules of what it is given, or an error at the place of the call.
#![expect(
    clippy::too_many_arguments,
    reason = "the documented parameters, which files give by name"
)]

use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::list::UnpackList;
use starlark::values::none::{NoneOr, NoneType};

use super::COLLECTED;
use crate::rule::{
    HostExecutable, InvalidRule, LetterCase, NetworkRule, Origin, RawPrefixRule, Verdict,
};

/// The three functions, for files to call by name.
#[starlark_module]
pub(super) fn functions(builder: &mut GlobalsBuilder) {
    fn prefix_rule<'v>(
        pattern: UnpackList<Value<'v>>,
        #[starlark(default = "allow")] decision: &str,
        #[starlark(default = NoneOr::None)] justification: NoneOr<String>,
        #[starlark(default = UnpackList::default())] r#match: UnpackList<Value<'v>>,
        #[starlark(default = UnpackList::default())] not_match: UnpackList<Value<'v>>,
        #[starlark(default = false)] canonical_matching: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let raw = RawPrefixRule {
            pattern: places(&pattern)?,
            verdict: Verdict::parse(decision).map_err(invalid)?,
            justification: justification.into_option(),
            matches: examples(&r#match)?,
            not_matches: examples(&not_match)?,
            letters: if canonical_matching {
                LetterCase::Ignored
            } else {
                LetterCase::Exact
            },
            origin: origin(eval),
        };
        let rules = raw.checked().map_err(invalid)?;
        COLLECTED.with_borrow_mut(|collected| collected.prefixes.extend(rules));
        Ok(NoneType)
    }

    fn host_executable(name: &str, paths: UnpackList<String>) -> starlark::Result<NoneType> {
        COLLECTED.with_borrow_mut(|collected| {
            let home = &collected.home;
            let paths = paths
                .items
                .into_iter()
                .map(|path| match path.strip_prefix("~/") {
                    Some(rest) => format!("{home}/{rest}"),
                    None => path,
                });
            let executable = HostExecutable::new(name, paths.collect()).map_err(invalid)?;
            collected.executables.push(executable);
            Ok(NoneType)
        })
    }

    fn network_rule<'v>(
        host: &str,
        protocol: &str,
        decision: &str,
        #[starlark(default = NoneOr::None)] justification: NoneOr<String>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let justification = justification.into_option();
        let rule = NetworkRule::new(host, protocol, decision, justification, origin(eval))
            .map_err(invalid)?;
        COLLECTED.with_borrow_mut(|collected| collected.network.push(rule));
        Ok(NoneType)
    }
}

fn origin(eval: &Evaluator<'_, '_, '_>) -> Origin {
    let line = eval
        .call_stack_top_location()
        .map_or(0, |span| span.resolve_span().begin.line + 1);
    Origin {
        file: COLLECTED.with_borrow(|collected| collected.file.clone()),
        line,
    }
}

/// Each place is a word or a list of words.
fn places(pattern: &UnpackList<Value<'_>>) -> starlark::Result<Vec<Vec<String>>> {
    let place = |value: &Value<'_>| match value.unpack_str() {
        Some(word) => Ok(vec![word.to_owned()]),
        None => words(*value).ok_or_else(|| wrong("`pattern` takes words and lists of words")),
    };
    pattern.items.iter().map(place).collect()
}

/// Each example is a list of words, or one text that a shell would split.
fn examples(list: &UnpackList<Value<'_>>) -> starlark::Result<Vec<Vec<String>>> {
    let example = |value: &Value<'_>| match value.unpack_str() {
        Some(text) => shlex::split(text)
            .filter(|words| !words.is_empty())
            .ok_or_else(|| invalid(InvalidRule::Example(text.to_owned()))),
        None => words(*value).ok_or_else(|| wrong("an example is a text or a list of words")),
    };
    list.items.iter().map(example).collect()
}

fn words(value: Value<'_>) -> Option<Vec<String>> {
    use starlark::values::UnpackValue as _;
    UnpackList::<String>::unpack_value(value)
        .ok()
        .flatten()
        .map(|list| list.items)
}

fn invalid(error: InvalidRule) -> starlark::Error {
    starlark::Error::new_native(error)
}

fn wrong(reason: &'static str) -> starlark::Error {
    starlark::Error::new_native(std::io::Error::other(reason))
}
