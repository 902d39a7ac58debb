//! The filters as Rust: reads `src/filters/*.json` strictly and writes one constant for each file.
//!
//! Here and not at the start of a command, where reading them took longer than making a program of them. A key that is not
//! known, a reason that is missing or a test that is none fails the build; a name that is none fails the compiler.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

/// The shortest thing that is taken for a reason.
const REASON: usize = 10;

/// Writes every file of `folder` into the source `to`.
pub(crate) fn write(folder: &Path, to: &Path) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<_> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    files.sort();
    let mut source = String::new();
    for file in files {
        let text =
            fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let name = file.file_stem().and_then(|name| name.to_str());
        let constant = constant(name.unwrap_or_default(), &text)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        source.push_str(&constant);
    }
    fs::write(to, source).map_err(|error| format!("{}: {error}", to.display()))
}

fn constant(name: &str, text: &str) -> Result<String, String> {
    let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut file = Table::of(file)?;
    file.reason()?;
    let (kind, lines) = match file.take("refuse") {
        Some(lines) => ("Refusal", lines),
        None => ("Watched", file.take("watch").unwrap_or_default()),
    };
    file.end()?;
    let Value::Array(lines) = lines else {
        return Err("neither `refuse` nor `watch`".to_owned());
    };
    let name = name.replace('-', "_").to_uppercase();
    let mut source = format!("pub(super) static {name}: &[{kind}] = &[\n");
    for line in lines {
        let mut line = Table::of(line)?;
        line.reason()?;
        let call = line.word("syscall")?;
        let when = conditions(
            line.take("when")
                .unwrap_or_else(|| Value::Array(Vec::new())),
        )?;
        let rest = if kind == "Refusal" {
            format!("errno: errnos::{}", line.word("errno")?)
        } else {
            let reads = match line.take("reads") {
                Some(Value::Bool(true)) => "Only",
                None => "NotOnly",
                Some(other) => return Err(format!("`reads` is {other}")),
            };
            format!("reads: Reads::{reads}")
        };
        line.end()?;
        let _ = writeln!(
            source,
            "    {kind} {{ name: \"{call}\", call: calls::{call}, {rest}, when: &[{when}] }},"
        );
    }
    source.push_str("];\n");
    Ok(source)
}

fn conditions(when: Value) -> Result<String, String> {
    let Value::Array(when) = when else {
        return Err(format!("`when` is {when}"));
    };
    let mut source = String::new();
    for condition in when {
        let mut condition = Table::of(condition)?;
        let argument = number(&condition.take("argument").unwrap_or_default())?;
        if argument > 5 {
            return Err(format!("no call has an argument {argument}"));
        }
        let mut tests = Vec::new();
        for (key, test) in [("is", "Is"), ("is_not", "IsNot")] {
            if let Some(Value::Array(values)) = condition.take(key) {
                let values: Result<Vec<_>, _> = values.iter().map(number).collect();
                tests.push(format!("Test::{test}(&{:?})", values?));
            }
        }
        for (key, test) in [("any_bit", "AnyBit"), ("no_bit", "NoBit")] {
            if let Some(mask) = condition.take(key) {
                tests.push(format!("Test::{test}({})", number(&mask)?));
            }
        }
        condition.end()?;
        let [test] = tests.as_slice() else {
            return Err(format!("a condition has {} tests", tests.len()));
        };
        let _ = write!(
            source,
            "Condition {{ argument: {argument}, test: {test} }}, "
        );
    }
    Ok(source)
}

fn number(value: &Value) -> Result<u32, String> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("{value} is no number of 32 bits"))
}

/// An object of which every key has to be taken.
struct Table(Map<String, Value>);

impl Table {
    fn of(value: Value) -> Result<Self, String> {
        let Value::Object(keys) = value else {
            return Err(format!("{value} is no object"));
        };
        Ok(Self(keys))
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key)
    }

    fn reason(&mut self) -> Result<(), String> {
        match self.take("why") {
            Some(Value::String(why)) if why.len() > REASON => Ok(()),
            _ => Err(format!("no `why` beside {:?}", self.0)),
        }
    }

    /// A name, which is put into the source.
    fn word(&mut self, key: &str) -> Result<String, String> {
        let is_name = |word: &str| {
            let mut letters = word.chars();
            letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        };
        match self.take(key) {
            Some(Value::String(word)) if !word.is_empty() && is_name(&word) => Ok(word),
            other => Err(format!("`{key}` is {other:?}")),
        }
    }

    fn end(self) -> Result<(), String> {
        match self.0.keys().next() {
            Some(key) => Err(format!("the key `{key}` means nothing")),
            None => Ok(()),
        }
    }
}
