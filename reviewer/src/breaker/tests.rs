use protocol::{FailedStep, ReviewStatus};

use super::{BreakerLimits, CircuitBreaker, HOUR, Span, Tripped};

const DENIED: ReviewStatus = ReviewStatus::Denied;
const APPROVED: ReviewStatus = ReviewStatus::Approved;

fn breaker(span: Span) -> CircuitBreaker {
    CircuitBreaker::new(span, BreakerLimits::default())
}

/// A turn in which reviews ended so, one a second.
fn after(statuses: &[ReviewStatus]) -> CircuitBreaker {
    let mut breaker = breaker(Span::Turn);
    for (at, status) in (0..).zip(statuses) {
        breaker.opened();
        breaker.note(*status, at * 1_000);
    }
    breaker
}

#[test]
fn three_in_a_row_trip_and_two_do_not() {
    assert_eq!(after(&[DENIED, DENIED]).check(0), Ok(()));
    assert_eq!(
        after(&[DENIED, DENIED, DENIED]).check(0),
        Err(Tripped::DenialsInARow(3))
    );
    assert_eq!(
        after(&[DENIED, DENIED, APPROVED, DENIED, DENIED]).check(0),
        Ok(())
    );
}

#[test]
fn failures_and_timeouts_neither_count_nor_reset() {
    for other in [
        ReviewStatus::Failed,
        ReviewStatus::TimedOut,
        ReviewStatus::Aborted,
    ] {
        assert_eq!(after(&[DENIED, DENIED, other]).check(0), Ok(()));
        assert_eq!(
            after(&[DENIED, other, DENIED, other, DENIED]).check(0),
            Err(Tripped::DenialsInARow(3))
        );
        assert_eq!(after(&[other; 30]).check(0), Ok(()));
    }
}

#[test]
fn ten_of_the_last_fifty_trip_and_an_eleventh_back_does_not() {
    let spread = |denials: usize, gap: usize| {
        let mut statuses = Vec::new();
        for _ in 0..denials {
            statuses.push(DENIED);
            statuses.extend(vec![APPROVED; gap]);
        }
        after(&statuses)
    };
    assert_eq!(spread(9, 1).check(0), Ok(()));
    assert_eq!(spread(10, 1).check(0), Err(Tripped::DenialsAmongLast(10)));
    // The tenth denial comes 45 decisions after the first: all ten are in the window.
    assert_eq!(spread(10, 4).denied_among_last(0), 10);
    // 54 decisions: the first has left it.
    assert_eq!(spread(10, 5).check(0), Ok(()));
}

#[test]
fn what_tripped_stays_tripped_in_its_turn() {
    let mut breaker = after(&[DENIED, DENIED, DENIED]);
    assert!(!breaker.note(APPROVED, 4_000));
    for later in [4_000, HOUR, 100 * HOUR] {
        assert_eq!(breaker.check(later), Err(Tripped::DenialsInARow(3)));
    }
}

#[test]
fn without_a_turn_a_denial_counts_for_an_hour() {
    let mut breaker = breaker(Span::Hour);
    for at in [0, HOUR - 2, HOUR - 1] {
        breaker.note(DENIED, at);
    }
    assert_eq!(breaker.check(HOUR - 1), Err(Tripped::DenialsInARow(3)));
    // It was stopped just before the hour was full, and stays so for an hour.
    assert_eq!(breaker.check(2 * HOUR - 2), Err(Tripped::DenialsInARow(3)));
    assert_eq!(breaker.check(2 * HOUR - 1), Ok(()));
    assert_eq!(breaker.denied_among_last(2 * HOUR - 1), 0);
    for at in [0, HOUR, HOUR + 1] {
        breaker.note(DENIED, 3 * HOUR + at);
    }
    assert_eq!(breaker.check(4 * HOUR + 1), Ok(()), "the first is too old");
    // A clock that goes back frees nothing.
    breaker.note(DENIED, 4 * HOUR + 2);
    assert!(breaker.check(0).is_err());
}

#[test]
fn a_turn_asks_for_so_many_reviews_and_no_more() {
    let limits = BreakerLimits {
        reviews_per_turn: 2,
        ..BreakerLimits::default()
    };
    let mut turn = CircuitBreaker::new(Span::Turn, limits);
    let mut hour = CircuitBreaker::new(Span::Hour, limits);
    for _ in 0..2 {
        assert_eq!(turn.check(0), Ok(()));
        turn.opened();
        turn.note(APPROVED, 0);
        hour.opened();
    }
    assert_eq!(turn.check(0), Err(Tripped::Reviews(2)));
    assert_eq!(hour.check(0), Ok(()));
}

#[test]
fn a_persons_leave_starts_the_counts_anew() {
    let mut breaker = after(&[DENIED, DENIED, DENIED]);
    breaker.forgive();
    assert_eq!(breaker.check(0), Ok(()));
    assert_eq!(breaker.denied_among_last(0), 0);
}

#[test]
fn it_is_the_same_after_it_was_stored() {
    let before = after(&[DENIED, APPROVED, DENIED, DENIED, DENIED]);
    let text = serde_json::to_string(&before).expect("spelled");
    let read: CircuitBreaker = serde_json::from_str(&text).expect("read");
    assert_eq!(read, before);
    insta::assert_snapshot!(text, @r#"{"span":"turn","limits":{"denials_in_a_row":3,"denials_among_last_50":10,"reviews_per_turn":200},"asked":5,"recent":[[0,"d"],[1000,"a"],[2000,"d"],[3000,"d"],[4000,"d"]],"tripped":[{"denials_in_a_row":3},4000]}"#);
}

#[test]
fn each_reason_has_a_text_of_its_own_and_none_is_a_denial() {
    let told: String = [
        (Tripped::DenialsInARow(3), Span::Turn),
        (Tripped::DenialsAmongLast(10), Span::Turn),
        (Tripped::Reviews(200), Span::Turn),
        (Tripped::DenialsInARow(3), Span::Hour),
    ]
    .into_iter()
    .map(|(tripped, span)| {
        let failure = tripped.failure(span);
        assert!(
            matches!(failure.step, FailedStep::Breaker | FailedStep::Budget) && !failure.retryable
        );
        format!(
            "{} {}: {}\n",
            failure.step.as_str(),
            failure.code,
            failure.message
        )
    })
    .collect();
    insta::assert_snapshot!(told, @r#"
    breaker too_many_denials: 3 reviews of this turn were denied in a row, so no more are taken on
    hint: finish with what needs no review, and tell the user what was refused and why; the next turn starts anew
    breaker too_many_denials: 10 of the last 50 reviews of this turn were denied, so no more are taken on
    hint: finish with what needs no review, and tell the user what was refused and why; the next turn starts anew
    budget too_many_reviews: 200 reviews of this turn were asked for, so no more are taken on
    hint: finish with what needs no review, and tell the user what was refused and why; the next turn starts anew
    breaker too_many_denials: 3 reviews of this user in this workspace in the last hour were denied in a row, so no more are taken on
    hint: finish with what needs no review, and tell the user what was refused and why; with `--session` and `--turn` each turn counts for itself
    "#);
}
