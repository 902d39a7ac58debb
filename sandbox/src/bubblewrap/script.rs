//! What is left of a start when bubblewrap has made the namespaces, as system calls that need nothing more: [`Script`].
//!
//! Our own init does them inside, before the command (`init/script.rs`, which has the other half of this format: ten words an
//! entry, then what they point at, all made for one address). Made of the same steps as every start, so that both ways put
//! up the same walls. Pure.

use std::ffi::CStr;
use std::os::fd::RawFd;

use crate::command::Identity;
use crate::prepare::{Act, Confine, Step};

/// Where the init puts it.
const AT: u64 = 0x10_0000_0000;
const WORD: usize = size_of::<u64>();
const ENTRY: usize = 10 * WORD;
const PASS: u64 = u64::MAX - 2;
const SAME: u64 = u64::MAX - 1;
const END: u64 = u64::MAX;

/// Descriptors of the init.
const ORDERS: u64 = 4;
const PROGRAM: u64 = 5;
const STANDARD_OUTPUT: u64 = 1;
const STANDARD_ERROR: u64 = 2;
/// Where the command's standard output and error wait while bubblewrap has others: what it says is not the command's, and a
/// terminal that it found there it would put into the command's `/dev`.
pub(super) const KEPT_ERROR: RawFd = 8;
pub(super) const KEPT_OUTPUT: RawFd = 10;

/// Where the listener of the filters goes out, where somebody watches.
pub(super) const WATCHER: RawFd = 11;

/// What the runner sends when the command may go on.
pub(super) const GO: u8 = 1;

/// `seccomp(2)`.
const SET_MODE_FILTER: u64 = 1;

/// Where entries are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    Held,
    NotHeld,
}

/// A word of an entry.
#[derive(Debug, Clone, Copy)]
enum Word {
    Number(u64),
    /// The address of something in the data.
    At(usize),
    /// What is read of there when the call is made: a descriptor that an earlier one opened.
    Held(usize),
}

#[derive(Debug)]
struct Entry {
    call: u64,
    words: Vec<Word>,
    store: Option<usize>,
    spared: i32,
    /// The step it belongs to.
    step: Option<usize>,
}

impl Entry {
    fn of(call: u64, words: &[Word]) -> Self {
        Self {
            call,
            words: words.to_vec(),
            store: None,
            spared: 0,
            step: None,
        }
    }

    /// What it answers is kept there.
    fn storing(self, store: usize) -> Self {
        Self {
            store: Some(store),
            ..self
        }
    }

    /// This errno is no failure.
    fn sparing(self, spared: i32) -> Self {
        Self { spared, ..self }
    }
}

/// `openat(2)`, whose answer is kept.
fn open(path: usize, flags: libc::c_int, store: usize) -> Entry {
    let here = plain(libc::AT_FDCWD.into());
    let words = [here, Word::At(path), plain(flags.into())];
    Entry::of(number(libc::SYS_openat), &words).storing(store)
}

/// System calls with what they point at.
#[derive(Debug, Default)]
pub(super) struct Script {
    entries: Vec<Entry>,
    data: Vec<u8>,
    /// Places in the data that hold the address of another place in it.
    pointers: Vec<(usize, usize)>,
    step: Option<usize>,
}

fn number(call: libc::c_long) -> u64 {
    u64::try_from(call).unwrap_or(END)
}

fn plain(value: i64) -> Word {
    Word::Number(u64::from_ne_bytes(value.to_ne_bytes()))
}

impl Script {
    /// The script of `steps`, and what it ends with. `None` where a step is none that is done so.
    pub(super) fn of(steps: &[Step]) -> Option<Self> {
        let mut script = Self::default();
        script.block_signals();
        script.await_go();
        for (place, step) in steps.iter().enumerate() {
            script.step = Some(place);
            script.add(&step.act)?;
        }
        script.step = None;
        script.restore_output();
        Some(script)
    }

    /// The step that the entry at `place` belongs to.
    pub(super) fn step_at(&self, place: usize) -> Option<usize> {
        self.entries.get(place)?.step
    }

    /// The file, with the init's own argument, the command's words and its variables.
    pub(super) fn file(&self, arguments: &[Vec<u8>], variables: &[Vec<u8>]) -> Vec<u8> {
        let mut all = Self {
            data: self.data.clone(),
            pointers: self.pointers.clone(),
            ..Self::default()
        };
        let [arguments, variables] = [arguments, variables].map(|texts| all.list(texts));
        let start = (self.entries.len() + 1) * ENTRY;
        let address = |place: usize| AT + u64::try_from(start + place).unwrap_or_default();
        let mut bytes = Vec::with_capacity(start + all.data.len());
        let mut entry =
            |words: [u64; 10]| bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        for one in &self.entries {
            let mut words = [0; 10];
            let (mut read, mut rest) = (0, one.words.iter());
            for (bit, place) in words.iter_mut().skip(1).take(6).enumerate() {
                *place = match rest.next() {
                    Some(Word::Number(value)) => *value,
                    Some(Word::At(at)) => address(*at),
                    Some(Word::Held(at)) => {
                        read |= 1 << bit;
                        address(*at)
                    }
                    None => 0,
                };
            }
            let [call, .., reads, store, spared] = &mut words;
            (*call, *reads) = (one.call, read);
            *store = one.store.map_or(0, address);
            *spared = u64::from(one.spared.unsigned_abs());
            entry(words);
        }
        entry([
            END,
            address(arguments),
            address(variables),
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
        for (place, to) in &all.pointers {
            put(&mut all.data, *place, &address(*to).to_ne_bytes());
        }
        bytes.extend(all.data);
        bytes
    }

    /// A list of texts as programs get them: addresses, then none.
    fn list(&mut self, texts: &[Vec<u8>]) -> usize {
        let places: Vec<usize> = texts.iter().map(|text| self.text(text)).collect();
        let list = self.space(WORD * (places.len() + 1));
        for (place, to) in places.into_iter().enumerate() {
            self.pointers.push((list + place * WORD, to));
        }
        list
    }

    /// Room for so many bytes, all nought.
    fn space(&mut self, bytes: usize) -> usize {
        let place = self.data.len().next_multiple_of(WORD);
        self.data.resize(place + bytes, 0);
        place
    }

    fn bytes(&mut self, bytes: &[u8]) -> usize {
        let place = self.space(bytes.len());
        put(&mut self.data, place, bytes);
        place
    }

    fn text(&mut self, text: &[u8]) -> usize {
        let place = self.space(text.len() + 1);
        put(&mut self.data, place, text);
        place
    }

    fn words(&mut self, words: &[u64]) -> usize {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.bytes(&bytes)
    }

    fn call(&mut self, call: libc::c_long, words: &[Word]) {
        self.push(Entry::of(number(call), words));
    }

    fn push(&mut self, entry: Entry) {
        let step = self.step;
        self.entries.push(Entry { step, ..entry });
    }

    fn same(&mut self, one: usize, other: usize, words: u64) {
        let words = [Word::At(one), Word::At(other), Word::Number(words)];
        self.push(Entry::of(SAME, &words));
    }

    /// The init waits for its children by a descriptor, which is told of blocked signals alone; bubblewrap lets the end of
    /// a child through.
    fn block_signals(&mut self) {
        const BLOCK: u64 = 0;
        let every = self.words(&[u64::MAX]);
        let size = Word::Number(8);
        let words = [Word::Number(BLOCK), Word::At(every), Word::Number(0), size];
        self.call(libc::SYS_rt_sigprocmask, &words);
    }

    /// Goes on when the runner says so; where it is gone, it does not.
    fn await_go(&mut self) {
        let (said, go) = (self.space(WORD), self.bytes(&[GO]));
        // The bytes behind it, to the end of the word, are nought as well.
        self.space(WORD);
        let words = [Word::Number(ORDERS), Word::At(said), Word::Number(1)];
        self.call(libc::SYS_read, &words);
        self.same(said, go, 1);
    }

    /// Gives the command its standard output and error back and leaves it no other descriptor.
    fn restore_output(&mut self) {
        for (kept, stream) in [(KEPT_OUTPUT, STANDARD_OUTPUT), (KEPT_ERROR, STANDARD_ERROR)] {
            let words = [plain(kept.into()), Word::Number(stream), Word::Number(0)];
            self.call(libc::SYS_dup3, &words);
        }
        let every = Word::Number(u32::MAX.into());
        self.call(libc::SYS_close_range, &[Word::Number(PROGRAM + 1), every]);
    }

    fn add(&mut self, act: &Act) -> Option<()> {
        match act {
            Act::Confine(confine) => self.confine(confine),
            Act::WorkIn { path, identity } => {
                let directory = self.open_same(path, *identity);
                self.call(libc::SYS_fchdir, &[Word::Held(directory)]);
                Some(())
            }
            Act::OpenProgram { path, identity, .. } => {
                let program = self.open_same(path, *identity);
                let words = [Word::Held(program), Word::Number(PROGRAM)];
                // Opened at that very place it is there already.
                let there = Entry::of(number(libc::SYS_dup3), &words).sparing(libc::EINVAL);
                self.push(there);
                Some(())
            }
            Act::Mount(_) | Act::Make(_) | Act::AwaitGo | Act::Door { .. } => None,
        }
    }

    /// Opens what is at `path` where it is still that thing; the place of its descriptor.
    fn open_same(&mut self, path: &CStr, identity: Identity) -> usize {
        let (path, held) = (self.text(path.to_bytes()), self.space(WORD));
        let flags = libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW;
        self.push(open(path, flags, held));
        // `struct stat` begins with device and number on both processors; it is 144 bytes at most.
        let found = self.space(256);
        self.call(libc::SYS_fstat, &[Word::Held(held), Word::At(found)]);
        let expected = self.words(&[identity.device, identity.inode]);
        self.same(found, expected, 2);
        held
    }

    fn confine(&mut self, confine: &Confine) -> Option<()> {
        match confine {
            Confine::NewKeyring => {
                // A kernel without keyrings has none to leave.
                let join = Entry::of(number(libc::SYS_keyctl), &[Word::Number(1)]);
                self.push(join.sparing(libc::ENOSYS));
            }
            Confine::Limit { resource, limit } => {
                let all = u64::MAX;
                let words = [limit.current.unwrap_or(all), limit.maximum.unwrap_or(all)];
                let (limit, which) = (self.words(&words), Word::Number(*resource as u64));
                let words = [Word::Number(0), which, Word::At(limit)];
                self.call(libc::SYS_prlimit64, &words);
            }
            // A step of a namespace that was made ahead, which bubblewrap's is not.
            Confine::Half { .. } => {}
            Confine::NoPrivilegesByExec => {
                let words = [plain(libc::PR_SET_NO_NEW_PRIVS.into()), Word::Number(1)];
                self.call(libc::SYS_prctl, &words);
            }
            // Bubblewrap has taken them from the bounding set.
            Confine::Capabilities { kept: 0 } | Confine::NoCapabilities => {
                let header = self.words(&[0x2008_0522]);
                let none = self.space(24);
                self.call(libc::SYS_capset, &[Word::At(header), Word::At(none)]);
            }
            Confine::Landlock { ruleset, rules } => {
                let attributes = [
                    ruleset.handled_files,
                    ruleset.handled_network,
                    ruleset.scoped,
                ];
                let attributes = self.words(&attributes);
                let made = self.space(WORD);
                let words = [Word::At(attributes), Word::Number(24)];
                let make = Entry::of(number(libc::SYS_landlock_create_ruleset), &words);
                self.push(make.storing(made));
                for (path, rights) in rules {
                    self.allow(made, path, *rights);
                }
                self.call(libc::SYS_landlock_restrict_self, &[Word::Held(made)]);
                self.call(libc::SYS_close, &[Word::Held(made)]);
            }
            Confine::Filter(program) => self.filter(program)?,
            Confine::WatchedFilter {
                program,
                channel: _,
                alone,
            } => self.watched_filter(program, alone)?,
            Confine::Capabilities { .. } | Confine::User { .. } => return None,
        }
        Some(())
    }

    /// Allows `rights` beneath `path`. Gone since it was listed, it is given to nobody.
    fn allow(&mut self, ruleset: usize, path: &CStr, rights: u64) {
        const PATH_BENEATH: u64 = 1;
        let path = self.text(path.to_bytes());
        let rule = self.words(&[rights, u64::MAX]);
        let parent = rule + WORD;
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        self.push(open(path, flags, parent).sparing(libc::ENOENT));
        let words = [
            Word::Held(ruleset),
            Word::Number(PATH_BENEATH),
            Word::At(rule),
        ];
        let add = Entry::of(number(libc::SYS_landlock_add_rule), &words);
        self.push(add.sparing(libc::EBADF));
        let close = Entry::of(number(libc::SYS_close), &[Word::Held(parent)]);
        self.push(close.sparing(libc::EBADF));
    }

    fn filter(&mut self, program: &[libc::sock_filter]) -> Option<()> {
        let words = [
            Word::Number(SET_MODE_FILTER),
            Word::Number(0),
            Word::At(self.description(program)?),
        ];
        self.call(libc::SYS_seccomp, &words);
        Some(())
    }

    /// The same with a watcher, who gets the listener; where one watches already, `alone` stands.
    fn watched_filter(
        &mut self,
        program: &[libc::sock_filter],
        alone: &[libc::sock_filter],
    ) -> Option<()> {
        // A message that carries a descriptor (`unix(7)`, `cmsg(3)`), for now none.
        const ONE_DESCRIPTOR: u64 = 20;
        const RIGHTS: u64 = 1 << 32 | 1;
        let control = self.words(&[ONE_DESCRIPTOR, RIGHTS, u64::MAX]);
        let listener = control + 2 * WORD;
        let (text, parts) = (self.bytes(&[GO]), self.words(&[0, 1]));
        self.pointers.push((parts, text));
        // No address, one part, and what goes with it.
        let message = self.words(&[0, 0, 0, 1, 0, 24, 0]);
        self.pointers.push((message + 2 * WORD, parts));
        self.pointers.push((message + 4 * WORD, control));

        let words = [
            Word::Number(SET_MODE_FILTER),
            Word::Number(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER),
            Word::At(self.description(program)?),
        ];
        let install = Entry::of(number(libc::SYS_seccomp), &words);
        self.push(install.storing(listener).sparing(libc::EBUSY));
        self.pass(listener, Where::Held, 1);
        self.filter(alone)?;
        self.pass(listener, Where::NotHeld, 2);
        let flags = plain((libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT).into());
        let words = [plain(WATCHER.into()), Word::At(message), flags];
        self.call(libc::SYS_sendmsg, &words);
        self.call(libc::SYS_close, &[Word::Held(listener)]);
        Some(())
    }

    /// Passes over the next `entries` by whether a descriptor is held there.
    fn pass(&mut self, held: usize, by: Where, entries: u64) {
        let by = Word::Number(u64::from(by == Where::Held));
        let words = [Word::At(held), by, Word::Number(entries)];
        self.push(Entry::of(PASS, &words));
    }

    /// The program as the kernel takes it (`struct sock_fprog`).
    fn description(&mut self, program: &[libc::sock_filter]) -> Option<usize> {
        let mut bytes = Vec::with_capacity(program.len() * WORD);
        for line in program {
            bytes.extend(line.code.to_ne_bytes());
            bytes.extend([line.jt, line.jf]);
            bytes.extend(line.k.to_ne_bytes());
        }
        let lines = self.bytes(&bytes);
        let description = self.space(2 * WORD);
        let length = u16::try_from(program.len()).ok()?;
        put(&mut self.data, description, &length.to_ne_bytes());
        self.pointers.push((description + WORD, lines));
        Some(description)
    }
}

fn put(data: &mut [u8], place: usize, bytes: &[u8]) {
    for (place, byte) in data.iter_mut().skip(place).zip(bytes) {
        *place = *byte;
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::prepare::{Make, Mount};

    fn step(act: Act) -> Step {
        Step {
            what: "do",
            object: PathBuf::from("it"),
            act,
        }
    }

    /// The word at an address of the file.
    fn word(file: &[u8], address: u64) -> u64 {
        let at = usize::try_from(address - AT).unwrap();
        u64::from_ne_bytes(file[at..at + WORD].try_into().unwrap())
    }

    fn text(file: &[u8], address: u64) -> &[u8] {
        let at = usize::try_from(address - AT).unwrap();
        file[at..].split(|byte| *byte == 0).next().unwrap()
    }

    #[test]
    fn words_and_variables_arrive_as_they_are_each_list_with_its_end() {
        let script = Script::of(&[step(Act::Confine(Confine::NoPrivilegesByExec))]).unwrap();
        let words = [b"d--".to_vec(), Vec::new(), b"a b\xff".to_vec()];
        let file = script.file(&words, &[b"A=1".to_vec()]);
        let end = AT + u64::try_from(script.entries.len() * ENTRY).unwrap();
        assert_eq!(word(&file, end), END);
        let (argv, envp) = (word(&file, end + 8), word(&file, end + 16));
        for (place, expected) in (0..).zip(&words) {
            assert_eq!(
                text(&file, word(&file, argv + 8 * place)),
                expected.as_slice()
            );
        }
        assert_eq!(word(&file, argv + 24), 0);
        assert_eq!(text(&file, word(&file, envp)), b"A=1");
        assert_eq!(word(&file, envp + 8), 0);
    }

    #[test]
    fn a_failed_call_leads_back_to_its_step() {
        let steps = [
            step(Act::Confine(Confine::NewKeyring)),
            step(Act::WorkIn {
                path: c"/home/u/code".into(),
                identity: Identity {
                    device: 1,
                    inode: 2,
                },
            }),
        ];
        let script = Script::of(&steps).unwrap();
        let of: Vec<_> = (0..script.entries.len())
            .map(|place| script.step_at(place))
            .collect();
        assert_eq!(of.first(), Some(&None));
        assert_eq!(of.iter().filter(|step| **step == Some(0)).count(), 1);
        // Opened, looked at, compared, entered.
        assert_eq!(of.iter().filter(|step| **step == Some(1)).count(), 4);
        assert_eq!(of.last(), Some(&None));
        assert_eq!(script.step_at(of.len()), None);
    }

    #[test]
    fn what_is_not_done_inside_is_no_script() {
        for act in [
            Act::AwaitGo,
            Act::Mount(Mount::Guard {
                path: c"/home/u/code/.git".into(),
            }),
            Act::Make(Make::As { user: 0, group: 0 }),
            Act::Confine(Confine::User { user: 1, group: 1 }),
            Act::Confine(Confine::Capabilities { kept: 1 }),
        ] {
            assert!(Script::of(&[step(act)]).is_none());
        }
    }
}
