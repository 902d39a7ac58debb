//! Reads `*.rules` files: Starlark in which `prefix_rule`, `host_executable` and `network_rule` are called.
//!
//! Apart, because here text becomes rules. Invariant: a file gives all of its rules or an error that names file, line and
//! column; work, memory and depth are bounded, so that no file keeps a runner busy. Text in, rules out: no I/O.

mod depth;
mod functions;

use std::cell::{Cell, RefCell};
use std::sync::{Arc, OnceLock};

use starlark::codemap::FileSpanRef;
use starlark::environment::{Globals, GlobalsBuilder, Module};
use starlark::eval::{BeforeStmtFunc, BeforeStmtFuncDyn, Evaluator};
use starlark::syntax::{AstModule, Dialect};
use thiserror::Error;

use crate::rule::{HostExecutable, NetworkRule, PrefixRule};
use crate::ruleset::RuleSet;

/// The longest rules file, in bytes: room for about 15,000 rules.
pub const MAX_RULES_BYTES: usize = 1024 * 1024;

/// Calls and turns of loops that a file may take.
const MAX_STEPS: u64 = 50_000;
/// Memory that its values may take, in bytes.
const MAX_HEAP_BYTES: usize = 64 * 1024 * 1024;
/// How deep its functions may call each other.
const MAX_CALLS: usize = 64;
/// The stack of the thread that reads it, in bytes.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Why a rules file cannot be used. Nothing runs then.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RulesError {
    /// Past [`MAX_RULES_BYTES`].
    #[error("`{file}` is longer than {MAX_RULES_BYTES} bytes")]
    TooLong {
        /// The file.
        file: String,
    },
    /// Something in it is not as it must be.
    #[error("`{file}:{line}:{column}`: {reason}")]
    At {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1, in characters.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// Something about all of it.
    #[error("`{file}`: {reason}")]
    Whole {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
}

/// Adds the rules of the file named `file`, which holds `text`, to `rules`.
///
/// `home` is what `~` stands for in the paths of `host_executable`.
///
/// ```
/// let mut rules = exec_policy::RuleSet::default();
/// let text = r#"prefix_rule(pattern = ["git", ["push", "fetch"]], decision = "prompt")"#;
/// exec_policy::load_rules(&mut rules, "default.rules", text, "/home/u")?;
/// assert_eq!(rules.rules().len(), 1);
/// # Ok::<(), exec_policy::RulesError>(())
/// ```
///
/// # Errors
/// See [`RulesError`]; `rules` is unchanged then.
pub fn load_rules(
    rules: &mut RuleSet,
    file: &str,
    text: &str,
    home: &str,
) -> Result<(), RulesError> {
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
    let collected = std::thread::scope(|scope| {
        let reader = std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || read(file, text, home))
            .map_err(|error| whole(&format!("no thread to read it: {error}")))?;
        reader.join().map_err(|_| whole("reading it failed"))?
    })?;
    rules.add(collected.prefixes);
    for executable in collected.executables {
        rules.add_executable(executable);
    }
    rules.add_network(collected.network);
    Ok(())
}

#[derive(Debug, Default)]
struct Collected {
    file: Arc<str>,
    home: String,
    prefixes: Vec<PrefixRule>,
    executables: Vec<HostExecutable>,
    network: Vec<NetworkRule>,
}

thread_local! {
    // The three functions find their file here: what they are called by hands them nothing of ours.
    static COLLECTED: RefCell<Collected> = RefCell::default();
    // The statement that is being taken: line and column, from 0.
    static PLACE: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn read(file: &str, text: &str, home: &str) -> Result<Collected, RulesError> {
    COLLECTED.set(Collected {
        file: Arc::from(file),
        home: home.to_owned(),
        ..Collected::default()
    });
    evaluate(file, text).map_err(|error| located(file, &error))?;
    Ok(COLLECTED.take())
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
