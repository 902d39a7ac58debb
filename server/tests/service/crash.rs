//! Kills under load, and the order of sync and answer: what was told is on disk, whatever happens (P4).
//!
//! A kill leaves the page cache alone, so it shows that the program keeps its promises; that they hold when the power
//! goes is shown by the order of its system calls.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Row as _};
use tokio::task::JoinSet;

use crate::harness::{
    Folder, Program, Server, SilentModel, call_at, command, harmful, program, redeem_body,
    submission, try_call_at, unclear,
};

/// What was told to somebody: the review's status, and whether its approval was spent.
type Promises = HashMap<String, (String, bool)>;

/// Whom each client talks to, and what it was told.
struct Crowd {
    address: std::net::SocketAddr,
    token: String,
    promises: Arc<Mutex<Promises>>,
}

impl Crowd {
    fn head(&self, path: &str, wait: u64) -> String {
        let (token, key) = (&self.token, uuid::Uuid::new_v4());
        format!(
            "POST {path} HTTP/1.1\r\nauthorization: Bearer {token}\r\nprefer: wait={wait}\r\nidempotency-key: {key}\r\n\
             content-type: application/json\r\n"
        )
    }

    /// Asks until nobody answers any more.
    async fn ask(&self, client: usize) {
        for round in 0.. {
            // Distinct actions: nothing is shared.
            let action = match (client + round) % 3 {
                0 => harmful(),
                1 => command(&["ls", &format!("/usr/{client}/{round}")]),
                _ => unclear(),
            };
            let wait = if (client + round) % 3 == 2 { 0 } else { 30 };
            let head = self.head("/v1/reviews", wait);
            let body = submission(&action).to_string();
            let Some(told) = try_call_at(self.address, &head, &body).await else {
                return;
            };
            if told.status != 200 && told.status != 202 {
                return;
            }
            let id = told.id();
            self.promise(&id, told.review_status(), false);
            if told.review_status() == "approved" {
                let head = self.head(&format!("/v1/reviews/{id}/redeem"), 0);
                let body = redeem_body(action.digest(), Some("s-1")).to_string();
                let spent = try_call_at(self.address, &head, &body).await;
                if spent.is_some_and(|spent| spent.status == 200) {
                    self.promise(&id, "approved", true);
                }
            }
        }
    }

    fn promise(&self, id: &str, status: &str, spent: bool) {
        let mut promises = self.promises.lock().expect("promises");
        promises.insert(id.to_owned(), (status.to_owned(), spent));
    }
}

/// `kills` times: a server under load, killed at some moment.
async fn survive(kills: usize) {
    let (folder, model) = (Folder::new(), SilentModel::new());
    let program = Program::new(&folder, &model.settings());
    let token = program.token();
    let promises = Arc::new(Mutex::new(Promises::new()));
    for kill in 0..kills {
        let mut server = program.serve();
        let mut clients = JoinSet::new();
        for client in 0..6 {
            let crowd = Crowd {
                address: server.address,
                token: token.clone(),
                promises: Arc::clone(&promises),
            };
            clients.spawn(async move { crowd.ask(client).await });
        }
        // Some moment within the first 60 ms: while it recovers, writes, syncs, answers.
        let moment = u64::try_from(kill).unwrap_or(0).wrapping_mul(2_654_435_761) % 60_000;
        tokio::time::sleep(Duration::from_micros(moment)).await;
        server.kill();
        while clients.join_next().await.is_some() {}
    }
    // The last start closes what the last kill left open.
    let mut server = program.serve();
    assert_eq!(server.terminate(), Some(0));
    let promises = promises.lock().expect("promises").clone();
    held(&folder.database(), &promises).await;
    let (code, out, err) = program.output(&["verify"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(promises.len() > kills, "there was load: {}", promises.len());
}

/// Everything that was told stands in the record, and nothing is open.
async fn held(database: &Path, promises: &Promises) {
    let options = SqliteConnectOptions::new().filename(database);
    let mut connection = options.connect().await.expect("a connection");
    let rows = sqlx::query("SELECT review_id, status, redeemed_at FROM reviews")
        .fetch_all(&mut connection)
        .await
        .expect("rows");
    let found: HashMap<String, (String, bool)> = rows
        .iter()
        .map(|row| {
            let id = uuid::Uuid::from_slice(row.get(0))
                .expect("an id")
                .to_string();
            (id, (row.get(1), row.get::<Option<i64>, _>(2).is_some()))
        })
        .collect();
    let mut ends: HashMap<&str, usize> = HashMap::new();
    for (id, (status, spent)) in promises {
        let (now, was_spent) = found.get(id).unwrap_or_else(|| panic!("{id} is lost"));
        let as_told = match status.as_str() {
            // Nobody judged it before the kill.
            "reviewing" => "failed",
            ended => ended,
        };
        assert_eq!(now, as_told, "{id}");
        assert!(*was_spent || !spent, "{id} was spent");
        *ends.entry(as_told).or_default() += 1;
    }
    let open = found.values().filter(|(status, _)| status == "reviewing");
    assert_eq!(open.count(), 0);
    for status in ["approved", "denied", "failed"] {
        assert!(ends.get(status).is_some_and(|count| *count > 0), "{ends:?}");
    }
}

/// Some ten seconds: fifty starts of a real process, and there is no other way to be killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_told_is_lost_over_fifty_kills() {
    survive(50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a thousand kills take minutes: `cargo xtask soak`"]
async fn nothing_that_was_told_is_lost_over_a_thousand_kills() {
    survive(1_000).await;
}

/// What a traced server did to its log and its sockets, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    Wrote,
    Synced,
    Answered,
}

/// Reads lines of `strace -f -yy`: a call that another thread interrupts counts when it is over, but for an answer,
/// whose bytes are out when it begins.
fn read_trace(text: &str) -> Vec<Did> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut done = Vec::new();
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        let answers = call.contains("HTTP/1.1 200") && !call.contains("resumed");
        if answers {
            done.push(Did::Answered);
        } else if call.ends_with("<unfinished ...>") {
            begun.insert(thread, call);
        } else {
            let whole = if call.starts_with("<...") {
                begun.remove(thread).unwrap_or_default()
            } else {
                call
            };
            if !whole.contains("reviews.db-wal") || call.contains(" = -1 ") {
                continue;
            }
            if whole.starts_with("pwrite64") {
                done.push(Did::Wrote);
            } else if whole.starts_with("fdatasync") || whole.starts_with("fsync") {
                done.push(Did::Synced);
            }
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_is_synced_before_the_answer_s_first_byte() {
    const CALLS: usize = 20;
    let folder = Folder::new();
    let server = Program::new(&folder, "");
    let token = server.token();
    let trace = folder.path("trace");
    let mut traced = Command::new("strace");
    traced
        // `-D`: the server is our own child and the tracer ends with it, so that nothing stays behind.
        .args(["-D", "-f", "-yy", "-s", "16", "-o"])
        .arg(&trace)
        .args([
            "-e",
            "trace=pwrite64,fdatasync,fsync,write,writev,sendto,sendmsg",
        ])
        .arg(program())
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(&server.config);
    let mut running = Server::start(&mut traced);
    for round in 0..CALLS {
        let head = format!(
            "POST /v1/reviews HTTP/1.1\r\nauthorization: Bearer {token}\r\nprefer: wait=30\r\n\
             content-type: application/json\r\n"
        );
        let body = submission(&command(&["ls", &format!("/{round}")]));
        let told = call_at(running.address, &head, &body.to_string()).await;
        assert_eq!(told.review_status(), "approved", "{:?}", told.body);
        // The index has the time to follow: the first write after this is the next review's.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.kill();
    let mut text = String::new();
    for _ in 0..100 {
        text = std::fs::read_to_string(&trace).expect("a trace");
        if text.trim_end().ends_with("+++ killed by SIGKILL +++") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let done = read_trace(&text);
    let answers = done.iter().filter(|did| **did == Did::Answered).count();
    assert_eq!(answers, CALLS, "each answer was seen");
    let mut since = Vec::new();
    for did in done {
        if did != Did::Answered {
            since.push(did);
            continue;
        }
        // What is written for the index comes after it, and may come before the answer is out.
        let wrote = since.iter().position(|did| *did == Did::Wrote);
        let wrote = wrote.expect("something was written for it");
        let after = since.get(wrote..).unwrap_or_default();
        assert!(after.contains(&Did::Synced), "and synced after that");
        since.clear();
    }
}

#[test]
fn the_reader_of_traces_tells_an_answer_that_came_too_soon() {
    let late = "7 pwrite64(9</x/reviews.db-wal>, \"a\", 1, 0) = 1\n\
                8 write(5<TCP:[1]>, \"HTTP/1.1 200 OK\"..., 9) = 9\n\
                7 fdatasync(9</x/reviews.db-wal> <unfinished ...>\n\
                7 <... fdatasync resumed>) = 0\n";
    assert_eq!(read_trace(late), [Did::Wrote, Did::Answered, Did::Synced]);
    assert_eq!(
        json!(read_trace("7 fdatasync(9</x/reviews.db-wal>) = -1 EIO").len()),
        json!(0)
    );
}
