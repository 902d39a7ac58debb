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
        "mount" => words.is_empty() || words == ["-l"],
        "lsblk" | "lscpu" | "lsusb" | "lspci" | "lsmod" | "lsmem" | "sestatus" | "getenforce"
        | "vmstat" | "iostat" | "arch" | "groups" | "who" | "w" | "last" => words
            .iter()
            .all(|word| matches!(*word, "-a" | "-f" | "-p" | "-v" | "-e" | "-m" | "-S")),
        "lsof" => !words.is_empty() && words.iter().all(|word| lists_sockets(word)),
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

/// Forms of `ps` that show no environment. Its letters without a dash are another language, in which `e` shows it, and `ps`
/// takes `-ax` for that language: beside it and beside such letters, no other letters are read the way they look.
fn lists_processes(words: &[&str]) -> bool {
    let other_language = |word: &&str| {
        matches!(
            *word,
            "aux" | "auxw" | "auxww" | "axu" | "ax" | "u" | "x" | "axjf" | "auxf" | "-ax" | "-aux"
        )
    };
    let columns = |value: &str| {
        value
            .chars()
            .all(|c| c.is_ascii_lowercase() || matches!(c, ',' | '%' | '_'))
    };
    let says_the_same = |word: &str| {
        matches!(word, "--no-headers" | "--forest" | "-w" | "-ww")
            || word
                .strip_prefix("--sort=")
                .is_some_and(|key| columns(key.trim_start_matches(['-', '+'])))
    };
    if let ["-axo", layout, rest @ ..] = words {
        return columns(layout) && rest.iter().all(|word| says_the_same(word));
    }
    let mut rest = words.iter();
    let mut kinds = (0, 0);
    while let Some(word) = rest.next() {
        let names = |value: &&str| {
            value
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_,".contains(c))
        };
        let fine = match *word {
            _ if other_language(word) => {
                kinds.0 += 1;
                true
            }
            _ if says_the_same(word) => true,
            "-ef" | "-e" | "-A" | "-f" | "-L" | "-eLf" => {
                kinds.1 += 1;
                true
            }
            "-u" | "-p" | "-C" | "--pid" | "--ppid" => {
                kinds.1 += 1;
                rest.next().is_some_and(names)
            }
            "-o" | "-eo" | "--format" => {
                kinds.1 += 1;
                rest.next().is_some_and(|value| columns(value))
            }
            _ => false,
        };
        if !fine {
            return false;
        }
    }
    matches!(kinds, (0, _) | (1, 0))
}

/// Whether every word but the first, which is an option, is a package's name or a pattern of names.
fn names_only(words: &[&str]) -> bool {
    words.iter().skip(1).all(|word| is_package(word))
}

fn is_package(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with(['-', '%'])
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.+*:/".contains(c))
}

/// `-nP`, `-i`, `-i:8080`, `:8080`, `-iTCP:443`, `-sTCP:LISTEN`: no host is looked up, and no file opened.
fn lists_sockets(word: &str) -> bool {
    let place = word.strip_prefix("-i").unwrap_or(word);
    let (protocol, ports) = place.split_once(':').unwrap_or((place, ""));
    matches!(
        word,
        "-i" | "-n" | "-P" | "-nP" | "-Pn" | "-t" | "-sTCP:LISTEN"
    ) || (matches!(
        protocol,
        "" | "TCP" | "UDP" | "tcp" | "udp" | "4" | "6" | "4TCP" | "6TCP"
    ) && !place.is_empty()
        && ports
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, ',' | '-')))
}

/// Programs that tell of packages, settings, names and keys.
fn tells_of_itself(program: &str, words: &[&str]) -> bool {
    let first = words.first().copied().unwrap_or_default();
    match program {
        "ifconfig" => words.is_empty() || words == ["-a"],
        "dmesg" => words.iter().all(|word| {
            word.starts_with("--level=")
                || (word.len() > 1
                    && word
                        .strip_prefix('-')
                        .is_some_and(|rest| rest.chars().all(|c| "THtLkxurd".contains(c))))
        }),
        "sysctl" => {
            !words.is_empty()
                && words.iter().all(|word| {
                    !word.contains(['=', '/']) && (*word == "-n" || !word.starts_with('-'))
                })
        }
        "getent" => {
            // A look-up of a host tells its name to others.
            matches!(
                words,
                ["passwd" | "group" | "services"] | ["hosts", "localhost"]
            ) || matches!(words, ["passwd" | "group" | "services", name] if is_package(name))
        }
        "dpkg" => {
            matches!(
                first,
                "-l" | "-L" | "-s" | "-S" | "--list" | "--get-selections"
            ) && names_only(words)
        }
        "rpm" => {
            matches!(first, "-q" | "-qa" | "-qi" | "-ql" | "-qR" | "-qc" | "-qd")
                && names_only(words)
        }
        "pacman" => {
            (first == "-Ss"
                || first == "-Si"
                || first
                    .strip_prefix("-Q")
                    .is_some_and(|rest| rest.chars().all(|c| "iqelmnstdu".contains(c))))
                && names_only(words)
        }
        "ssh-keygen" => {
            matches!(words, ["-lf" | "-lvf", file] | ["-l", "-f", file]
                if file.ends_with(".pub") && !file.starts_with('-'))
        }
        "iptables" | "ip6tables" => lists_rules(words),
        "openssl" => words == ["version"],
        "hostname" => words.is_empty() || matches!(words, ["-f" | "-s" | "-i" | "-I"]),
        "pg_isready" => {
            words.is_empty() || matches!(words, ["-h", "localhost" | "127.0.0.1" | "::1"])
        }
        "nc" => {
            matches!(words, ["-z" | "-zv" | "-vz", "localhost" | "127.0.0.1" | "::1", port] if port.parse::<u16>().is_ok())
        }
        "hostnamectl" | "timedatectl" | "localectl" => words.is_empty(),
        _ => false,
    }
}
