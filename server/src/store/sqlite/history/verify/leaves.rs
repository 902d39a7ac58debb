//! Whether the leaves that are kept are those that the chain tells of, and are spent or taken back as it tells.
//!
//! Apart from the walk over the lines, because a leave has a row of its own that can be changed. Invariant: the rows are
//! read before the lines, so that each that has one finds it.

use std::collections::HashSet;

use protocol::{ReviewEvent, ReviewId, TenantId};
use serde::Deserialize;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::super::super::super::{StoreError, bodies};
use super::super::super::{SqliteStore, sql};

/// What must still be found in the chain, by the denied review.
#[derive(Debug)]
pub(super) struct Leaves {
    given: HashSet<ReviewId>,
    spent: HashSet<ReviewId>,
    withdrawn: HashSet<ReviewId>,
}

#[derive(Deserialize)]
struct SpentBody {
    by: ReviewId,
}

impl Leaves {
    /// Every leave of `tenant` that was given, or taken back, since that is in the chain, for reviews that were opened after
    /// line `start`.
    pub(super) async fn read(
        store: &SqliteStore,
        tenant: &TenantId,
        start: i64,
    ) -> Result<Self, StoreError> {
        let rows = sqlx::query(
            "SELECT review_id, in_chain = 1, in_chain = 1 AND spent_by IS NOT NULL, withdrawn_at IS NOT NULL \
             FROM leaves l WHERE tenant_id = ? AND (in_chain = 1 OR withdrawn_at IS NOT NULL) \
             AND NOT EXISTS (SELECT 1 FROM review_events o WHERE o.review_id = l.review_id AND o.kind = 'opened' \
             AND o.seq <= ?)",
        )
        .bind(tenant.as_str())
        .bind(start)
        .fetch_all(&store.readers)
        .await?;
        let mut leaves = Self {
            given: HashSet::new(),
            spent: HashSet::new(),
            withdrawn: HashSet::new(),
        };
        for row in &rows {
            let review_id = sql::review_id(row.try_get(0)?)?;
            let sets = [&mut leaves.given, &mut leaves.spent, &mut leaves.withdrawn];
            for (column, set) in (1..).zip(sets) {
                if row.try_get(column)? {
                    set.insert(review_id);
                }
            }
        }
        Ok(leaves)
    }

    pub(super) fn note(&mut self, review_id: ReviewId, event: ReviewEvent) {
        if event == ReviewEvent::LeaveGiven {
            self.given.remove(&review_id);
        } else if event == ReviewEvent::LeaveSpent {
            self.spent.remove(&review_id);
        } else if event == ReviewEvent::LeaveWithdrawn {
            self.withdrawn.remove(&review_id);
        }
    }

    pub(super) fn all_on_record(&self) -> bool {
        self.given.is_empty() && self.spent.is_empty() && self.withdrawn.is_empty()
    }
}

/// The row of a leave says what its line says.
pub(super) fn holds(row: &SqliteRow, event: ReviewEvent) -> Result<(), &'static str> {
    if event == ReviewEvent::LeaveWithdrawn {
        let at: i64 = row.try_get(3).map_err(|_| "it cannot be read")?;
        let kept: Option<i64> = row.try_get(20).map_err(|_| "its leave cannot be read")?;
        return (kept == Some(at))
            .then_some(())
            .ok_or("its leave is not withdrawn as it was");
    }
    let read = kept(row).map_err(|_| "its leave cannot be read")?;
    let (given, spent_by) = read.ok_or("its leave is missing")?;
    let body: &str = row.try_get(4).map_err(|_| "its body cannot be read")?;
    if event == ReviewEvent::LeaveSpent {
        let told: SpentBody = serde_json::from_str(body).map_err(|_| "its body cannot be read")?;
        return (spent_by == Some(told.by))
            .then_some(())
            .ok_or("its leave is not spent as it was");
    }
    (given == body)
        .then_some(())
        .ok_or("its leave is not as it was given")
}

/// As its line must have it, and which review was approved by it.
type Kept = (String, Option<ReviewId>);

fn kept(row: &SqliteRow) -> Result<Option<Kept>, sqlx::Error> {
    let Some(by) = row.try_get::<Option<&str>, _>(14)? else {
        return Ok(None);
    };
    let given = bodies::leave_given(&bodies::LeaveGiven {
        by,
        reason: row.try_get(15)?,
        expires_at: row.try_get(16)?,
        signature: row.try_get(17)?,
    });
    let given = given.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    let spent: Option<&[u8]> = row.try_get(18)?;
    Ok(Some((given, spent.map(sql::review_id).transpose()?)))
}
