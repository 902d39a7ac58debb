//! Which policy judges whom: the settings' where nothing else is on record, else what the record's changes come to.
//!
//! Apart from the judging, which is handed a reviewer and asks no more. Invariants: a tenant whose changes cannot be believed
//! is judged by nobody, so that nothing of it is approved (P2); a shadow that cannot be made is none, and stops nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use protocol::{PolicyChange, PolicyList, PolicyResource, Sha256Hex, TenantId};
use reviewer::{InvalidSettings, PolicyTable, Reviewer, ReviewerSettings, ReviewerTable};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::desk::{Desk, now};
use crate::key::SigningKey;
use crate::policy_life::{Change, Life, Named, NotBelieved, NotChanged, Share, Wanted, What};
use crate::store::sqlite::policies::KnownPolicy;
use crate::store::{Noted, Scope, SqliteStore, StoreError};

/// How often changes that others made are looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How many changes are told.
const MOST_TOLD: usize = 200;
/// How often a change is tried again that somebody else overtook.
const MOST_TRIES: usize = 8;

/// What the settings say of policies, and of what judges alongside.
#[derive(Debug, Clone, Default)]
pub(crate) struct PolicySources {
    pub(crate) everybody: ReviewerSettings,
    pub(crate) tenants: BTreeMap<TenantId, ReviewerSettings>,
    /// Who judges alongside, where it is not who judges.
    pub(crate) shadow: Option<ReviewerTable>,
}

impl PolicySources {
    pub(crate) fn of(&self, tenant: &TenantId) -> &ReviewerSettings {
        self.tenants.get(tenant).unwrap_or(&self.everybody)
    }
}

/// Why a policy was not kept or changed.
#[derive(Debug, Error)]
pub(crate) enum PolicyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the policy is not valid: {0}")]
    Invalid(#[from] InvalidSettings),
    #[error(transparent)]
    NotBelieved(#[from] NotBelieved),
    #[error(transparent)]
    NotChanged(#[from] NotChanged),
    #[error(
        "no policy, or more than one, has a revision that begins with `{}`\nhint: `auto-review-server policy list`",
        protocol::Printable(.0)
    )]
    Unknown(String),
    #[error(
        "the policy `{0}` was kept by an older program, which did not keep what it is made of\nhint: keep it again"
    )]
    WithoutBody(String),
}

/// What judges in each tenant.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    standing: RwLock<BTreeMap<TenantId, Arc<Standing>>>,
    /// Who judges alongside for each tenant, under the settings' policy: one for all policies, so that its ceilings hold.
    alongside: RwLock<BTreeMap<TenantId, Option<Arc<Reviewer>>>>,
    sources: OnceLock<PolicySources>,
}

/// How it stands in one tenant.
#[derive(Debug)]
enum Standing {
    Judging(Box<Judging>),
    /// Its changes cannot be believed.
    Unreadable,
}

#[derive(Debug)]
struct Judging {
    /// `None` where nothing was ever changed.
    life: Option<Life>,
    /// By their names, those that judge somebody.
    reviewers: BTreeMap<String, Arc<Reviewer>>,
    shadow: Option<Arc<Reviewer>>,
}

impl Judging {
    fn last(&self) -> i64 {
        self.life.as_ref().map_or(0, |life| life.last.0)
    }
}

/// Keeps the policy `table` as `author`'s, and says what it is called. What is kept under its name already stays.
///
/// # Errors
/// It is no policy, or the store cannot be written.
pub(crate) async fn keep(
    store: &SqliteStore,
    (tenant, reviewer): (&TenantId, &Reviewer),
    table: &PolicyTable,
    author: &str,
) -> Result<(Named, bool), PolicyError> {
    let table = table
        .inlined()
        .map_err(|fault| InvalidSettings(vec![fault]))?;
    let made = reviewer.with_policy(&table)?;
    let body = serde_json::to_string(&table)
        .map_err(|_| StoreError::Corrupt("a policy cannot be spelled"))?;
    let revision = made.policy_revision().to_string();
    let known = KnownPolicy {
        tenant: tenant.clone(),
        revision: revision.clone(),
        text: made.policy().document(),
        body,
        author: author.to_owned(),
        since: now(),
    };
    let added = store.add_policy(known).await?;
    let kept = named(store, tenant, &revision).await?;
    Ok((kept, added))
}

/// The one policy of `tenant` whose revision begins with `wanted`, ready to be put in force.
///
/// # Errors
/// There is none or there are several, or what it is made of is not kept.
pub(crate) async fn named(
    store: &SqliteStore,
    tenant: &TenantId,
    wanted: &str,
) -> Result<Named, PolicyError> {
    let known = one_of(store.policies(tenant).await?, wanted)?;
    if known.body.is_empty() {
        return Err(PolicyError::WithoutBody(known.revision));
    }
    Ok(Named {
        body_digest: digest(&known.body),
        revision: known.revision,
    })
}

pub(crate) fn one_of(known: Vec<KnownPolicy>, wanted: &str) -> Result<KnownPolicy, PolicyError> {
    let mut found = known
        .into_iter()
        .filter(|policy| policy.revision.starts_with(wanted));
    match (found.next(), found.next()) {
        (Some(policy), None) => Ok(policy),
        (None | Some(_), _) => Err(PolicyError::Unknown(wanted.to_owned())),
    }
}

/// What follows from `tenant`'s changes.
///
/// # Errors
/// They cannot be read or believed.
pub(crate) async fn life(
    store: &SqliteStore,
    key: &SigningKey,
    tenant: &TenantId,
) -> Result<Option<Life>, PolicyError> {
    Ok(Life::of(&store.policy_changes(tenant).await?, key)?)
}

/// Puts a change on record. Where it is the first, the policy of `settings` is noted before it.
///
/// # Errors
/// It cannot follow what is on record, or the store cannot be written.
pub(crate) async fn change(
    (store, key): (&SqliteStore, &SigningKey),
    (tenant, settings): (&TenantId, &Named),
    wanted: &Wanted,
) -> Result<Life, PolicyError> {
    for _ in 0..MOST_TRIES {
        let life = life(store, key, tenant).await?;
        let next = match &life {
            Some(_) => wanted.clone(),
            None if wanted.what == What::Settings => wanted.clone(),
            None => of_settings(settings.clone()),
        };
        let last = life.is_some() || wanted.what == What::Settings;
        let change = next.after(life.as_ref(), (tenant, now()), key)?;
        if store.note_change(change).await? == Noted::Yes && last {
            return self::life(store, key, tenant)
                .await?
                .ok_or(PolicyError::Store(StoreError::Corrupt("a change is gone")));
        }
    }
    Err(PolicyError::Store(StoreError::Locked))
}

/// The policies of `tenant` with where they stand, and what was done with them. `settings` is the settings' own.
///
/// # Errors
/// They cannot be read or believed.
pub(crate) async fn told(
    store: &SqliteStore,
    key: &SigningKey,
    (tenant, settings): (&TenantId, &str),
) -> Result<PolicyList, PolicyError> {
    let changes = store.policy_changes(tenant).await?;
    let life = Life::of(&changes, key)?;
    let known = store.policies(tenant).await?;
    let policies = known
        .iter()
        .map(|policy| resource(policy, life.as_ref(), settings));
    Ok(PolicyList {
        policies: policies.collect(),
        changes: told_changes(&changes),
    })
}

/// What was done, newest first.
pub(crate) fn told_changes(changes: &[Change]) -> Vec<PolicyChange> {
    let newest = changes.iter().rev().take(MOST_TOLD);
    let told = newest.map(|change| {
        let (percent, from) = match change.share {
            Some(Share::Percent(percent)) => (Some(percent), None),
            Some(Share::From(time)) => (None, Some(time)),
            None => (None, None),
        };
        PolicyChange {
            number: change.number,
            at: change.at,
            author: change.author.clone(),
            reason: change.reason.clone(),
            what: change.what.as_str().to_owned(),
            revision: change.policy.as_ref().map(|it| it.revision.clone()),
            percent,
            from,
            signature: change.signature.clone(),
        }
    });
    told.collect()
}

/// One policy with where it stands.
pub(crate) fn resource(
    policy: &KnownPolicy,
    life: Option<&Life>,
    settings: &str,
) -> PolicyResource {
    let named = |named: &Named| named.revision == policy.revision;
    let in_settings = policy.revision == settings;
    let at = now();
    let in_force = life.map_or(in_settings, |life| named(life.in_force(at)));
    let on_its_way = life.and_then(|life| life.on_its_way(at));
    let shadow = life.and_then(|life| life.shadow.as_ref());
    let all = [
        (in_force, "in_force"),
        (on_its_way.is_some_and(named), "staged"),
        (shadow.is_some_and(named), "shadow"),
        (in_settings, "settings"),
    ];
    PolicyResource {
        revision: policy.revision.clone(),
        author: policy.author.clone(),
        since: policy.since,
        stands: all
            .iter()
            .filter(|(stands, _)| *stands)
            .map(|(_, name)| (*name).to_owned())
            .collect(),
    }
}

fn of_settings(policy: Named) -> Wanted {
    Wanted {
        author: "settings".to_owned(),
        reason: "in the settings".to_owned(),
        what: What::Settings,
        policy: Some(policy),
        share: None,
    }
}

fn digest(body: &str) -> String {
    let hash: [u8; 32] = Sha256::digest(body.as_bytes()).into();
    Sha256Hex::of(&hash).as_str().to_owned()
}

impl Desk {
    /// From now on the record says which policy judges; `sources` where it says nothing. Settings that changed since they
    /// were last noted are in force first.
    pub(crate) async fn begin_following(&self, sources: PolicySources) -> Result<(), PolicyError> {
        let last = self.store.last_policy_changes().await?;
        for tenant in self.store.tenants().await? {
            let table = &sources.of(&tenant.id).policy;
            if last.contains_key(tenant.id.as_str()) {
                self.note_settings(&tenant.id, table).await?;
            }
        }
        if self.policies.sources.set(sources).is_err() {
            tracing::warn!("the policies are followed already");
        }
        self.look_at_policies().await?;
        Ok(())
    }

    async fn note_settings(
        &self,
        tenant: &TenantId,
        table: &PolicyTable,
    ) -> Result<(), PolicyError> {
        let reviewer = self.reviewer_of(tenant);
        let (named, _) = keep(&self.store, (tenant, reviewer), table, "settings").await?;
        let believed = life(&self.store, &self.key, tenant).await;
        match believed {
            // Nothing of the tenant is judged then; it is told where that is found out.
            Err(PolicyError::NotBelieved(_)) => return Ok(()),
            Err(error) => return Err(error),
            Ok(Some(life)) if life.settings.body_digest == named.body_digest => return Ok(()),
            Ok(_) => {}
        }
        tracing::warn!(
            tenant = tenant.as_str(),
            revision = named.revision,
            "the settings hold another policy than before: it is in force"
        );
        let wanted = of_settings(named.clone());
        change((&self.store, &self.key), (tenant, &named), &wanted).await?;
        Ok(())
    }

    /// Follows the changes, until the service goes down.
    pub(crate) async fn keep_following(&self) {
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
            if let Err(error) = self.look_at_policies().await {
                tracing::warn!(%error, "whether the policies changed could not be read");
            }
        }
    }

    /// Brings what judges up to the record.
    pub(crate) async fn look_at_policies(&self) -> Result<(), StoreError> {
        let last = self.store.last_policy_changes().await?;
        for tenant in self.store.tenants().await? {
            let on_record = last.get(tenant.id.as_str()).copied().unwrap_or(0);
            let before = self.policies.standing(&tenant.id);
            let same = before.as_deref().is_some_and(|standing| match standing {
                Standing::Judging(judging) => judging.last() == on_record,
                Standing::Unreadable => false,
            });
            if same {
                continue;
            }
            let standing = self.stand(&tenant.id, before.as_deref()).await?;
            self.policies.put(tenant.id, standing);
        }
        Ok(())
    }

    async fn stand(
        &self,
        tenant: &TenantId,
        before: Option<&Standing>,
    ) -> Result<Standing, StoreError> {
        let problem = match self.judging(tenant, before).await {
            Ok(judging) => return Ok(Standing::Judging(Box::new(judging))),
            Err(PolicyError::Store(error)) if !matches!(error, StoreError::Corrupt(_)) => {
                return Err(error);
            }
            Err(problem) => problem,
        };
        if !matches!(before, Some(Standing::Unreadable)) {
            tracing::error!(
                tenant = tenant.as_str(),
                %problem,
                "the policies on record cannot be used, so nothing is judged"
            );
        }
        Ok(Standing::Unreadable)
    }

    async fn judging(
        &self,
        tenant: &TenantId,
        before: Option<&Standing>,
    ) -> Result<Judging, PolicyError> {
        let life = life(&self.store, &self.key, tenant).await?;
        let seen = match before {
            Some(Standing::Judging(judging)) => judging.last(),
            Some(Standing::Unreadable) | None => 0,
        };
        if life.as_ref().map_or(0, |life| life.last.0) < seen {
            return Err(NotBelieved::Number(seen).into());
        }
        let known = self.store.policies(tenant).await?;
        let base = self.reviewer_of(tenant);
        let mut reviewers = BTreeMap::new();
        for named in life.iter().flat_map(Life::judging) {
            let reviewer = base.with_policy(&table_of(&known, named)?)?;
            reviewers.insert(named.revision.clone(), Arc::new(reviewer));
        }
        Ok(Judging {
            shadow: self.shadow_under(tenant, life.as_ref(), &known),
            life,
            reviewers,
        })
    }

    /// Who judges alongside: another policy, other models, or both. Whatever is wrong with it, it is left out.
    fn shadow_under(
        &self,
        tenant: &TenantId,
        life: Option<&Life>,
        known: &[KnownPolicy],
    ) -> Option<Arc<Reviewer>> {
        let sources = self.policies.sources.get()?;
        let named = life.and_then(|life| life.shadow.as_ref());
        if named.is_none() && sources.shadow.is_none() {
            return None;
        }
        let base = self.policies.alongside(tenant, sources)?;
        // A second model alone judges by what is in force.
        let Some(named) = named.or_else(|| life.map(|life| &life.active)) else {
            return Some(base);
        };
        let made = table_of(known, named).and_then(|table| Ok(base.with_policy(&table)?));
        match made {
            Ok(reviewer) => Some(Arc::new(reviewer)),
            Err(problem) => {
                tracing::warn!(tenant = tenant.as_str(), %problem, "nothing judges alongside");
                None
            }
        }
    }

    /// Who judges what `scope` asks in `session`.
    ///
    /// # Errors
    /// The changes of the tenant's policies cannot be believed.
    pub(crate) fn reviewer_for(
        &self,
        scope: &Scope,
        session: Option<&str>,
        now: Timestamp,
    ) -> Result<Arc<Reviewer>, StoreError> {
        let settings = self.reviewer_of(&scope.tenant);
        let Some(standing) = self.policies.standing(&scope.tenant) else {
            return Ok(Arc::clone(settings));
        };
        let unusable = StoreError::Corrupt("the policies on record cannot be used");
        let Standing::Judging(judging) = &*standing else {
            return Err(unusable);
        };
        let Some(life) = &judging.life else {
            return Ok(Arc::clone(settings));
        };
        let named = life.judges((scope, session), now);
        let reviewer = judging.reviewers.get(&named.revision);
        reviewer.map(Arc::clone).ok_or(unusable)
    }
}

impl Policies {
    fn standing(&self, tenant: &TenantId) -> Option<Arc<Standing>> {
        let standing = self.standing.read();
        let standing = standing.unwrap_or_else(PoisonError::into_inner);
        standing.get(tenant).map(Arc::clone)
    }

    fn put(&self, tenant: TenantId, standing: Standing) {
        let all = self.standing.write();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        all.insert(tenant, Arc::new(standing));
    }

    /// Who judges alongside in `tenant`.
    pub(crate) fn shadow_of(&self, tenant: &TenantId) -> Option<Arc<Reviewer>> {
        match &*self.standing(tenant)? {
            Standing::Judging(judging) => judging.shadow.clone(),
            Standing::Unreadable => None,
        }
    }

    /// What the settings say of policies; nothing where they are not followed.
    pub(crate) fn sources(&self) -> Option<&PolicySources> {
        self.sources.get()
    }

    fn alongside(&self, tenant: &TenantId, sources: &PolicySources) -> Option<Arc<Reviewer>> {
        let mut all = self
            .alongside
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let made = all.entry(tenant.clone()).or_insert_with(|| {
            let own = sources.of(tenant);
            let settings = ReviewerSettings {
                reviewer: sources
                    .shadow
                    .clone()
                    .unwrap_or_else(|| own.reviewer.clone()),
                policy: own.policy.clone(),
            };
            let made = Reviewer::new(&settings, &crate::config::environment);
            made.map(Arc::new)
                .map_err(|problem| tracing::warn!(%problem, "nothing judges alongside"))
                .ok()
        });
        made.clone()
    }
}

/// What `named` is made of, as it was when it was named.
fn table_of(known: &[KnownPolicy], named: &Named) -> Result<PolicyTable, PolicyError> {
    let found = known
        .iter()
        .find(|policy| policy.revision == named.revision);
    let body = found.map_or("", |policy| policy.body.as_str());
    if digest(body) != named.body_digest {
        return Err(StoreError::Corrupt("a policy is not the one that was named").into());
    }
    serde_json::from_str(body)
        .map_err(|_| StoreError::Corrupt("a policy's body cannot be read").into())
}
