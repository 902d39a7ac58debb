//! The compiled program against a plain reading of the same rules, over every call number and the arguments that matter.

use super::*;

const EVERY: [Filter; 8] = [
    Filter::Terminal,
    Filter::Mounts,
    Filter::Namespaces,
    Filter::Surface,
    Filter::Sockets,
    Filter::UnixSockets,
    Filter::Internet,
    Filter::Shared,
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
    let holds = |condition: &Condition| {
        let value = arguments[usize::try_from(condition.argument).unwrap()];
        match &condition.test {
            Test::Is(values) => values.contains(&value),
            Test::IsNot(values) => !values.contains(&value),
            Test::AnyBit(mask) => value & mask != 0,
        }
    };
    let refused = rules
        .get(&call)
        .into_iter()
        .flatten()
        .find(|rule| rule.when.iter().all(holds));
    refused.map_or(libc::SECCOMP_RET_ALLOW, |rule| {
        libc::SECCOMP_RET_ERRNO | rule.errno
    })
}

#[test]
fn the_program_decides_every_call_as_the_rules_read() {
    let rules = rules(&EVERY).unwrap();
    let program = assemble(&rules).unwrap();
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
                        expected(&rules, call, arguments),
                        "call {call} {arguments:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_foreign_processor_interface_ends_the_process() {
    let program = compile(&EVERY).unwrap();
    for foreign in [0x4000_0003, 0x4000_0028, 0] {
        assert_eq!(
            run(&program, foreign, 0, [0; 6]),
            libc::SECCOMP_RET_KILL_PROCESS
        );
    }
}

#[test]
fn an_x32_number_does_not_exist() {
    let program = compile(&[Filter::Terminal]).unwrap();
    let refused = libc::SECCOMP_RET_ERRNO | number::errno("ENOSYS").unwrap();
    for call in [X32_BIT, X32_BIT | 16, u32::MAX] {
        assert_eq!(run(&program, ARCHITECTURE, call, [0; 6]), refused);
    }
}

#[test]
fn every_refusal_says_why() {
    for filter in EVERY {
        let file: File = serde_json::from_str(filter.text()).unwrap();
        assert!(!file._why.is_empty(), "{filter:?}");
        for refusal in file.refuse {
            assert!(refusal._why.len() > 10, "{filter:?} {}", refusal.syscall);
        }
    }
}

#[test]
fn the_longest_way_through_the_program_is_short() {
    let program = compile(&EVERY).unwrap();
    assert!(program.len() < 400, "{}", program.len());
}
