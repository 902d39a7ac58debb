//! What is masked: made-up values of known shapes. Put together here, so that no whole one stands in a file.

use super::{code, hash, prose};
use crate::mask::mask_words;

/// `length` characters drawn by a fixed rule from an alphabet: `a` small letters, `A` capitals, `1` digits, `f` hex.
pub(crate) fn body(of: &str, length: usize) -> String {
    let mut alphabet = String::new();
    for (mark, characters) in [
        ('a', "abcdefghijklmnopqrstuvwxyz"),
        ('A', "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        ('1', "0123456789"),
        ('f', "0123456789abcdef"),
    ] {
        if of.contains(mark) {
            alphabet.push_str(characters);
        }
    }
    let alphabet: Vec<char> = alphabet.chars().collect();
    let mut state: usize = 12_345 + length;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345) % (1 << 31);
        alphabet[(state >> 8) % alphabet.len()]
    });
    next.take(length).collect()
}

fn tail(text: &str, from: usize) -> &str {
    text.get(from..).expect("a longer text")
}

pub(crate) fn jwt_head() -> String {
    format!("{}{}", "ey", "JhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9")
}

/// Beginning (in two parts), alphabet and length of the rest.
const TOKENS: &[(&str, &str, &str, usize)] = &[
    ("AK", "IA", "A", 16),
    ("AS", "IA", "A1", 16),
    ("AI", "za", "aA1", 35),
    ("ya", "29.", "aA1", 60),
    ("GOC", "SPX-", "aA1", 28),
    ("1/", "/0", "aA1", 60),
    ("LT", "AI", "aA1", 20),
    ("AK", "ID", "aA1", 32),
    ("dop", "_v1_", "f", 64),
    ("doo", "_v1_", "f", 64),
    ("HR", "KU-", "aA1", 40),
    ("hv", "s.", "aA1", 90),
    ("hv", "b.", "aA1", 90),
    ("fo", "1_", "aA1", 43),
    ("fm", "2_", "aA1", 80),
    ("nf", "p_", "aA1", 36),
    ("rn", "d_", "aA1", 32),
    ("pu", "l-", "f", 40),
    ("tsk", "ey-", "aA1", 40),
    ("psca", "le_tkn_", "aA1", 43),
    ("psca", "le_pw_", "aA1", 43),
    ("sb", "p_", "f", 40),
    ("sb_", "secret_", "aA1", 31),
    ("np", "g_", "aA1", 16),
    ("da", "pi", "f", 32),
    ("gh", "p_", "aA1", 36),
    ("gh", "o_", "aA1", 36),
    ("gh", "u_", "aA1", 36),
    ("gh", "s_", "aA1", 36),
    ("gh", "r_", "aA1", 76),
    ("git", "hub_pat_", "aA1", 82),
    ("gl", "pat-", "aA1", 20),
    ("gl", "dt-", "aA1", 20),
    ("gl", "rt-", "aA1", 20),
    ("gl", "ptt-", "f", 40),
    ("gl", "cbt-", "aA1", 22),
    ("gl", "ft-", "aA1", 20),
    ("gl", "soat-", "aA1", 20),
    ("GR13", "48941", "aA1", 20),
    ("ATA", "TT3", "aA1", 180),
    ("AT", "BB", "aA1", 32),
    ("sg", "p_", "aA1", 40),
    ("bk", "ua_", "f", 40),
    ("CCI", "PAT_", "aA1", 60),
    ("sq", "p_", "f", 40),
    ("PM", "AK-", "aA1", 59),
    ("dp.", "pt.", "aA1", 43),
    ("np", "m_", "aA1", 36),
    ("py", "pi-", "aA1", 160),
    ("ruby", "gems_", "f", 48),
    ("dckr", "_pat_", "aA1", 27),
    ("oy", "2", "a1", 43),
    ("CLO", "JARS_", "f", 60),
    ("AK", "Cp", "aA1", 69),
    ("xo", "xb-", "1", 40),
    ("xo", "xp-", "1", 60),
    ("xo", "xs-", "1", 40),
    ("xo", "xc-", "f", 60),
    ("xa", "pp-", "aA1", 90),
    ("S", "G.", "aA1", 66),
    ("S", "K", "f", 32),
    ("ke", "y-", "f", 32),
    ("xkey", "sib-", "f", 81),
    ("sk_", "live_", "aA1", 24),
    ("sk_", "test_", "aA1", 24),
    ("rk_", "live_", "aA1", 24),
    ("wh", "sec_", "aA1", 32),
    ("sq0", "atp-", "aA1", 22),
    ("sq0", "csp-", "aA1", 43),
    ("rzp_", "live_", "aA1", 14),
    ("FLW", "SECK-", "f", 34),
    ("ship", "po_live_", "f", 40),
    ("sh", "pat_", "f", 32),
    ("sh", "pss_", "f", 32),
    ("duf", "fel_live_", "aA1", 43),
    ("sk-", "proj-", "aA1", 60),
    ("sk-", "svcacct-", "aA1", 60),
    ("sk-", "ant-", "aA1", 90),
    ("sk-", "or-v1-", "f", 64),
    ("s", "k-", "aA1", 48),
    ("h", "f_", "aA1", 34),
    ("r", "8_", "aA1", 37),
    ("gs", "k_", "aA1", 52),
    ("pp", "lx-", "aA1", 48),
    ("xa", "i-", "aA1", 80),
    ("lsv2", "_pt_", "f", 43),
    ("pc", "sk_", "aA1", 70),
    ("nv", "api-", "aA1", 64),
    ("gl", "c_", "aA1", 80),
    ("gl", "sa_", "aA1", 41),
    ("sn", "trys_", "aA1", 90),
    ("sn", "tryu_", "f", 64),
    ("NR", "AK-", "A1", 27),
    ("dt0", "c01.", "aA1", 89),
    ("ph", "x_", "aA1", 43),
    ("lin", "_api_", "aA1", 40),
    ("sec", "ret_", "aA1", 43),
    ("nt", "n_", "aA1", 46),
    ("fi", "gd_", "aA1", 40),
    ("AGE-SEC", "RET-KEY-1", "A1", 58),
    ("r", "dme_", "a1", 70),
    ("pn", "u_", "aA1", 36),
    ("ai", "o_", "aA1", 28),
    ("sk", ".eyJ", "aA1", 80),
    ("ops_", "eyJ", "aA1", 200),
];

#[test]
fn tokens_that_say_what_they_are_are_masked_wherever_they_stand() {
    assert!(TOKENS.len() >= 100, "{}", TOKENS.len());
    let mut wrong = Vec::new();
    for (first, second, of, length) in TOKENS {
        let secret = format!("{first}{second}{}", body(of, *length));
        for (before, after) in [
            ("", ""),
            ("export X=", " y"),
            ("x: '", "',"),
            ("(", ")"),
            ("a\n", "\nb"),
            ("{\"k\":\"", "\"}"),
            ("h?a=1&b=", "&c=2"),
        ] {
            let text = format!("{before}{secret}{after}");
            let shown = code(&text);
            if shown.contains(&secret) || !shown.starts_with(before) || !shown.ends_with(after) {
                wrong.push(shown);
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn no_such_token_survives_in_any_position() {
    let before = [
        "",
        " ",
        "\n",
        "\t",
        "'",
        "\"",
        "(",
        "[",
        "{",
        "=",
        ":",
        ",",
        ";",
        "-",
        "_",
        ".",
        "/",
        "@",
        "#",
        "é",
        "\u{202e}",
        "x=",
        "-t=",
        "key: ",
        "a://h/",
        "a,b,",
        "password=/",
        "token=$",
    ];
    let after = [
        "", " ", "\n", "'", "\"", ")", "]", "}", ",", ";", "&", "é", "\u{202e}", " eyJ", "\\n",
    ];
    let mut survived = Vec::new();
    for (first, second, of, length) in TOKENS {
        let secret = format!("{first}{second}{}", body(of, *length));
        for before in before {
            for after in after {
                let text = format!("{before}{secret}{after}");
                for shown in [code(&text), prose(&text)] {
                    // Not even its tail, which is what makes it one.
                    if shown.contains(tail(&secret, secret.len() - 12)) {
                        survived.push((text.clone(), shown));
                    }
                }
            }
        }
    }
    assert_eq!(survived, Vec::new());
}

#[test]
fn masking_again_changes_marks_alone() {
    let secret = format!("q7{}", body("aA1", 44));
    let tokens = TOKENS
        .iter()
        .map(|(first, second, of, length)| format!("run {first}{second}{} now", body(of, *length)));
    let around = AROUND
        .iter()
        .map(|(before, after)| format!("{before}{secret}{after}"));
    for text in tokens.chain(around) {
        for mask in [code, prose] {
            let once = mask(&text);
            let twice = mask(&once);
            assert_eq!(without_marks(&once), without_marks(&twice), "{text}");
            assert_eq!(
                without_marks(&twice),
                without_marks(&mask(&twice)),
                "{text}"
            );
        }
    }
}

/// A masked text with one sign for every mark.
fn without_marks(text: &str) -> String {
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(byte) = text.as_bytes().get(at) {
        match crate::mask::mark_at(text.as_bytes(), at) {
            Some(mark) => {
                out.push(0);
                at = mark.end;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).expect("UTF-8")
}

/// Text around a secret of letters and digits, where what is around it says what it is.
const AROUND: &[(&str, &str)] = &[
    ("Authorization: Bearer ", ""),
    ("authorization: Basic ", ""),
    ("curl -H 'Authorization: token ", "' https://h.example"),
    ("Proxy-Authorization: Basic ", "\n"),
    ("X-Api-Key: ", "\n"),
    ("x-auth-token: ", "\n"),
    ("PRIVATE-TOKEN: ", "\n"),
    ("X-Vault-Token: ", ""),
    ("Cookie: session=", "; theme=dark-mode-on"),
    ("Set-Cookie: sid=", "; Path=/; HttpOnly"),
    ("curl -b 'sid=", "' https://h.example"),
    ("postgres://app:", "@db.example:5432/app"),
    ("mysql://root:", "@127.0.0.1/x"),
    ("redis://:", "@cache.example:6379/0"),
    ("amqp://u:", "@mq.example/vhost"),
    ("mongodb+srv://u:", "@c.example/db?w=majority"),
    ("https://u:", "@git.example/x.git"),
    ("ftp://u:", "@h.example/"),
    ("smtp://u:", "@mail.example:587"),
    ("http://u:", "@proxy.example:3128/"),
    ("Server=db;Database=x;User Id=sa;Password=", ";Encrypt=true"),
    ("Driver={x};Uid=a;Pwd=", ";"),
    ("Endpoint=sb://h.example/;SharedAccessKey=", ""),
    (
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=",
        ";EndpointSuffix=x",
    ),
    ("jdbc:oracle:thin:@h:1521:x?password=", ""),
    ("https://h.example/x?access_token=", "&a=1"),
    ("https://h.example/x?a=1&api_key=", ""),
    ("https://h.example/b?sv=2022&sig=", "&se=1"),
    ("https://h.example/x?X-Amz-Signature=", ""),
    ("https://h.example/x?token=", "#frag"),
    ("--password ", " --host h"),
    ("--password=", " --host h"),
    ("--token ", ""),
    ("tool --api-key ", " run"),
    ("tool --client-secret=", ""),
    ("tool -password ", ""),
    ("tool --access-token ", " x"),
    ("mysql -u root -p", " db"),
    ("mysqldump -p", " db"),
    ("sshpass -p ", " ssh h"),
    ("curl -u me:", " https://h.example"),
    ("curl --user me:", " x"),
    ("redis-cli -a ", " ping"),
    ("docker login -u me -p ", " r.example"),
    ("ldapsearch -x -w ", " -b dc=x"),
    ("openssl rsa -passin pass:", " -in k"),
    ("smbclient -U me%", " //h/s"),
    ("unzip -P ", " a.zip"),
    ("keytool -storepass ", " -list"),
    ("7z x -p", " a.7z"),
    ("PGPASSWORD=", " psql -h h"),
    ("export DB_PASS=", "\n"),
    ("MYSQL_PWD=", " mysql"),
    ("AWS_SECRET_ACCESS_KEY=", "\n"),
    ("aws_secret_access_key = ", "\n"),
    ("GITHUB_TOKEN=", ""),
    ("secret_key_base: ", "9x\n"),
    ("client_secret = \"", "\""),
    ("\"password\": \"", "\""),
    ("\"apiKey\":\"", "\","),
    ("\"private_key_id\":1,\"accessToken\": \"", "\"}"),
    ("'db_password' => '", "',"),
    ("password: ", "\n"),
    ("  token: ", "\n"),
    ("- secret: ", "\n"),
    ("    client-key-data: ", "\n"),
    ("//registry.example/:_authToken=", ""),
    ("_password=", ""),
    ("{\"auths\":{\"r.example\":{\"auth\":\"", "\"}}}"),
    ("machine h.example login me password ", ""),
    ("machine h.example\nlogin me\npassword ", "\n"),
    ("db.example:5432:app:me:", ""),
    ("*:*:*:me:", ""),
    ("[client]\nuser=me\npassword=", "\n"),
    ("sasl.jaas.config=x password=\"", "\";"),
    ("spring.datasource.password=", "\n"),
    ("<password>x</password> pwd=", ""),
    ("Bearer-Token: ", ""),
    ("signing_key=", ""),
    ("encryption_key: \"", "\""),
    ("jwt_secret=", ""),
    ("webhook_secret: '", "'"),
    ("passphrase = '", "'"),
    ("session_id=", ""),
    ("PHPSESSID=", ";"),
    ("Ocp-Apim-Subscription-Key: ", ""),
    ("sudo -S <<< x; echo password=", ""),
    ("AZURE_CLIENT_SECRET=", ""),
    ("TWILIO_AUTH_TOKEN=", ""),
    ("DATABASE_URL=postgres://a:", "@h/x"),
    ("https://hooks.slack.com/services/T0", "/B0"),
    ("https://discord.com/api/webhooks/", ""),
    ("ansible_become_pass=", ""),
    ("VAULT_TOKEN=", ""),
    ("snowflake_password: '", "'"),
    ("az login --service-principal -p ", " -u x"),
];

#[test]
fn what_stands_where_secrets_stand_is_masked_and_the_rest_is_shown() {
    assert!(AROUND.len() >= 90, "{}", AROUND.len());
    let mut wrong = Vec::new();
    for (before, after) in AROUND {
        let secret = body("aA1", 44);
        // Said by what is around it, so a plain beginning that no provider uses.
        let secret = format!("q7{secret}");
        let text = format!("{before}{secret}{after}");
        let shown = code(&text);
        if shown.contains(tail(&secret, 4)) || !shown.starts_with(before.trim_end_matches("T0")) {
            wrong.push(shown);
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn words_of_a_command_are_masked_by_what_stands_before_them() {
    let secret = format!("q7{}", body("aA1", 20));
    for words in [
        &["login", "--password", "SECRET"][..],
        &["login", "--password=SECRET"],
        &["mysql", "-uroot", "-pSECRET", "db"],
        &["/usr/bin/mysql", "-pSECRET"],
        &["env", "PGPASSWORD=SECRET", "psql"],
        &["curl", "-u", "me:SECRET", "https://h.example"],
        &["curl", "-H", "Authorization: Bearer SECRET"],
        &["curl", "--header", "X-Api-Key: SECRET"],
        &["sshpass", "-p", "SECRET", "ssh", "h"],
        &["sh", "-c", "mysql -pSECRET db"],
        &["sh", "-c", "curl -u 'me:SECRET' https://h.example"],
        &["bash", "-lc", "export TOKEN=SECRET; run"],
        &["git", "clone", "https://me:SECRET@h.example/x"],
        &["docker", "run", "-e", "API_KEY=SECRET", "x"],
        &["psql", "postgres://me:SECRET@h/x"],
        &[
            "kubectl",
            "create",
            "secret",
            "generic",
            "x",
            "--from-literal=password=SECRET",
        ],
    ] {
        let words: Vec<String> = words
            .iter()
            .map(|word| word.replace("SECRET", &secret))
            .collect();
        let shown = mask_words(&words, &hash);
        assert!(!shown.concat().contains(&secret), "{shown:?}");
        assert_eq!(shown[0], words[0]);
    }
}

#[test]
fn keys_in_blocks_signed_tokens_and_wallets_are_masked() {
    let lines: Vec<String> = (0..6).map(|at| body("aA1", 64 - at)).collect();
    for (label, separator) in [
        ("RSA ", "\n"),
        ("", "\n"),
        ("EC ", "\r\n"),
        ("OPENSSH ", "\n"),
        ("ENCRYPTED ", "\\n"),
    ] {
        let block = format!(
            "-----BEGIN {label}{key}{separator}{}{separator}-----END {label}{key}",
            lines.join(separator),
            key = "PRIVATE KEY-----"
        );
        let shown = code(&format!("x = \"{block}\""));
        assert!(
            lines.iter().all(|line| !shown.contains(tail(line, 2))),
            "{shown}"
        );
    }
    let jwt = format!("{}.{}.{}", jwt_head(), body("aA1", 40), body("aA1", 43));
    assert!(!code(&format!("x {jwt} y")).contains(tail(&jwt, 60)));
    let bot = format!("{}:A{}", body("1", 9), body("aA1", 34));
    assert!(!code(&format!("https://api.example/bot?x={bot}")).contains(tail(&bot, 12)));
    let words = "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima";
    for before in [
        "mnemonic: ",
        "seed phrase: ",
        "MNEMONIC=\"",
        "recovery phrase = ",
    ] {
        let shown = code(&format!("{before}{words}"));
        assert!(
            words.split(' ').all(|word| !shown.contains(word)),
            "{shown}"
        );
    }
}
