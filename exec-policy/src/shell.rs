//! Lowers a shell script to the literal commands in it, by a real bash grammar (design D5).
//!
//! Apart, because reading shell is where command policies are fooled. Invariant: a script that the grammar did not read
//! whole, or that a second, simpler check reads differently, is [`Unread`]; nothing is ever skipped in silence.

mod lower;
mod text;
mod words;

use std::cell::RefCell;
use std::ops::ControlFlow;

use thiserror::Error;
use tree_sitter::{ParseOptions, ParseState, Parser, Tree};

use crate::word::Word;

/// The longest script that is read, in bytes.
pub const MAX_SCRIPT_BYTES: usize = 64 * 1024;
/// How deep a script's tree may nest.
pub const MAX_DEPTH: usize = 200;
/// How many commands one script may hold.
pub const MAX_COMMANDS: usize = 512;

/// A script, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Every simple command, what stands inside a substitution before the command that it stands in.
    pub commands: Vec<SimpleCommand>,
    /// Whether it is only lists and pipelines of commands without assignments, substitutions, control flow, functions,
    /// groups or background jobs: what it does is then what its commands do, in their order.
    pub shape: Shape,
}

/// How much of a script is more than its commands in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Plain,
    /// Something: what a command sees may depend on what ran before.
    Compound,
}

/// One simple command as written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SimpleCommand {
    /// `NAME=value` in front.
    pub assignments: Vec<(String, Word)>,
    /// `NAME=value` behind `export` and its like.
    pub declared: Vec<(String, Word)>,
    /// Program and arguments; empty where only redirects or assignments stand.
    pub words: Vec<Word>,
    /// Where its descriptors go.
    pub redirects: Vec<Redirect>,
    /// Which commands' output reaches it, by a pipe or a substitution: places in [`Script::commands`].
    pub fed_by: Vec<usize>,
}

/// Where a descriptor goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// Reads from a file.
    Read(Word),
    /// Writes a file, from its start or at its end.
    Write(Word),
    /// Copies or closes a descriptor; no file is touched.
    Duplicate,
    /// A here-document or here-string, with its text where that is certain.
    Document(Option<String>),
}

/// Why a script is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Unread {
    /// Past [`MAX_SCRIPT_BYTES`].
    #[error("the script is longer than {MAX_SCRIPT_BYTES} bytes")]
    TooLong,
    /// Past [`MAX_DEPTH`], or scripts within scripts past their limit.
    #[error("the script nests too deep")]
    TooDeep,
    /// Past [`MAX_COMMANDS`].
    #[error("the script has more than {MAX_COMMANDS} commands")]
    TooMany,
    /// Characters that a shell and a reader see differently: NUL, control characters, blanks outside ASCII.
    #[error("the script has characters that are not what they look like")]
    Characters,
    /// The grammar did not read all of it.
    #[error("the script is not plain shell")]
    Syntax,
    /// A construct that is not followed: arithmetic commands, aliases, a script that is put together at run time.
    #[error("the script is put together while it runs")]
    Dynamic,
}

/// Reads a script.
///
/// # Errors
/// Anything that is not certain.
pub fn read_script(source: &str) -> Result<Script, Unread> {
    text::check(source)?;
    let tree = parse(source)?;
    text::check_tree(source, &tree)?;
    lower::Lowering::new(source).script(&tree)
}

thread_local! {
    // Making a parser costs more than most scripts take to read.
    static PARSER: RefCell<Option<Parser>> = const { RefCell::new(None) };
}

fn parse(source: &str) -> Result<Tree, Unread> {
    PARSER.with_borrow_mut(|slot| {
        let mut parser = match slot.take() {
            Some(parser) => parser,
            None => bash_parser()?,
        };
        let tree = parse_bounded(&mut parser, source);
        if tree.is_ok() {
            // A parser that was stopped half-way is not used again.
            *slot = Some(parser);
        }
        tree
    })
}

fn bash_parser() -> Result<Parser, Unread> {
    let mut parser = Parser::new();
    parser
        .set_language(&tree_sitter_bash::LANGUAGE.into())
        .map_err(|_| Unread::Syntax)?;
    Ok(parser)
}

/// Parses with a bound on the work, so that no text keeps a reviewer busy: the callback comes once in about a hundred
/// parser steps, and ordinary shell takes under one step a byte.
fn parse_bounded(parser: &mut Parser, source: &str) -> Result<Tree, Unread> {
    let mut left = 400 + source.len() / 4;
    let mut stop = |_: &ParseState| match left.checked_sub(1) {
        Some(fewer) => {
            left = fewer;
            ControlFlow::Continue(())
        }
        None => ControlFlow::Break(()),
    };
    let options = ParseOptions::new().progress_callback(&mut stop);
    let bytes = source.as_bytes();
    let mut read = |at: usize, _| bytes.get(at..).unwrap_or_default();
    parser
        .parse_with_options(&mut read, None, Some(options))
        .ok_or(Unread::Syntax)
}

#[cfg(test)]
mod tests;
