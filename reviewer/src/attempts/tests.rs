use std::time::Duration;

use super::backoff;

#[test]
fn pauses_double_and_stray_by_a_tenth() {
    for (round, least, most) in [(1, 180, 220), (2, 360, 440)] {
        for _ in 0..200 {
            let pause = backoff(round);
            assert!(
                (Duration::from_millis(least)..=Duration::from_millis(most)).contains(&pause),
                "{pause:?}"
            );
        }
    }
}
