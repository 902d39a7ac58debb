//! Many reviews in one row: how pages are read.
//!
//! Apart, because rows are handed from SQLite's thread one by one, and handing a row over costs more than reading it: a
//! page is therefore packed by SQLite itself into one row and taken apart here. Invariant: what is taken apart is what
//! each row held. The small columns are a JSON array; the texts stand one behind the other, and their lengths say where
//! each one ends, so that nothing in a text is ever taken for a border.

use std::borrow::Cow;

use axum::body::Bytes;
use protocol::{CallerId, ReviewId, TenantId};
use serde::Deserialize;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row as _, Sqlite};
use uuid::Uuid;

use super::super::super::{Recorded, Scope, StoreError};
use super::super::{read, sql};

/// Packs what is selected between it and [`AFTER`].
const BEFORE: &str = "SELECT json_group_array(json_array(hex(review), caller, nonce, session, digest, policy, \
    status, created, completed, expires, redeemed, kind, octet_length(body), octet_length(question), \
    octet_length(context))), group_concat(body, ''), group_concat(question, ''), group_concat(context, '') FROM (";
const AFTER: &str = ")";

/// The columns that [`BEFORE`] packs, but for the context.
const COLUMNS: &str = "SELECT r.review_id AS review, r.caller AS caller, r.nonce AS nonce, \
    r.session_id AS session, r.action_digest AS digest, r.policy_revision AS policy, r.status AS status, \
    r.created_at AS created, r.completed_at AS completed, r.expires_at AS expires, r.redeemed_at AS redeemed, \
    e.kind AS kind, e.body AS body, q.question AS question";

/// What is read of each review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// What the history shows.
    Question,
    /// With all that was sent.
    Everything,
}

impl Wanted {
    /// What stands before ` FROM`.
    pub(super) fn select(self) -> String {
        let context = match self {
            Self::Question => ", NULL AS context",
            Self::Everything => ", q.context AS context",
        };
        format!("{COLUMNS}{context}")
    }

    /// The same, to be packed; [`AFTER`] belongs behind the rest of the question.
    fn packed(self) -> String {
        format!("{BEFORE}{}", self.select())
    }
}

/// One review with its texts as they were stored: UTF-8, and parts of one piece of memory, which is the page's.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) recorded: Recorded,
    pub(super) question: Option<Bytes>,
    pub(super) context: Option<Bytes>,
}

/// The small columns of one review.
#[derive(Deserialize)]
struct Columns<'a> {
    #[serde(borrow)]
    review: Cow<'a, str>,
    caller: String,
    nonce: String,
    session: Option<String>,
    #[serde(borrow)]
    digest: Cow<'a, str>,
    policy: String,
    #[serde(borrow)]
    status: Cow<'a, str>,
    created: i64,
    completed: Option<i64>,
    expires: Option<i64>,
    redeemed: Option<i64>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    body: Option<usize>,
    question: Option<usize>,
    context: Option<usize>,
}

/// A question whose rows are packed.
pub(super) struct Packed(QueryBuilder<Sqlite>);

impl Packed {
    /// Begins it: what is wanted, and where `rest` finds it.
    pub(super) fn new(wanted: Wanted, rest: impl FnOnce(&mut QueryBuilder<Sqlite>)) -> Self {
        let mut query = QueryBuilder::new(wanted.packed());
        rest(&mut query);
        query.push(AFTER);
        Self(query)
    }

    /// Asks it: the reviews in the order in which SQLite found them.
    pub(super) async fn fetch(
        mut self,
        pool: &SqlitePool,
        tenant: &TenantId,
    ) -> Result<Vec<Unpacked>, StoreError> {
        let row = self.0.build().fetch_one(pool).await?;
        unpack(&row, tenant)
    }
}

fn unpack(row: &SqliteRow, tenant: &TenantId) -> Result<Vec<Unpacked>, StoreError> {
    let column = |index| row.try_get::<Option<&str>, _>(index).map_err(unreadable);
    let columns = column(0)?.unwrap_or("[]");
    let columns: Vec<Columns<'_>> = serde_json::from_str(columns).map_err(unreadable)?;
    let mut bodies = Texts(column(1)?.unwrap_or_default());
    let mut questions = Texts(column(2)?.unwrap_or_default());
    let mut contexts = Texts(column(3)?.unwrap_or_default());
    let questions_all = Bytes::copy_from_slice(questions.0.as_bytes());
    let contexts_all = Bytes::copy_from_slice(contexts.0.as_bytes());
    let mut unpacked = Vec::with_capacity(columns.len());
    for columns in columns {
        let body = bodies.next(columns.body)?;
        let question = questions.next(columns.question)?;
        let context = contexts.next(columns.context)?;
        unpacked.push(Unpacked {
            recorded: recorded(columns, tenant, body)?,
            question: question.map(|text| part(&questions_all, &questions, text)),
            context: context.map(|text| part(&contexts_all, &contexts, text)),
        });
    }
    let all_taken = [bodies, questions, contexts]
        .iter()
        .all(|it| it.0.is_empty());
    all_taken.then_some(unpacked).ok_or_else(|| unreadable(()))
}

/// `text`, which was just taken from what is now `left`, as a part of `all`.
fn part(all: &Bytes, left: &Texts<'_>, text: &str) -> Bytes {
    let end = all.len() - left.0.len();
    all.slice(end - text.len()..end)
}

/// Texts, one behind the other.
pub(super) struct Texts<'a>(pub(super) &'a str);

impl<'a> Texts<'a> {
    /// The next one, which has `length` bytes; none where there is no length.
    pub(super) fn next(&mut self, length: Option<usize>) -> Result<Option<&'a str>, StoreError> {
        let Some(length) = length else {
            return Ok(None);
        };
        let (text, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| unreadable(()))?;
        self.0 = rest;
        Ok(Some(text))
    }
}

fn recorded(
    columns: Columns<'_>,
    tenant: &TenantId,
    body: Option<&str>,
) -> Result<Recorded, StoreError> {
    let id = Uuid::try_parse(&columns.review).map_err(unreadable)?;
    let end = read::end(
        sql::status(&columns.status).map_err(unreadable)?,
        (columns.completed, columns.expires),
        columns.kind.as_deref().zip(body),
    )?;
    Ok(Recorded {
        review_id: ReviewId::new(id),
        scope: Scope {
            tenant: tenant.clone(),
            caller: CallerId::stored(columns.caller),
        },
        nonce: sql::nonce(columns.nonce).map_err(unreadable)?,
        session_id: columns.session,
        action_digest: sql::action_digest(&columns.digest).map_err(unreadable)?,
        policy_revision: columns.policy,
        created_at: sql::time(columns.created).map_err(unreadable)?,
        end,
        redeemed_at: sql::optional_time(columns.redeemed).map_err(unreadable)?,
    })
}

pub(super) fn unreadable<E>(_: E) -> StoreError {
    StoreError::Corrupt("a row of the database cannot be read")
}

#[cfg(test)]
mod tests {
    use super::Texts;

    #[test]
    fn texts_end_where_their_lengths_say_and_nowhere_else() {
        let mut texts = Texts("{}\u{1e},ä");
        assert_eq!(texts.next(Some(2)).expect("two"), Some("{}"));
        assert_eq!(texts.next(None).expect("none"), None);
        assert_eq!(texts.next(Some(0)).expect("nothing"), Some(""));
        assert_eq!(texts.next(Some(2)).expect("two"), Some("\u{1e},"));
        assert!(texts.next(Some(1)).is_err(), "half a letter");
        assert!(texts.next(Some(3)).is_err(), "more than there is");
        assert_eq!(texts.next(Some(2)).expect("the rest"), Some("ä"));
    }
}
