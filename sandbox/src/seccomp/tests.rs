//! The compiled program against a plain reading of the same rules, over every call number and the arguments that matter.

use super::*;

const EVERY: [Filter; 9] = [
    Filter::Terminal,
    Filter::Mounts,
    Filter::Namespaces,
    Filter::Surface,
    Filter::Sockets,
    Filter::UnixSockets,
    Filter::Internet,
    Filter::Shared,
    Filter::Truncation,
];

/// Runs classic BPF as the kernel would, for the instructions used here.
fn run(program: &[libc::sock_filter], architecture: u32, call: u32, arguments: [u32; 6]) -> u32 {
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let step = program[at];
        let code = u32::from(step.code);
        let taken = |yes: bool| usize::from(if yes { step.jt } else { step.jf });
        at += 1;
        match code {
            LOAD => {
                accumulator = match step.k {
                    NUMBER_AT => call,
                    ARCHITECTURE_AT => architecture,
                    other => arguments[usize::try_from((other - ARGUMENTS_AT) / 8).unwrap()],
                };
            }
            IS => at += taken(accumulator == step.k),
            AT_LEAST => at += taken(accumulator >= step.k),
            ANY_BIT => at += taken(accumulator & step.k != 0),
            JUMP => at += usize::try_from(step.k).unwrap(),
            RETURN => return step.k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn expected(rules: &BTreeMap<u32, Vec<Rule>>, call: u32, arguments: [u32; 6]) -> u32 {
    let mut rules = rules.get(&call).into_iter().flatten();
    let decided = rules.find(|rule| rule.holds(arguments));
    decided.map_or(libc::SECCOMP_RET_ALLOW, |rule| rule.answer.action())
}

#[test]
fn the_program_decides_every_call_as_the_rules_read() {
    for observing in [
        Observing::Nothing,
        Observing::Changes,
        Observing::Everything,
    ] {
        decides_as_it_reads(&rules(&EVERY, observing));
    }
}

fn decides_as_it_reads(rules: &BTreeMap<u32, Vec<Rule>>) {
    let program = assemble(rules).unwrap();
    let values = [
        0,
        1,
        2,
        3,
        10,
        16,
        17,
        58,
        132,
        262,
        0x5412,
        0x5413,
        0x541C,
        0x80,
        0x41,
        0x201,
        0x200,
        0x203,
        8,
        0x1000_0000,
        0x0002_0000,
        u32::MAX,
    ];
    for call in 0..1024 {
        for first in values {
            for second in values {
                let arguments = [first, second, first ^ second, 0, 0, 0];
                let other = [first, 1, second, 0, 0, 0];
                for arguments in [arguments, other] {
                    let decided = run(&program, ARCHITECTURE, call, arguments);
                    assert_eq!(
                        decided,
                        expected(rules, call, arguments),
                        "call {call} {arguments:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_foreign_processor_interface_ends_the_process() {
    let (program, _) = compile(&EVERY, Observing::Everything).unwrap();
    for foreign in [0x4000_0003, 0x4000_0028, 0] {
        assert_eq!(
            run(&program, foreign, 0, [0; 6]),
            libc::SECCOMP_RET_KILL_PROCESS
        );
    }
}

#[test]
fn an_x32_number_does_not_exist() {
    let (program, _) = compile(&[Filter::Terminal], Observing::Nothing).unwrap();
    let refused = libc::SECCOMP_RET_ERRNO | errnos::ENOSYS;
    for call in [X32_BIT, X32_BIT | 16, u32::MAX] {
        assert_eq!(run(&program, ARCHITECTURE, call, [0; 6]), refused);
    }
}

#[test]
fn no_filter_is_empty() {
    for filter in EVERY {
        assert!(!filter.refusals().is_empty(), "{filter:?}");
    }
    assert!(!written::WATCHED.is_empty());
}

#[test]
fn the_longest_way_through_the_program_is_short() {
    let (program, _) = compile(&EVERY, Observing::Everything).unwrap();
    assert!(program.len() < 400, "{}", program.len());
}

#[test]
fn what_is_refused_is_refused_whoever_watches() {
    let silent = rules(&EVERY, Observing::Nothing);
    let program = assemble(&rules(&EVERY, Observing::Everything)).unwrap();
    let (_, reading) = compile(&EVERY, Observing::Everything).unwrap();
    for (call, refusals) in silent {
        for first in [0, 1, 2, 3, 16, 0x5412, 0x1000_0000] {
            let arguments = [first, first, first, 0, 0, 0];
            let Some(rule) = refusals.iter().find(|rule| rule.holds(arguments)) else {
                continue;
            };
            let Answer::Refuse(errno) = rule.answer else {
                panic!("{}", rule.name);
            };
            let decided = run(&program, ARCHITECTURE, call, arguments);
            let told = reading.of(call, arguments);
            let refused = Told::Refused {
                name: rule.name,
                errno: errno.cast_signed(),
            };
            assert!(
                decided == libc::SECCOMP_RET_USER_NOTIF
                    || decided == libc::SECCOMP_RET_ERRNO | errno
            );
            assert_eq!(told, refused, "{}", rule.name);
        }
    }
    // What nobody told of is not let through by mistake.
    assert!(matches!(
        reading.of(9999, [0; 6]),
        Told::Refused {
            errno: libc::EPERM,
            ..
        }
    ));
}
