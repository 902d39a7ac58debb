//! Walks the grammar's tree and collects the commands.
//!
//! Apart from [`super::words`] because statements and words follow different rules. Invariant: a kind of node that is
//! not named here stops the reading, so a newer grammar cannot slip a construct past it.

use tree_sitter::{Node, Tree};

use super::words::Lowered;
use super::{MAX_COMMANDS, Redirect, Script, Shape, SimpleCommand, Unread};
use crate::reading::evaluated;
use crate::word::Word;

type Ids = Vec<usize>;

/// The walk's state.
pub(super) struct Lowering<'s> {
    source: &'s str,
    commands: Vec<SimpleCommand>,
    shape: Shape,
    braces: bool,
}

/// A command as it is put together: its words by place in the source, since a redirect may stand between them.
#[derive(Default)]
struct Parts {
    command: SimpleCommand,
    words: Vec<(usize, usize, Word)>,
    /// Commands behind a here-document on its first line, which read this one's output.
    after: Ids,
}

impl<'s> Lowering<'s> {
    pub(super) fn new(source: &'s str) -> Self {
        Self {
            source,
            commands: Vec::new(),
            shape: Shape::Plain,
            braces: false,
        }
    }

    pub(super) fn script(mut self, tree: &Tree) -> Result<Script, Unread> {
        self.each_child(tree.root_node())?;
        Ok(Script {
            commands: self.commands,
            shape: self.shape,
        })
    }

    pub(super) fn text(&self, node: Node<'_>) -> Result<&'s str, Unread> {
        self.slice(node.start_byte(), node.end_byte())
    }

    pub(super) fn slice(&self, from: usize, to: usize) -> Result<&'s str, Unread> {
        self.source.get(from..to).ok_or(Unread::Syntax)
    }

    pub(super) fn compound(&mut self) {
        self.shape = Shape::Compound;
    }

    pub(super) fn saw_brace(&mut self) {
        self.braces = true;
    }

    pub(super) fn take_braces(&mut self) -> bool {
        std::mem::take(&mut self.braces)
    }

    /// Lowers every statement and literal under `node`.
    fn each_child(&mut self, node: Node<'_>) -> Result<Ids, Unread> {
        let mut ids = Ids::new();
        let mut cursor = node.walk();
        for child in node.children(&mut cursor) {
            if child.is_named() {
                ids.extend(self.statement(child)?);
            } else if matches!(child.kind(), "&" | ";;" | ";&" | ";;&") {
                self.compound();
            }
        }
        Ok(ids)
    }

    fn statement(&mut self, node: Node<'_>) -> Result<Ids, Unread> {
        match node.kind() {
            "comment" => Ok(Ids::new()),
            "list" | "program" => self.each_child(node),
            "pipeline" => self.pipeline(node, Ids::new()),
            "command"
            | "declaration_command"
            | "unset_command"
            | "test_command"
            | "variable_assignment"
            | "variable_assignments" => {
                let mut parts = Parts::default();
                self.simple(node, &mut parts)?;
                self.finish(parts)
            }
            "redirected_statement" => self.redirected(node),
            // `{rm a; }` is a program called `{rm`.
            "compound_statement" if !opens_group(self.text(node)?) => Err(Unread::Syntax),
            "negated_command" | "subshell" | "compound_statement" | "do_group" | "if_statement"
            | "elif_clause" | "else_clause" | "while_statement" | "for_statement"
            | "case_statement" | "case_item" => {
                self.compound();
                self.each_child(node)
            }
            "function_definition" => {
                self.compound();
                self.function(node)
            }
            // The words of `for` and `case`: only the commands in them count.
            "word"
            | "string"
            | "raw_string"
            | "ansi_c_string"
            | "translated_string"
            | "number"
            | "concatenation"
            | "simple_expansion"
            | "expansion"
            | "command_substitution"
            | "process_substitution"
            | "brace_expression"
            | "extglob_pattern"
            | "variable_name" => Ok(self.word(node)?.fed_by),
            _ => Err(Unread::Syntax),
        }
    }

    fn function(&mut self, node: Node<'_>) -> Result<Ids, Unread> {
        let mut ids = Ids::new();
        let name = node.child_by_field_name("name");
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            if Some(child) != name {
                match child.kind() {
                    "file_redirect" | "herestring_redirect" => {
                        let mut parts = Parts::default();
                        self.redirect(child, &mut parts)?;
                        ids.extend(self.finish(parts)?);
                    }
                    _ => ids.extend(self.statement(child)?),
                }
            }
        }
        Ok(ids)
    }

    fn pipeline(&mut self, node: Node<'_>, mut upstream: Ids) -> Result<Ids, Unread> {
        let mut all = upstream.clone();
        let mut cursor = node.walk();
        for stage in node.named_children(&mut cursor) {
            if stage.kind() == "comment" {
                continue;
            }
            let ids = self.statement(stage)?;
            self.feed(&ids, &upstream);
            all.extend(&ids);
            upstream = ids;
        }
        Ok(all)
    }

    fn feed(&mut self, readers: &[usize], sources: &[usize]) {
        for reader in readers {
            if let Some(command) = self.commands.get_mut(*reader) {
                command.fed_by.extend(sources);
            }
        }
    }

    /// Adds what stands in one simple command.
    fn simple(&mut self, node: Node<'_>, parts: &mut Parts) -> Result<(), Unread> {
        if matches!(node.kind(), "variable_assignment") {
            return self.assignment(node, parts);
        }
        if node.kind() == "test_command" {
            return self.test(node, parts);
        }
        let mut cursor = node.walk();
        for child in node.children(&mut cursor) {
            match child.kind() {
                "variable_assignment" if parts.words.is_empty() => self.assignment(child, parts)?,
                // `export A=b`: the assignment is an argument there.
                "variable_assignment" => {
                    let mut inner = Parts::default();
                    self.assignment(child, &mut inner)?;
                    if inner.command.assignments.iter().any(evaluated) {
                        return Err(Unread::Dynamic);
                    }
                    parts.command.fed_by.extend(inner.command.fed_by);
                    parts.command.declared.extend(inner.command.assignments);
                    self.argument(child, Word::unknown(), parts);
                }
                "file_redirect" | "herestring_redirect" => self.redirect(child, parts)?,
                "command_name" => {
                    let name = child.child(0).ok_or(Unread::Syntax)?;
                    self.argument_of(name, parts)?;
                }
                "subshell" => return Err(Unread::Syntax),
                "comment" => {}
                "declare" | "typeset" | "export" | "readonly" | "local" | "unset" | "unsetenv"
                | "=~" | "==" => {
                    let text = self.text(child)?;
                    self.argument(child, Word::from_text(text), parts);
                }
                _ => self.argument_of(child, parts)?,
            }
        }
        Ok(())
    }

    /// `[ … ]` and `[[ … ]]` change nothing by themselves; only the commands inside them count.
    fn test(&mut self, node: Node<'_>, parts: &mut Parts) -> Result<(), Unread> {
        self.compound();
        let fed_by = self.substitutions(node)?;
        parts.command.fed_by.extend(fed_by);
        self.argument(node, Word::from_text("["), parts);
        Ok(())
    }

    fn assignment(&mut self, node: Node<'_>, parts: &mut Parts) -> Result<(), Unread> {
        self.compound();
        let name = node.child_by_field_name("name").ok_or(Unread::Syntax)?;
        if name.kind() != "variable_name" {
            let ids = self.substitutions(name)?;
            parts.command.fed_by.extend(ids);
        }
        let value = match node.child_by_field_name("value") {
            Some(value) => self.word(value)?,
            None => Lowered {
                word: Word::default(),
                fed_by: Ids::new(),
            },
        };
        parts.command.fed_by.extend(value.fed_by);
        let name = self.text(name)?.to_owned();
        parts.command.assignments.push((name, value.word));
        Ok(())
    }

    fn argument_of(&mut self, node: Node<'_>, parts: &mut Parts) -> Result<(), Unread> {
        let lowered = self.word(node)?;
        parts.command.fed_by.extend(lowered.fed_by);
        self.argument(node, lowered.word, parts);
        Ok(())
    }

    fn argument(&self, node: Node<'_>, word: Word, parts: &mut Parts) {
        parts.words.push((node.start_byte(), node.end_byte(), word));
    }

    fn redirected(&mut self, node: Node<'_>) -> Result<Ids, Unread> {
        let mut parts = Parts::default();
        let mut body = Ids::new();
        let mut documents = 0;
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            match child.kind() {
                "command"
                | "declaration_command"
                | "unset_command"
                | "test_command"
                | "variable_assignment"
                | "variable_assignments" => self.simple(child, &mut parts)?,
                "file_redirect" | "herestring_redirect" => self.redirect(child, &mut parts)?,
                "heredoc_redirect" => {
                    documents += 1;
                    self.heredoc(child, &mut parts)?;
                }
                "comment" => {}
                _ => body.extend(self.statement(child)?),
            }
        }
        if documents > 1 {
            // Whose text is whose is not certain.
            return Err(Unread::Syntax);
        }
        self.over_body(body, parts)
    }

    /// Redirects around a group hold for every command in it.
    fn over_body(&mut self, body: Ids, mut parts: Parts) -> Result<Ids, Unread> {
        if body.is_empty() {
            return self.finish(parts);
        }
        if !parts.words.is_empty() {
            return Err(Unread::Syntax);
        }
        for id in &body {
            if let Some(command) = self.commands.get_mut(*id) {
                command
                    .redirects
                    .extend(parts.command.redirects.iter().cloned());
                command.fed_by.extend(&parts.command.fed_by);
            }
        }
        let after = std::mem::take(&mut parts.after);
        self.feed(&after, &body);
        Ok(body.into_iter().chain(after).collect())
    }

    fn redirect(&mut self, node: Node<'_>, parts: &mut Parts) -> Result<(), Unread> {
        if node.kind() == "herestring_redirect" {
            let mut cursor = node.walk();
            let text = node
                .named_children(&mut cursor)
                .find(|child| child.kind() != "file_descriptor");
            let text = self.word(text.ok_or(Unread::Syntax)?)?;
            parts.command.fed_by.extend(text.fed_by);
            let text = text.word.literal().map(str::to_owned);
            parts.command.redirects.push(Redirect::Document(text));
            return Ok(());
        }
        let mut operator = "";
        let mut taken = false;
        let mut cursor = node.walk();
        for child in node.children(&mut cursor) {
            if !child.is_named() && operator.is_empty() {
                operator = child.kind();
            } else if child.kind() != "file_descriptor" {
                if taken || matches!(operator, "<&-" | ">&-") {
                    // `cat > f x`: the grammar gives the redirect what is an argument.
                    self.argument_of(child, parts)?;
                } else {
                    taken = true;
                    let target = self.word(child)?;
                    parts.command.fed_by.extend(target.fed_by);
                    parts
                        .command
                        .redirects
                        .push(file_redirect(operator, target.word)?);
                }
            }
        }
        if !taken {
            parts.command.redirects.push(Redirect::Duplicate);
        }
        Ok(())
    }

    fn heredoc(&mut self, node: Node<'_>, parts: &mut Parts) -> Result<(), Unread> {
        let mut marker = "";
        let mut body = None;
        let mut end = "";
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            match child.kind() {
                "heredoc_start" => marker = self.text(child)?,
                "heredoc_body" => body = Some(child),
                "heredoc_end" => end = self.text(child)?,
                "file_descriptor" | "comment" => {}
                "file_redirect" | "herestring_redirect" => self.redirect(child, parts)?,
                "pipeline" => {
                    let ids = self.pipeline(child, Ids::new())?;
                    parts.after.extend(ids);
                }
                "list"
                | "command"
                | "redirected_statement"
                | "subshell"
                | "compound_statement"
                | "if_statement"
                | "while_statement"
                | "for_statement"
                | "case_statement"
                | "negated_command"
                | "test_command"
                | "declaration_command"
                | "unset_command"
                | "variable_assignment" => {
                    let ids = self.statement(child)?;
                    parts.after.extend(ids);
                }
                _ => self.argument_of(child, parts)?,
            }
        }
        let document = self.document(marker, body, end, parts)?;
        parts.command.redirects.push(Redirect::Document(document));
        Ok(())
    }

    /// The text of a here-document, where it is certain. The grammar's idea of where it ends is checked.
    fn document(
        &mut self,
        marker: &str,
        body: Option<Node<'_>>,
        end: &str,
        parts: &mut Parts,
    ) -> Result<Option<String>, Unread> {
        let name: String = marker
            .chars()
            .filter(|c| !matches!(c, '\'' | '"' | '\\'))
            .collect();
        let quoted = name.len() != marker.len();
        let Some(body) = body else {
            return Ok(Some(String::new()));
        };
        let text = self.text(body)?;
        let ends_early = text
            .lines()
            .any(|line| line.trim_start_matches('\t') == name);
        if name.is_empty() || end.trim() != name || ends_early {
            return Err(Unread::Syntax);
        }
        let ids = self.substitutions(body)?;
        parts.command.fed_by.extend(ids);
        let certain = quoted || !text.contains(['$', '`', '\\']);
        if !certain {
            self.compound();
        }
        Ok(certain.then(|| text.to_owned()))
    }

    /// Puts the words in their order and writes the command down.
    fn finish(&mut self, mut parts: Parts) -> Result<Ids, Unread> {
        parts.words.sort_by_key(|(start, _, _)| *start);
        let touching = parts
            .words
            .windows(2)
            .any(|pair| matches!(pair, [(_, end, _), (start, _, _)] if end >= start));
        if touching {
            return Err(Unread::Syntax);
        }
        if self.commands.len() >= MAX_COMMANDS {
            return Err(Unread::TooMany);
        }
        let mut command = parts.command;
        command.words = parts.words.into_iter().map(|(_, _, word)| word).collect();
        self.commands.push(command);
        let id = self.commands.len() - 1;
        self.feed(&parts.after, &[id]);
        Ok([id].into_iter().chain(parts.after).collect())
    }

    /// Lowers every substitution under `node`, however deep it stands in an expansion.
    pub(super) fn substitutions(&mut self, node: Node<'_>) -> Result<Ids, Unread> {
        if matches!(node.kind(), "command_substitution" | "process_substitution") {
            return self.substitution(node);
        }
        let mut ids = Ids::new();
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            ids.extend(self.substitutions(child)?);
        }
        Ok(ids)
    }

    fn substitution(&mut self, node: Node<'_>) -> Result<Ids, Unread> {
        self.compound();
        let text = self.text(node)?;
        // Inside backquotes a backslash is taken away before the text is read; the grammar does not do that.
        if text.starts_with(['`', '$']) && text.ends_with('`') && text.contains('\\') {
            return Err(Unread::Dynamic);
        }
        let mut ids = Ids::new();
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            if child.kind() == "file_redirect" {
                let mut parts = Parts::default();
                self.redirect(child, &mut parts)?;
                ids.extend(self.finish(parts)?);
            } else {
                ids.extend(self.statement(child)?);
            }
        }
        Ok(ids)
    }
}

fn opens_group(text: &str) -> bool {
    text.strip_prefix('{')
        .is_some_and(|rest| rest.starts_with([' ', '\t', '\n']))
}

fn file_redirect(operator: &str, target: Word) -> Result<Redirect, Unread> {
    let descriptor = target.literal().is_some_and(|text| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '-')
    });
    match operator {
        "<" => Ok(Redirect::Read(target)),
        "<&" | ">&" if descriptor => Ok(Redirect::Duplicate),
        // `<&$x` may be anything; `>&file` writes the file.
        "<&" => Ok(Redirect::Read(target)),
        ">" | ">>" | ">|" | "&>" | "&>>" | ">&" => Ok(Redirect::Write(target)),
        _ => Err(Unread::Syntax),
    }
}
