//! What a machine tells about itself: processes, sockets, disks, packages, names.
//!
//! Apart from [`super::services`] because nothing is asked over a network. Invariant: options that change something, read a
//! file of somebody's choosing or show environments are not among the forms.

/// What the machine tells about itself.
pub(super) fn looks(program: &str, words: &[&str]) -> bool {
    let dashed = |allowed: &str| {
        words.iter().all(|word| {
            word.strip_prefix('-').is_some_and(|rest| {
                !rest.starts_with('-') && rest.chars().all(|c| allowed.contains(c))
            })
        })
    };
    let first = words.first().copied().unwrap_or_default();
    match program {
        // `ps e` shows environments.
        "ps" => lists_processes(words),
        "free" => dashed("bkmghtw"),
        "top" => {
            matches!(words, ["-b", "-n", count] if count.parse::<u8>().is_ok()) || words == ["-bn1"]
        }
        "ssh-keyscan" => words.len() == 1 && super::fetch::is_known(first),
        "uptime" => dashed("ps"),
        "ss" => dashed("tulnpas46xio"),
        "netstat" => dashed("tulnpar46i"),
        "lsblk" | "lscpu" | "lsusb" | "lspci" | "lsmod" | "lsmem" | "sestatus" | "getenforce"
        | "mount" | "vmstat" | "iostat" | "arch" | "groups" | "who" | "w" | "last" => words
            .iter()
            .all(|word| matches!(*word, "-a" | "-f" | "-p" | "-v" | "-e" | "-m" | "-S")),
        "lsof" => {
            matches!(words, ["-i"] | ["-i", _] | ["-nP", "-i", ..] | ["-nP", ..])
                && words.len() <= 3
                && words.iter().all(|word| !word.contains('/'))
        }
        "pgrep" | "pidof" => words
            .iter()
            .filter(|word| word.starts_with('-'))
            .all(|word| matches!(*word, "-f" | "-l" | "-fl" | "-a" | "-af" | "-x" | "-u")),
        "ip" => {
            matches!(
                first,
                "a" | "addr" | "address" | "r" | "route" | "l" | "link" | "n" | "neigh"
            ) && matches!(
                words.get(1..),
                Some([] | ["show" | "list", ..] | ["get", _])
            )
        }
        _ => tells_of_itself(program, words),
    }
}

fn lists_rules(words: &[&str]) -> bool {
    let lists = |word: &&str| matches!(*word, "-L" | "-S" | "--list" | "--list-rules");
    words.iter().any(lists)
        && words.iter().all(|word| {
            lists(word)
                || super::listed(
                    "-n -v -nv -vn -t nat filter mangle raw INPUT OUTPUT FORWARD --line-numbers",
                    word,
                )
        })
}

/// Forms of `ps` that show no environment. Its letters without a dash are another language, in which `e` shows it.
fn lists_processes(words: &[&str]) -> bool {
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let columns = |value: &str| {
            value
                .chars()
                .all(|c| c.is_ascii_lowercase() || matches!(c, ',' | '%' | '_'))
        };
        let fine = match *word {
            "aux" | "auxw" | "auxww" | "axu" | "ax" | "u" | "x" | "axjf" | "auxf" | "-ef"
            | "-e" | "-A" | "-f" | "-ax" | "-aux" | "--no-headers" | "--forest" | "-w" | "-ww"
            | "-L" | "-eLf" => true,
            "-u" | "-p" | "-C" | "--pid" | "--ppid" => rest.next().is_none_or(|value| {
                value
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_,".contains(c))
            }),
            "-o" | "-eo" | "-axo" | "--format" => rest.next().is_some_and(|value| columns(value)),
            _ => word
                .strip_prefix("--sort=")
                .is_some_and(|key| columns(key.trim_start_matches(['-', '+']))),
        };
        if !fine {
            return false;
        }
    }
    true
}

/// Programs that tell of packages, settings, names and keys.
fn tells_of_itself(program: &str, words: &[&str]) -> bool {
    let first = words.first().copied().unwrap_or_default();
    match program {
        "ifconfig" => words.is_empty() || words == ["-a"],
        "dmesg" => words.iter().all(|word| {
            !matches!(
                *word,
                "-C" | "-c" | "-D" | "-E" | "--clear" | "--read-clear"
            ) && !word.starts_with("--console")
        }),
        "sysctl" => {
            !words.is_empty()
                && words.iter().all(|word| {
                    !word.contains(['=', '/']) && (*word == "-n" || !word.starts_with('-'))
                })
        }
        "getent" => {
            matches!(first, "passwd" | "group" | "hosts" | "services")
                && words.len() <= 2
                && words.iter().all(|word| !word.starts_with('-'))
        }
        "dpkg" => matches!(
            first,
            "-l" | "-L" | "-s" | "-S" | "--list" | "--get-selections"
        ),
        "rpm" => first.starts_with("-q") && words.iter().all(|word| !word.starts_with("--")),
        "pacman" => first.starts_with("-Q") || first == "-Ss" || first == "-Si",
        "ssh-keygen" => {
            matches!(words, ["-lf" | "-l" | "-lvf", .., file] if file.ends_with(".pub"))
                && words.len() <= 3
        }
        "iptables" | "ip6tables" => lists_rules(words),
        "openssl" => words == ["version"],
        "hostname" => words.is_empty() || matches!(words, ["-f" | "-s" | "-i" | "-I"]),
        "pg_isready" => words.iter().all(|word| !word.contains('/')),
        "nc" => {
            matches!(words, ["-z" | "-zv" | "-vz", "localhost" | "127.0.0.1" | "::1", port] if port.parse::<u16>().is_ok())
        }
        "hostnamectl" | "timedatectl" | "localectl" => words.is_empty(),
        _ => false,
    }
}
