//! Holds the whole record of a tenant against itself: every hash, every end, every payload that is still there.
//!
//! Apart, because it trusts nothing that the writer left behind but the events' own columns. Invariant: it reads and
//! never repairs; the first break is told, and everything after it counts as unproven.

use std::collections::{BTreeMap, HashMap};

use protocol::{ReviewEvent, ReviewId, ReviewStatus, Sha256Hex, TenantId};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::super::super::StoreError;
use super::super::super::chain::{Head, Line};
use super::super::forget::ChainStart;
use super::super::heads::SignedHead;
use super::super::{SqliteStore, sql};
use crate::key::SigningKey;
use leaves::Leaves;

mod leaves;

/// How many lines are read at a time: few enough that the largest ones (1 MiB each) fit into memory.
const PAGE: i64 = 128;

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    /// How many lines hold.
    pub(crate) lines: i64,
    /// The hash of the last line that holds, in hex.
    pub(crate) head: String,
    /// The first thing that does not hold.
    pub(crate) broken: Option<Break>,
    /// How many payloads are not there any more.
    pub(crate) erased: u64,
    /// The last line that was let go; 0 where none was.
    pub(crate) let_go: i64,
}

/// Where a record does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Break {
    /// The number of the line.
    pub(crate) seq: i64,
    /// What is wrong with it.
    pub(crate) what: &'static str,
}

#[derive(Deserialize)]
struct Digests {
    #[serde(default)]
    question: Option<Sha256Hex>,
    #[serde(default)]
    context: Option<Sha256Hex>,
    #[serde(default)]
    exhibit: Option<Sha256Hex>,
}

struct Walk<'a> {
    tenant: &'a TenantId,
    /// The last line that was let go.
    start: i64,
    head: Head,
    /// Where each review stands by the lines so far; those that ended may still be spent.
    standing: HashMap<ReviewId, ReviewStatus>,
    erased: u64,
    /// The first line of each review whose payloads are not there, until its line `erased` comes.
    missing: HashMap<ReviewId, i64>,
    /// Payloads of reviews that were opened before this were erased when such lines were not written yet (milliseconds).
    erased_before: i64,
    /// The hashes that lines were signed with, by their number.
    signed: BTreeMap<i64, Sha256Hex>,
    leaves: Leaves,
}

/// The next lines of a chain, with the reviews that they are about and the payloads that are still there.
const LINES: &str = "SELECT e.seq, e.review_id, e.kind, e.at, e.body, e.hash, r.status, r.ended_seq, r.redeemed_at, \
    q.question, q.context, x.exhibit, r.review_no, o.at, l.given_by, l.reason, l.expires_at, l.signature, l.spent_by, \
    o.seq, l.withdrawn_at \
    FROM review_events e \
    LEFT JOIN review_events o ON o.review_id = e.review_id AND o.kind = 'opened' \
    LEFT JOIN reviews r ON r.tenant_id = e.tenant_id AND r.caller = (o.body ->> '$.caller') \
    AND r.review_id = e.review_id \
    LEFT JOIN review_requests q ON q.review_no = r.review_no \
    LEFT JOIN review_exhibits x ON x.review_no = r.review_no \
    LEFT JOIN leaves l ON l.review_id = e.review_id AND e.kind IN ('leave_given', 'leave_spent', 'leave_withdrawn') \
    WHERE e.tenant_id = ? AND e.seq > ? ORDER BY e.seq LIMIT ?";

impl Verified {
    fn nothing(broken: Break) -> Self {
        Self {
            lines: 0,
            head: Sha256Hex::of(&Head::EMPTY.hash).as_str().to_owned(),
            broken: Some(broken),
            erased: 0,
            let_go: 0,
        }
    }
}

/// The hashes that lines were signed with, by their number; with the one that is looked for.
fn signed_lines(asked: Asked<'_>, heads: &[SignedHead]) -> Result<BTreeMap<i64, Sha256Hex>, Break> {
    let cut = asked.to.map(|cut| (cut.seq, Sha256Hex::of(&cut.hash)));
    let said = heads.iter().map(|head| (head.seq, head.hash.clone()));
    let mut signed = BTreeMap::new();
    for (seq, hash) in said.chain(cut) {
        let before = signed.insert(seq, hash.clone());
        if before.is_some_and(|before| before != hash) {
            return Err(Break {
                seq,
                what: "two signed heads say different things about it",
            });
        }
    }
    Ok(signed)
}

/// What a record is held against.
#[derive(Clone, Copy)]
struct Asked<'a> {
    tenant: &'a TenantId,
    key: &'a SigningKey,
    /// Heads that were kept elsewhere.
    elsewhere: &'a [SignedHead],
    /// Only as far as needed to tell that the chain led to this line: `None` is all of it.
    to: Option<&'a Head>,
}

/// How often a verification begins anew because first lines were let go meanwhile.
const ANEW: usize = 3;

impl SqliteStore {
    /// Verifies the record of `tenant`: that it begins where `key` said, that it holds the heads that were signed and kept,
    /// here and `elsewhere`, each by `key`, and that it holds itself.
    pub(crate) async fn verify(
        &self,
        tenant: &TenantId,
        key: &SigningKey,
        elsewhere: &[SignedHead],
    ) -> Result<Verified, StoreError> {
        let asked = Asked {
            tenant,
            key,
            elsewhere,
            to: None,
        };
        let mut tries = 1..ANEW;
        loop {
            let start = self.chain_start(tenant).await?;
            let found = self.verify_from(start.as_ref(), asked).await?;
            let moved = || async { Ok::<_, StoreError>(self.chain_start(tenant).await? != start) };
            if found.broken.is_none() || !moved().await? || tries.next().is_none() {
                return Ok(found);
            }
        }
    }

    /// Holds the record of `tenant` up to the line `cut`, and on to the next head that was signed, where there is one.
    ///
    /// # Errors
    /// It does not hold.
    pub(in super::super) async fn holds_to(
        &self,
        tenant: &TenantId,
        cut: &Head,
        key: &SigningKey,
    ) -> Result<(), StoreError> {
        let asked = Asked {
            tenant,
            key,
            elsewhere: &[],
            to: Some(cut),
        };
        let start = self.chain_start(tenant).await?;
        match self.verify_from(start.as_ref(), asked).await?.broken {
            None => Ok(()),
            Some(Break { seq, what }) => Err(StoreError::DoesNotHold { seq, what }),
        }
    }

    async fn verify_from(
        &self,
        start: Option<&ChainStart>,
        asked: Asked<'_>,
    ) -> Result<Verified, StoreError> {
        let Asked { tenant, to, .. } = asked;
        let begin = match self.believed(start, asked).await? {
            Ok(begin) => begin,
            Err(broken) => return Ok(Verified::nothing(broken)),
        };
        let (start, signed) = begin;
        let end = to.map_or(i64::MAX, |cut| {
            let mut heads = signed.range(cut.seq + 1..);
            heads.next().map_or(i64::MAX, |(seq, _)| *seq)
        });
        let mut walk = Walk {
            signed,
            tenant,
            start: start.seq,
            head: start,
            standing: HashMap::new(),
            erased: 0,
            missing: HashMap::new(),
            erased_before: self.erased_without_lines(tenant).await?,
            leaves: Leaves::read(self, tenant, start.seq).await?,
        };
        let mut broken = None;
        while broken.is_none() && walk.head.seq < end {
            let _lane = self.lanes.enter(tenant).await;
            let rows = sqlx::query(LINES)
                .bind(tenant.as_str())
                .bind(walk.head.seq)
                .bind(PAGE)
                .fetch_all(&self.readers)
                .await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                if let Err(what) = walk.step(row) {
                    let seq = walk.head.seq + 1;
                    broken = Some(Break { seq, what });
                    break;
                }
            }
        }
        let broken = broken.or_else(|| match to {
            None => walk.left_over(),
            Some(_) => walk.ends_early(),
        });
        Ok(Verified {
            lines: walk.head.seq - walk.start,
            let_go: walk.start,
            head: Sha256Hex::of(&walk.head.hash).as_str().to_owned(),
            broken,
            erased: walk.erased,
        })
    }

    /// Where the walk begins, and the lines that were signed on its way; or what speaks against all of them.
    async fn believed(
        &self,
        start: Option<&ChainStart>,
        asked: Asked<'_>,
    ) -> Result<Result<(Head, BTreeMap<i64, Sha256Hex>), Break>, StoreError> {
        let mut heads = self.signed_heads(asked.tenant).await?;
        let own = |head: &&SignedHead| head.tenant == *asked.tenant;
        heads.extend(asked.elsewhere.iter().filter(own).cloned());
        if let Some(head) = heads.iter().find(|head| !head.is_signed_by(asked.key)) {
            return Ok(Err(Break {
                seq: head.seq,
                what: "its signed head is not this server's",
            }));
        }
        if let Some(start) = start.filter(|start| !start.is_signed_by(asked.key)) {
            return Ok(Err(Break {
                seq: start.head.seq,
                what: "that the lines up to it were let go is not this server's word",
            }));
        }
        let signed = signed_lines(asked, &heads);
        Ok(signed.and_then(|signed| {
            let start = start.map(|start| begins_at(start, &signed)).transpose()?;
            Ok((start.unwrap_or(Head::EMPTY), signed))
        }))
    }
}

/// Where the walk begins, held against the heads that were signed. Those of before tell of what is gone.
fn begins_at(start: &ChainStart, signed: &BTreeMap<i64, Sha256Hex>) -> Result<Head, Break> {
    let seq = start.head.seq;
    match signed.get(&seq) {
        Some(hash) if *hash != start.hash() => Err(Break {
            seq,
            what: "the line that was let go is not the line that was signed",
        }),
        Some(_) | None => Ok(start.head),
    }
}

impl SqliteStore {
    async fn erased_without_lines(&self, tenant: &TenantId) -> Result<i64, StoreError> {
        let before: Option<i64> = sqlx::query_scalar(
            "SELECT max(before) FROM erasures WHERE tenant_id = ? AND in_chain = 0",
        )
        .bind(tenant.as_str())
        .fetch_one(&self.readers)
        .await?;
        Ok(before.unwrap_or(i64::MIN))
    }
}

impl Walk<'_> {
    /// What no line has accounted for, once all are read.
    fn left_over(&self) -> Option<Break> {
        if let Some(seq) = self.missing.values().min() {
            return Some(Break {
                seq: *seq,
                what: "a payload is missing that nobody erased",
            });
        }
        if !self.leaves.all_on_record() {
            return Some(Break {
                seq: self.head.seq,
                what: "a leave was given, spent or withdrawn without a line",
            });
        }
        self.ends_early()
    }

    fn ends_early(&self) -> Option<Break> {
        let mut after = self.signed.range(self.head.seq + 1..);
        after.next().is_some().then_some(Break {
            seq: self.head.seq + 1,
            what: "the record ends before a head that was signed",
        })
    }

    fn step(&mut self, row: &SqliteRow) -> Result<(), &'static str> {
        let unreadable = |_: sqlx::Error| "it cannot be read";
        let review_id = sql::review_id(row.try_get(1).map_err(unreadable)?).map_err(unreadable)?;
        let kind: &str = row.try_get(2).map_err(unreadable)?;
        let event = ReviewEvent::parse(kind).ok_or("its kind is unknown")?;
        let body: &str = row.try_get(4).map_err(unreadable)?;
        let next = self.head.after(&Line {
            tenant: self.tenant,
            review_id,
            event,
            at: row.try_get(3).map_err(unreadable)?,
            body,
        });
        if next.seq != row.try_get::<i64, _>(0).map_err(unreadable)? {
            return Err("a line is missing before it");
        }
        if next.hash.as_slice() != row.try_get::<&[u8], _>(5).map_err(unreadable)? {
            return Err("its hash does not cover it and the line before it");
        }
        let signed = self.signed.get(&next.seq);
        if signed.is_some_and(|hash| *hash != Sha256Hex::of(&next.hash)) {
            return Err("it is not the line that was signed");
        }
        if event == ReviewEvent::Network || self.was_let_go(row, event)? {
            self.head = next;
            return Ok(());
        }
        let before = self.standing.get(&review_id).copied();
        let status =
            ReviewStatus::after(before, event).ok_or("it cannot follow what went before")?;
        self.standing.insert(review_id, status);
        self.check_row(row, event, next.seq)?;
        let gone = self.check_payloads(row, event, body)?;
        self.account(row, (review_id, event), (next.seq, gone))?;
        self.leaves.note(review_id, event);
        self.head = next;
        Ok(())
    }

    /// Whether it tells of a review that was let go with its first line: there is nothing that it could be held against.
    fn was_let_go(&self, row: &SqliteRow, event: ReviewEvent) -> Result<bool, &'static str> {
        if self.start == 0 {
            return Ok(false);
        }
        let opened: Option<i64> = row.try_get(19).map_err(|_| "it cannot be read")?;
        if opened.is_some_and(|opened| opened > self.start) {
            return Ok(false);
        }
        if event == ReviewEvent::Opened {
            return Err("its review was let go before it was opened");
        }
        Ok(true)
    }

    /// The row of the review says what its lines say.
    fn check_row(&self, row: &SqliteRow, event: ReviewEvent, seq: i64) -> Result<(), &'static str> {
        let unreadable = |_: sqlx::Error| "its review cannot be read";
        let status: Option<&str> = row.try_get(6).map_err(unreadable)?;
        let status = status.and_then(ReviewStatus::parse);
        let ended_seq: Option<i64> = row.try_get(7).map_err(unreadable)?;
        let spent: Option<i64> = row.try_get(8).map_err(unreadable)?;
        let ends = match event {
            ReviewEvent::LeaveGiven | ReviewEvent::LeaveSpent | ReviewEvent::LeaveWithdrawn => {
                status.ok_or("its review is missing")?;
                return leaves::holds(row, event);
            }
            ReviewEvent::Opened
            | ReviewEvent::Ran
            | ReviewEvent::Voted
            | ReviewEvent::Shadowed
            | ReviewEvent::Erased
            | ReviewEvent::Network => {
                return status.map(|_| ()).ok_or("its review is missing");
            }
            ReviewEvent::Redeemed => {
                let same = spent == row.try_get(3).map_err(unreadable)?;
                return same.then_some(()).ok_or("its review was not spent then");
            }
            ReviewEvent::Approved => ReviewStatus::Approved,
            ReviewEvent::Denied => ReviewStatus::Denied,
            ReviewEvent::TimedOut => ReviewStatus::TimedOut,
            ReviewEvent::Aborted => ReviewStatus::Aborted,
            ReviewEvent::Failed => ReviewStatus::Failed,
        };
        let same = status == Some(ends) && ended_seq == Some(seq);
        same.then_some(())
            .ok_or("its review does not stand as it ended")
    }

    /// What is missing was erased by somebody who is on record for it, and nothing of what was asked is missing.
    fn account(
        &mut self,
        row: &SqliteRow,
        (review_id, event): (ReviewId, ReviewEvent),
        (seq, gone): (i64, u64),
    ) -> Result<(), &'static str> {
        self.erased += gone;
        if event == ReviewEvent::Erased {
            self.missing.remove(&review_id);
        } else if gone > 0 {
            let at: i64 = row.try_get(13).map_err(|_| "it cannot be read")?;
            if at >= self.erased_before {
                self.missing.entry(review_id).or_insert(seq);
            }
        }
        Ok(())
    }

    /// What is still there is what was recorded; how much of the rest is not there.
    fn check_payloads(
        &self,
        row: &SqliteRow,
        event: ReviewEvent,
        body: &str,
    ) -> Result<u64, &'static str> {
        let mut gone = 0;
        if matches!(
            event,
            ReviewEvent::Redeemed
                | ReviewEvent::Ran
                | ReviewEvent::Voted
                | ReviewEvent::Shadowed
                | ReviewEvent::Erased
                | ReviewEvent::LeaveGiven
                | ReviewEvent::LeaveSpent
                | ReviewEvent::LeaveWithdrawn
                | ReviewEvent::Network
        ) {
            return Ok(gone);
        }
        let digests: Digests = serde_json::from_str(body).map_err(|_| "its body cannot be read")?;
        let kept = [
            (digests.question, 9),
            (digests.context, 10),
            (digests.exhibit, 11),
        ];
        for (digest, column) in kept {
            let Some(digest) = digest else { continue };
            let payload: Option<&str> = row
                .try_get(column)
                .map_err(|_| "a payload cannot be read")?;
            match payload.filter(|text| !text.is_empty()) {
                None if column == 9 => return Err("what was asked is missing"),
                None => gone += 1,
                Some(text) => {
                    if Sha256Hex::of(&Sha256::digest(text.as_bytes()).into()) != digest {
                        return Err("a payload is not the one that was recorded");
                    }
                }
            }
        }
        Ok(gone)
    }
}
