//! The record in the order in which it lies on the disk: how exports read it.
//!
//! Apart from the pages that people turn, because an export reads everything. A page is looked up in two steps: the
//! index says which reviews come next and how large they are, and then as many of them as fit are read from the oldest to
//! the newest. Reading backwards would be slow where the record is not in memory, because the kernel reads ahead and
//! never back (`readahead(2)`). Invariants: a page is bounded by bytes as well as by rows; what is handed out is what each
//! row held, newest first.

use std::borrow::Cow;

use jiff::Timestamp;
use protocol::{ActionDigest, ReviewId, ReviewStatus, TenantId};
use serde::Deserialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};
use uuid::Uuid;

use super::super::super::bodies::Spelled;
use super::super::super::search::Search;
use super::super::super::{Sight, StoreError};
use super::super::sized::{Sized, look_up, numbers};
use super::super::{SqliteStore, read, sql};
use super::find::{self, Stretch};
use super::packed::{Texts, unreadable};

/// Packs what is selected between it and [`AFTER`] into one row (`packed.rs` says why).
const BEFORE: &str = "SELECT json_group_array(json_array(hex(review), caller, session, digest, policy, status, created, \
    completed, redeemed, kind, octet_length(body), octet_length(question))), group_concat(body, ''), \
    group_concat(question, '') FROM (SELECT r.review_id AS review, r.caller AS caller, r.session_id AS session, \
    r.action_digest AS digest, r.policy_revision AS policy, r.status AS status, r.created_at AS created, \
    r.completed_at AS completed, r.redeemed_at AS redeemed, e.kind AS kind, e.body AS body, q.question AS question \
    FROM json_each(";
const JOINED: &str = ") n CROSS JOIN reviews r ON r.review_no = n.value \
    LEFT JOIN review_requests q ON q.review_no = r.review_no";
const AFTER: &str = ")";

/// Reviews as they were read, all in one row.
#[derive(Debug)]
pub(crate) struct Lines {
    row: SqliteRow,
    tenant: TenantId,
}

/// One review as it is exported: its columns, and its texts as they were stored.
#[derive(Debug)]
pub(crate) struct Exported<'a> {
    pub(crate) review_id: ReviewId,
    pub(crate) tenant: &'a TenantId,
    pub(crate) caller: Cow<'a, str>,
    pub(crate) session_id: Option<Cow<'a, str>>,
    pub(crate) action_digest: ActionDigest,
    pub(crate) policy_revision: Cow<'a, str>,
    pub(crate) status: ReviewStatus,
    pub(crate) created_at: Timestamp,
    pub(crate) completed_at: Option<Timestamp>,
    pub(crate) redeemed_at: Option<Timestamp>,
    pub(crate) verdict: Option<Spelled<'a>>,
    /// JSON on one line; none where it was erased.
    pub(crate) question: Option<&'a str>,
}

/// The small columns of one review, in the order of [`BEFORE`].
#[derive(Deserialize)]
struct Columns<'a> {
    #[serde(borrow)]
    review: Cow<'a, str>,
    #[serde(borrow)]
    caller: Cow<'a, str>,
    #[serde(borrow)]
    session: Option<Text<'a>>,
    #[serde(borrow)]
    digest: Cow<'a, str>,
    #[serde(borrow)]
    policy: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    created: i64,
    completed: Option<i64>,
    redeemed: Option<i64>,
    #[serde(borrow)]
    kind: Option<Text<'a>>,
    body: Option<usize>,
    question: Option<usize>,
}

/// A text that is borrowed where nothing in it is escaped. (Within an `Option`, serde would copy a `Cow`.)
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl SqliteStore {
    /// At most `most` reviews of `stretch` that `search` may find, oldest first, and what is left of the stretch then.
    /// What cannot be told by the index alone is looked at by [`lines`](Self::lines).
    pub(crate) async fn next_lines(
        &self,
        (sight, search): (&Sight, &Search),
        stretch: Stretch,
        most: u32,
    ) -> Result<(Vec<Sized>, Stretch), StoreError> {
        let _lane = self.lanes.enter(sight.tenant()).await;
        let next = look_up(&self.readers, |query| {
            query.push(
                "SELECT n.no AS no, ifnull(octet_length(q.question), 0) AS size FROM (SELECT no FROM (",
            );
            find::push_numbers(query, (sight, search), stretch, most);
            // A limit keeps the order within: the questions, too, are looked up forwards.
            query.push(
                ") ORDER BY no LIMIT -1) n LEFT JOIN review_requests q ON q.review_no = n.no LIMIT -1",
            );
        });
        let next = next.await?;
        let rest = stretch.before(next.first().map(|next| next.number()));
        Ok((next, rest))
    }

    /// Those of the reviews `next` (oldest first) that `search` finds.
    pub(crate) async fn lines(
        &self,
        (sight, search): (&Sight, &Search),
        next: &[Sized],
    ) -> Result<Lines, StoreError> {
        let _lane = self.lanes.enter(sight.tenant()).await;
        let mut query = QueryBuilder::<Sqlite>::new(BEFORE);
        query
            .push_bind(numbers(next))
            .push(JOINED)
            .push(read::ENDED_BY);
        query.push(" WHERE true");
        find::push_record(&mut query, sight, search);
        query.push(AFTER);
        Ok(Lines {
            row: query.build().fetch_one(&self.readers).await?,
            tenant: sight.tenant().clone(),
        })
    }
}

impl Lines {
    /// Every review, newest first.
    pub(crate) fn newest_first(&self) -> Result<Vec<Exported<'_>>, StoreError> {
        let text = |index| self.row.try_get::<Option<&str>, _>(index);
        let text = |index| text(index).map_err(unreadable);
        let columns: Vec<Columns<'_>> =
            serde_json::from_str(text(0)?.unwrap_or("[]")).map_err(unreadable)?;
        let mut bodies = Texts(text(1)?.unwrap_or_default());
        let mut questions = Texts(text(2)?.unwrap_or_default());
        let mut lines = Vec::with_capacity(columns.len());
        for columns in columns {
            let body = bodies.next(columns.body)?;
            let question = questions.next(columns.question)?;
            lines.push(self.exported(columns, body, question)?);
        }
        if !bodies.0.is_empty() || !questions.0.is_empty() {
            return Err(unreadable(()));
        }
        lines.reverse();
        Ok(lines)
    }

    fn exported<'a>(
        &'a self,
        columns: Columns<'a>,
        body: Option<&'a str>,
        question: Option<&'a str>,
    ) -> Result<Exported<'a>, StoreError> {
        let status = ReviewStatus::parse(&columns.status).ok_or_else(|| unreadable(()))?;
        let ended = columns.kind.as_ref().zip(body);
        let verdict = match (status, columns.completed, ended) {
            (ReviewStatus::Reviewing, ..) => None,
            (_, Some(_), Some((kind, body))) => Some(Spelled::of(status, (&kind.0, body))?),
            _ => {
                return Err(StoreError::Corrupt(
                    "an ended review has no event that ended it",
                ));
            }
        };
        Ok(Exported {
            review_id: ReviewId::new(Uuid::try_parse(&columns.review).map_err(unreadable)?),
            tenant: &self.tenant,
            caller: columns.caller,
            session_id: columns.session.map(|text| text.0),
            action_digest: sql::action_digest(&columns.digest).map_err(unreadable)?,
            policy_revision: columns.policy,
            status,
            created_at: sql::time(columns.created).map_err(unreadable)?,
            completed_at: sql::optional_time(columns.completed).map_err(unreadable)?,
            redeemed_at: sql::optional_time(columns.redeemed).map_err(unreadable)?,
            verdict,
            question: question.filter(|text| !text.is_empty()),
        })
    }
}
