//! The network as guests see it: what they may reach, and whose localhost is theirs.
//!
//! | module | what it is |
//! |---|---|
//! | `egress` | pure: the rules, and how they match |
//! | `resolve` | names, and what they were resolved to |
//! | `loopback` | an address of 127.0.0.0/8 for each task |
//! | `quota` | counts of what is open at the same time |
//! | `place` | what an open socket takes: one of those counts, and memory |
//! | `tls` | whom outgoing TLS trusts |
//! | `hops` | how many guests a request has come through |
//! | `upstream` | services that are answered in this process |
//! | `outgoing` | `wasi:http` requests of guests |
//! | `guest_tls` | `wasi:tls` over sockets of guests |
//! | `sockets_p2`, `sockets_p3` | `wasi:sockets` of guests, in two versions |
//!
//! All containers of a task share one [`Network`]: that is what makes them see the same localhost, and what their
//! quotas are counted in.

mod egress;
mod guest_tls;
mod hops;
mod loopback;
mod outgoing;
mod place;
mod quota;
mod resolve;
mod sockets_p2;
mod sockets_p3;
mod tls;
mod upstream;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::SocketAddrUse;

use crate::memory::MemoryBudget;

pub use egress::{EgressError, EgressPolicy};
pub use loopback::{Loopback, NoLoopback};
pub use resolve::{Resolver, SystemResolver};
pub use tls::{TlsClient, TlsError};
pub use upstream::{InProcess, Upstream, UpstreamBody};

pub(crate) use guest_tls::{context as tls_context, link as link_tls, link_p3 as link_tls_p3};
pub(crate) use hops::{Answering, Hops};
pub(crate) use outgoing::{Sent, send};
pub(crate) use place::Place;
use quota::{Permit, Quota};
pub(crate) use sockets_p2::link as link_p2;
pub(crate) use sockets_p3::link as link_p3;

use egress::is_localhost;
use resolve::Answers;

/// What `localhost` is to a guest, and where it may listen.
#[derive(Clone, Debug, Default)]
pub enum Localhost {
    /// The machine's, reached as any other address: by a rule that names it. Nothing may listen.
    #[default]
    Machine,
    /// Its task's own: every container that shares the address is reached there, at any port and without a rule.
    Own(Loopback),
    /// The machine's, where it may also listen, on every address the machine has.
    Shared,
}

/// How much of the network may be used at the same time, and how much one request may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkQuotas {
    /// Sockets that are open: those of `wasi:sockets`, and the connections of outgoing requests.
    pub connections: u32,
    /// Outgoing requests whose response has not ended.
    pub requests: u32,
    /// Look-ups that wait for their answer.
    pub lookups: u32,
    /// Bytes of the body of one outgoing request.
    pub request_body: u64,
    /// Bytes of the body of its response.
    pub response_body: u64,
}

impl Default for NetworkQuotas {
    /// Bodies are streamed, so the limits of their length only end what never ends.
    fn default() -> Self {
        Self { connections: 256, requests: 256, lookups: 16, request_body: 1 << 40, response_body: 1 << 40 }
    }
}

/// How a [`Network`] is made. The default lets nothing out and nothing in.
#[derive(Clone)]
pub struct NetworkSpec {
    /// What may be reached.
    pub egress: EgressPolicy,
    /// Whose localhost it is.
    pub localhost: Localhost,
    /// How much of it.
    pub quotas: NetworkQuotas,
    /// Whom outgoing `https` trusts.
    pub tls: TlsClient,
    /// Who knows the addresses of names.
    pub resolver: Arc<dyn Resolver>,
    /// Services that are answered in this process.
    pub in_process: Option<Arc<dyn InProcess>>,
}

impl Default for NetworkSpec {
    fn default() -> Self {
        Self {
            egress: EgressPolicy::default(),
            localhost: Localhost::default(),
            quotas: NetworkQuotas::default(),
            tls: TlsClient::default(),
            resolver: Arc::new(SystemResolver),
            in_process: None,
        }
    }
}

/// The network of one container, or of several that share it. Clones are the same network. The default lets nothing
/// out and nothing in.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {
    spec: NetworkSpec,
    answers: Answers,
    connections: Quota,
    requests: Quota,
    lookups: Quota,
}

impl Default for Network {
    fn default() -> Self {
        Self::new(NetworkSpec::default())
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NetworkSpec { egress, localhost, .. } = &self.0.spec;
        write!(f, "Network {{ egress: {egress}, localhost: {localhost:?} }}")
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum DialError {
    /// No rule names the destination.
    Denied,
    /// A rule names the host, but none the special address it has.
    ProhibitedAddress,
    /// So many connections are open already.
    TooMany,
    Lookup(io::Error),
    /// The name has no address.
    NotFound,
    Connect(io::Error),
}

impl Network {
    /// A network of its own.
    #[must_use]
    pub fn new(spec: NetworkSpec) -> Self {
        let quotas = spec.quotas;
        Self(Arc::new(Inner {
            spec,
            answers: Answers::default(),
            connections: Quota::new(quotas.connections),
            requests: Quota::new(quotas.requests),
            lookups: Quota::new(quotas.lookups),
        }))
    }

    /// Lets out to these destinations: see [`EgressPolicy`] for what a rule is. Nothing may listen.
    ///
    /// # Errors
    /// The first rule that can't be read.
    pub fn to<'a>(rules: impl IntoIterator<Item = &'a str>) -> Result<Self, EgressError> {
        let egress = EgressPolicy::from_rules(rules)?;
        Ok(Self::new(NetworkSpec { egress, ..NetworkSpec::default() }))
    }

    /// The same network under other rules: the same localhost, and quotas that are counted together.
    #[must_use]
    pub fn with_egress(&self, egress: EgressPolicy) -> Self {
        let Inner { spec, connections, requests, lookups, .. } = &*self.0;
        Self(Arc::new(Inner {
            spec: NetworkSpec { egress, ..spec.clone() },
            answers: Answers::default(),
            connections: connections.clone(),
            requests: requests.clone(),
            lookups: lookups.clone(),
        }))
    }

    /// What localhost is in it.
    #[must_use]
    pub fn localhost(&self) -> &Localhost {
        &self.0.spec.localhost
    }

    /// The machine's address for what this network's guests call localhost, if it is their own.
    #[must_use]
    pub fn loopback(&self) -> Option<Ipv4Addr> {
        match &self.0.spec.localhost {
            Localhost::Own(loopback) => Some(loopback.address()),
            Localhost::Machine | Localhost::Shared => None,
        }
    }

    /// Sockets and outgoing connections that are open now.
    #[must_use]
    pub fn open_connections(&self) -> u32 {
        self.0.connections.used()
    }

    fn policy(&self) -> &EgressPolicy {
        &self.0.spec.egress
    }

    /// Whether sockets are of any use.
    fn is_closed(&self) -> bool {
        self.policy().is_closed() && matches!(self.0.spec.localhost, Localhost::Machine)
    }

    fn connection(&self) -> Option<Permit> {
        self.0.connections.take()
    }

    fn request(&self) -> Option<Permit> {
        self.0.requests.take()
    }

    /// Where a guest goes that connects or sends to this address.
    fn destination(&self, guest: SocketAddr) -> SocketAddr {
        match &self.0.spec.localhost {
            Localhost::Own(loopback) => loopback.inward(guest),
            Localhost::Machine | Localhost::Shared => guest,
        }
    }

    /// What a guest sees of an address of this machine.
    fn seen(&self, host: SocketAddr) -> SocketAddr {
        match &self.0.spec.localhost {
            Localhost::Own(loopback) => loopback.outward(host),
            Localhost::Machine | Localhost::Shared => host,
        }
    }

    /// Where a guest's socket is bound that asks for this address; None where it can't be.
    ///
    /// "Any address" is the task's own. A datagram socket of a task that may reach something outside is left on all
    /// addresses when it wants any port, which is how programs open one to send from; see [`Network::permits`] for
    /// what it then receives.
    fn binding(&self, guest: SocketAddr, datagrams: bool) -> Option<SocketAddr> {
        let Localhost::Own(loopback) = &self.0.spec.localhost else { return Some(guest) };
        let ip = guest.ip().to_canonical();
        if datagrams && ip.is_unspecified() && guest.port() == 0 && !self.policy().is_closed() {
            return Some(guest);
        }
        // There is one IPv6 loopback address, and it is the machine's.
        let local = guest.is_ipv4() && (ip.is_loopback() || ip.is_unspecified());
        local.then(|| SocketAddr::new(loopback.address().into(), guest.port()))
    }

    /// Whether a socket may use this address of the machine's.
    fn permits(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        let ip = address.ip().to_canonical();
        let anywhere = ip.is_unspecified() && address.port() == 0;
        let own = self.loopback().is_some_and(|own| ip == IpAddr::V4(own));
        match (&self.0.spec.localhost, purpose) {
            (Localhost::Shared, SocketAddrUse::TcpBind | SocketAddrUse::UdpBind) => true,
            (Localhost::Shared, SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept) => true,
            (Localhost::Shared, SocketAddrUse::UdpReceive) => true,
            // Binding to nothing in particular is what connecting does on the way.
            (_, SocketAddrUse::TcpBind | SocketAddrUse::UdpBind) => own || anywhere,
            (_, SocketAddrUse::TcpListen) => own,
            // Only this machine can get there, and of its guests only the task's own.
            (Localhost::Own(_), SocketAddrUse::TcpAccept) => ip.is_loopback(),
            (Localhost::Machine, SocketAddrUse::TcpAccept) => false,
            (_, SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend) => own || self.reaches(address),
            // What comes from loopback has been sent by the task itself only where the socket has the task's own
            // address, which it has unless the task may reach something outside.
            (Localhost::Own(_), SocketAddrUse::UdpReceive) => {
                if ip.is_loopback() {
                    own || self.policy().is_closed()
                } else {
                    self.reaches(address)
                }
            }
            (Localhost::Machine, SocketAddrUse::UdpReceive) => self.reaches(address),
        }
    }

    /// Whether the rules allow an address, by itself or because an allowed name was resolved to it.
    fn reaches(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let policy = self.policy();
        policy.allows_address(ip, address.port())
            || self.0.answers.any(ip, |name| policy.allows_resolved(name, address.port(), ip))
    }

    /// Sets up what wasmtime checks sockets with. Connections for which there is no place are not accepted.
    pub(crate) fn configure(&self, wasi: &mut WasiCtxBuilder, memory: &MemoryBudget) {
        if self.is_closed() {
            return;
        }
        wasi.allow_tcp(true).allow_udp(true);
        let (network, memory) = (self.clone(), memory.clone());
        wasi.socket_addr_check(move |address, purpose| {
            let has_place = !matches!(purpose, SocketAddrUse::TcpAccept) || Place::is_free(&network, &memory);
            Box::pin(std::future::ready(has_place && network.permits(address, purpose)))
        });
    }

    /// The addresses of a name a guest looks up.
    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, DialError> {
        if self.loopback().is_some() && is_localhost(name) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
        }
        if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        if !self.policy().allows_lookup(name) {
            return Err(DialError::Denied);
        }
        let found = self.resolve(name).await?;
        self.0.answers.remember(name, &found);
        Ok(found)
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, DialError> {
        let _permit = self.0.lookups.take().ok_or(DialError::TooMany)?;
        let found = self.0.spec.resolver.resolve(name).await.map_err(DialError::Lookup)?;
        Ok(found.into_iter().map(|address| address.to_canonical()).collect())
    }

    /// Opens a connection to a host, a name or an address without brackets. A name is resolved once, and what comes
    /// of it is what is checked and connected to.
    async fn dial(&self, host: &str, port: u16) -> Result<(TcpStream, Permit), DialError> {
        let permit = self.connection().ok_or(DialError::TooMany)?;
        let literal = host.parse::<IpAddr>().ok();
        let local = is_localhost(host) || literal.is_some_and(|ip| ip.to_canonical().is_loopback());
        let addresses = match (self.loopback(), literal) {
            (Some(own), _) if local => vec![own.into()],
            _ if !self.policy().allows_host(host, port) => return Err(DialError::Denied),
            (_, Some(address)) => vec![address],
            (_, None) => {
                let mut found = self.resolve(host).await?;
                if found.is_empty() {
                    return Err(DialError::NotFound);
                }
                found.retain(|&address| self.policy().allows_resolved(host, port, address));
                found
            }
        };
        let mut failed = DialError::ProhibitedAddress;
        for address in addresses {
            match connect(SocketAddr::new(address, port)).await {
                Ok(stream) => {
                    // Small requests are not worth waiting for more of them.
                    stream.set_nodelay(true).map_err(DialError::Connect)?;
                    return Ok((stream, permit));
                }
                Err(error) => failed = DialError::Connect(error),
            }
        }
        Err(failed)
    }

    /// The service that answers for a host in this process, if this network may call it.
    fn upstream(&self, host: &str, port: u16) -> Option<Arc<dyn Upstream>> {
        let in_process = self.0.spec.in_process.as_ref()?;
        let found = in_process.find(host, port)?;
        let own = self.loopback().is_some() && is_localhost(host);
        (own || in_process.is_open(host, port) || self.policy().allows_host(host, port)).then_some(found)
    }
}

/// Bytes that the kernel holds of what comes in on a connection of ours: several times as much as of a guest's own, so that
/// long distances do not make it slow.
const RECEIVE_BUFFER: u32 = 256 << 10;

/// The same of what goes out.
const SEND_BUFFER: u32 = 64 << 10;

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Before it connects, because that is when a window is agreed on.
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.connect(address).await
}

/// How long a connection may take to come about where nobody says.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;

    /// Answers with an address outside first, and then with one inside.
    struct Rebinder(std::sync::atomic::AtomicU32);

    impl Resolver for Rebinder {
        fn resolve(&self, _name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            let first = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            let address = if first { [93, 184, 216, 34] } else { [127, 0, 0, 1] };
            Box::pin(std::future::ready(Ok(vec![IpAddr::from(address)])))
        }
    }

    fn network(egress: &str, localhost: Localhost, resolver: impl Resolver) -> Network {
        Network::new(NetworkSpec {
            egress: EgressPolicy::parse(egress).unwrap(),
            localhost,
            resolver: Arc::new(resolver),
            ..NetworkSpec::default()
        })
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_judged_by_the_look_up_that_led_to_it() {
        let network = network("api.example.com:443, *.evil.net:80", Localhost::Machine, Rebinder(0.into()));
        assert!(!network.permits(at("93.184.216.34:443"), SocketAddrUse::TcpConnect), "not looked up yet");
        assert_eq!(network.lookup("api.example.com").await.unwrap(), [IpAddr::from([93, 184, 216, 34])]);
        assert!(network.permits(at("93.184.216.34:443"), SocketAddrUse::TcpConnect));
        assert!(!network.permits(at("93.184.216.34:80"), SocketAddrUse::TcpConnect), "another port");
        // The name has moved inside meanwhile.
        network.lookup("a.evil.net").await.unwrap();
        assert!(!network.permits(at("127.0.0.1:80"), SocketAddrUse::TcpConnect));
        assert!(matches!(network.dial("a.evil.net", 80).await, Err(DialError::ProhibitedAddress)));
        assert!(matches!(network.dial("a.evil.net", 81).await, Err(DialError::Denied)));
        assert!(matches!(network.lookup("other.net").await, Err(DialError::Denied)));
    }

    #[tokio::test]
    async fn localhost_is_the_tasks_own() {
        let (own, other) = (Loopback::take().unwrap(), Loopback::take().unwrap());
        let ours = network("", Localhost::Own(own.clone()), SystemResolver);
        let listener = tokio::net::TcpListener::bind((own.address(), 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(ours.dial("localhost", port).await.is_ok() && ours.dial("127.0.0.1", port).await.is_ok());
        assert!(ours.dial("::1", port).await.is_ok());
        let theirs = network("", Localhost::Own(other), SystemResolver);
        assert!(matches!(theirs.dial("localhost", port).await, Err(DialError::Connect(_))));
        // The other's address is to them a name for their own machine.
        assert!(theirs.dial(&own.address().to_string(), port).await.is_err());
        assert_eq!(
            theirs.destination(SocketAddr::new(own.address().into(), port)).ip(),
            theirs.loopback().unwrap()
        );
    }

    #[test]
    fn sockets_listen_on_the_tasks_own_address_only() {
        let own = Loopback::take().unwrap();
        let own_at = |port| SocketAddr::new(own.address().into(), port);
        let ours = network("", Localhost::Own(own.clone()), SystemResolver);
        assert_eq!(ours.binding(at("0.0.0.0:80"), false), Some(own_at(80)));
        assert_eq!(ours.binding(at("127.0.0.1:0"), false), Some(own_at(0)));
        assert_eq!(ours.binding(at("10.0.0.1:80"), false), None);
        assert_eq!(ours.binding(at("[::]:80"), false), None);
        assert_eq!(ours.binding(at("0.0.0.0:0"), true), Some(own_at(0)));
        assert!(ours.permits(own_at(80), SocketAddrUse::TcpListen));
        assert!(!ours.permits(at("0.0.0.0:80"), SocketAddrUse::TcpBind));
        assert!(!ours.permits(at("127.0.0.1:80"), SocketAddrUse::TcpConnect), "the machine's");
        assert!(ours.permits(at("127.0.0.1:9999"), SocketAddrUse::UdpReceive));

        let open = network("1.1.1.1:53", Localhost::Own(own.clone()), SystemResolver);
        assert_eq!(open.binding(at("0.0.0.0:0"), true), Some(at("0.0.0.0:0")));
        assert!(open.permits(at("1.1.1.1:53"), SocketAddrUse::UdpReceive));
        assert!(!open.permits(at("127.0.0.1:9999"), SocketAddrUse::UdpReceive), "it may be anybody's");
        assert!(!open.permits(at("8.8.8.8:53"), SocketAddrUse::UdpSend));
    }

    #[test]
    fn nothing_listens_unless_it_may() {
        let closed = Network::default();
        for purpose in [SocketAddrUse::TcpListen, SocketAddrUse::TcpAccept, SocketAddrUse::UdpReceive] {
            assert!(!closed.permits(at("127.0.0.1:80"), purpose), "{purpose:?}");
        }
        let shared = network("", Localhost::Shared, SystemResolver);
        assert!(shared.permits(at("0.0.0.0:80"), SocketAddrUse::TcpBind));
        assert!(!shared.permits(at("127.0.0.1:80"), SocketAddrUse::TcpConnect));
    }

    #[tokio::test]
    async fn connections_are_counted() {
        let own = Loopback::take().unwrap();
        let network = Network::new(NetworkSpec {
            localhost: Localhost::Own(own.clone()),
            quotas: NetworkQuotas { connections: 1, ..NetworkQuotas::default() },
            ..NetworkSpec::default()
        });
        let listener = tokio::net::TcpListener::bind((own.address(), 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let first = network.dial("localhost", port).await.unwrap();
        assert!(matches!(network.dial("localhost", port).await, Err(DialError::TooMany)));
        assert_eq!(network.open_connections(), 1);
        drop(first);
        assert!(network.dial("localhost", port).await.is_ok());
    }
}
