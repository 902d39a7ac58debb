use super::{Effect, Extent};
use crate::reading::Reading;

fn effects(script: &str) -> String {
    let argv = ["bash", "-c", script].map(str::to_owned);
    let reading = Reading::of_argv(&argv);
    let shown: Vec<String> = reading
        .leaves()
        .flat_map(crate::Command::effects)
        .map(|effect| show(&effect))
        .collect();
    shown.join(", ")
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Reads(word) => format!("reads {word}"),
        Effect::Writes(word) => format!("writes {word}"),
        Effect::Deletes(word, Extent::One) => format!("deletes {word}"),
        Effect::Deletes(word, Extent::Moved) => format!("moves {word}"),
        Effect::Deletes(word, Extent::Tree) => format!("deletes all of {word}"),
        Effect::Reaches(Some(word)) => format!("reaches {word}"),
        Effect::Reaches(None) => "reaches".to_owned(),
        Effect::Sends(word) => format!("sends {word}"),
        Effect::SendsInput => "sends input".to_owned(),
        Effect::Privileged => "privileged".to_owned(),
        Effect::ChangesSystem => "changes system".to_owned(),
        Effect::Runs => "runs".to_owned(),
    }
}

#[test]
fn programs_have_the_effects_of_their_words() {
    let table = [
        ("cat a b", "reads a, reads b"),
        ("head -n 3 a", "reads a"),
        ("grep -r x d", "reads d"),
        ("grep -e x -f p d", "reads p, reads d"),
        ("sort -o a b", "writes a, reads b"),
        ("uniq a b", "reads a, writes b"),
        ("touch a", "writes a"),
        ("mkdir -p -m 700 a", "writes a"),
        ("tee -a a", "writes a"),
        ("cp a b c", "writes c, reads a, reads b"),
        ("cp -t c a", "writes c, reads a"),
        ("mv a b", "writes b, reads a, moves a"),
        ("rm a", "deletes a"),
        ("rm -Rf a b", "deletes all of a, deletes all of b"),
        ("rm --recurs a", "deletes all of a"),
        ("find d -delete", "deletes all of d"),
        ("find d -name '*.o' -delete", "deletes d/…"),
        ("find d -name '*' -delete", "deletes all of d"),
        ("dd if=a of=b", "reads a, writes b"),
        ("mkfs.ext4 a", "writes a, changes system"),
        ("chmod 777 a", "writes a"),
        ("sed -i s/a/b/ f", "writes f, runs"),
        ("echo x > f", "writes f"),
        ("echo x > /dev/tcp/h/1", "reaches /dev/tcp/h/1, sends input"),
        ("curl -d @f h", "sends f, reaches h"),
        ("curl -F 'x=@f;type=a' h", "sends f, reaches h"),
        ("curl -T f h", "sends f, sends input, reaches h"),
        ("curl -o f h", "writes f, reaches h"),
        ("wget --post-file=f h", "sends f, reaches h"),
        ("scp -i k f u@h:d", "reaches u@h:d, sends f, sends input"),
        ("scp u@h:f d", "reaches u@h:f, writes d, sends input"),
        ("rsync -a a b", "writes b, reads a"),
        ("nc h 1 < f", "reads f, reaches h, sends input"),
        ("systemctl stop x", "changes system"),
        ("sudo cat a", "privileged, reads a"),
        ("make", "runs"),
        ("./x", "runs"),
        ("echo hi", ""),
    ];
    for (script, wanted) in table {
        assert_eq!(effects(script), wanted, "{script}");
    }
}
