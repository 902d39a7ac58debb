//! What the folder a program works in, or the files of the workspace, could make it do besides what its words say.
//!
//! Apart from the forms, because a form tells what is asked for and not what a program obeys on the way. Invariant: a
//! program that takes a program, plugin, host, proxy or helper from a place that the agent writes is not allowed here,
//! however harmless its words; and of several calls of git only reads go together.

use exec_policy::{Command, Word};
use protocol::{CommandAction, EnvValue};

use super::git_call::GitCall;
use super::scene::Scene;
use super::{Rule, listed, quiet_git};

/// Programs that tell their version and look at nothing of the folder they stand in. Others do: a version manager's file,
/// a build tool's settings, a repository's extensions.
const TELL_VERSION: &str = "\
    awk gawk bash sh dash zsh cat ls cp mv rm mkdir touch grep egrep fgrep sed find xargs sort uniq head tail wc tree less \
    file diff tar gzip bzip2 xz zip unzip zstd rsync ssh scp curl wget openssl gpg jq yq rg fd fdfind bat git make cmake \
    ninja gcc g++ cc c++ clang clang++ ld lld java javac node python python3 perl ruby php lua sqlite3 psql mysql \
    pg_dump pg_dumpall mysqldump redis-cli redis-server postgres mysqld nginx docker dockerd podman kubectl helm aws \
    gcloud gh systemctl journalctl tmux screen vim ps top htop free uname lsof ip ss strace ltrace bwrap apt apt-get dpkg \
    snap brew pip pip3 ffmpeg convert pandoc protoc";

/// Programs of the table of services that read, in the folder they are called in, what steers them: npm its registry,
/// git and script shell (`.npmrc`); compose its includes and the daemon (`compose.yaml`, `.env`); the Azure command line
/// its extensions (`.azure/config`); terraform, fly, vercel and heroku the project. `pip freeze` asks the version control
/// of every installed checkout.
const BY_FOLDER: &[(&str, &str)] = &[
    ("npm", ""),
    ("docker", "compose"),
    ("az", ""),
    ("terraform", ""),
    ("heroku", ""),
    ("flyctl", ""),
    ("fly", ""),
    ("vercel", ""),
    ("pip", "freeze"),
    ("pip3", "freeze"),
    ("sqlite3", ""),
];

/// Programs that ask the repository of the folder which host and project is meant: where that is a workspace root, its
/// settings lie behind the walls.
const BY_REPOSITORY: &str = "gh glab";

/// Programs whose operands name packages; with a slash, a colon or an ending one names a file, an address or a place to
/// fetch a recipe from.
const BY_PACKAGE: &str = "brew apt apt-cache apt-mark snap dnf pip pip3 pipx gem";

/// Variables that name the settings, plugins or credentials of programs that are allowed. Most users have some of them,
/// and they are no harm where the files lie outside the agent's reach.
const NAME_FILES: &str = "\
    APT_CONFIG AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE CLOUDSDK_CONFIG CLOUDSDK_PYTHON DOCKER_CONFIG GEMRC \
    GH_CONFIG_DIR GLAB_CONFIG_DIR GNUPGHOME HELM_CONFIG_HOME HELM_DATA_HOME HELM_PLUGINS KUBECONFIG KUBERC MAGIC \
    MYSQL_HOME PGPASSFILE PGSERVICEFILE PGSYSCONFDIR PSQLRC RIPGREP_CONFIG_PATH XDG_CONFIG_DIRS XDG_CONFIG_HOME \
    XDG_DATA_HOME";

/// Whether a variable of the environment names files of the workspace, or ones that go with the folder, as settings.
pub(super) fn by_environment(action: &CommandAction, scene: &Scene) -> bool {
    let by_agent =
        |path: &str| !path.starts_with('/') || scene.in_workspace(&scene.locate_text(path));
    let mut entries = action.env.iter().flatten();
    entries.any(|entry| {
        listed(NAME_FILES, &entry.name)
            && match &entry.value {
                EnvValue::Value(text) => text
                    .split(':')
                    .filter(|path| !path.is_empty())
                    .any(by_agent),
                // Whatever it names is not seen here.
                EnvValue::Masked { .. } => true,
            }
    })
}

/// Whether a command of an allowed form may obey something of the agent's.
pub(super) fn is_steered(at: usize, command: &Command, scene: &Scene, rule: Rule) -> bool {
    let program = command.program().unwrap_or_default();
    if rule == Rule::GitReads {
        return !reads_settled(at, command, scene);
    }
    if rule == Rule::AsksService {
        return service(at, program, command, scene);
    }
    let asks =
        matches!(command.arguments(), [word] if matches!(word.literal(), Some("--version" | "-V")));
    asks && rule == Rule::Looks && !listed(TELL_VERSION, program)
}

/// The calls of git in one action, as they are read.
#[derive(Debug, Default)]
pub(super) struct GitCalls {
    all: usize,
    changes: usize,
}

impl GitCalls {
    /// Takes note of a command that is allowed by `rule`.
    pub(super) fn note(&mut self, command: &Command, rule: Rule) {
        if command.program() == Some("git") {
            self.all += 1;
            let changes = rule == Rule::GitQuiet && !quiet_git::only_looks(command);
            self.changes += usize::from(changes);
        }
    }

    /// Whether one of several changes the index or the tree: what it adds, a repository with settings of its own among it,
    /// the next one would act on, and nobody looked in between.
    pub(super) fn build_on_each_other(&self) -> bool {
        self.all > 1 && self.changes > 0
    }
}

/// Whether a read of the history starts nothing: it touches no object, or the repository runs nothing of its own. An
/// object that is missing is fetched, a signature checked, a file shown by a driver: all by the repository's settings.
fn reads_settled(at: usize, command: &Command, scene: &Scene) -> bool {
    let texts: Option<Vec<&str>> = command.arguments().iter().map(Word::literal).collect();
    let Some(call) = texts.as_deref().and_then(GitCall::of) else {
        return false;
    };
    if matches!(call.subcommand, "config" | "version" | "remote") {
        return true;
    }
    let here = match call.folder {
        Some(folder) => scene.locate(at, &Word::from_text(folder)).certain(),
        None => scene.folder(at).map(str::to_owned),
    };
    here.is_some_and(|here| scene.facts.quiet(&here).is_some())
}

fn service(at: usize, program: &str, command: &Command, scene: &Scene) -> bool {
    let words: Vec<String> = command
        .arguments()
        .iter()
        .map(ToString::to_string)
        .collect();
    let named = |word: &str| words.iter().any(|own| own == word);
    let by_folder = BY_FOLDER
        .iter()
        .any(|(name, form)| *name == program && (form.is_empty() || named(form)));
    let outside_root = listed(BY_REPOSITORY, program)
        && !scene
            .folder(at)
            .is_some_and(|here| scene.roots.iter().any(|root| root == here));
    // An address goes to whoever it names, and `file://` reads what it names; buckets alone have such names.
    let addressed = words
        .iter()
        .any(|word| word.contains("://") && !(program == "aws" && word.starts_with("s3://")));
    let packages = listed(BY_PACKAGE, program)
        && words.iter().any(|word| {
            // Options of these that set something are not among the forms, but for one glued to its value.
            word.contains(['/', ':', '=']) || word.ends_with(".rb") || word.ends_with(".deb")
        });
    by_folder || outside_root || addressed || packages
}
