//! Reviews by number and size: how what is read at a time is bounded by bytes as well as by rows.
//!
//! Apart, because lists and exports share it. One question may have a megabyte, so a bound on rows alone would let one
//! tenant's pages keep a reader, and its memory, from everybody. Sizes are looked up first, which touches no text
//! (`octet_length` reads the head of a row). Invariant: at least one review is read, so that every page makes progress.

use serde::Deserialize;
use sqlx::{QueryBuilder, Sqlite, SqlitePool};

use super::super::StoreError;

/// How many bytes of questions stand on one page of a list; one review alone may have more.
pub(super) const LISTED: usize = 2 << 20;

/// Begins to look up numbers and sizes; what stands between it and [`AFTER`] selects them as `no` and `size`.
const BEFORE: &str = "SELECT json_group_array(json_array(no, size)) FROM (";
const AFTER: &str = ")";

/// A review by its number, and how many bytes its question has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Sized(i64, usize);

impl Sized {
    pub(super) fn number(self) -> i64 {
        self.0
    }
}

/// Looks up what `select` selects, in its order.
pub(super) async fn look_up(
    pool: &SqlitePool,
    select: impl FnOnce(&mut QueryBuilder<Sqlite>),
) -> Result<Vec<Sized>, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new(BEFORE);
    select(&mut query);
    query.push(AFTER);
    let text: String = query.build_query_scalar().fetch_one(pool).await?;
    serde_json::from_str(&text)
        .map_err(|_| StoreError::Corrupt("a row of the database cannot be read"))
}

/// The numbers of `sized` as a JSON array, for `json_each`.
pub(super) fn numbers(sized: &[Sized]) -> String {
    let numbers: Vec<String> = sized.iter().map(|it| it.0.to_string()).collect();
    format!("[{}]", numbers.join(","))
}

/// How many of `sized` are read together: at most `rows`, and no more than `bytes` but for the first.
pub(crate) fn fitting(sized: impl Iterator<Item = Sized>, (rows, bytes): (usize, usize)) -> usize {
    let (mut first, mut left) = (true, bytes);
    let fits = |Sized(_, size): &Sized| {
        let fits = *size <= left || first;
        (first, left) = (false, left.saturating_sub(*size));
        fits
    };
    sized.take(rows).take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use super::{Sized, fitting, numbers};

    fn of(sizes: &[usize], bounds: (usize, usize)) -> usize {
        fitting(sizes.iter().map(|size| Sized(0, *size)), bounds)
    }

    #[test]
    fn a_page_ends_by_rows_or_by_bytes_and_never_before_its_first_line() {
        assert_eq!(of(&[1, 1, 1, 1], (3, 100)), 3);
        assert_eq!(of(&[40, 40, 40, 1], (9, 100)), 2);
        assert_eq!(of(&[50, 50, 0, 0, 1], (9, 100)), 4);
        assert_eq!(of(&[1 << 30, 1], (9, 100)), 1);
        assert_eq!(of(&[0, usize::MAX, usize::MAX], (9, 100)), 1);
        assert_eq!(of(&[], (9, 100)), 0);
    }

    #[test]
    fn numbers_are_a_json_array() {
        assert_eq!(numbers(&[]), "[]");
        assert_eq!(numbers(&[Sized(7, 1), Sized(-1, 2)]), "[7,-1]");
    }
}
