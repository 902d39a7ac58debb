//! Who is told what happens: `[otel]` and `[webhooks]`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use telemetry::OtelTable;

use super::{Reading, read_file};
use crate::webhook::WebhookSettings;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhooksTable {
    allowed_hosts: Option<BTreeSet<String>>,
    ca_file: Option<PathBuf>,
    attempts: Option<u32>,
    first_pause_ms: Option<u64>,
}

impl Reading<'_> {
    pub(super) fn otel(&mut self) -> OtelTable {
        let table: OtelTable = self.take("otel").unwrap_or_default();
        for key in table.unknown() {
            self.fault(Some(&format!("otel.{key}")), "is not a setting");
        }
        table.of(Path::new(self.file))
    }

    pub(super) fn webhooks(&mut self) -> WebhookSettings {
        let table: WebhooksTable = self.take("webhooks").unwrap_or_default();
        let defaults = WebhookSettings::default();
        let attempts = table.attempts.unwrap_or(defaults.attempts);
        if !(1..=20).contains(&attempts) {
            self.fault(Some("webhooks.attempts"), "must be from 1 to 20");
        }
        let first_pause = table
            .first_pause_ms
            .map_or(defaults.first_pause, Duration::from_millis);
        if !(Duration::from_millis(10)..=Duration::from_secs(60)).contains(&first_pause) {
            self.fault(Some("webhooks.first_pause_ms"), "must be from 10 to 60000");
        }
        let ca = table
            .ca_file
            .and_then(|path| match read_file(&self.beside(&path)) {
                Ok(text) => Some(text),
                Err(problem) => {
                    self.fault(Some("webhooks.ca_file"), problem);
                    None
                }
            });
        WebhookSettings {
            allowed_hosts: table.allowed_hosts.unwrap_or_default(),
            ca,
            attempts,
            first_pause,
        }
    }
}
