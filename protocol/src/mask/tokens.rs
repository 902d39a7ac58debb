//! Secrets that say themselves what they are: a known beginning and a body of a known alphabet and length.
//!
//! Apart, because this is a table. Sources: each provider's own documentation of its token formats. Invariant: a shape is
//! strict enough to leave hashes, identifiers and words of a program alone.

use std::sync::LazyLock;

use super::{Span, is_rich, run};

/// The characters of a body.
#[derive(Debug, Clone, Copy)]
enum Of {
    /// Letters and digits.
    Alnum,
    /// And `_`, `-`.
    Url,
    /// And `.`.
    Dotted,
    /// Hex digits.
    Hex,
    /// Capital letters and digits.
    Capitals,
    /// Letters, digits, `+`, `/`, `=`, `_`, `-`.
    Base64,
    /// What stands in the path of an address.
    Path,
}

/// How long a body is, in bytes: at least, at most.
type Length = (usize, usize);

/// Any length from here on.
const fn from(least: usize) -> Length {
    (least, usize::MAX)
}

/// Exactly as long.
const fn exactly(length: usize) -> Length {
    (length, length)
}

/// Beginning, kind, alphabet and length of the body.
type Shape = (&'static str, &'static str, Of, Length);

#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    // Clouds.
    ("AKIA", "aws_access_key_id", Of::Capitals, exactly(16)), ("ASIA", "aws_access_key_id", Of::Capitals, exactly(16)),
    ("ABIA", "aws_access_key_id", Of::Capitals, exactly(16)), ("ACCA", "aws_access_key_id", Of::Capitals, exactly(16)),
    ("ABSK", "aws_bedrock_key", Of::Base64, from(80)),
    ("AIza", "google_api_key", Of::Url, exactly(35)), ("ya29.", "google_oauth_token", Of::Url, from(20)),
    ("GOCSPX-", "google_client_secret", Of::Url, exactly(28)), ("1//0", "google_refresh_token", Of::Url, from(40)),
    ("GOOG", "google_hmac_key", Of::Capitals, (16, 60)),
    ("LTAI", "alibaba_access_key", Of::Alnum, (12, 26)), ("AKID", "tencent_secret_id", Of::Alnum, exactly(32)),
    ("dop_v1_", "digitalocean_token", Of::Hex, exactly(64)), ("doo_v1_", "digitalocean_token", Of::Hex, exactly(64)),
    ("dor_v1_", "digitalocean_token", Of::Hex, exactly(64)), ("HRKU-", "heroku_key", Of::Url, from(36)),
    ("hvs.", "vault_token", Of::Url, from(24)), ("hvb.", "vault_token", Of::Url, from(24)), ("hvr.", "vault_token", Of::Url, from(24)),
    ("AQVN", "yandex_api_key", Of::Url, (35, 39)), ("t1.9eu", "yandex_token", Of::Dotted, from(40)),
    ("scw-", "scaleway_key", Of::Hex, exactly(32)), ("linode_", "linode_token", Of::Hex, exactly(64)),
    ("fo1_", "fly_token", Of::Url, from(40)), ("fm1r_", "fly_token", Of::Base64, from(60)), ("fm2_", "fly_token", Of::Base64, from(60)),
    ("nfp_", "netlify_token", Of::Alnum, exactly(36)), ("rnd_", "render_token", Of::Alnum, (28, 40)),
    ("pul-", "pulumi_token", Of::Hex, exactly(40)), ("tskey-", "tailscale_key", Of::Url, from(20)),
    ("pscale_tkn_", "planetscale_token", Of::Dotted, from(32)), ("pscale_pw_", "planetscale_password", Of::Dotted, from(32)),
    ("pscale_oauth_", "planetscale_token", Of::Dotted, from(32)), ("sbp_", "supabase_token", Of::Hex, exactly(40)),
    ("sb_secret_", "supabase_key", Of::Url, from(20)), ("npg_", "neon_password", Of::Alnum, (12, 32)), ("napi_", "neon_key", Of::Alnum, from(48)),
    ("dapi", "databricks_token", Of::Hex, exactly(32)), ("v1.0-", "cloudflare_origin_key", Of::Url, from(140)),
    ("EZAK", "easypost_key", Of::Alnum, exactly(54)), ("EZTK", "easypost_key", Of::Alnum, exactly(54)),
    // Where code lives.
    ("ghp_", "github_token", Of::Alnum, (36, 255)), ("gho_", "github_token", Of::Alnum, (36, 255)), ("ghu_", "github_token", Of::Alnum, (36, 255)),
    ("ghs_", "github_token", Of::Alnum, (36, 255)), ("ghr_", "github_token", Of::Alnum, (36, 255)), ("github_pat_", "github_token", Of::Url, from(22)),
    ("glpat-", "gitlab_token", Of::Dotted, from(20)), ("gldt-", "gitlab_token", Of::Url, from(20)), ("glrt-", "gitlab_token", Of::Dotted, from(20)),
    ("glptt-", "gitlab_token", Of::Hex, from(40)), ("glcbt-", "gitlab_token", Of::Url, from(20)), ("glft-", "gitlab_token", Of::Url, from(20)),
    ("glimt-", "gitlab_token", Of::Url, from(25)), ("glagent-", "gitlab_token", Of::Url, from(50)), ("gloas-", "gitlab_token", Of::Url, from(64)),
    ("glsoat-", "gitlab_token", Of::Url, from(20)), ("glffct-", "gitlab_token", Of::Url, from(20)), ("GR1348941", "gitlab_token", Of::Url, from(20)),
    ("ATATT3", "atlassian_token", Of::Base64, from(60)), ("ATBB", "bitbucket_password", Of::Alnum, exactly(32)), ("ATCTT3", "atlassian_token", Of::Base64, from(60)),
    ("sourcegraph_", "sourcegraph_token", Of::Alnum, from(32)), ("sgp_", "sourcegraph_token", Of::Url, from(40)),
    ("bkua_", "buildkite_token", Of::Alnum, exactly(40)), ("CCIPAT_", "circleci_token", Of::Url, from(40)),
    ("sqp_", "sonar_token", Of::Hex, exactly(40)), ("squ_", "sonar_token", Of::Hex, exactly(40)), ("sqa_", "sonar_token", Of::Hex, exactly(40)),
    ("PMAK-", "postman_key", Of::Url, exactly(59)), ("dp.pt.", "doppler_token", Of::Alnum, (40, 44)), ("dp.st.", "doppler_token", Of::Dotted, from(40)),
    ("dp.ct.", "doppler_token", Of::Alnum, (40, 44)), ("dp.sa.", "doppler_token", Of::Alnum, (40, 44)), ("ops_eyJ", "onepassword_token", Of::Base64, from(100)),
    // Registries.
    ("npm_", "npm_token", Of::Alnum, exactly(36)), ("pypi-", "pypi_token", Of::Url, from(50)), ("rubygems_", "rubygems_key", Of::Hex, exactly(48)),
    ("dckr_pat_", "docker_token", Of::Url, from(20)), ("dckr_oat_", "docker_token", Of::Url, from(20)), ("oy2", "nuget_key", Of::Alnum, exactly(43)),
    ("CLOJARS_", "clojars_token", Of::Alnum, exactly(60)), ("cio", "crates_token", Of::Alnum, exactly(32)), ("AKCp", "jfrog_key", Of::Alnum, from(60)),
    ("packagist_", "packagist_token", Of::Url, from(40)),
    // Chat and mail.
    ("xoxb-", "slack_token", Of::Url, from(20)), ("xoxp-", "slack_token", Of::Url, from(20)), ("xoxa-", "slack_token", Of::Url, from(20)),
    ("xoxr-", "slack_token", Of::Url, from(20)), ("xoxs-", "slack_token", Of::Url, from(20)), ("xoxe-", "slack_token", Of::Url, from(20)),
    ("xoxc-", "slack_token", Of::Url, from(20)), ("xoxd-", "slack_token", Of::Base64, from(20)), ("xapp-", "slack_token", Of::Url, from(30)),
    ("xoxe.xox", "slack_token", Of::Dotted, from(30)), ("SG.", "sendgrid_key", Of::Dotted, from(60)), ("SK", "twilio_key", Of::Hex, exactly(32)),
    ("key-", "mailgun_key", Of::Hex, exactly(32)), ("xkeysib-", "brevo_key", Of::Url, from(60)), ("re_", "resend_key", Of::Url, (32, 40)),
    // Money.
    ("sk_live_", "stripe_key", Of::Alnum, from(16)), ("sk_test_", "stripe_key", Of::Alnum, from(16)), ("rk_live_", "stripe_key", Of::Alnum, from(16)),
    ("rk_test_", "stripe_key", Of::Alnum, from(16)), ("whsec_", "webhook_secret", Of::Base64, from(24)), ("sq0atp-", "square_token", Of::Url, exactly(22)),
    ("sq0csp-", "square_secret", Of::Url, exactly(43)), ("rzp_live_", "razorpay_key", Of::Alnum, from(14)), ("FLWSECK-", "flutterwave_key", Of::Url, from(32)),
    ("access-production-", "plaid_token", Of::Url, exactly(36)), ("access-sandbox-", "plaid_token", Of::Url, exactly(36)),
    ("shippo_live_", "shippo_token", Of::Hex, exactly(40)), ("shippo_test_", "shippo_token", Of::Hex, exactly(40)), ("EAAA", "square_token", Of::Url, exactly(60)),
    ("shpat_", "shopify_token", Of::Hex, exactly(32)), ("shpss_", "shopify_secret", Of::Hex, exactly(32)), ("shpca_", "shopify_token", Of::Hex, exactly(32)),
    ("shppa_", "shopify_token", Of::Hex, exactly(32)), ("duffel_live_", "duffel_token", Of::Url, exactly(43)), ("duffel_test_", "duffel_token", Of::Url, exactly(43)),
    // Models.
    ("sk-proj-", "openai_key", Of::Url, from(20)), ("sk-svcacct-", "openai_key", Of::Url, from(20)), ("sk-admin-", "openai_key", Of::Url, from(20)),
    ("sk-ant-", "anthropic_key", Of::Url, from(20)), ("sk-or-v1-", "openrouter_key", Of::Hex, exactly(64)), ("sk-", "model_key", Of::Alnum, from(32)),
    ("hf_", "huggingface_token", Of::Alnum, from(30)), ("api_org_", "huggingface_token", Of::Alnum, from(30)), ("r8_", "replicate_token", Of::Alnum, from(36)),
    ("gsk_", "groq_key", Of::Alnum, from(40)), ("pplx-", "perplexity_key", Of::Alnum, from(40)), ("xai-", "xai_key", Of::Alnum, from(70)),
    ("sk_", "elevenlabs_key", Of::Hex, exactly(48)), ("lsv2_pt_", "langsmith_key", Of::Url, from(32)), ("lsv2_sk_", "langsmith_key", Of::Url, from(32)),
    ("pcsk_", "pinecone_key", Of::Url, from(50)), ("nvapi-", "nvidia_key", Of::Url, from(50)), ("tgp_v1_", "together_key", Of::Url, from(40)),
    // Watching and the rest.
    ("glc_", "grafana_token", Of::Base64, from(32)), ("glsa_", "grafana_token", Of::Url, from(41)), ("sntrys_", "sentry_token", Of::Base64, from(40)),
    ("sntryu_", "sentry_token", Of::Hex, exactly(64)), ("NRAK-", "newrelic_key", Of::Capitals, exactly(27)), ("NRJS-", "newrelic_key", Of::Hex, exactly(19)),
    ("dt0c01.", "dynatrace_token", Of::Dotted, from(80)), ("phc_", "posthog_key", Of::Alnum, exactly(43)), ("phx_", "posthog_key", Of::Alnum, from(40)),
    ("lin_api_", "linear_key", Of::Alnum, from(32)), ("lin_oauth_", "linear_token", Of::Alnum, from(32)), ("secret_", "notion_token", Of::Alnum, exactly(43)),
    ("ntn_", "notion_token", Of::Alnum, from(40)), ("figd_", "figma_token", Of::Url, from(36)), ("CFPAT-", "contentful_token", Of::Url, exactly(43)),
    ("AGE-SECRET-KEY-1", "age_key", Of::Capitals, exactly(58)), ("sl.", "dropbox_token", Of::Url, from(130)), ("fio-u-", "frameio_token", Of::Url, exactly(64)),
    ("rdme_", "readme_key", Of::Alnum, from(60)), ("tk-us-", "scalingo_token", Of::Url, from(40)), ("pnu_", "prefect_key", Of::Alnum, exactly(36)),
    ("aio_", "adafruit_key", Of::Alnum, exactly(28)), ("ico-", "intercom_token", Of::Alnum, exactly(32)), ("mob-", "launchdarkly_key", Of::Url, exactly(36)),
    ("AAAAAAAAAAAAAAAAAAAAA", "twitter_token", Of::Base64, from(60)), ("EAACEdEose0cBA", "facebook_token", Of::Alnum, from(20)),
    ("sk.eyJ", "mapbox_token", Of::Dotted, from(50)), ("NRRA-", "newrelic_key", Of::Hex, exactly(42)), ("pat-na1-", "hubspot_token", Of::Url, exactly(36)),
    ("pat-eu1-", "hubspot_token", Of::Url, exactly(36)), ("dG9rO", "intercom_token", Of::Base64, from(54)),
];

/// Beginnings that stay, because they say where the rest goes.
const ADDRESSES: &[Shape] = &[
    (
        "hooks.slack.com/services/",
        "slack_webhook",
        Of::Path,
        from(20),
    ),
    (
        "hooks.slack.com/workflows/",
        "slack_webhook",
        Of::Path,
        from(20),
    ),
    (
        "discord.com/api/webhooks/",
        "discord_webhook",
        Of::Path,
        from(40),
    ),
    (
        "discordapp.com/api/webhooks/",
        "discord_webhook",
        Of::Path,
        from(40),
    ),
    (
        "webhook.office.com/webhookb2/",
        "teams_webhook",
        Of::Path,
        from(40),
    ),
];

/// How much of a body decides whether it is one; more than the longest fixed length.
const LOOK: usize = 300;

/// The places in both tables by first byte.
static BY_FIRST: LazyLock<Vec<Vec<(&'static Shape, usize)>>> = LazyLock::new(|| {
    let mut table = vec![Vec::new(); 256];
    let hidden = SHAPES.iter().map(|shape| (shape, 0));
    let kept = ADDRESSES.iter().map(|shape| (shape, shape.0.len()));
    for (shape, shown) in hidden.chain(kept) {
        let first = shape.0.bytes().next().unwrap_or_default();
        if let Some(slot) = table.get_mut(usize::from(first)) {
            slot.push((shape, shown));
        }
    }
    table
});

/// Finds every secret that says what it is.
pub(super) fn find(bytes: &[u8], spans: &mut Vec<Span>) {
    let table = &*BY_FIRST;
    let mut at = 0;
    let mut before = b' ';
    let mut parts = Parts::default();
    while let Some(byte) = bytes.get(at).copied() {
        if before.is_ascii_alphanumeric() {
            before = byte;
            at += 1;
            continue;
        }
        let shapes = table.get(usize::from(byte)).map_or(&[][..], Vec::as_slice);
        if shapes.is_empty() && !Parts::may_begin(byte) {
            before = byte;
            at += 1;
            continue;
        }
        let found = shapes
            .iter()
            .find_map(|(shape, shown)| matched(bytes, at, shape, *shown))
            .or_else(|| parts.find(bytes, at, byte));
        let next = match found {
            Some(span) => {
                let end = span.end;
                spans.push(span);
                end
            }
            None => at + 1,
        };
        before = bytes.get(next - 1).copied().unwrap_or(b' ');
        at = next;
    }
}

fn matched(bytes: &[u8], at: usize, shape: &Shape, shown: usize) -> Option<Span> {
    let (prefix, kind, of, (least, most)) = *shape;
    let start = at + prefix.len();
    // The first byte is known to fit; most places differ in the second.
    let differs = bytes.get(at + 1) != prefix.as_bytes().get(1);
    if differs || !bytes.get(at..)?.starts_with(prefix.as_bytes()) {
        return None;
    }
    // A first look of fixed length: what is no secret costs no more than that.
    let limit = bytes.len().min(start + LOOK);
    let looked = run(bytes.get(..limit)?, start, |byte| is_of(of, byte));
    let body = bytes.get(start..start + looked)?;
    // Capitals of an exact length are strict enough without a digit.
    let drawn = matches!(of, Of::Capitals) || is_rich(body);
    if looked < least || !drawn {
        return None;
    }
    let length = if looked < LOOK {
        looked
    } else if most < LOOK {
        return None;
    } else {
        run(bytes, start, |byte| is_of(of, byte))
    };
    (length <= most).then_some(Span {
        start: at + shown,
        end: start + length,
        kind,
    })
}

fn is_of(of: Of, byte: u8) -> bool {
    match of {
        Of::Alnum => byte.is_ascii_alphanumeric(),
        Of::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
        Of::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
        Of::Hex => byte.is_ascii_hexdigit(),
        Of::Capitals => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
        Of::Base64 => is_base64(byte),
        Of::Path => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/' | b'@'),
    }
}

pub(super) fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-')
}

/// Shapes with parts: signed tokens, bot tokens.
#[derive(Debug, Default)]
struct Parts {
    /// Where the last run that a JSON Web Token could begin in ends, and where the token would end.
    jwt: (usize, Option<usize>),
}

impl Parts {
    /// Whether [`Parts::find`] may find something that begins with `byte`.
    fn may_begin(byte: u8) -> bool {
        matches!(byte, b'e' | b'0'..=b'9' | b'M' | b'N' | b'O')
    }

    fn find(&mut self, bytes: &[u8], at: usize, byte: u8) -> Option<Span> {
        let span = |end, kind| Span {
            start: at,
            end,
            kind,
        };
        match byte {
            b'e' => self.jwt(bytes, at).map(|end| span(end, "jwt")),
            b'0'..=b'9' => telegram(bytes, at).map(|end| span(end, "telegram_token")),
            b'M' | b'N' | b'O' => discord(bytes, at).map(|end| span(end, "discord_token")),
            _ => None,
        }
    }

    /// A JSON Web Token (RFC 7519): three parts in base64, the first of which is a JSON object.
    fn jwt(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        if !bytes.get(at..)?.starts_with(b"eyJ") {
            return None;
        }
        if at >= self.jwt.0 {
            let first_end = at + url(bytes, at);
            let second = first_end + 1;
            let third = second + url(bytes, second) + 1;
            let dots = bytes.get(first_end) == Some(&b'.') && bytes.get(third - 1) == Some(&b'.');
            let length = if dots { url(bytes, third) } else { 0 };
            let long = third - second > 4 && length >= 16;
            self.jwt = (first_end, long.then_some(third + length));
        }
        let (first_end, end) = self.jwt;
        end.filter(|_| first_end - at >= 10)
    }
}

fn url(bytes: &[u8], at: usize) -> usize {
    run(bytes, at, |byte| is_of(Of::Url, byte))
}

/// A Telegram bot's token: its number, a colon, 35 characters.
fn telegram(bytes: &[u8], at: usize) -> Option<usize> {
    let window = bytes.get(..bytes.len().min(at + 12))?;
    let digits = run(window, at, |byte| byte.is_ascii_digit());
    let colon = at + digits;
    if !(8..=10).contains(&digits) || !bytes.get(colon..)?.starts_with(b":A") {
        return None;
    }
    let window = bytes.get(..bytes.len().min(colon + 40))?;
    (url(window, colon + 1) == 35).then_some(colon + 36)
}

/// A Discord bot's token: three parts of known lengths.
fn discord(bytes: &[u8], at: usize) -> Option<usize> {
    let window = bytes.get(..bytes.len().min(at + 80))?;
    let first = url(window, at);
    let second = at + first + 1;
    let third = second + 7;
    let fits = (24..=28).contains(&first)
        && bytes.get(second - 1) == Some(&b'.')
        && url(window, second) == 6
        && bytes.get(third - 1) == Some(&b'.');
    let length = if fits { url(window, third) } else { 0 };
    (27..=40).contains(&length).then_some(third + length)
}
