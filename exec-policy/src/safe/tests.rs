use crate::command::Class;
use crate::reading::Reading;

fn class(text: &str) -> Class {
    let argv: Vec<String> = text.split(' ').map(str::to_owned).collect();
    Reading::of_argv(&argv)
        .leaves()
        .last()
        .map_or(Class::Unknown, crate::Command::class)
}

#[test]
fn the_documented_lists_hold() {
    let table = [
        ("cat a", Class::KnownSafe),
        ("/usr/bin/ls", Class::KnownSafe),
        ("./ls", Class::Unknown),
        ("base64 a", Class::KnownSafe),
        ("base64 -oa", Class::Unknown),
        ("base64 --output=a", Class::Unknown),
        ("base64 --out=a", Class::Unknown),
        ("find . -name x", Class::KnownSafe),
        ("find . -fprintf a b", Class::Unknown),
        ("rg x", Class::KnownSafe),
        ("rg --pre=x y", Class::Unknown),
        ("rg --hostname-bin x y", Class::Unknown),
        ("rg --search-zip y", Class::Unknown),
        ("sed -n 3p f", Class::KnownSafe),
        ("sed -n 3,5p", Class::KnownSafe),
        ("sed -n 3,5p f g", Class::Unknown),
        ("sed -n $p f", Class::Unknown),
        ("sed s/a/b/ f", Class::Unknown),
        ("git status", Class::KnownSafe),
        ("git -C d log", Class::KnownSafe),
        ("git checkout status", Class::Unknown),
        ("git -cx=y status", Class::Unknown),
        ("git --config-env=x=y status", Class::Unknown),
        ("git log --ext-diff", Class::Unknown),
        ("git show --textconv", Class::Unknown),
        ("git branch", Class::KnownSafe),
        ("git branch --format=x -a", Class::KnownSafe),
        ("git branch x", Class::Unknown),
        ("rm a", Class::Unknown),
        ("rm -f a", Class::Dangerous),
        ("rm a -rf", Class::Dangerous),
        ("rm --force a", Class::Dangerous),
        ("rm -- -f", Class::Unknown),
        ("sudo rm -f a", Class::Dangerous),
        ("grep rm -f", Class::KnownSafe),
        ("cargo check", Class::Unknown),
    ];
    for (text, wanted) in table {
        assert_eq!(class(text), wanted, "{text}");
    }
}
