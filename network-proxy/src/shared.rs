//! What the tasks of one execution's door share ([`Shared`]), and the way from a request to a connection.
//!
//! Apart because every dialect walks the same three steps: `permit` (by name), `reach` (by address), `dial`.
//! INVARIANT: no lookup before `permit`, no connection before `reach`; each request leaves exactly one `Decided` event.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::address::AddressClass;
use crate::budget::{NameBudget, Spent};
use crate::dial::{DialTarget, Dialer, race};
use crate::event::{BlockedRing, Decided, Event, Events, Protocol, Source};
use crate::gate::{Question, Questions};
use crate::head::{Method, parse_response};
use crate::hook::Hook;
use crate::host::{Destination, Host};
use crate::intercept::Interceptor;
use crate::limits::Limits;
use crate::names::NameTable;
use crate::policy::{Access, BodyKind, Mode, NetworkPolicy, Reach};
use crate::pool::Pool;
use crate::refusal::{Reason, Refusal};
use crate::resolve::{ResolveError, Resolver};
use crate::upstream::UpstreamProxy;
use crate::wire::Buffered;

/// How often a client that waits for an answer is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// A policy and its number: connections that were opened under another number are not used again.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) number: u64,
    pub(crate) policy: NetworkPolicy,
}

/// Everything that the tasks of one execution share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) execution: Arc<str>,
    pub(crate) epoch: RwLock<Arc<Epoch>>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) events: Arc<dyn Events>,
    pub(crate) questions: Questions,
    pub(crate) limits: Limits,
    pub(crate) tunnels: Arc<Semaphore>,
    pub(crate) pool: Pool,
    pub(crate) blocked: BlockedRing,
    pub(crate) names: NameTable,
    pub(crate) budget: NameBudget,
    pub(crate) interceptor: Option<Arc<Interceptor>>,
    /// Where this door's own listeners are, as its clients see them.
    pub(crate) own: RwLock<Vec<SocketAddr>>,
}

/// A request, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'ask> {
    pub(crate) to: &'ask Destination,
    pub(crate) protocol: Protocol,
    pub(crate) method: Option<&'ask Method>,
    pub(crate) body: BodyKind,
    /// The connection it came by: when that ends while the request waits, the question is withdrawn.
    pub(crate) client: Option<&'ask TcpStream>,
}

/// Leave to reach a destination, by name; the addresses are still to be vetted.
#[derive(Debug)]
pub(crate) struct Permit {
    pub(crate) epoch: Arc<Epoch>,
    pub(crate) to: Destination,
    pub(crate) protocol: Protocol,
    /// The hooks of a tunnel that has to be looked into.
    pub(crate) look_into: Option<Vec<Hook>>,
    method: Option<Method>,
    rule: Option<String>,
    source: Source,
    reach: Reach,
}

/// Where a permitted request goes.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) targets: Vec<DialTarget>,
    /// The proxy behind this one, where the way leads through it.
    pub(crate) upstream: Option<Arc<UpstreamProxy>>,
}

impl Shared {
    /// The policy of this moment.
    pub(crate) fn policy(&self) -> Arc<Epoch> {
        Arc::clone(&self.epoch.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decides by name, asking the gate about a plain miss.
    pub(crate) async fn permit(&self, ask: Ask<'_>) -> Result<Permit, Refusal> {
        let permitted = self.permit_unrecorded(ask).await;
        permitted.map_err(|(refusal, source)| {
            self.record_blocked(ask.protocol, ask.method, &refusal, source);
            refusal
        })
    }

    async fn permit_unrecorded(&self, ask: Ask<'_>) -> Result<Permit, (Refusal, Source)> {
        let epoch = self.policy();
        let by_policy = |refusal| (refusal, Source::Policy);
        self.check_self(ask.to).map_err(by_policy)?;
        let access = epoch.policy.check(ask.to);
        if let Access::Blocked(refusal) = access {
            return Err(by_policy(refusal));
        }
        // INVARIANT: what was approved earlier counts only while the policy still asks: a stricter policy takes it back.
        if matches!(access, Access::Unlisted(_)) && !epoch.policy.asks(ask.to) {
            return Err(by_policy(Refusal::of(Reason::NotAllowed, ask.to)));
        }
        let look_into = self.check_mode(&epoch.policy, ask).map_err(by_policy)?;
        let (epoch, rule, source, reach) = match access {
            Access::Allowed { rule, reach } => {
                (epoch, Some(rule.to_string()), Source::Policy, reach)
            }
            Access::Unlisted(_) => {
                self.ask(ask)
                    .await
                    .map_err(|refusal| (refusal, Source::Gate))?;
                // INVARIANT: the policy may have changed while the question was open; what it blocks now stays closed.
                let epoch = self.policy();
                match epoch.policy.check(ask.to) {
                    Access::Blocked(refusal) => return Err(by_policy(refusal)),
                    Access::Allowed { rule, reach } => {
                        (epoch, Some(rule.to_string()), Source::Policy, reach)
                    }
                    Access::Unlisted(reach) => (epoch, None, Source::Gate, reach),
                }
            }
            Access::Blocked(refusal) => return Err(by_policy(refusal)),
        };
        Ok(Permit {
            epoch,
            to: ask.to.clone(),
            protocol: ask.protocol,
            look_into,
            method: ask.method.cloned(),
            rule,
            source,
            reach,
        })
    }

    /// A connection to the door's own listener would go round for ever.
    fn check_self(&self, to: &Destination) -> Result<(), Refusal> {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let mut ports = own.iter().filter(|own| own.port() == to.port);
        let local = match &to.host {
            Host::Name(name) => {
                name.as_str() == "localhost" || name.as_str().ends_with(".localhost")
            }
            Host::Address(address) => address.is_loopback() || address.is_unspecified(),
        };
        let same = ports.any(|own| local || Host::from(own.ip()) == to.host);
        if same {
            Err(Refusal::of(Reason::OwnListener, to))
        } else {
            Ok(())
        }
    }

    /// What the mode says; the hooks, where the tunnel has to be looked into.
    fn check_mode(
        &self,
        policy: &NetworkPolicy,
        ask: Ask<'_>,
    ) -> Result<Option<Vec<Hook>>, Refusal> {
        let refused = |reason| Err(Refusal::of(reason, ask.to));
        match ask.method {
            Some(method) if policy.permits(method, ask.body) => Ok(None),
            Some(_) => refused(Reason::MethodNotAllowed),
            None => match policy.looks_into(ask.to) {
                Some(hooks)
                    if self.interceptor.is_some() && ask.protocol != Protocol::Socks5Udp =>
                {
                    Ok(Some(hooks))
                }
                Some(_) => refused(Reason::MitmRequired),
                None if policy.mode == Mode::Limited => refused(Reason::MitmRequired),
                None => Ok(None),
            },
        }
    }

    async fn ask(&self, ask: Ask<'_>) -> Result<(), Refusal> {
        let question = Question::new(&self.execution, ask.to, ask.protocol, ask.method.cloned());
        let answer = tokio::select! {
            answer = self.questions.ask(question) => answer,
            () = gone(ask.client) => Err((Reason::ReviewFailed, Some("the client is gone".to_owned()))),
        };
        answer.map_err(|(reason, words)| Refusal::of(reason, ask.to).with_detail(words))
    }

    /// Looks the name up, once, and vets the whole answer.
    pub(crate) async fn reach(&self, permit: &Permit) -> Result<Route, Refusal> {
        match self.reach_unrecorded(permit).await {
            Ok(vetted) => {
                let addresses: Vec<IpAddr> =
                    vetted.iter().map(|vetted| vetted.address().ip()).collect();
                let upstream = permit.epoch.policy.upstream.clone().filter(|_| {
                    // Local places are this machine's own business.
                    addresses
                        .iter()
                        .all(|address| permit.epoch.policy.class(*address) == AddressClass::Public)
                });
                self.record_allowed(permit, addresses);
                Ok(Route {
                    targets: vetted.into_iter().map(DialTarget::from).collect(),
                    upstream,
                })
            }
            Err(refusal) => {
                self.record_blocked(
                    permit.protocol,
                    permit.method.as_ref(),
                    &refusal,
                    Source::Policy,
                );
                Err(refusal)
            }
        }
    }

    async fn reach_unrecorded(
        &self,
        permit: &Permit,
    ) -> Result<Vec<crate::policy::Vetted>, Refusal> {
        let name = match &permit.reach {
            Reach::Addresses(vetted) => return Ok(vetted.clone()),
            Reach::Name(name) => name,
        };
        if self.budget.look_up(name) != Spent::Within {
            return Err(Refusal::of(Reason::NameLimit, &permit.to));
        }
        let answer = match timeout(self.limits.lookup, self.resolver.resolve(name)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(ResolveError::NoAddress | ResolveError::Failed(_))) => {
                return Err(Refusal::of(Reason::DnsFailed, &permit.to));
            }
            Err(_elapsed) => return Err(Refusal::of(Reason::DnsTimeout, &permit.to)),
        };
        permit.epoch.policy.vet(&permit.to, &answer)
    }

    /// Opens the connection: straight, or as a tunnel through the upstream proxy.
    pub(crate) async fn dial(
        &self,
        permit: &Permit,
        route: &Route,
    ) -> Result<Buffered<TcpStream>, Refusal> {
        let refused = |reason| Refusal::of(reason, &permit.to);
        let Some(upstream) = &route.upstream else {
            let stream = race(&*self.dialer, &route.targets, &self.limits)
                .await
                .map_err(refused)?;
            return Ok(Buffered::new(stream));
        };
        let mut stream = self.dial_upstream(upstream).await.map_err(refused)?;
        let request = format!(
            "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n{1}\r\n",
            permit.to,
            upstream.authorization_line()
        );
        let exchange = async {
            stream.stream.write_all(request.as_bytes()).await.ok()?;
            let head = stream
                .head_by(Instant::now() + self.limits.dial_all)
                .await
                .ok()?;
            let method = Method::parse("CONNECT")?;
            parse_response(&head, &method).ok().map(|head| head.status)
        };
        match timeout(self.limits.dial_all, exchange).await {
            Ok(Some(200..=299)) => Ok(stream),
            Ok(status) => {
                let detail = status.map(|status| format!("it answered {status}"));
                Err(refused(Reason::UpstreamProxyError).with_detail(detail))
            }
            Err(_elapsed) => Err(refused(Reason::UpstreamTimeout)),
        }
    }

    /// Opens a connection to the upstream proxy itself, which the user configured: its address is not vetted.
    pub(crate) async fn dial_upstream(
        &self,
        upstream: &UpstreamProxy,
    ) -> Result<Buffered<TcpStream>, Reason> {
        let addresses = match &upstream.at.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) if name.as_str() == "localhost" => vec![IpAddr::from([127, 0, 0, 1])],
            Host::Name(name) => {
                match timeout(self.limits.lookup, self.resolver.resolve(name)).await {
                    Ok(Ok(addresses)) => addresses,
                    Ok(Err(_)) | Err(_) => return Err(Reason::UpstreamProxyError),
                }
            }
        };
        let targets: Vec<DialTarget> = addresses
            .into_iter()
            .map(|address| DialTarget::upstream(SocketAddr::new(address, upstream.at.port)))
            .collect();
        match race(&*self.dialer, &targets, &self.limits).await {
            Ok(stream) => Ok(Buffered::new(stream)),
            Err(_) => Err(Reason::UpstreamProxyError),
        }
    }

    /// Records a request that goes out over addresses vetted earlier or now.
    pub(crate) fn record_allowed(&self, permit: &Permit, addresses: Vec<IpAddr>) {
        self.events.record(Event::Decided(Decided {
            execution: Arc::clone(&self.execution),
            protocol: permit.protocol,
            to: Some(permit.to.clone()),
            method: permit.method.clone(),
            verdict: Ok(()),
            source: permit.source,
            rule: permit.rule.clone(),
            addresses,
        }));
    }

    /// Records a refusal.
    pub(crate) fn record_blocked(
        &self,
        protocol: Protocol,
        method: Option<&Method>,
        refusal: &Refusal,
        source: Source,
    ) {
        self.blocked.push(refusal);
        self.events.record(Event::Decided(Decided {
            execution: Arc::clone(&self.execution),
            protocol,
            to: refusal.to.clone(),
            method: method.cloned(),
            verdict: Err(refusal.reason),
            source,
            rule: refusal.rule.clone(),
            addresses: Vec::new(),
        }));
    }

    /// Records the end of what was allowed.
    pub(crate) fn record_closed(
        &self,
        (protocol, to): (Protocol, &Destination),
        (sent, received): (u64, u64),
        failure: Option<Reason>,
    ) {
        self.events.record(Event::Closed {
            execution: Arc::clone(&self.execution),
            protocol,
            to: to.clone(),
            sent,
            received,
            failure,
        });
    }
}

/// Ends when the client has closed its side. Nothing is read, so what it sent early is still there afterwards.
async fn gone(client: Option<&TcpStream>) {
    let Some(client) = client else {
        return std::future::pending().await;
    };
    loop {
        match client.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(LOOK).await,
            Ok(_) | Err(_) => return,
        }
    }
}
