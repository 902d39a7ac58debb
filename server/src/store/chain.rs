//! The hash chain over a tenant's events: what makes a changed, removed or reordered line show.
//!
//! Apart and pure, because writer, verification and every back end must hash the same bytes. Each hash covers the
//! line and the hash before it; the first line follows 32 zero bytes.

use protocol::{Canonical, ReviewEvent, ReviewId, TenantId};

/// The last line of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its number; 0 where there is no line yet.
    pub(crate) seq: i64,
    /// Its hash.
    pub(crate) hash: [u8; 32],
}

/// One line, before it has a number.
#[derive(Debug, Clone)]
pub(crate) struct Line<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) review_id: ReviewId,
    pub(crate) event: ReviewEvent,
    /// Milliseconds since the Unix epoch.
    pub(crate) at: i64,
    pub(crate) body: &'a str,
}

impl Head {
    /// The head of an empty chain.
    pub(crate) const EMPTY: Self = Self {
        seq: 0,
        hash: [0; 32],
    };

    /// The head after `line`.
    pub(crate) fn after(self, line: &Line<'_>) -> Self {
        let seq = self.seq + 1;
        let mut bytes = Canonical::new("auto-review event v1");
        bytes
            .bytes(&self.hash)
            .text(line.tenant.as_str())
            .bytes(&seq.to_be_bytes())
            .bytes(line.review_id.uuid().as_bytes())
            .text(line.event.as_str())
            .bytes(&line.at.to_be_bytes())
            .text(line.body);
        Self {
            seq,
            hash: bytes.sha256(),
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::{ReviewEvent, TenantId};

    use super::{Head, Line};

    #[test]
    fn every_part_of_a_line_and_what_went_before_moves_the_hash() {
        let tenant = TenantId::default();
        let line = Line {
            tenant: &tenant,
            review_id: "01980000-0000-7000-8000-000000000001"
                .parse()
                .expect("an id"),
            event: ReviewEvent::Opened,
            at: 1,
            body: "{}",
        };
        let first = Head::EMPTY.after(&line);
        let others = [
            Line {
                review_id: "01980000-0000-7000-8000-000000000002"
                    .parse()
                    .expect("an id"),
                ..line.clone()
            },
            Line {
                event: ReviewEvent::Failed,
                ..line.clone()
            },
            Line {
                at: 2,
                ..line.clone()
            },
            Line {
                body: "{ }",
                ..line.clone()
            },
        ];
        for other in others {
            assert_ne!(Head::EMPTY.after(&other).hash, first.hash, "{other:?}");
        }
        assert_eq!(first.seq, 1);
        assert_ne!(first.after(&line).hash, first.hash);
    }
}
