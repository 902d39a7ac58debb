//! Reads `*.rules` files: Starlark in which `prefix_rule`, `host_executable` and `network_rule` are called.
//!
//! Apart, because here text becomes rules, and a crate of its own, because the language is larger than everything that
//! starts with every command: the runner carries it as a program (`main.rs`) that it starts where a rules file has changed.
//! Invariant: a file gives all of its rules or an error that names file, line and column; work, memory and depth are
//! bounded, so that no file keeps a runner busy. Text in, data out: no I/O.
#![forbid(unsafe_code)]

mod depth;
mod functions;

use std::cell::{Cell, RefCell};
use std::sync::{Arc, OnceLock};

use exec_policy::{MAX_RULES_BYTES, RuleSet, RulesError, WrittenRules};
use serde::{Deserialize, Serialize};
use starlark::codemap::FileSpanRef;
use starlark::environment::{Globals, GlobalsBuilder, Module};
use starlark::eval::{BeforeStmtFunc, BeforeStmtFuncDyn, Evaluator};
use starlark::syntax::{AstModule, Dialect};

/// Calls and turns of loops that a file may take.
const MAX_STEPS: u64 = 50_000;
/// Memory that its values may take, in bytes.
const MAX_HEAP_BYTES: usize = 64 * 1024 * 1024;
/// How deep its functions may call each other.
const MAX_CALLS: usize = 64;
/// The stack of the thread that reads it, in bytes.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// One file to read, as the program takes it on standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesFile {
    /// Its name, for messages and as the origin of its rules.
    pub file: String,
    /// What it holds.
    pub text: String,
    /// What `~` stands for in the paths of `host_executable`.
    pub home: String,
}

/// What stands in the file named `file`, which holds `text`. `home` is what `~` stands for in the paths of
/// `host_executable`. Every rule has been checked.
///
/// ```
/// let text = r#"prefix_rule(pattern = ["git", ["push", "fetch"]], decision = "prompt")"#;
/// let written = rules_reader::read("default.rules", text, "/home/u")?;
/// assert_eq!(written.prefixes.len(), 1);
/// # Ok::<(), exec_policy::RulesError>(())
/// ```
///
/// # Errors
/// See [`RulesError`].
pub fn read(file: &str, text: &str, home: &str) -> Result<WrittenRules, RulesError> {
    let whole = |reason: &str| RulesError::Whole {
        file: file.to_owned(),
        reason: reason.to_owned(),
    };
    if text.len() > MAX_RULES_BYTES {
        return Err(RulesError::TooLong {
            file: file.to_owned(),
        });
    }
    depth::check(file, text)?;
    // The grammar's and the evaluator's depth follow the text's; a stack of its own keeps them off the caller's.
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || collect(file, text, home))
            .map_err(|error| whole(&format!("no thread to read it: {error}")))?;
        reader.join().map_err(|_| whole("reading it failed"))?
    })
}

/// Adds what stands in a file to `rules`: [`read`], then [`RuleSet::add_written`].
///
/// # Errors
/// As for [`read`]; `rules` is unchanged then.
pub fn load_rules(
    rules: &mut RuleSet,
    file: &str,
    text: &str,
    home: &str,
) -> Result<(), RulesError> {
    rules.add_written(file, &read(file, text, home)?)
}

#[derive(Debug, Default)]
struct Collected {
    file: Arc<str>,
    home: String,
    written: WrittenRules,
}

thread_local! {
    // The three functions find their file here: what they are called by hands them nothing of ours.
    static COLLECTED: RefCell<Collected> = RefCell::default();
    // The statement that is being taken: line and column, from 0.
    static PLACE: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn collect(file: &str, text: &str, home: &str) -> Result<WrittenRules, RulesError> {
    COLLECTED.set(Collected {
        file: Arc::from(file),
        home: home.to_owned(),
        ..Collected::default()
    });
    evaluate(file, text).map_err(|error| located(file, &error))?;
    Ok(COLLECTED.take().written)
}

fn evaluate(file: &str, text: &str) -> starlark::Result<()> {
    let dialect = Dialect {
        enable_load: false,
        enable_top_level_stmt: true,
        enable_f_strings: true,
        enable_keyword_only_arguments: true,
        ..Dialect::Standard
    };
    let syntax = AstModule::parse(file, text.to_owned(), &dialect)?;
    Module::with_temp_heap(|module| {
        let mut evaluator = Evaluator::new(&module);
        evaluator
            .set_max_tick_count(MAX_STEPS)
            .and_then(|()| evaluator.set_max_heap_size(MAX_HEAP_BYTES))
            .and_then(|()| evaluator.set_max_callstack_size(MAX_CALLS))
            .map_err(starlark::Error::new_other)?;
        evaluator.before_stmt_for_dap(BeforeStmtFunc::Dyn(Box::new(Watch)));
        evaluator.eval_module(syntax, language()).map(|_| ())
    })
}

/// Looks at each statement before it is taken: keeps its place, for errors that have none, and holds the memory to its
/// limit, which is otherwise looked at once in many steps.
#[derive(Debug)]
struct Watch;

impl BeforeStmtFuncDyn<'_> for Watch {
    fn call<'v>(
        &mut self,
        span: FileSpanRef<'_>,
        _: bool,
        evaluator: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<()> {
        let begin = span.resolve_span().begin;
        PLACE.set((begin.line, begin.column));
        if evaluator.heap().peak_allocated_bytes() > MAX_HEAP_BYTES {
            let reason = format!("its values take more than {MAX_HEAP_BYTES} bytes");
            return Err(starlark::Error::new_other(std::io::Error::other(reason)));
        }
        Ok(())
    }
}

/// The functions there are: Starlark's own, and the three of rules.
fn language() -> &'static Globals {
    static LANGUAGE: OnceLock<Globals> = OnceLock::new();
    LANGUAGE.get_or_init(|| {
        GlobalsBuilder::standard()
            .with(functions::functions)
            .build()
    })
}

/// The language's error as ours: one line, with its place in the file.
fn located(file: &str, error: &starlark::Error) -> RulesError {
    let reason = error.without_diagnostic().to_string();
    let lines: Vec<&str> = reason
        .trim()
        .trim_start_matches("error: ")
        .lines()
        .collect();
    // One line, and the hint of ours where there is one.
    let reason = lines.join("; ").replace("; hint: ", "\nhint: ");
    let (line, column) = error.span().map_or_else(
        || PLACE.get(),
        |span| {
            let begin = span.resolve_span().begin;
            (begin.line, begin.column)
        },
    );
    RulesError::At {
        file: file.to_owned(),
        line: line + 1,
        column: column + 1,
        reason,
    }
}

#[cfg(test)]
mod tests;
