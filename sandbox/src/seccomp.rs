//! The system call wall: filters written down in `filters/*.json`, each refusal with its reason, compiled to BPF.
//!
//! Pure: what the files say in (read when this crate is built), a program out. A plan names the filters it wants; their refusals go into *one* program that finds
//! the call by binary search, since the kernel runs a filter once for every system call number when it is installed and
//! again for each call that is not always allowed. That is why no crate compiles it: those that do compare with one call
//! after the other and need a program for each errno. Installing 172 instructions that are all passed through took 476 µs
//! on the machine this was measured on, the same number with jumps over them 76 µs (a filter of one instruction: 22 µs).
//! Foreign processor interfaces end the process; x32 numbers do not exist.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use thiserror::Error;

mod number;

use number::{Syscall, errnos};

/// A set of refusals, by the name of its file in `filters/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// The terminal the command inherited.
    Terminal,
    /// Whatever changes what a path means.
    Mounts,
    /// New namespaces.
    Namespaces,
    /// Kernel interfaces that no command needs.
    Surface,
    /// Address families and protocols.
    Sockets,
    /// Unix sockets other than pairs.
    UnixSockets,
    /// Every network, where a command has none of its own.
    Internet,
    /// What namespaces would keep apart, and what Landlock does not judge.
    Shared,
    /// Emptying a file that was not opened to be written, which an old Landlock does not judge.
    Truncation,
}

impl Filter {
    /// The name, as in `filters/`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Mounts => "mounts",
            Self::Namespaces => "namespaces",
            Self::Surface => "surface",
            Self::Sockets => "sockets",
            Self::UnixSockets => "unix-sockets",
            Self::Internet => "internet",
            Self::Shared => "shared",
            Self::Truncation => "truncation",
        }
    }

    fn refusals(self) -> &'static [Refusal] {
        match self {
            Self::Terminal => written::TERMINAL,
            Self::Mounts => written::MOUNTS,
            Self::Namespaces => written::NAMESPACES,
            Self::Surface => written::SURFACE,
            Self::Sockets => written::SOCKETS,
            Self::UnixSockets => written::UNIX_SOCKETS,
            Self::Internet => written::INTERNET,
            Self::Shared => written::SHARED,
            Self::Truncation => written::TRUNCATION,
        }
    }
}

/// Why a filter cannot be built: a fault of this crate's own files, found by its tests.
#[derive(Debug, Error)]
pub enum FilterError {
    /// A refusal that jumps too far for BPF.
    #[error("a refusal of the filters is too long")]
    TooLong,
}

/// How much of what a command does is told to a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Observing {
    /// Nothing: what is refused is refused in silence.
    Nothing,
    /// What is refused as not permitted, and calls that change files or connect.
    #[default]
    Changes,
    /// Opening files to read them, too.
    Everything,
}

/// One line of a filter's file: a call that fails with `errno` where all of `when` holds.
#[derive(Debug)]
struct Refusal {
    name: &'static str,
    call: Syscall,
    errno: u32,
    when: &'static [Condition],
}

/// One line of `filters/watched.json`.
#[derive(Debug)]
struct Watched {
    name: &'static str,
    call: Syscall,
    /// Only where reading is observed, too.
    reads: Reads,
    when: &'static [Condition],
}

/// Whether a watched call only reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    Only,
    NotOnly,
}

/// A test on the low 32 bits of an argument, which is all the kernel reads of those tested here.
#[derive(Debug)]
struct Condition {
    argument: u32,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Is(&'static [u32]),
    IsNot(&'static [u32]),
    AnyBit(u32),
    NoBit(u32),
}

/// The files of `filters/` as data: written by the build script, which refuses what it cannot read, and by the compiler,
/// which refuses a call or an errno that it does not know.
mod written {
    use super::number::{calls, errnos};
    use super::{Condition, Reads, Refusal, Test, Watched};

    include!(concat!(env!("OUT_DIR"), "/filters.rs"));
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It fails.
    Refuse(u32),
    /// It fails, by the watcher's answer, or as missing where nobody answers any more.
    Tell(u32),
    /// The watcher sees it and lets it go on to the other walls.
    Watch,
}

impl Answer {
    fn action(self) -> u32 {
        match self {
            Self::Refuse(errno) => libc::SECCOMP_RET_ERRNO | errno,
            Self::Tell(_) | Self::Watch => libc::SECCOMP_RET_USER_NOTIF,
        }
    }
}

/// A refusal, or a call to watch, with its names looked up. The first of a call's rules that holds decides.
#[derive(Debug)]
struct Rule {
    name: &'static str,
    answer: Answer,
    when: &'static [Condition],
}

impl Rule {
    fn holds(&self, arguments: [u32; 6]) -> bool {
        let holds = |condition: &Condition| {
            let at = usize::try_from(condition.argument).ok();
            let value = at.and_then(|at| arguments.get(at)).copied().unwrap_or(0);
            match &condition.test {
                Test::Is(values) => values.contains(&value),
                Test::IsNot(values) => !values.contains(&value),
                Test::AnyBit(mask) => value & mask != 0,
                Test::NoBit(mask) => value & mask == 0,
            }
        };
        self.when.iter().all(holds)
    }
}

/// What a watcher has to do about a call that it is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// Answer with this errno: the call is refused here.
    Refused { name: &'static str, errno: i32 },
    /// Let it go on.
    Watched { name: &'static str },
}

/// The rules that a program was made of, for whoever answers what it tells.
#[derive(Debug)]
pub(crate) struct Reading(BTreeMap<u32, Vec<Rule>>);

impl Reading {
    /// What to do about a call. One that no rule tells of is refused.
    pub(crate) fn of(&self, call: u32, arguments: [u32; 6]) -> Told {
        let rules = self.0.get(&call).into_iter().flatten();
        let rule = rules.into_iter().find(|rule| rule.holds(arguments));
        match rule.map(|rule| (rule.name, rule.answer)) {
            Some((name, Answer::Watch)) => Told::Watched { name },
            Some((name, Answer::Tell(errno) | Answer::Refuse(errno))) => Told::Refused {
                name,
                errno: errno.cast_signed(),
            },
            None => Told::Refused {
                name: "unknown",
                errno: libc::EPERM,
            },
        }
    }
}

/// A compiled program, shared by every command that wants the same filters.
pub(crate) type Program = Arc<[libc::sock_filter]>;

/// Programs and what they were made of, by what was asked for.
type Compiled = BTreeMap<(Vec<Filter>, Observing), (Program, Arc<Reading>)>;

static COMPILED: Mutex<Compiled> = Mutex::new(BTreeMap::new());

/// The program that refuses what any of `filters` refuses, and tells what is observed. Compiled once per process and set.
pub(crate) fn compile(
    filters: &[Filter],
    observing: Observing,
) -> Result<(Program, Arc<Reading>), FilterError> {
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (filters.to_vec(), observing);
    if let Some((program, reading)) = compiled.get(&key) {
        return Ok((Arc::clone(program), Arc::clone(reading)));
    }
    let rules = rules(filters, observing);
    let program: Program = assemble(&rules)?.into();
    let made = (program, Arc::new(Reading(rules)));
    compiled.insert(key, (Arc::clone(&made.0), Arc::clone(&made.1)));
    Ok(made)
}

/// Refusals that say a thing is not permitted are worth telling; one that says it is not there is expected, and followed by
/// another way.
fn answer(errno: u32, observing: Observing) -> Answer {
    let missing = [errnos::ENOSYS, errnos::EOPNOTSUPP];
    if observing == Observing::Nothing || missing.contains(&errno) {
        Answer::Refuse(errno)
    } else {
        Answer::Tell(errno)
    }
}

fn rules(filters: &[Filter], observing: Observing) -> BTreeMap<u32, Vec<Rule>> {
    let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    let mut add = |call, rule| {
        // One that this processor's kernel never had needs no rule.
        if let Syscall::Number(number) = call
            && let Ok(number) = u32::try_from(number)
        {
            rules.entry(number).or_default().push(rule);
        }
    };
    for refusal in filters.iter().flat_map(|filter| filter.refusals()) {
        let rule = Rule {
            name: refusal.name,
            answer: answer(refusal.errno, observing),
            when: refusal.when,
        };
        add(refusal.call, rule);
    }
    // What is only watched comes after what is refused.
    for watched in written::WATCHED {
        let wanted = match watched.reads {
            Reads::NotOnly => observing > Observing::Nothing,
            Reads::Only => observing == Observing::Everything,
        };
        if wanted {
            let rule = Rule {
                name: watched.name,
                answer: Answer::Watch,
                when: watched.when,
            };
            add(watched.call, rule);
        }
    }
    rules
}

const ARCHITECTURE_AT: u32 = 4;
const NUMBER_AT: u32 = 0;
const ARGUMENTS_AT: u32 = 16;
const X32_BIT: u32 = 0x4000_0000;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const IS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

fn step(code: u32, k: u32) -> Result<libc::sock_filter, FilterError> {
    branch(code, k, [0, 0])
}

/// An instruction that skips `yes` or `no` instructions by its outcome.
fn branch(code: u32, k: u32, [yes, no]: [usize; 2]) -> Result<libc::sock_filter, FilterError> {
    let skip = |distance| u8::try_from(distance).map_err(|_| FilterError::TooLong);
    let code = u16::try_from(code).map_err(|_| FilterError::TooLong)?;
    Ok(libc::sock_filter {
        code,
        jt: skip(yes)?,
        jf: skip(no)?,
        k,
    })
}

fn assemble(rules: &BTreeMap<u32, Vec<Rule>>) -> Result<Vec<libc::sock_filter>, FilterError> {
    let refuse_x32 = libc::SECCOMP_RET_ERRNO | errnos::ENOSYS;
    let mut program = vec![
        step(LOAD, ARCHITECTURE_AT)?,
        branch(IS, ARCHITECTURE, [1, 0])?,
        step(RETURN, libc::SECCOMP_RET_KILL_PROCESS)?,
        step(LOAD, NUMBER_AT)?,
        branch(AT_LEAST, X32_BIT, [0, 1])?,
        step(RETURN, refuse_x32)?,
    ];
    let calls: Vec<_> = rules
        .iter()
        .map(|(call, rules)| (*call, rules.as_slice()))
        .collect();
    program.extend(search(&calls)?);
    Ok(program)
}

/// How many calls are compared one after the other at the end of a search.
const NEIGHBOURS: usize = 4;

/// The part of the program that decides among `calls`, which are sorted.
fn search(calls: &[(u32, &[Rule])]) -> Result<Vec<libc::sock_filter>, FilterError> {
    if calls.len() <= NEIGHBOURS {
        return neighbours(calls);
    }
    let (left, right) = calls.split_at(calls.len() / 2);
    let pivot = right.first().map_or(0, |(call, _)| *call);
    let lower = search(left)?;
    let mut program = if lower.len() <= u8::MAX.into() {
        vec![branch(AT_LEAST, pivot, [lower.len(), 0])?]
    } else {
        let far = u32::try_from(lower.len()).map_err(|_| FilterError::TooLong)?;
        vec![branch(AT_LEAST, pivot, [0, 1])?, step(JUMP, far)?]
    };
    program.extend(lower);
    program.extend(search(right)?);
    Ok(program)
}

/// Compares with each of a few calls, then what each of them leads to; the same refusal is there once.
fn neighbours(calls: &[(u32, &[Rule])]) -> Result<Vec<libc::sock_filter>, FilterError> {
    let mut program = Vec::new();
    let mut leads = vec![vec![step(RETURN, libc::SECCOMP_RET_ALLOW)?]];
    let mut places = Vec::with_capacity(calls.len());
    for (_, rules) in calls {
        let lead = refusals(rules)?;
        let known = leads.iter().position(|other| same(other, &lead));
        places.push(known.unwrap_or(leads.len()));
        if known.is_none() {
            leads.push(lead);
        }
    }
    for (at, ((call, _), place)) in calls.iter().zip(places).enumerate() {
        let before: usize = leads.iter().take(place).map(Vec::len).sum();
        program.push(branch(IS, *call, [calls.len() - at - 1 + before, 0])?);
    }
    program.extend(leads.into_iter().flatten());
    Ok(program)
}

fn same(one: &[libc::sock_filter], other: &[libc::sock_filter]) -> bool {
    let fields = |step: &libc::sock_filter| (step.code, step.jt, step.jf, step.k);
    one.iter().map(fields).eq(other.iter().map(fields))
}

/// All refusals of one call, one after the other. What none of them matches is allowed.
fn refusals(rules: &[Rule]) -> Result<Vec<libc::sock_filter>, FilterError> {
    let mut program = Vec::new();
    for rule in rules {
        let mut code = vec![step(RETURN, rule.answer.action())?];
        for condition in rule.when.iter().rev() {
            let mut tested = test(condition, code.len())?;
            tested.extend(code);
            code = tested;
        }
        program.extend(code);
        if rule.when.is_empty() {
            return Ok(program);
        }
    }
    program.push(step(RETURN, libc::SECCOMP_RET_ALLOW)?);
    Ok(program)
}

/// Falls through where the condition holds; skips `rest` more instructions where it does not.
fn test(condition: &Condition, rest: usize) -> Result<Vec<libc::sock_filter>, FilterError> {
    let mut code = vec![step(LOAD, ARGUMENTS_AT + 8 * condition.argument)?];
    match &condition.test {
        Test::AnyBit(mask) => code.push(branch(ANY_BIT, *mask, [0, rest])?),
        Test::NoBit(mask) => code.push(branch(ANY_BIT, *mask, [rest, 0])?),
        Test::Is(values) => {
            for (place, value) in values.iter().enumerate() {
                let left = values.len() - 1 - place;
                let no = if left == 0 { rest } else { 0 };
                code.push(branch(IS, *value, [left, no])?);
            }
        }
        Test::IsNot(values) => {
            for (place, value) in values.iter().enumerate() {
                let left = values.len() - 1 - place;
                code.push(branch(IS, *value, [left + rest, 0])?);
            }
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests;
