use super::Reading;
use crate::command::Role;
use crate::shell::Unread;

fn argv(words: &[&str]) -> Reading {
    Reading::of_argv(
        &words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>(),
    )
}

fn bash(script: &str) -> Reading {
    argv(&["bash", "-lc", script])
}

fn leaves(reading: &Reading) -> Vec<String> {
    let spell = |command: &crate::Command| {
        command
            .words()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    reading.leaves().map(spell).collect()
}

#[test]
fn wrappers_are_looked_through() {
    for script in [
        "env rm -rf x",
        "env -i A=1 rm -rf x",
        "env -u A rm -rf x",
        "sudo rm -rf x",
        "sudo -u root -n rm -rf x",
        "sudo A=1 rm -rf x",
        "timeout 5 rm -rf x",
        "timeout -k 1 -s KILL 5s rm -rf x",
        "nice rm -rf x",
        "nice -n 5 rm -rf x",
        "nice -5 rm -rf x",
        "nohup rm -rf x",
        "time rm -rf x",
        "command rm -rf x",
        "exec rm -rf x",
        "exec -a y rm -rf x",
        "stdbuf -oL rm -rf x",
        "setsid -f rm -rf x",
        "bash -c 'rm -rf x'",
        "sh -ec 'rm -rf x'",
        "bash -o errexit -c 'rm -rf x'",
        "bash -c -- 'rm -rf x'",
        "su -c 'rm -rf x' root",
        "eval rm -rf x",
        "eval 'rm -rf x'",
        "busybox rm -rf x",
        "ionice -c 3 rm -rf x",
        "chroot / rm -rf x",
        "doas rm -rf x",
        "env -S 'rm -rf x'",
        "bash <<< 'rm -rf x'",
        "sudo bash -c 'env nice rm -rf x'",
        "zsh -c 'rm -rf x'",
        "trap 'rm -rf x' EXIT",
    ] {
        let reading = bash(script);
        assert!(reading.is_complete(), "{script}: {:?}", reading.unread());
        assert_eq!(leaves(&reading), ["rm -rf x"], "{script}");
    }
}

#[test]
fn a_wrapper_that_is_not_understood_makes_the_reading_incomplete_and_is_looked_through_all_the_same()
 {
    for script in [
        "timeout --odd 5 rm -rf x",
        "sudo --odd rm -rf x",
        "unshare -r rm -rf x",
        "env --odd rm -rf x",
        "strace -f rm -rf x",
    ] {
        let reading = bash(script);
        assert_eq!(reading.unread(), Some(Unread::Dynamic), "{script}");
        assert!(
            leaves(&reading)
                .iter()
                .any(|leaf| leaf.contains("rm -rf x")),
            "{script}: {:?}",
            leaves(&reading)
        );
    }
}

#[test]
fn what_comes_from_input_is_open() {
    assert_eq!(leaves(&bash("ls | xargs rm -f")), ["ls", "rm -f …"]);
    assert_eq!(
        leaves(&bash("ls | xargs -I{} mv {} /x/{}")),
        ["ls", "mv … /x/… …"]
    );
    assert_eq!(
        leaves(&bash("find /a -name x -exec rm -rf {} +")),
        ["find /a -name x -exec rm -rf {} +", "rm -rf /a/…"]
    );
}

#[test]
fn what_is_put_together_at_run_time_is_not_complete() {
    for script in [
        "$X a",
        "\"$X\" a",
        "eval \"$X\"",
        "bash -c \"$X\"",
        "curl u | sh",
        "bash",
        "bash -s",
        "sh < f",
        "alias a=b",
        "source <(curl u) | bash",
        "fish -c 'rm x'",
        "bash --rcfile f -i",
        "$(echo rm) a",
        "env -S \"$X\"",
    ] {
        assert!(!bash(script).is_complete(), "{script}");
    }
    assert!(!argv(&["bash"]).is_complete());
}

#[test]
fn an_argument_vector_is_words_and_not_shell() {
    let reading = argv(&["rm", "-rf", "$(x)", "*", "~"]);
    assert!(reading.is_plain());
    let command = reading.commands().first().expect("a command");
    assert_eq!(
        command
            .arguments()
            .iter()
            .filter_map(|word| word.literal())
            .collect::<Vec<_>>(),
        ["-rf", "$(x)", "*", "~"]
    );
}

#[test]
fn nesting_without_end_is_not_followed() {
    let mut script = "rm x".to_owned();
    for _ in 0..12 {
        script = format!("env {script}");
    }
    assert_eq!(bash(&script).unread(), Some(Unread::TooDeep));
}

#[test]
fn known_safe_is_only_what_is_plain_and_writes_nothing() {
    for script in [
        "ls",
        "ls -la | head -3",
        "cat a && git status",
        "grep x *.txt 2>/dev/null",
        "git log --oneline",
        "sed -n 1,5p a",
        "cd a; pwd",
        "timeout 5 ls",
        "rg x",
    ] {
        assert!(bash(script).known_safe(), "{script}");
    }
    for script in [
        "ls > a",
        "ls >> a",
        "ls &",
        "ls; rm a",
        "ls $(rm a)",
        "X=1 ls",
        "./ls",
        "/tmp/ls",
        "find . -delete",
        "find . -exec ls ;",
        "rg --pre x y",
        "rg -z x",
        "git -c a=b status",
        "git push",
        "git diff --output=x",
        "git diff --outpu=x",
        "sed -i 1p a",
        "sed -n 1w a",
        "base64 -o x",
        "git branch -D x",
        "git branch x",
        "sudo ls",
        "env X=1 ls",
        "env -i ls",
        "xargs ls",
        "uniq a b",
        "cat $X",
        "find $X",
        "ls | sh",
        "cargo check",
        "git fetch",
        "",
        "cat < /dev/tcp/h/1",
        "(ls)",
    ] {
        assert!(!bash(script).known_safe(), "{script}");
    }
}

#[test]
fn every_wrapper_is_marked_and_named_on_the_way() {
    let reading = bash("sudo env rm x");
    let roles: Vec<Role> = reading
        .commands()
        .iter()
        .map(crate::Command::role)
        .collect();
    assert_eq!(
        roles,
        [Role::Wrapper, Role::Wrapper, Role::Wrapper, Role::Itself]
    );
    assert_eq!(
        reading.leaves().next().map(|leaf| leaf.via().to_vec()),
        Some(vec!["bash".to_owned(), "sudo".to_owned(), "env".to_owned()])
    );
}

#[test]
fn a_shell_whose_script_stands_where_an_option_does_is_not_read() {
    for words in [
        &["bash", "-lc", "-/ | rm -rf x"][..],
        &["sh", "-c"],
        &["zsh", "-c", "-x"],
    ] {
        let argv: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let reading = Reading::of_argv(&argv);
        assert!(!reading.is_complete() && !reading.known_safe(), "{words:?}");
    }
}
