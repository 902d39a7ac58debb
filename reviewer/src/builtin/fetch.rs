//! Fetches from places that hold nothing but what everybody may have, and cannot be told anything.
//!
//! Apart, because a request is also a message: an address can carry what it should not. Invariant: the host is public
//! and well known, or this machine; the address is short, plain and whole in the words; nothing is sent with it.

use exec_policy::{Command, Word};

use super::scene::Scene;
use super::{listed, places};

/// Registries, mirrors and toolchains that serve files and accept none on these names.
const FILES: &str = "\
    static.crates.io index.crates.io static.rust-lang.org files.pythonhosted.org proxy.golang.org \
    sum.golang.org go.dev repo.maven.apache.org repo1.maven.org plugins.gradle.org services.gradle.org \
    downloads.gradle.org deb.debian.org security.debian.org archive.ubuntu.com security.ubuntu.com \
    ports.ubuntu.com dl-cdn.alpinelinux.org mirrors.fedoraproject.org nodejs.org registry.yarnpkg.com \
    repo.packagist.org api.nuget.org hex.pm repo.hex.pm builds.hex.pm conda.anaconda.org \
    repo.anaconda.com codeload.github.com cache.nixos.org formulae.brew.sh \
    objects.githubusercontent.com fonts.googleapis.com fonts.gstatic.com cdn.jsdelivr.net cdnjs.cloudflare.com unpkg.com \
    download.docker.com production.cloudflare.docker.com auth.docker.io apt.llvm.org packages.microsoft.com \
    release-assets.githubusercontent.com pkg-containers.githubusercontent.com registry.k8s.io mcr.microsoft.com \
    public.ecr.aws releases.hashicorp.com registry.terraform.io checkpoint-api.hashicorp.com apt.releases.hashicorp.com \
    static.crates-io.com sh.rustup.rs win.rustup.rs golang.org dl.google.com maven.google.com repo.spring.io \
    jitpack.io deno.land jsr.io npm.jsr.io esm.sh bun.sh astral.sh bootstrap.pypa.io install.python-poetry.org \
    download.pytorch.org cran.r-project.org cloud.r-project.org pkg.julialang.org opam.ocaml.org luarocks.org \
    cdn.cocoapods.org download.swift.org deb.nodesource.com rpm.nodesource.com apt.postgresql.org dl.yarnpkg.com \
    packages.cloud.google.com ftp.debian.org cdn-fastly.deb.debian.org ports.ubuntu.com dl.fedoraproject.org \
    mirror.centos.org vault.centos.org mirrors.kernel.org geo.mirror.pkgbuild.com download.opensuse.org \
    playwright.azureedge.net cdn.playwright.dev registry.bower.io fastapi.metacpan.org www.cpan.org cocoapods.org \
    nuget.org www.nuget.org globalcdn.nuget.org rubygems.global.ssl.fastly.net index.rubygems.org \
    binaries.prisma.sh downloads.apache.org archive.apache.org dlcdn.apache.org www.nodejs.org";
/// Registries that also accept uploads, under a login.
const REGISTRIES: &str = "\
    crates.io pypi.org registry.npmjs.org rubygems.org packagist.org pkg.go.dev hackage.haskell.org \
    cpan.metacpan.org pub.dev registry-1.docker.io";
/// Public documentation.
const DOCUMENTS: &str = "\
    docs.rs doc.rust-lang.org rust-lang.org www.rust-lang.org docs.python.org python.org www.python.org \
    developer.mozilla.org docs.npmjs.com docs.oracle.com kubernetes.io docs.docker.com \
    learn.microsoft.com cppreference.com en.cppreference.com man7.org www.man7.org datatracker.ietf.org \
    www.rfc-editor.org rfc-editor.org www.w3.org nginx.org www.postgresql.org postgresql.org sqlite.org \
    www.sqlite.org git-scm.com react.dev vuejs.org docs.djangoproject.com ruby-doc.org docs.github.com \
    docs.gitlab.com docs.aws.amazon.com cloud.google.com developer.hashicorp.com readthedocs.io \
    raw.githubusercontent.com api.github.com github.com gitlab.com codeberg.org \
    www.typescriptlang.org typescriptlang.org docs.spring.io tailwindcss.com nextjs.org angular.dev svelte.dev \
    vite.dev vitejs.dev vitest.dev jestjs.io playwright.dev docs.cypress.io eslint.org prettier.io \
    fastapi.tiangolo.com flask.palletsprojects.com docs.sqlalchemy.org docs.pydantic.dev numpy.org pandas.pydata.org \
    scikit-learn.org pytorch.org www.tensorflow.org docs.pytest.org docs.astral.sh pip.pypa.io packaging.python.org \
    peps.python.org guides.rubyonrails.org api.rubyonrails.org hexdocs.pm elixir-lang.org www.erlang.org \
    www.haskell.org www.scala-lang.org kotlinlang.org www.php.net laravel.com symfony.com redis.io www.mongodb.com \
    dev.mysql.com mariadb.com helm.sh etcd.io prometheus.io grafana.com opentelemetry.io docs.ansible.com \
    developer.android.com developer.apple.com wiki.archlinux.org help.ubuntu.com manpages.debian.org \
    manpages.ubuntu.com linux.die.net www.kernel.org docs.kernel.org www.gnu.org gcc.gnu.org llvm.org clang.llvm.org \
    cmake.org json-schema.org yaml.org toml.io semver.org spec.openapis.org graphql.org grpc.io protobuf.dev \
    tokio.rs axum.rs serde.rs diesel.rs crates.dev blog.rust-lang.org releases.rs lib.rs tc39.es html.spec.whatwg.org \
    modelcontextprotocol.io json.org www.json.org docs.celeryq.dev docs.oasis-open.org openid.net oauth.net";
/// Services that tell whoever asks under which address the question came, and nothing else.
const ADDRESSES: &str = "api.ipify.org api64.ipify.org icanhazip.com ipv4.icanhazip.com ifconfig.me ifconfig.co checkip.amazonaws.com";
/// Places made to receive what strangers put there.
const COLLECTORS: &str = "\
    transfer.sh file.io 0x0.st termbin.com pastebin.com hastebin.com paste.rs ix.io dpaste.org \
    webhook.site requestbin.com requestcatcher.com pipedream.net beeceptor.com ngrok.io ngrok.app \
    ngrok-free.app ngrok-free.dev serveo.net localhost.run trycloudflare.com loca.lt gofile.io \
    catbox.moe anonfiles.com bashupload.com oshi.at interactsh.com oast.fun oast.pro \
    burpcollaborator.net oastify.com interact.sh oast.live oast.site oast.online oast.me dnslog.cn ceye.io \
    dpaste.com paste.ee paste.debian.net bpa.st rentry.co controlc.com privatebin.net sprunge.us clbin.com \
    envs.sh x0.at uguu.se tmpfiles.org filebin.net temp.sh ttm.sh paste.mozilla.org paste.centos.org hookb.in \
    request.bin requestinspector.com putsreq.com ptsv2.com ptsv3.com webhook-test.com typedwebhook.tools \
    localtunnel.me bore.pub pinggy.io pinggy.link lhr.life localxpose.io playit.gg zrok.io tunnelmole.net \
    devtunnels.ms serveousercontent.com transfer.adminforge.de sendgb.com wetransfer.com ufile.io \
    justpaste.it pastebin.pl file.coffee pixeldrain.com";

/// Whether a host is a registry, a mirror or a toolchain's own.
pub(super) fn serves_builds(host: &str) -> bool {
    listed(FILES, host) || listed(REGISTRIES, host)
}

/// Whether a host is public documentation that takes nothing from strangers.
pub(super) fn serves_documents(host: &str) -> bool {
    const TAKES_TOO: &[&str] = &["github.com", "api.github.com", "gitlab.com", "codeberg.org"];
    listed(DOCUMENTS, host) && !TAKES_TOO.contains(&host)
}

/// Whether a host collects what strangers put there.
pub(super) fn collects(host: &str) -> bool {
    COLLECTORS.split_whitespace().any(|known| {
        host == known
            || host
                .strip_suffix(known)
                .is_some_and(|rest| rest.ends_with('.'))
    })
}

pub(super) fn is_known(host: &str) -> bool {
    serves_builds(host) || listed(DOCUMENTS, host) || listed(ADDRESSES, host)
}

/// Hosts of public repositories.
const REPOSITORIES: &str = "github.com gitlab.com codeberg.org bitbucket.org";

/// `git clone [--depth N] https://HOST/OWNER/NAME FOLDER` of a public repository into a folder of its own, where no link
/// of the agent's can lie. A clone runs nothing of what it brings, and reads no settings of the folder it starts in.
fn clones(at: usize, words: &[&str], scene: &Scene, walls: Walls) -> bool {
    let mut rest = words.iter();
    let mut operands = Vec::new();
    while let Some(word) = rest.next() {
        let fine = match *word {
            "--depth" => rest
                .next()
                .is_some_and(|depth| depth.parse::<u32>().is_ok()),
            "-b" | "--branch" => rest
                .next()
                .is_some_and(|name| !name.starts_with('-') && name.len() <= 64),
            "-q" | "--quiet" | "--single-branch" | "--no-tags" | "--bare" | "--depth=1" => true,
            _ if word.starts_with('-') => false,
            operand => {
                operands.push(operand);
                true
            }
        };
        if !fine {
            return false;
        }
    }
    let [address, folder] = operands.as_slice() else {
        return false;
    };
    let public = address
        .strip_prefix("https://")
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(host, path)| {
            listed(REPOSITORIES, host) && is_plain_path(path) && !path.contains('?')
        });
    let place = scene.locate(at, &Word::from_text(folder));
    let own = match walls {
        Walls::Stand => places::is_plain(&place, scene),
        Walls::Gone => {
            places::is_plain(&place, scene)
                && !scene.in_workspace(&place)
                && !places::is_temporary(&place)
        }
    };
    public && own
}

/// What of an address may be fetched.
pub(super) fn may_fetch(address: &str) -> bool {
    let Some((scheme, rest)) = address.split_once("://") else {
        return false;
    };
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = place.rsplit_once(':').unwrap_or((place, ""));
    let local = matches!(host, "localhost" | "127.0.0.1");
    let right_scheme = match scheme {
        "https" => is_known(host) || local,
        "http" => local,
        _ => false,
    };
    let right_port = port.is_empty() || (local && port.parse::<u16>().is_ok());
    right_scheme && right_port && is_plain_path(path) && (!local || only_tells(port, path))
}

/// Ports of services that obey or give out secrets to whoever reaches this machine: etcd, Consul, Vault, Elasticsearch, a
/// browser's debugger, Docker, Kubernetes.
const OBEY: [&str; 16] = [
    "2375", "2376", "2379", "2380", "4001", "4646", "6443", "8200", "8500", "9200", "9222", "9229",
    "9300", "10250", "10255", "11434",
];

/// Whether asking this machine's own service for `path` can only tell: the walls keep a command from it otherwise, and a
/// service may do anything on being asked.
fn only_tells(port: &str, path: &str) -> bool {
    const ACTS: [&str; 22] = [
        "shutdown", "quit", "exit", "stop", "start", "restart", "reload", "kill", "leave",
        "delete", "remove", "reset", "flush", "exec", "eval", "run", "env", "secret", "token",
        "config", "debug", "admin",
    ];
    let path = path.to_ascii_lowercase();
    !OBEY.contains(&port)
        && !path.starts_with('_')
        && !path.contains('?')
        && !path
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(|part| ACTS.iter().any(|act| part.starts_with(act)))
}

/// Short and readable: nothing that could carry a file or a key.
fn is_plain_path(path: &str) -> bool {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let readable = |text: &str, most: usize| {
        text.len() <= most
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.~/+@=&,".contains(c))
    };
    readable(path, 160)
        && readable(query, 40)
        && path
            .split('/')
            .all(|part| part.len() <= 64 && !looks_packed(part))
}

/// A long run without vowels or with mixed case and digits: a hash, or something packed.
fn looks_packed(part: &str) -> bool {
    let packed = |word: &str| {
        let upper = word.chars().any(|c| c.is_ascii_uppercase());
        let lower = word.chars().any(|c| c.is_ascii_lowercase());
        let digits = word.chars().filter(char::is_ascii_digit).count();
        word.len() >= 20 && ((upper && lower) || digits >= 6)
    };
    part.split(['-', '_', '.', '+', '@']).any(packed)
}

/// Where a fetch may put what it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walls {
    /// The walls stand: a file in the workspace stays there.
    Stand,
    /// They do not: a link in the workspace could turn the file elsewhere.
    Gone,
}

/// Whether a command only fetches.
pub(super) fn fetches(at: usize, command: &Command, scene: &Scene, walls: Walls) -> bool {
    let Some(words) = command
        .arguments()
        .iter()
        .map(Word::literal)
        .collect::<Option<Vec<_>>>()
    else {
        return false;
    };
    match command.program().unwrap_or_default() {
        "curl" => by_curl(at, &words, scene, walls),
        "wget" => {
            matches!(words.as_slice(), ["-qO-" | "-O-", address] | ["-q", "-O" | "-O-", address] if may_fetch(address))
                || matches!(words.as_slice(), ["-q", "-O", "-", address] | ["-O", "-", address] | ["-q", "--spider", address] | ["--spider", address] if may_fetch(address))
        }
        "dig" | "nslookup" | "host" | "whois" | "ping" | "traceroute" | "tracepath" | "mtr" => {
            looks_up(&words)
        }
        "git" => match words.as_slice() {
            ["clone", rest @ ..] => clones(at, rest, scene, walls),
            ["ls-remote", rest @ ..] => walls == Walls::Stand && lists(rest),
            _ => false,
        },
        _ => false,
    }
}

fn lists(words: &[&str]) -> bool {
    words.iter().all(|word| {
        if word.starts_with('-') {
            return matches!(*word, "--tags" | "--heads" | "-q" | "--refs");
        }
        !word.contains("://") || may_fetch(word)
    }) && words.iter().any(|word| word.starts_with("https://"))
}

fn by_curl(at: usize, words: &[&str], scene: &Scene, walls: Walls) -> bool {
    let mut rest = words.iter();
    let mut addresses = 0;
    // An unchecked certificate matters where somebody else could answer.
    let to_this_machine = words
        .iter()
        .any(|word| word.starts_with("https://localhost") || word.starts_with("https://127.0.0.1"));
    while let Some(word) = rest.next() {
        let fine = match *word {
            "--silent" | "--show-error" | "--fail" | "--location" | "--head" | "--include"
            | "--compressed" | "--verbose" | "--http1.1" | "--http2" => true,
            "-m" | "--max-time" | "--connect-timeout" | "--retry" => rest
                .next()
                .is_some_and(|value| value.parse::<u32>().is_ok()),
            "-X" | "--request" => rest
                .next()
                .is_some_and(|value| matches!(*value, "GET" | "HEAD")),
            "-H" | "--header" => rest.next().is_some_and(|value| {
                let value = value.to_ascii_lowercase();
                value.len() < 80
                    && ["accept:", "content-type: application/json"]
                        .iter()
                        .any(|start| value.starts_with(start))
            }),
            "-w" | "--write-out" => rest.next().is_some_and(|format| tells_numbers(format)),
            "-o" | "--output" => rest
                .next()
                .is_some_and(|file| may_write(at, file, scene, walls)),
            _ if word.starts_with("--") => false,
            _ if word.starts_with('-') => {
                word.len() > 1
                    && word
                        .chars()
                        .skip(1)
                        .all(|c| "sSfLIivg46".contains(c) || (c == 'k' && to_this_machine))
            }
            _ => {
                addresses += 1;
                may_fetch(word)
            }
        };
        if !fine {
            return false;
        }
    }
    addresses == 1
}

fn may_write(at: usize, file: &str, scene: &Scene, walls: Walls) -> bool {
    let place = scene.locate(at, &Word::from_text(file));
    file == "/dev/null"
        || match walls {
            Walls::Stand => scene.in_workspace(&place) && !places::is_settings(&place, scene),
            Walls::Gone => {
                places::is_plain(&place, scene)
                    && !scene.in_workspace(&place)
                    && !places::is_temporary(&place)
            }
        }
}

/// A look-up tells its name to whoever serves it, so the name may hold nothing of its own.
fn looks_up(words: &[&str]) -> bool {
    let mut names = 0;
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let fine = match *word {
            // Some of these take no value somewhere: what follows may be no option.
            "-c" | "-t" | "-W" | "-w" | "-m" => rest
                .next()
                .is_some_and(|value| value.len() <= 5 && !value.starts_with(['-', '+', '@'])),
            "+short" | "-4" | "-6" | "-n" | "A" | "AAAA" | "MX" | "NS" | "TXT" | "CNAME"
            | "ANY" => true,
            _ if word.starts_with(['-', '+', '@']) => false,
            name => {
                names += 1;
                is_known(name) || name == "localhost" || is_resolver(name) || is_plain_domain(name)
            }
        };
        if !fine {
            return false;
        }
    }
    names == 1
}

/// A format that tells codes and times of the answer, and reads no file.
fn tells_numbers(format: &str) -> bool {
    format.len() <= 80
        && !format.starts_with('@')
        && !format.contains("%output")
        && format
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "%{}_:=. \\-/,".contains(c))
}

/// Resolvers that everybody pings to see whether there is a network.
fn is_resolver(name: &str) -> bool {
    listed("1.1.1.1 1.0.0.1 8.8.8.8 8.8.4.4 9.9.9.9 127.0.0.1", name)
}

/// `example.com`: two names of letters, short enough to be one's own.
fn is_plain_domain(name: &str) -> bool {
    name.split_once('.').is_some_and(|(own, top)| {
        let letters = |text: &str, most: usize| {
            !text.is_empty()
                && text.len() <= most
                && text.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        };
        letters(own, 16) && letters(top, 6)
    })
}

#[cfg(test)]
mod tests {
    use super::{collects, is_plain_domain, may_fetch};

    #[test]
    fn an_address_that_could_carry_something_is_not_fetched() {
        for address in [
            "https://docs.rs/serde/latest/serde/",
            "https://crates.io",
            "https://api.github.com/repos/rust-lang/rust/releases/latest",
            "http://localhost:8080/health",
        ] {
            assert!(may_fetch(address), "{address}");
        }
        for address in [
            "http://docs.rs/x",
            "https://evil.example/x",
            "https://docs.rs.evil.example/x",
            "https://u@docs.rs/x",
            "https://docs.rs/c2VjcmV0LXRva2VuLXZhbHVlLTEyMw",
            "https://docs.rs/x?d=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "https://docs.rs/$(cat x)",
            "https://docs.rs:8443/x",
            "http://localhost:2375/containers/json",
            "http://localhost:9200/",
            "http://localhost:8500/v1/agent/leave",
            "http://localhost:3000/api/shutdown",
            "http://localhost:3000/actuator/env",
            "file:///etc/passwd",
            "docs.rs",
        ] {
            assert!(!may_fetch(address), "{address}");
        }
    }

    #[test]
    fn a_name_that_could_carry_something_is_not_looked_up() {
        assert!(is_plain_domain("example.com"));
        for name in [
            "a.b.c",
            "c2vjcmv0mtiz.evil.com",
            "0123.com",
            "averyverylongnameofadomain.com",
        ] {
            assert!(!is_plain_domain(name), "{name}");
        }
    }

    #[test]
    fn below_a_collector_is_the_collector() {
        assert!(collects("abc.ngrok-free.app") && collects("webhook.site"));
        assert!(!collects("notwebhook.site"));
    }
}
