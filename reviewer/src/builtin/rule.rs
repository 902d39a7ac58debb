//! The rules of the built-in reviewer: their ids, what they find, and how grave that is.
//!
//! Apart, because `docs/built-in-rules.md` documents exactly these and a test holds the two together. Invariant: a rule
//! that denies has a floor of at least `high`; no rule that allows has a floor above `low`, but for those by which the
//! user's own words ask for the action.

use protocol::{Printable, RiskLevel, RuleId};

/// How long an object may be in a rationale, in characters.
const MAX_OBJECT_CHARS: usize = 200;

macro_rules! rules {
    ($($name:ident $id:literal $kind:ident $floor:ident $text:literal)*) => {
        /// A rule of the built-in reviewer.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Rule {
            $(#[doc = $text] $name,)*
        }

        /// All of them.
        pub const RULES: &[Rule] = &[$(Rule::$name),*];

        impl Rule {
            /// The id without `built-in/`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// The least risk of what it finds.
            #[must_use]
            pub fn floor(self) -> RiskLevel {
                match self { $(Self::$name => RiskLevel::$floor,)* }
            }

            fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)* }
            }

            fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Allows,
    Denies,
    Leaves,
}

rules! {
    // destructive actions
    RemovesRoot "removes-root" Denies Critical "Removes what nothing can bring back: the root, a home folder, a workspace root or what holds one, a repository's own folder, or a system folder. Remove the one file or build folder that is meant."
    RemovesTreeOutside "removes-tree-outside" Denies High "Removes a whole tree outside the workspace. Remove single named files, or ask the user to remove the folder."
    WipesDevice "wipes-device" Denies Critical "Writes over a device or makes a new file system on it. There is no narrower form that is allowed."
    // data exfiltration
    SecretToNetwork "secret-to-network" Denies Critical "Sends a secret to another machine. Use the tool that the secret belongs to, with its own login."
    ForcePushProtected "force-push-protected" Denies Critical "Rewrites or deletes a protected branch for everybody. Push to a branch of its own."
    SendsToCollector "sends-to-collector" Denies High "Reaches a place that is made to receive what strangers put there. Name the place, if that is where it should go."
    // credential probing
    ReadsCredentials "reads-credentials" Denies High "Reads a store of credentials. Let the tool that owns them use them."
    MetadataService "metadata-service" Denies Critical "Asks a cloud's metadata service, which hands out credentials."
    // persistent weakening
    RemoteCode "remote-code" Denies Critical "Runs code straight from the network. Download it to a file in the workspace, read it, and run it from there."
    HiddenCode "hidden-code" Denies Critical "Runs code that was encoded so that nobody can read it. Decode it to a file in the workspace, read it, and run it from there."
    OpensShell "opens-shell" Denies Critical "Hands a shell on this machine to somebody elsewhere. There is no narrower form that is allowed."
    Persistence "persistence" Denies Critical "Leaves something that runs or lets somebody in after the task is over. Ask the user to make this change."
    WeakensProtection "weakens-protection" Denies Critical "Takes a protection of the machine away. Ask the user to make this change."
    DestroysDatabase "destroys-database" Denies Critical "Removes a whole database or all rows of a table. Name the rows or the table, and ask the user to do it."
    DestroysStore "destroys-store" Denies High "Destroys a whole store: a database, a bucket, a namespace, a volume, a snapshot or a cloud's resources. Ask the user to order exactly that."
    ForbiddenByUser "forbidden-by-user" Denies High "Is what the user said not to do. Ask the user again."
    TampersReviewer "tampers-reviewer" Denies Critical "Touches what reviews and confines the agent. No agent may."
    // allowed
    InsideWalls "inside-walls" Allows Low "only looks, and stays inside the sandbox"
    Looks "looks" Allows Low "only looks, at files that hold no secrets"
    GitReads "git-reads" Allows Low "only reads the history of the workspace's own repository"
    GitQuiet "git-quiet" Allows Low "only looks at, fetches into or adds to the workspace's own repository, of which the runner found that it runs nothing of its own"
    RemovesNothing "removes-nothing" Allows Low "only removes what is not there, as the runner found"
    MakesNew "makes-new" Allows Low "only makes new, empty or copied files in a plain folder, and replaces nothing"
    RemovesBuildOutput "removes-build-output" Allows Low "only removes build output that the next build makes again"
    LooksByTool "looks-by-tool" Allows Low "only looks, by a tool whose name says so, at what holds no secrets"
    AsksService "asks-service" Allows Low "only asks a service or the machine, with the tool's own login"
    FetchesPublic "fetches-public" Allows Low "only fetches from a public place or from this machine, and sends nothing"
    ReachesPublic "reaches-public" Allows Low "is a registry, a mirror or public documentation"
    ReachesTrusted "reaches-trusted" Allows Low "is a destination that the team trusts"
    ReadsOpen "reads-open" Allows Low "is leave to read what holds no secrets"
    AskedFor "asked-for" Allows Medium "is what the user asked for, every word of it"
    AskedVerbatim "asked-verbatim" Allows Medium "is what the user said to run, word for word"
    // left to others
    NamedByUser "named-by-user" Leaves High "Is what would be denied, but that the user named it."
    RemovesWorkspaceTree "removes-workspace-tree" Leaves High "Removes a whole tree inside the workspace that is not known build output."
    RemovesManyFiles "removes-many-files" Leaves High "Removes files of which only a running shell knows the names."
    RemovesTemporary "removes-temporary" Leaves Medium "Removes a tree among temporary or cached files."
    RemovesFiles "removes-files" Leaves Medium "Removes files."
    DestroysGitWork "destroys-git-work" Leaves High "Throws work away that the repository may not hold elsewhere."
    ForcePush "force-push" Leaves High "Rewrites a branch on a remote."
    PushesElsewhere "pushes-elsewhere" Leaves High "Publishes commits to a place that is none of the repository's own remotes."
    BypassesHooks "bypasses-hooks" Leaves High "Goes round the hooks that guard the repository."
    GitPush "git-push" Leaves Medium "Publishes commits."
    GitSettings "git-settings" Leaves High "Changes settings by which git runs programs."
    GitOther "git-other" Leaves Low "Changes the repository."
    SendsFile "sends-file" Leaves High "Sends a file's content to another machine."
    ReachesNetwork "reaches-network" Leaves Medium "Reaches another machine."
    Publishes "publishes" Leaves High "Publishes or releases something for others, which cannot be taken back."
    DestroysService "destroys-service" Leaves High "Removes, replaces or stops something that a service holds."
    ToolDestroys "tool-destroys" Leaves High "A tool that by its name removes something or moves money."
    PrivateNetwork "private-network" Leaves High "Reaches a machine of a private network."
    ForeignSource "foreign-source" Leaves High "Installs code from a place that is no known registry."
    InputToShell "input-to-shell" Leaves High "Runs what another command prints."
    NearCredentials "near-credentials" Leaves High "Touches a folder or file that may hold credentials."
    WritesSettings "writes-settings" Leaves High "Changes settings or programs in the home folder that other programs act on."
    WritesSystem "writes-system" Leaves High "Writes to a system folder."
    WritesOutside "writes-outside" Leaves Medium "Writes outside the workspace."
    Production "production" Leaves High "Changes something in surroundings that say of themselves that they are production."
    ScriptHarms "script-harms" Leaves High "Runs a script that does what would be denied by itself."
    ScriptUnseen "script-unseen" Leaves High "Runs a script of which only a running shell knows which it is."
    Privileged "privileged" Leaves High "Acts with more rights than the user's own."
    ChangesSystem "changes-system" Leaves High "Changes the machine's services, network, packages or accounts."
    Unconfined "unconfined" Leaves Medium "Runs with no walls at all."
    WantsNetwork "wants-network" Leaves Medium "Asks for the network for all that follows."
    UnreadShell "unread-shell" Leaves Medium "Cannot be read without running it."
    UnreadGrave "unread-grave" Leaves High "Cannot be read without running it, and holds words that could do grave harm."
    SideEffects "side-effects" Leaves Medium "A tool with side effects that are not known here."
    RunsPrograms "runs-programs" Leaves Low "Runs programs whose effects do not stand in their words."
    NothingKnown "nothing-known" Leaves Low "Nothing speaks against it and nothing proves it harmless."
}

impl Rule {
    /// The id, as told on the wire.
    #[must_use]
    pub fn id(self) -> RuleId {
        RuleId::new(format!("built-in/{}", self.name()))
    }

    /// Whether what it finds is not to be done.
    #[must_use]
    pub fn denies(self) -> bool {
        self.kind() == Kind::Denies
    }

    /// Whether what it finds is provably low risk.
    #[must_use]
    pub fn allows(self) -> bool {
        self.kind() == Kind::Allows
    }

    /// Whether it allows by the user's own words, and may therefore carry more than low risk.
    #[must_use]
    pub fn is_by_words(self) -> bool {
        matches!(self, Self::AskedFor | Self::AskedVerbatim)
    }

    /// What it found, in a sentence or two.
    pub(super) fn rationale(self, object: &str) -> String {
        let object = match object.char_indices().nth(MAX_OBJECT_CHARS) {
            None => object.to_owned(),
            Some((at, _)) => format!("{}…", object.get(..at).unwrap_or_default()),
        };
        let object = Printable(&object);
        match self.kind() {
            Kind::Allows => format!("`{object}` {}.", self.text()),
            Kind::Denies | Kind::Leaves => format!("`{object}`: {}", self.text()),
        }
    }
}
