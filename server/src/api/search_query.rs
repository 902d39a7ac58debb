//! The query of a list, read strictly: which reviews, how many, and whether they are counted.
//!
//! Apart from the other parameters, because it is a small language of its own. Invariant: a name that is unknown, or a
//! value that no review can have, is refused, so that a slip of the pen is never a list of nothing.

use std::collections::BTreeMap;

use axum::http::Uri;
use jiff::Timestamp;
use protocol::ReviewStatus;

use super::parameters::{invalid, query};
use crate::error::ApiError;
use crate::history::Counting;
use crate::store::Page;
use crate::store::search::{Facet, Search};

/// How many reviews stand on a page where nothing is said, and at most.
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 200;
/// The longest value, in bytes, and the most words that are searched for.
const MAX_VALUE: usize = 512;
const MAX_WORDS: usize = 16;

/// What a list is asked for.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) search: Search,
    pub(super) counting: Counting,
    /// Other parameters than the list's own, for those who have more.
    pub(super) rest: BTreeMap<String, String>,
}

impl Listing {
    /// Reads the query of `uri`. Names in `more` are left for the caller.
    pub(super) fn of(uri: &Uri, more: &[&str]) -> Result<Self, ApiError> {
        // Pairs, and not a map: a name that stands twice must show.
        let pairs: Vec<(String, String)> = query(uri)?;
        let mut values = BTreeMap::new();
        for (name, value) in pairs {
            if value.is_empty() || value.len() > MAX_VALUE {
                return Err(ApiError::InvalidParameter(format!(
                    "`{name}` must have 1 to {MAX_VALUE} bytes"
                )));
            }
            if let Some(_twice) = values.insert(name.clone(), value) {
                return Err(ApiError::InvalidParameter(format!("`{name}` stands twice")));
            }
        }
        let listing = Self {
            search: search(&mut values)?,
            counting: match values.remove("count").as_deref() {
                None | Some("false") => Counting::Unwanted,
                Some("true") => Counting::Wanted,
                Some(_) => return Err(invalid("`count` is `true` or `false`")),
            },
            rest: values,
        };
        match listing
            .rest
            .keys()
            .find(|name| !more.contains(&name.as_str()))
        {
            Some(name) => Err(ApiError::InvalidParameter(format!(
                "`{name}` is no parameter of this call"
            ))),
            None => Ok(listing),
        }
    }

    /// The same as a page that needs no index, where it is one.
    pub(super) fn plain(&self) -> Option<Page> {
        let search = &self.search;
        let status = match search.facets.as_slice() {
            [] => None,
            [(Facet::Status, status)] => ReviewStatus::parse(status),
            _ => return None,
        };
        let plain = search.text.is_none()
            && search.since.is_none()
            && search.until.is_none()
            && self.counting == Counting::Unwanted;
        plain.then_some(Page {
            status,
            before: search.before,
            limit: search.limit,
        })
    }
}

fn search(values: &mut BTreeMap<String, String>) -> Result<Search, ApiError> {
    let mut facets = Vec::new();
    for (facet, name) in Facet::ASKED {
        if let Some(value) = values.remove(name) {
            let value = facet.value(&value).map_err(|values| {
                ApiError::InvalidParameter(format!("`{name}` is none of {}", values.join(", ")))
            })?;
            facets.push((facet, value));
        }
    }
    let mut time = |name: &str| -> Result<Option<Timestamp>, ApiError> {
        let text = values.remove(name);
        let read = text.map(|text| text.parse());
        read.transpose().map_err(|_| {
            ApiError::InvalidParameter(format!(
                "`{name}` is not a time, for example `2026-01-31T00:00:00Z`"
            ))
        })
    };
    let (since, until) = (time("since")?, time("until")?);
    let text = values.remove("q");
    let words = text.as_deref().unwrap_or("-").split_whitespace().count();
    if !(1..=MAX_WORDS).contains(&words) {
        return Err(invalid("`q` must have 1 to 16 words"));
    }
    let before = values.remove("before").map(|text| text.parse()).transpose();
    let limit = match values.remove("limit") {
        Some(text) => text.parse().ok(),
        None => Some(PAGE),
    };
    Ok(Search {
        facets,
        text,
        since,
        until,
        before: before.map_err(|_| invalid("`before` is not a review id"))?,
        limit: limit
            .filter(|limit| (1..=MAX_PAGE).contains(limit))
            .ok_or_else(|| invalid("`limit` must be from 1 to 200"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::Listing;
    use crate::store::search::Facet;

    fn listing(text: &str) -> Result<Listing, String> {
        let uri = format!("/v1/reviews{text}").parse().expect("a uri");
        Listing::of(&uri, &[]).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn a_list_has_bounds_and_no_unknown_names() {
        assert_eq!(listing("").expect("a list").search.limit, 50);
        for refused in [
            "?limit=0",
            "?limit=201",
            "?limit=x",
            "?status=open",
            "?before=1",
            "?offset=3",
            "?limit=1&limit=2",
            "?user=",
            "?since=yesterday",
            "?q=%20",
            "?count=maybe",
            "?tenant=acme",
        ] {
            assert!(listing(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn only_what_the_record_itself_can_answer_is_plain() {
        assert!(
            listing("?status=denied&limit=3")
                .expect("a list")
                .plain()
                .is_some()
        );
        for other in [
            "?user=ana",
            "?q=git",
            "?count=true",
            "?since=2026-01-01T00:00:00Z",
        ] {
            assert!(listing(other).expect("a list").plain().is_none(), "{other}");
        }
        let found = listing("?user=ana&status=denied")
            .expect("a list")
            .search
            .facets;
        assert_eq!(
            found,
            [
                (Facet::Status, "denied".to_owned()),
                (Facet::User, "ana".to_owned())
            ]
        );
    }
}
