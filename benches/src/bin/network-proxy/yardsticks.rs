//! Everything that is compared, in turns, and the table.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Anyhow, address, roles};

/// Kinds of load, and what their first number is.
const KINDS: [(&str, &str); 4] = [
    ("alone", "tunnel stands, p50 ns"),
    ("new", "new tunnels with one request, /s"),
    ("keep", "plain requests kept alive, /s"),
    ("bulk", "download, MiB/s"),
];

/// A process that ends with this one.
struct Running {
    child: Child,
    at: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Starts this program in another role, and waits until it says where it listens.
fn start(words: &[&str]) -> Anyhow<Running> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(words)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    let mut at = String::new();
    let _length = BufReader::new(output).read_line(&mut at)?;
    Ok(Running {
        child,
        at: at.trim().to_owned(),
    })
}

/// Processor seconds that a process and its children have used, in ticks of a hundredth.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    [11, 12]
        .iter()
        .filter_map(|place| fields.get(*place)?.parse::<u64>().ok())
        .sum()
}

/// Squid's worker is a child of its master.
fn family(pid: u32) -> u64 {
    let children =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    ticks(pid)
        + children
            .split_whitespace()
            .filter_map(|child| child.parse().ok())
            .map(family)
            .sum::<u64>()
}

/// Where a proxy's work is done.
enum Subject {
    Direct,
    At(Running),
    /// The door, with its listener inside a namespace.
    Inside(PathBuf),
}

/// The numbers of one subject: by kind, one entry a round; and processor microseconds for each unit of it.
#[derive(Default)]
struct Row {
    numbers: BTreeMap<&'static str, Vec<u64>>,
    cost: BTreeMap<&'static str, Vec<f64>>,
}

/// A folder of the benchmark's own.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs everything in turns and prints the table.
pub(crate) fn compare(rounds: usize) -> Anyhow<()> {
    let folder =
        Folder(std::env::temp_dir().join(format!("network-proxy-bench-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0)?;
    let origin = start(&["origin"])?;
    let mut subjects = vec![
        ("direct", Subject::Direct),
        ("bare relay", Subject::At(start(&["relay"])?)),
        ("door", Subject::At(start(&["door"])?)),
        ("door, inside", Subject::Inside(folder.0.clone())),
    ];
    for (name, started) in [
        ("tinyproxy", tinyproxy(&folder.0)),
        ("squid", squid(&folder.0)),
    ] {
        match started {
            Ok(running) => subjects.push((name, Subject::At(running))),
            Err(error) => println!("{name}: not measured: {error}"),
        }
    }
    let mut rows: Vec<Row> = subjects.iter().map(|_| Row::default()).collect();
    for _ in 0..rounds {
        for (kind, _) in KINDS {
            for ((name, subject), row) in subjects.iter().zip(&mut rows) {
                if let Err(error) = measure(subject, kind, &origin.at, row) {
                    println!("{name}, {kind}: {error}");
                }
            }
        }
    }
    print_table(&subjects, &rows);
    let (time, count) = roles::decisions()?;
    println!(
        "\none decision among 10,000 rules: {:.0} ns",
        time.as_secs_f64() * 1e9 / f64::from(u32::try_from(count)?)
    );
    Ok(())
}

fn measure(subject: &Subject, kind: &'static str, origin: &str, row: &mut Row) -> Anyhow<()> {
    let (numbers, ticks) = match subject {
        Subject::Direct => (
            load(Command::new(std::env::current_exe()?).args(["load", kind, "direct", origin]))?,
            0,
        ),
        Subject::At(running) => {
            let before = family(running.child.id());
            let numbers = load(Command::new(std::env::current_exe()?).args([
                "load",
                kind,
                &running.at,
                origin,
            ]))?;
            (numbers, family(running.child.id()) - before)
        }
        Subject::Inside(folder) => inside(folder, kind, origin)?,
    };
    let (Some(first), Some(units)) = (numbers.first(), numbers.last()) else {
        return Err("no numbers".into());
    };
    row.numbers.entry(kind).or_default().push(*first);
    let micros = f64::from(u32::try_from(ticks)?) * 10_000.0;
    row.cost
        .entry(kind)
        .or_default()
        .push(micros / f64::from(u32::try_from(*units)?));
    Ok(())
}

/// A fresh door whose listener the load makes in its own namespace.
fn inside(folder: &Path, kind: &str, origin: &str) -> Anyhow<(Vec<u64>, u64)> {
    let socket = folder.join("descriptor").display().to_string();
    let _old = std::fs::remove_file(&socket);
    let door = start(&["door", &socket])?;
    let own = std::env::current_exe()?.display().to_string();
    let script = "ip link set lo up && exec \"$0\" load-inside \"$1\" \"$2\" \"$3\"";
    let numbers = load(Command::new("unshare").args([
        "--user",
        "--map-root-user",
        "--net",
        "--",
        "sh",
        "-c",
        script,
        &own,
        kind,
        &socket,
        origin,
    ]))?;
    let ticks = family(door.child.id());
    Ok((numbers, ticks))
}

/// Runs a load and reads its line.
fn load(command: &mut Command) -> Anyhow<Vec<u64>> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<u64> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    if !output.status.success() || numbers.is_empty() {
        return Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(numbers)
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn print_table(subjects: &[(&str, Subject)], rows: &[Row]) {
    for (kind, unit) in KINDS {
        println!("\n{unit}");
        for ((name, subject), row) in subjects.iter().zip(rows) {
            let Some(answered) = answered(row, kind) else {
                continue;
            };
            let cost = cost(row, kind);
            let cost = match (subject, kind) {
                (Subject::Direct, _) => String::new(),
                (_, "bulk") => format!("   {:.2} processor-seconds/GB", cost * 1e3),
                _ => format!("   {cost:.0} µs of processor each"),
            };
            println!("  {name:<14} {answered:>10.0}{cost}");
        }
        print_ratios(kind, subjects, rows);
    }
}

/// What was measured of the kind; what does not speak it answers nothing.
fn answered(row: &Row, kind: &str) -> Option<f64> {
    let numbers = row.numbers.get(kind).into_iter().flatten();
    let numbers: Vec<f64> = numbers
        .filter_map(|number| u32::try_from(*number).ok())
        .map(f64::from)
        .collect();
    Some(median(&numbers)).filter(|answered| *answered >= 1.0)
}

/// The processor time of each.
fn cost(row: &Row, kind: &str) -> f64 {
    median(row.cost.get(kind).map_or(&[][..], Vec::as_slice))
}

/// What the door from inside costs for each, beside every other that was measured in the same rounds.
fn print_ratios(kind: &str, subjects: &[(&str, Subject)], rows: &[Row]) {
    let mut measured = subjects.iter().zip(rows);
    let ours = measured.find(|((_, subject), _)| matches!(subject, Subject::Inside(_)));
    let Some(ours) = ours
        .map(|(_, row)| cost(row, kind))
        .filter(|cost| *cost > 0.0)
    else {
        return;
    };
    for ((name, subject), row) in subjects.iter().zip(rows) {
        let theirs = answered(row, kind).map_or(0.0, |_| cost(row, kind));
        let other = !matches!(subject, Subject::Direct | Subject::Inside(_));
        if other && !name.starts_with("door") && theirs > 0.0 {
            println!(
                "  the door's processor time, inside, is ×{:.2} of {name}'s",
                ours / theirs
            );
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> Anyhow<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

fn tinyproxy(folder: &Path) -> Anyhow<Running> {
    let port = free_port()?;
    let config = folder.join("tinyproxy.conf");
    let text = format!(
        "Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 1000\nLogLevel Critical\nLogFile \"{}\"\n",
        folder.join("tinyproxy.log").display()
    );
    std::fs::write(&config, text)?;
    let child = Command::new("tinyproxy")
        .args(["-d", "-c"])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    up(Running {
        child,
        at: format!("127.0.0.1:{port}"),
    })
}

fn squid(folder: &Path) -> Anyhow<Running> {
    let port = free_port()?;
    let config = folder.join("squid.conf");
    let at = folder.display();
    let text = format!(
        "http_port 127.0.0.1:{port}\nhttp_access allow all\ncache deny all\naccess_log none\ncache_log {at}/squid.log\npid_filename {at}/squid.pid\ncoredump_dir {at}\nshutdown_lifetime 0 seconds\npinger_enable off\n"
    );
    std::fs::write(&config, text)?;
    // Squid gives up root by itself, and then has to write here.
    let _open = Command::new("chmod").arg("0777").arg(folder).status()?;
    let child = Command::new("squid")
        .args(["-N", "-f"])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    up(Running {
        child,
        at: format!("127.0.0.1:{port}"),
    })
}

/// Waits until a proxy accepts connections.
fn up(running: Running) -> Anyhow<Running> {
    let at = address(&running.at)?;
    for _ in 0..100 {
        if std::net::TcpStream::connect(at).is_ok() {
            return Ok(running);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err("it does not come up".into())
}
