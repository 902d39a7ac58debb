//! Questions to a store on this machine, and files that are asked for no more than their print.
//!
//! Apart from [`super::sql`], which reads statements: here the words are the question. Invariant: the store is this
//! machine's, each word is a command that only reads, and what holds the store's own secrets is not among them.

use super::listed;

/// Commands of redis that read keys, or tell of them.
const REDIS: &str = "\
    ping info dbsize get mget getrange strlen exists type ttl pttl keys scan llen lrange lindex scard smembers sismember \
    hlen hget hmget hgetall hkeys hvals hexists zcard zrange zscore zrank zcount xlen xinfo xrange memory object time \
    lastsave";

/// Whether a call only looks.
pub(super) fn looks(program: &str, words: &[&str]) -> bool {
    match program {
        "redis-cli" => asks_redis(words),
        "openssl" => prints_certificate(words),
        _ => false,
    }
}

fn asks_redis(words: &[&str]) -> bool {
    let mut rest = words.iter();
    let mut scans = false;
    while let Some(word) = rest.next() {
        let mut value = |test: &dyn Fn(&str) -> bool| rest.next().is_some_and(|value| test(value));
        let fine = match *word {
            "-h" => value(&|host| matches!(host, "localhost" | "127.0.0.1" | "::1")),
            "-p" | "-n" | "--count" => value(&|number| number.parse::<u16>().is_ok()),
            "--pattern" => value(&is_plain_key),
            "--scan" | "--bigkeys" | "--raw" | "--no-raw" => {
                scans |= *word == "--scan" || *word == "--bigkeys";
                true
            }
            _ if word.starts_with('-') => false,
            command => {
                return listed(REDIS, &command.to_ascii_lowercase())
                    && rest.all(|word| is_plain_key(word));
            }
        };
        if !fine {
            return false;
        }
    }
    scans
}

/// A key or a pattern of keys.
fn is_plain_key(text: &str) -> bool {
    text.len() <= 120
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.:*?/[]{}@".contains(c))
}

/// `openssl x509 -noout …`: of a file that holds no certificate it prints nothing.
fn prints_certificate(words: &[&str]) -> bool {
    let ["x509", rest @ ..] = words else {
        return false;
    };
    let mut words = rest.iter();
    let mut quiet = false;
    while let Some(word) = words.next() {
        let fine = match *word {
            // With a colon it is an address, which OpenSSL may load an engine or a provider for.
            "-in" => words
                .next()
                .is_some_and(|file| !file.starts_with('-') && !file.contains(':')),
            "-noout" => {
                quiet = true;
                true
            }
            "-enddate" | "-startdate" | "-dates" | "-subject" | "-issuer" | "-serial"
            | "-fingerprint" | "-sha256" | "-purpose" | "-email" | "-hash" => true,
            "-ext" => words.next().is_some_and(|name| *name == "subjectAltName"),
            _ => false,
        };
        if !fine {
            return false;
        }
    }
    quiet
}

#[cfg(test)]
mod tests {
    use super::looks;

    #[test]
    fn questions_are_told_from_orders() {
        let all = |lines: &[&str]| {
            lines
                .iter()
                .map(|line| {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    looks(words[0], &words[1..])
                })
                .collect::<Vec<bool>>()
        };
        assert_eq!(
            all(&[
                "redis-cli --scan --pattern queue:*",
                "redis-cli -h 127.0.0.1 -p 6379 -n 2 LLEN jobs",
                "redis-cli ping",
                "openssl x509 -in certs/server.crt -noout -enddate",
            ]),
            [true; 4]
        );
        assert_eq!(
            all(&[
                "openssl x509 -in org.openssl.engine:/w/evil.so:k -noout",
                "openssl x509 -in pkcs11:object=k -noout -subject",
                "redis-cli -h cache.example ping",
                "redis-cli flushall",
                "redis-cli config get requirepass",
                "redis-cli eval x 0",
                "redis-cli --eval x.lua",
                "redis-cli --rdb /tmp/x",
                "redis-cli",
                "redis-cli --pipe",
                "redis-cli -u redis://h/0 ping",
                "openssl x509 -in a",
                "openssl x509 -in a -noout -out b",
                "openssl x509 -req -in a -CAkey k -noout",
            ]),
            [false; 14]
        );
    }
}
