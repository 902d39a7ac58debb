//! Splits the words behind a program into options and operands, the way getopt(3) does.
//!
//! Apart, because every rule about a program asks the same. Invariant: nothing is dropped; a word that may be either is
//! both.

use crate::word::Word;

/// The words behind a program's name.
#[derive(Debug, Clone, Default)]
pub struct Options<'w> {
    /// Each option as written without its value: `-r` (one for each letter of a cluster), `--force`.
    pub names: Vec<String>,
    /// Option and value, where the option takes one.
    pub values: Vec<(String, Word)>,
    /// Everything else, in order.
    pub operands: Vec<&'w Word>,
    /// Whether a word could not be told apart: it holds something that only a shell knows and may be an option.
    pub uncertain: bool,
}

impl<'w> Options<'w> {
    /// Splits `words`; `valued` names the options that take a value, in the forms `-o` and `--output`.
    #[must_use]
    pub fn split(words: &'w [Word], valued: &[&str]) -> Self {
        let mut options = Self::default();
        let mut rest = words.iter();
        let mut only_operands = false;
        while let Some(word) = rest.next() {
            let prefix = word.literal_prefix();
            if only_operands || !prefix.starts_with('-') || word.literal() == Some("-") {
                options.uncertain |= !only_operands && prefix.is_empty() && word.has_unknown();
                options.operands.push(word);
            } else if word.literal() == Some("--") {
                only_operands = true;
            } else if prefix.starts_with("--") {
                options.long(word, valued, &mut rest);
            } else {
                options.cluster(word, valued, &mut rest);
            }
        }
        options
    }

    /// Whether one of `names` stands among the options, with or without a value.
    #[must_use]
    pub fn has(&self, names: &[&str]) -> bool {
        self.names.iter().any(|name| names.contains(&name.as_str()))
            || self
                .values
                .iter()
                .any(|(name, _)| names.contains(&name.as_str()))
    }

    /// The values of one of `names`.
    pub fn values_of<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a Word> {
        self.values
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()))
            .map(|(_, value)| value)
    }

    fn long(&mut self, word: &Word, valued: &[&str], rest: &mut std::slice::Iter<'w, Word>) {
        let prefix = word.literal_prefix();
        if let Some((name, _)) = prefix.split_once('=') {
            let value = word.without_prefix(&format!("{name}=")).unwrap_or_default();
            self.values.push((name.to_owned(), value));
            return;
        }
        self.uncertain |= word.literal().is_none();
        if valued.contains(&prefix)
            && let Some(value) = rest.next()
        {
            self.values.push((prefix.to_owned(), value.clone()));
        } else {
            self.names.push(prefix.to_owned());
        }
    }

    fn cluster(&mut self, word: &Word, valued: &[&str], rest: &mut std::slice::Iter<'w, Word>) {
        let prefix = word.literal_prefix();
        self.uncertain |= word.literal().is_none();
        let mut seen = String::from("-");
        for letter in prefix.chars().skip(1) {
            seen.push(letter);
            let name = format!("-{letter}");
            if valued.contains(&name.as_str()) {
                let glued = word.without_prefix(&seen).unwrap_or_default();
                let value = if glued.pieces().is_empty() {
                    rest.next().cloned().unwrap_or_default()
                } else {
                    glued
                };
                self.values.push((name, value));
                return;
            }
            self.names.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Options;
    use crate::word::Word;

    #[test]
    fn clusters_values_and_operands_are_told_apart() {
        let words: Vec<Word> = ["-rf", "a", "-ofile", "--mode=x", "--out", "y", "--", "-z"]
            .map(Word::from_text)
            .to_vec();
        let options = Options::split(&words, &["-o", "--out"]);
        assert_eq!(options.names, ["-r", "-f"]);
        let values: Vec<String> = options
            .values
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(values, ["-o=file", "--mode=x", "--out=y"]);
        let operands: Vec<String> = options.operands.iter().map(ToString::to_string).collect();
        assert_eq!(operands, ["a", "-z"]);
    }
}
