//! What models answered, kept so that an evaluation can be run again without them.
//!
//! Apart from the call, because a cassette is for evaluations and never for a review that binds. Invariant: an answer is
//! found only under the exact request it was given to; a cassette holds no prompt and no key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::exhibit::Tokens;
use crate::model::{Completion, ModelError};

/// The largest cassette that is read, in bytes.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Answers of models by the digest of what they were asked.
#[derive(Debug, Clone)]
pub struct Cassette {
    mode: Mode,
    answers: Arc<Mutex<BTreeMap<String, Kept>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Record,
    Replay,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    request: String,
    text: String,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

/// Why a cassette cannot be used.
#[derive(Debug, Error)]
pub enum CassetteError {
    /// It cannot be read or written.
    #[error("`{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// A line of it is not an answer.
    #[error("line {line} of `{}` is no answer", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl Cassette {
    /// An empty cassette that takes what models answer.
    #[must_use]
    pub fn recording() -> Self {
        Self::of(Mode::Record, BTreeMap::new())
    }

    /// Reads a cassette that answers in the models' place: one JSON object a line.
    ///
    /// # Errors
    /// The file cannot be read, is larger than 256 MiB, or holds something else.
    pub fn read(path: &Path) -> Result<Self, CassetteError> {
        let fault = |cause| CassetteError::File {
            path: path.to_owned(),
            cause,
        };
        if std::fs::metadata(path).map_err(fault)?.len() > MAX_BYTES {
            return Err(fault(std::io::ErrorKind::FileTooLarge.into()));
        }
        let text = std::fs::read_to_string(path).map_err(fault)?;
        let mut answers = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let kept: Kept = serde_json::from_str(line).map_err(|_| CassetteError::Line {
                path: path.to_owned(),
                line: at + 1,
            })?;
            answers.insert(kept.request.clone(), kept);
        }
        Ok(Self::of(Mode::Replay, answers))
    }

    /// Writes what was recorded, in the order of the requests' digests.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CassetteError> {
        let mut text = String::new();
        for kept in self
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            text.push_str(&serde_json::to_string(kept).unwrap_or_default());
            text.push('\n');
        }
        std::fs::write(path, text).map_err(|cause| CassetteError::File {
            path: path.to_owned(),
            cause,
        })
    }

    fn of(mode: Mode, answers: BTreeMap<String, Kept>) -> Self {
        Self {
            mode,
            answers: Arc::new(Mutex::new(answers)),
        }
    }

    /// The recorded answer; `None` where the cassette records and the model has to be asked.
    pub(crate) fn answer(&self, request: &str) -> Option<Result<Completion, ModelError>> {
        if self.mode == Mode::Record {
            return None;
        }
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        Some(
            answers
                .get(request)
                .map_or(Err(ModelError::NotRecorded), |kept| {
                    let tokens = kept.input_tokens.zip(kept.output_tokens);
                    Ok(Completion {
                        text: kept.text.clone(),
                        tokens: tokens.map(|(input, output)| Tokens {
                            input,
                            output,
                            cached_input: 0,
                        }),
                        first_token_ms: None,
                    })
                }),
        )
    }

    pub(crate) fn keep(&self, request: &str, completion: &Completion) {
        let kept = Kept {
            request: request.to_owned(),
            text: completion.text.clone(),
            input_tokens: completion.tokens.map(|tokens| tokens.input),
            output_tokens: completion.tokens.map(|tokens| tokens.output),
        };
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(request.to_owned(), kept);
    }
}
