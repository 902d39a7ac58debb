//! Reviews as lines for other programs: JSON lines, CSV, and the shapes of two other logs.
//!
//! Apart from how a line is spelled (`line.rs`), because this reads. Invariant: memory does not grow with the number of
//! lines nor with their size: pages of bounded bytes are spelled while the next ones are read, and nothing else is held.

use futures_util::future::try_join_all;

use crate::store::search::Search;
use crate::store::sqlite::history::{Exported, Lines, Stretch};
use crate::store::sqlite::sized::{Sized, fitting};
use crate::store::{Sight, SqliteStore, StoreError};

mod line;

/// How many reviews are looked up at a time, and how many are read at a time: enough that asking costs little beside
/// reading, and that the kernel reads ahead.
const LOOKED_UP: u32 = 1_024;
const PAGE: usize = 256;
/// How many bytes of questions are read at a time; one review alone may have more.
const BYTES: usize = 128 << 10;
/// How many pages are read at the same time: reading takes longer than spelling, on a disk most of all.
const AT_ONCE: usize = 2;
/// After how many lines the next page's reading gets its turn.
const TURN: usize = 64;

/// An export under way: the pages that were read, and what is left after them.
#[derive(Debug)]
pub(crate) struct Export<'a> {
    store: &'a SqliteStore,
    sight: &'a Sight,
    search: &'a Search,
    /// Newest first.
    pages: Vec<Lines>,
    rest: Rest,
}

/// What is left of an export.
#[derive(Debug)]
struct Rest {
    /// Reviews that were looked up, oldest first: the next one stands last.
    next: Vec<Sized>,
    stretch: Stretch,
}

impl<'a> Export<'a> {
    /// Reads the first pages of what `search` finds.
    pub(crate) async fn begin(
        store: &'a SqliteStore,
        sight: &'a Sight,
        search: &'a Search,
    ) -> Result<Self, StoreError> {
        let stretch = store.stretch(sight, search).await?;
        let mut rest = Rest {
            next: Vec::new(),
            stretch,
        };
        let pages = rest.read(store, (sight, search)).await?;
        Ok(Self {
            store,
            sight,
            search,
            pages,
            rest,
        })
    }

    /// Whether everything was spelled.
    pub(crate) fn is_over(&self) -> bool {
        self.pages.is_empty()
    }

    /// Spells the pages into `text` while those after them are read.
    pub(crate) async fn turn(
        &mut self,
        format: Format,
        text: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let pages = std::mem::take(&mut self.pages);
        let spelling = async {
            for page in &pages {
                for lines in page.newest_first()?.chunks(TURN) {
                    for review in lines {
                        format.push(review, text);
                    }
                    tokio::task::yield_now().await;
                }
            }
            Ok(())
        };
        let reading = self.rest.read(self.store, (self.sight, self.search));
        let (next, spelled) = tokio::join!(reading, spelling);
        self.pages = next?;
        spelled
    }
}

impl Rest {
    /// Reads the next pages; none where nothing is left.
    async fn read(
        &mut self,
        store: &SqliteStore,
        asked: (&Sight, &Search),
    ) -> Result<Vec<Lines>, StoreError> {
        let mut pages = Vec::with_capacity(AT_ONCE);
        while pages.len() < AT_ONCE {
            let page = self.page(store, asked).await?;
            if page.is_empty() {
                break;
            }
            pages.push(page);
        }
        try_join_all(pages.iter().map(|page| store.lines(asked, page))).await
    }

    /// The reviews of the next page, oldest first.
    async fn page(
        &mut self,
        store: &SqliteStore,
        asked: (&Sight, &Search),
    ) -> Result<Vec<Sized>, StoreError> {
        if self.next.is_empty() {
            let (next, stretch) = store.next_lines(asked, self.stretch, LOOKED_UP).await?;
            (self.next, self.stretch) = (next, stretch);
        }
        let fits = fitting(self.next.iter().rev().copied(), (PAGE, BYTES));
        Ok(self.next.split_off(self.next.len() - fits))
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
    pub(crate) fn push(self, review: &Exported<'_>, out: &mut Vec<u8>) {
        match self {
            Self::JsonLines => line::push_json(review, out),
            Self::Csv => line::push_csv(review, out),
            Self::Ocsf => line::push_ocsf(review, out),
            Self::Opa => line::push_opa(review, out),
        }
    }
}
