//! The door: network access by policy, for commands inside the walls.
//!
//! A [`Door`] serves one execution's listeners. Every request, in whatever dialect, becomes a [`Destination`] once, is held
//! against a [`NetworkPolicy`], is asked about at a [`Gate`] where no rule names it, is looked up once, and is dialled at a vetted
//! address only. The crate knows nothing of reviews: the runner implements the gate.
#![forbid(unsafe_code)]

mod address;
mod authorities;
mod body;
mod budget;
mod dial;
mod dns;
mod door;
mod environment;
mod event;
mod exchange;
mod gate;
mod head;
mod hook;
mod host;
mod http;
mod intercept;
mod limits;
mod names;
mod own;
mod policy;
mod pool;
mod refusal;
mod relay;
mod resolve;
mod rule;
mod settings;
mod shared;
mod sni;
mod socks5;
mod transparent;
mod tunnel;
mod unix;
mod upstream;
mod wire;

pub use address::{AddressClass, class_of};
pub use authorities::{Authorities, NoAuthorities, bundles};
pub use dial::{DialTarget, Dialer, SystemDialer};
pub use door::{Door, Listeners, Ports, Setup};
pub use environment::{Surroundings, UnawarePrograms, environment};
pub use event::{Blocked, Decided, Event, Events, NoEvents, Protocol, Source};
pub use gate::{Answer, Approvals, Gate, NoGate, Question};
pub use head::Method;
pub use host::{Destination, Host, HostName, InvalidHost};
pub use intercept::{Interceptor, InterceptorError};
pub use limits::Limits;
pub use own::own_addresses;
pub use policy::{Access, Misses, Mode, NetworkPolicy, Reach, SniCheck, Socks, Vetted};
pub use refusal::{Reason, Refusal};
pub use resolve::{ResolveError, Resolver, SystemResolver};
pub use rule::{HostRule, InvalidRule};
pub use settings::{
    CommandNetwork, CompiledPolicy, Fault, InvalidSetting, Listen, Permission, RawFeature, RawHook,
    RawManagedNetwork, RawNetworkProxy, Routing, RuleTable, Settings,
};
pub use unix::InvalidSocket;
pub use upstream::InvalidUpstream;
