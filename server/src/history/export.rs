//! Reviews as lines for other programs: JSON lines, CSV, and the shapes of two other logs.
//!
//! Apart from how a line is spelled (`line.rs`), because this reads. Invariant: memory does not grow with the number of
//! lines: a page is spelled while the next one is read, and nothing else is held.

use crate::store::search::Search;
use crate::store::sqlite::history::{Exported, Stretch};
use crate::store::{Sight, SqliteStore, StoreError};

mod line;

/// How many reviews are read at a time: enough that asking for them costs little beside reading them, and few enough
/// that the largest ones (1 MiB each) fit into memory.
const PAGE: u32 = 128;
/// After how many lines the next page's reading gets its turn.
const TURN: usize = 32;

/// An export under way: a page that was read, and what is left after it.
#[derive(Debug)]
pub(crate) struct Export<'a> {
    store: &'a SqliteStore,
    sight: &'a Sight,
    search: &'a Search,
    page: Vec<Exported>,
    rest: Stretch,
}

impl<'a> Export<'a> {
    /// Reads the first page of what `search` finds.
    pub(crate) async fn begin(
        store: &'a SqliteStore,
        sight: &'a Sight,
        search: &'a Search,
    ) -> Result<Self, StoreError> {
        let stretch = store.stretch(sight, search).await?;
        let (page, rest) = store.export_page((sight, search), stretch, PAGE).await?;
        Ok(Self {
            store,
            sight,
            search,
            page,
            rest,
        })
    }

    /// Whether everything was spelled.
    pub(crate) fn is_over(&self) -> bool {
        self.page.is_empty()
    }

    /// Spells the page into `text` while the one after it is read.
    pub(crate) async fn turn(
        &mut self,
        format: Format,
        text: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let page = std::mem::take(&mut self.page);
        let spelling = async {
            for lines in page.chunks(TURN) {
                for review in lines {
                    format.push(review, text);
                }
                tokio::task::yield_now().await;
            }
        };
        let asked = (self.sight, self.search);
        let reading = self.store.export_page(asked, self.rest, PAGE);
        let (next, ()) = tokio::join!(reading, spelling);
        (self.page, self.rest) = next?;
        Ok(())
    }
}

/// The shape of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON object a line, with all that the history shows.
    JsonLines,
    /// Comma-separated values (RFC 4180) with a heading.
    Csv,
    /// One event a line in the shape of OCSF 1.3 "API Activity" (class 6003).
    Ocsf,
    /// One decision a line in the shape of Open Policy Agent's decision log.
    Opa,
}

impl Format {
    /// Every format by its name.
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::JsonLines, "jsonl"),
        (Self::Csv, "csv"),
        (Self::Ocsf, "ocsf"),
        (Self::Opa, "opa"),
    ];

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(_, name)| *name == text);
        found.map(|(format, _)| format)
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::JsonLines | Self::Ocsf | Self::Opa => "application/jsonl",
        }
    }

    /// What stands before the first line.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Csv => {
                "review_id,created_at,completed_at,status,decided_by,risk_level,user_authorization,rule_id,failed_step,\
                 redeemed_at,caller,session_id,policy_revision,host,user,tool,action,rationale\r\n"
            }
            Self::JsonLines | Self::Ocsf | Self::Opa => "",
        }
    }

    /// Appends the line of `review`.
    pub(crate) fn push(self, review: &Exported, out: &mut Vec<u8>) {
        match self {
            Self::JsonLines => line::push_json(review, out),
            Self::Csv => line::push_csv(review, out),
            Self::Ocsf => line::push_ocsf(review, out),
            Self::Opa => line::push_opa(review, out),
        }
    }
}
