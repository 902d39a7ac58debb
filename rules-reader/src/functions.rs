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

use exec_policy::{InvalidRule, Place, WrittenExecutable, WrittenHost, WrittenPrefix};

use super::{COLLECTED, Collected};

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
        let rule = WrittenPrefix {
            at: place(eval),
            pattern: places(&pattern)?,
            decision: decision.to_owned(),
            justification: justification.into_option(),
            matches: examples(&r#match)?,
            not_matches: examples(&not_match)?,
            canonical_matching,
        };
        collect(|collected| {
            rule.checked(&collected.file)?;
            collected.written.prefixes.push(rule);
            Ok(())
        })?;
        Ok(NoneType)
    }

    fn host_executable<'v>(
        name: &str,
        paths: UnpackList<String>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let at = place(eval);
        collect(|collected| {
            let home = &collected.home;
            let absolute = |path: String| match path.strip_prefix("~/") {
                Some(rest) => format!("{home}/{rest}"),
                None => path,
            };
            let rule = WrittenExecutable {
                at,
                name: name.to_owned(),
                paths: paths.items.into_iter().map(absolute).collect(),
            };
            rule.checked()?;
            collected.written.executables.push(rule);
            Ok(())
        })?;
        Ok(NoneType)
    }

    fn network_rule<'v>(
        host: &str,
        protocol: &str,
        decision: &str,
        #[starlark(default = NoneOr::None)] justification: NoneOr<String>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let rule = WrittenHost {
            at: place(eval),
            host: host.to_owned(),
            protocol: protocol.to_owned(),
            decision: decision.to_owned(),
            justification: justification.into_option(),
        };
        collect(|collected| {
            rule.checked(&collected.file)?;
            collected.written.hosts.push(rule);
            Ok(())
        })?;
        Ok(NoneType)
    }
}

/// Adds to what the file being read has written, or says why it may not be.
fn collect(
    add: impl FnOnce(&mut Collected) -> Result<(), InvalidRule>,
) -> Result<(), starlark::Error> {
    COLLECTED.with_borrow_mut(add).map_err(invalid)
}

/// Where the call that is being taken stands.
fn place(eval: &Evaluator<'_, '_, '_>) -> Place {
    let begin = eval
        .call_stack_top_location()
        .map(|span| span.resolve_span().begin);
    begin.map_or_else(Place::default, |begin| Place {
        line: begin.line + 1,
        column: begin.column + 1,
    })
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
