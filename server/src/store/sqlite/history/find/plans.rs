//! That no search reads more of the record than it shows: what SQLite says that it would do.

use jiff::Timestamp;
use protocol::{CallerId, TenantId};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::super::index;
use super::super::packed::Wanted;
use super::{BOUNDS, Search, push_found};
use crate::store::search::Facet;
use crate::store::{Scope, Sight, SqliteStore};
use crate::test_folder::TestFolder;

async fn told(store: &SqliteStore, mut query: QueryBuilder<Sqlite>) -> String {
    let rows = query.build().fetch_all(&store.readers).await;
    let lines = rows.expect("a plan").into_iter().map(|row| {
        let step: String = row.get("detail");
        step + "\n"
    });
    lines.collect()
}

fn searches() -> Vec<(String, Search)> {
    let bare = Search {
        limit: 50,
        ..Search::default()
    };
    let mut all = vec![("nothing".to_owned(), bare.clone())];
    for (facet, name) in Facet::ASKED {
        let facets = vec![(facet, "x".to_owned())];
        all.push((
            name.to_owned(),
            Search {
                facets,
                ..bare.clone()
            },
        ));
    }
    let text = Some("git push".to_owned());
    all.push((
        "text".to_owned(),
        Search {
            text,
            ..bare.clone()
        },
    ));
    let (since, until) = (Some(Timestamp::UNIX_EPOCH), Some(Timestamp::MAX));
    all.push((
        "time".to_owned(),
        Search {
            since,
            until,
            ..bare
        },
    ));
    all
}

fn sights() -> [Sight; 2] {
    let tenant = TenantId::default();
    let caller = CallerId::stored("token:x".to_owned());
    [
        Sight::Tenant(tenant.clone()),
        Sight::Own(Scope { tenant, caller }),
    ]
}

#[tokio::test]
async fn every_filter_is_answered_by_an_index_and_nothing_is_sorted() {
    let folder = TestFolder::new();
    let store = SqliteStore::open(&folder.path("db")).await.expect("open");
    for sight in sights() {
        for (name, search) in searches() {
            let before = "EXPLAIN QUERY PLAN ";
            let stretch = store.stretch(&sight, &search).await.expect("numbers");
            let mut page = QueryBuilder::new(before.to_owned() + &Wanted::Everything.select());
            push_found(&mut page, (&sight, &search), stretch, 50);
            let count = store.counting(before, &sight, &search).await;
            for query in [page, count.expect("a query")] {
                let plan = told(&store, query).await;
                let by_index = plan.contains("SCAN h VIRTUAL TABLE INDEX") && plan.contains(":M2")
                    || plan.contains("SEARCH h USING COVERING INDEX history_of_tenant");
                assert!(by_index, "{name}: {plan}");
                assert!(!plan.contains("TEMP B-TREE"), "{name}: {plan}");
                let scanned = plan.lines().filter(|line| line.trim().starts_with("SCAN"));
                let whole: Vec<_> = scanned
                    .filter(|line| !line.contains("SCAN h VIRTUAL") && !line.contains("(subquery"))
                    .collect();
                assert!(whole.is_empty(), "{name}: {plan}");
            }
        }
    }
}

#[tokio::test]
async fn neither_times_nor_the_next_step_of_the_index_read_the_whole_record() {
    let folder = TestFolder::new();
    let store = SqliteStore::open(&folder.path("db")).await.expect("open");
    for (sql, scans) in [(BOUNDS, 0), (index::BEHIND, 1), (index::CHANGED, 1)] {
        let query = QueryBuilder::new(format!("EXPLAIN QUERY PLAN {sql}"));
        let plan = told(&store, query).await;
        // The tenants, and the few reviews of one step.
        let found = plan.lines().filter(|line| line.starts_with("SCAN"));
        let found: Vec<_> = found
            .filter(|line| !line.contains("CONSTANT ROW"))
            .collect();
        assert_eq!(found.len(), scans, "{plan}");
        let allowed = |line: &&str| line.starts_with("SCAN t") || line.contains("LIST SUBQUERY");
        assert!(found.iter().all(allowed), "{plan}");
    }
    store.close().await;
}
