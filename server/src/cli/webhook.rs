//! `webhook`: an admin at a terminal says who is told, and looks after what could not be, through a running server.
//!
//! Apart from the commands that read the database's file, because a server's settings say which hosts may be told. Invariant: a
//! secret is printed once, when its webhook is made.

use clap::{Subcommand, ValueEnum};
use protocol::{CreateWebhook, CreatedWebhook, DeliveryList, Printable, WebhookEvent, WebhookList};

use super::api_client::{At, Server};
use super::audit::{Shown, print_json};
use super::{CommandError, print_line};
use crate::config::Config;

/// What an admin does with webhooks.
#[derive(Debug, Subcommand)]
pub(super) enum WebhookCommand {
    /// Has a URL told what happens from now on, and prints its secret, once.
    Create {
        /// Where to: `https`, or what `[webhooks] allowed_hosts` names.
        url: String,
        /// What to tell; may be given several times.
        #[arg(long = "event", value_name = "EVENT", value_enum, required = true)]
        events: Vec<Event>,
        #[command(flatten)]
        at: At,
    },
    /// Lists the webhooks with what they wait for.
    List {
        #[command(flatten)]
        at: At,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Takes a webhook away, and what it was still to be told.
    Delete {
        /// Its name in the list.
        id: String,
        #[command(flatten)]
        at: At,
    },
    /// Lists what a webhook could not be told, and why: the newest 200.
    DeadLetters {
        /// Its name in the list.
        id: String,
        #[command(flatten)]
        at: At,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Has what was given up tried again.
    Resend {
        /// The webhook's name in the list.
        id: String,
        /// The number of the dead letter; all that are listed where it is not said.
        delivery: Option<i64>,
        #[command(flatten)]
        at: At,
    },
}

/// What a webhook can be told, as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Event {
    /// A review waits for a person
    Waiting,
    /// A review was approved
    Approved,
    /// A review was denied
    Denied,
    /// A review's deadline passed
    TimedOut,
    /// A question was taken back
    Aborted,
    /// A review did not come off
    Failed,
}

impl Event {
    fn on_the_wire(self) -> WebhookEvent {
        match self {
            Self::Waiting => WebhookEvent::Waiting,
            Self::Approved => WebhookEvent::Approved,
            Self::Denied => WebhookEvent::Denied,
            Self::TimedOut => WebhookEvent::TimedOut,
            Self::Aborted => WebhookEvent::Aborted,
            Self::Failed => WebhookEvent::Failed,
        }
    }
}

pub(super) async fn webhook(config: &Config, command: WebhookCommand) -> Result<(), CommandError> {
    match command {
        WebhookCommand::Create { url, events, at } => {
            let wanted = CreateWebhook {
                url,
                events: events.into_iter().map(Event::on_the_wire).collect(),
            };
            let server = Server::of(config, &at)?;
            let made: CreatedWebhook = server.post("/v1/webhooks", &wanted).await?;
            print_line(&format!("id      {}\nsecret  {}", made.id, made.secret))
        }
        WebhookCommand::List { at, json } => list(config, &at, Shown::of(json)).await,
        WebhookCommand::Delete { id, at } => {
            let path = format!("/v1/webhooks/{}", segment(&id)?);
            Server::of(config, &at)?.delete(&path).await
        }
        WebhookCommand::DeadLetters { id, at, json } => {
            let told = undelivered(&Server::of(config, &at)?, &id).await?;
            dead_letters(&told, Shown::of(json))
        }
        WebhookCommand::Resend { id, delivery, at } => {
            resend(&Server::of(config, &at)?, &id, delivery).await
        }
    }
}

/// A name that is one part of a path and nothing else.
fn segment(id: &str) -> Result<&str, CommandError> {
    let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain && !id.is_empty() {
        Ok(id)
    } else {
        Err(CommandError::NoWebhook)
    }
}

async fn undelivered(server: &Server, id: &str) -> Result<DeliveryList, CommandError> {
    let path = format!("/v1/webhooks/{}/deliveries", segment(id)?);
    server.get(&path).await
}

async fn list(config: &Config, at: &At, shown: Shown) -> Result<(), CommandError> {
    let list: WebhookList = Server::of(config, at)?.get("/v1/webhooks").await?;
    if shown == Shown::Json {
        return print_json(&list);
    }
    print_line("ID                                PENDING  DEAD   EVENTS            URL")?;
    for webhook in &list.webhooks {
        let events: Vec<_> = webhook.events.iter().map(|it| it.as_str()).collect();
        print_line(&format!(
            "{:<32}  {:<7}  {:<5}  {:<16}  {}",
            webhook.id,
            webhook.pending,
            webhook.dead,
            events.join(","),
            Printable(&webhook.url)
        ))?;
    }
    Ok(())
}

fn dead_letters(told: &DeliveryList, shown: Shown) -> Result<(), CommandError> {
    if shown == Shown::Json {
        return print_json(told);
    }
    print_line("NUMBER   STATUS   TRIED  EVENT      REVIEW                                WHY")?;
    for delivery in &told.deliveries {
        print_line(&format!(
            "{:<7}  {:<7}  {:<5}  {:<9}  {}  {}",
            delivery.id,
            delivery.status,
            delivery.attempts,
            delivery.event.as_str(),
            delivery.review_id,
            Printable(delivery.last_error.as_deref().unwrap_or("-"))
        ))?;
    }
    Ok(())
}

async fn resend(server: &Server, id: &str, delivery: Option<i64>) -> Result<(), CommandError> {
    let numbers = match delivery {
        Some(number) => vec![number],
        None => {
            let told = undelivered(server, id).await?.deliveries.into_iter();
            let dead = told.filter(|delivery| delivery.status == "dead");
            dead.map(|delivery| delivery.id).collect()
        }
    };
    for number in &numbers {
        let path = format!("/v1/webhooks/{}/deliveries/{number}/resend", segment(id)?);
        server.ask(&path).await?;
    }
    print_line(&format!("{} to be sent again", numbers.len()))
}
