//! `wasi:sockets` 0.2 in a guest's own network.
//!
//! The sockets are wasmtime's. Here are the functions by which a guest names an address or sees one: they stand before
//! wasmtime's, change the guest's address into the machine's, and the other way round; and the look-up of names, which
//! is our own. Everything else goes through as it is. What the machine's addresses may be used for is checked once
//! more in [`Network::permits`], which wasmtime asks before it does anything.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_util::future::BoxFuture;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Network as NetworkResource,
};
use wasmtime_wasi::p2::bindings::sockets::tcp::{HostTcpSocket, TcpSocket};
use wasmtime_wasi::p2::bindings::sockets::udp::{
    HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, IncomingDatagram,
    IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream, UdpSocket,
};
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, Pollable, SocketResult, subscribe};

use super::place::{BUFFER, Direction, LARGEST_BUFFER};
use super::{DialError, Network, Place};
use crate::host::HostState;

/// The versions wasmtime links; others of 0.2 match them.
const TCP: &str = "wasi:sockets/tcp@0.2.12";
const TCP_CREATE: &str = "wasi:sockets/tcp-create-socket@0.2.12";
const UDP: &str = "wasi:sockets/udp@0.2.12";
const UDP_CREATE: &str = "wasi:sockets/udp-create-socket@0.2.12";
const LOOKUP: &str = "wasi:sockets/ip-name-lookup@0.2.12";

/// What a function of this interface returns.
type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

/// Puts the functions that know addresses before wasmtime's, which have to be in the linker already, and adds the
/// look-up of names, which must not be.
pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    create(linker)?;
    tcp(linker)?;
    udp(linker)?;
    linker.allow_shadowing(false);
    lookup(linker)
}

/// An answer of wasmtime's, as it goes to the guest: an error that is not the guest's to see ends it.
fn answer<T>(result: SocketResult<T>) -> Answer<T> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => error.downcast().map(|code| (Err(code),)),
    }
}

/// The same resource once more.
pub(super) fn again<T: 'static>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(resource.rep())
}

/// Pays for a buffer that a guest wants to be so large; false if its memory does not allow that.
pub(super) fn may_enlarge(state: &mut HostState, socket: u32, direction: Direction, size: u64) -> bool {
    state.place(socket).is_none_or(|place| place.enlarge(direction, size))
}

/// A function by which a guest sizes a buffer of its socket, which it pays for first. In both versions and for both kinds
/// of sockets it is the same but for its types.
macro_rules! buffer_size {
    ($linker:ident, $name:literal, $socket:ty, $direction:ident, $set:path) => {
        $linker.func_wrap(
            $name,
            |mut store: StoreContextMut<'_, HostState>, (socket, size): (Resource<$socket>, u64)| {
                let (state, size) = (store.data_mut(), size.min(LARGEST_BUFFER));
                if !may_enlarge(state, socket.rep(), Direction::$direction, size) {
                    return Ok((Err(ErrorCode::OutOfMemory),));
                }
                answer($set(&mut state.sockets(), socket, size))
            },
        )
    };
}

pub(super) use buffer_size;

fn create(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.instance(TCP_CREATE)?.func_wrap(
        "create-tcp-socket",
        |mut store: StoreContextMut<'_, HostState>, (family,): (IpAddressFamily,)| {
            let state = store.data_mut();
            let Some(place) = state.take_place() else {
                return Ok((Err(ErrorCode::NewSocketLimit),));
            };
            let created = tcp_create_socket::Host::create_tcp_socket(&mut state.sockets(), family);
            answer(created.and_then(|socket| {
                state.hold(socket.rep(), place);
                // Connections that it accepts inherit them.
                HostTcpSocket::set_receive_buffer_size(&mut state.sockets(), again(&socket), BUFFER)?;
                HostTcpSocket::set_send_buffer_size(&mut state.sockets(), again(&socket), BUFFER)?;
                Ok(socket)
            }))
        },
    )?;
    linker.instance(UDP_CREATE)?.func_wrap_async(
        "create-udp-socket",
        |mut store: StoreContextMut<'_, HostState>, (family,): (IpAddressFamily,)| {
            Box::new(async move {
                let state = store.data_mut();
                let Some(place) = state.take_place() else {
                    return Ok((Err(ErrorCode::NewSocketLimit),));
                };
                let created = udp_create_socket::Host::create_udp_socket(&mut state.sockets(), family).await;
                answer(created.and_then(|socket| {
                    state.hold(socket.rep(), place);
                    HostUdpSocket::set_receive_buffer_size(&mut state.sockets(), again(&socket), BUFFER)?;
                    HostUdpSocket::set_send_buffer_size(&mut state.sockets(), again(&socket), BUFFER)?;
                    Ok(socket)
                }))
            })
        },
    )
}

fn tcp(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut tcp = linker.instance(TCP)?;
    tcp.resource("tcp-socket", ResourceType::host::<TcpSocket>(), |mut store, rep| {
        let state = store.data_mut();
        state.release(rep);
        HostTcpSocket::drop(&mut state.sockets(), Resource::new_own(rep))
    })?;
    type Addressed = (Resource<TcpSocket>, Resource<NetworkResource>, IpSocketAddress);
    tcp.func_wrap_async(
        "[method]tcp-socket.start-bind",
        |mut store: StoreContextMut<'_, HostState>, (socket, network, address): Addressed| {
            Box::new(async move {
                let state = store.data_mut();
                let Some(address) = state.network().binding(address.into(), false) else {
                    return Ok((Err(ErrorCode::AddressNotBindable),));
                };
                answer(HostTcpSocket::start_bind(&mut state.sockets(), socket, network, address.into()).await)
            })
        },
    )?;
    tcp.func_wrap(
        "[method]tcp-socket.start-connect",
        |mut store: StoreContextMut<'_, HostState>, (socket, network, address): Addressed| {
            let state = store.data_mut();
            let address = state.network().destination(address.into());
            answer(state.sockets().start_connect(socket, network, address.into()))
        },
    )?;
    tcp.func_wrap(
        "[method]tcp-socket.accept",
        |mut store: StoreContextMut<'_, HostState>, (socket,): (Resource<TcpSocket>,)| {
            type Accepted = (Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>);
            let state = store.data_mut();
            if !Place::is_free(state.network(), &state.memory()) {
                return Ok((Err(ErrorCode::NewSocketLimit),));
            }
            let accepted: SocketResult<Accepted> = state.sockets().accept(socket);
            if let Ok((socket, ..)) = &accepted {
                let place = Place::accepted(state.network(), &state.memory());
                state.hold(socket.rep(), place);
            }
            answer(accepted)
        },
    )?;
    buffer_size!(
        tcp,
        "[method]tcp-socket.set-receive-buffer-size",
        TcpSocket,
        Receive,
        HostTcpSocket::set_receive_buffer_size
    )?;
    buffer_size!(
        tcp,
        "[method]tcp-socket.set-send-buffer-size",
        TcpSocket,
        Send,
        HostTcpSocket::set_send_buffer_size
    )?;
    tcp.func_wrap(
        "[method]tcp-socket.local-address",
        |mut store: StoreContextMut<'_, HostState>, (socket,): (Resource<TcpSocket>,)| {
            let state = store.data_mut();
            let address = HostTcpSocket::local_address(&mut state.sockets(), socket);
            answer(address.map(|address| seen(state.network(), address)))
        },
    )?;
    tcp.func_wrap(
        "[method]tcp-socket.remote-address",
        |mut store: StoreContextMut<'_, HostState>, (socket,): (Resource<TcpSocket>,)| {
            let state = store.data_mut();
            let address = HostTcpSocket::remote_address(&mut state.sockets(), socket);
            answer(address.map(|address| seen(state.network(), address)))
        },
    )
}

fn udp(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut udp = linker.instance(UDP)?;
    udp.resource("udp-socket", ResourceType::host::<UdpSocket>(), |mut store, rep| {
        let state = store.data_mut();
        state.release(rep);
        HostUdpSocket::drop(&mut state.sockets(), Resource::new_own(rep))
    })?;
    buffer_size!(
        udp,
        "[method]udp-socket.set-receive-buffer-size",
        UdpSocket,
        Receive,
        HostUdpSocket::set_receive_buffer_size
    )?;
    buffer_size!(
        udp,
        "[method]udp-socket.set-send-buffer-size",
        UdpSocket,
        Send,
        HostUdpSocket::set_send_buffer_size
    )?;
    type Addressed = (Resource<UdpSocket>, Resource<NetworkResource>, IpSocketAddress);
    udp.func_wrap_async(
        "[method]udp-socket.start-bind",
        |mut store: StoreContextMut<'_, HostState>, (socket, network, address): Addressed| {
            Box::new(async move {
                let state = store.data_mut();
                let Some(address) = state.network().binding(address.into(), true) else {
                    return Ok((Err(ErrorCode::AddressNotBindable),));
                };
                answer(HostUdpSocket::start_bind(&mut state.sockets(), socket, network, address.into()).await)
            })
        },
    )?;
    udp.func_wrap_async(
        "[method]udp-socket.stream",
        |mut store: StoreContextMut<'_, HostState>,
         (socket, address): (Resource<UdpSocket>, Option<IpSocketAddress>)| {
            Box::new(async move {
                let state = store.data_mut();
                let address = address.map(|address| state.network().destination(address.into()).into());
                answer(HostUdpSocket::stream(&mut state.sockets(), socket, address).await)
            })
        },
    )?;
    udp.func_wrap(
        "[method]udp-socket.local-address",
        |mut store: StoreContextMut<'_, HostState>, (socket,): (Resource<UdpSocket>,)| {
            let state = store.data_mut();
            let address = HostUdpSocket::local_address(&mut state.sockets(), socket);
            answer(address.map(|address| seen(state.network(), address)))
        },
    )?;
    udp.func_wrap(
        "[method]udp-socket.remote-address",
        |mut store: StoreContextMut<'_, HostState>, (socket,): (Resource<UdpSocket>,)| {
            let state = store.data_mut();
            let address = HostUdpSocket::remote_address(&mut state.sockets(), socket);
            answer(address.map(|address| seen(state.network(), address)))
        },
    )?;
    udp.func_wrap(
        "[method]incoming-datagram-stream.receive",
        |mut store: StoreContextMut<'_, HostState>,
         (stream, most): (Resource<IncomingDatagramStream>, u64)| {
            let state = store.data_mut();
            let received = HostIncomingDatagramStream::receive(&mut state.sockets(), stream, most);
            answer(received.map(|datagrams: Vec<IncomingDatagram>| {
                let network = state.network();
                let shown = datagrams.into_iter().map(|datagram| IncomingDatagram {
                    remote_address: seen(network, datagram.remote_address),
                    ..datagram
                });
                shown.collect::<Vec<_>>()
            }))
        },
    )?;
    udp.func_wrap(
        "[method]outgoing-datagram-stream.send",
        |mut store: StoreContextMut<'_, HostState>,
         (stream, datagrams): (Resource<OutgoingDatagramStream>, Vec<OutgoingDatagram>)| {
            let state = store.data_mut();
            let network = state.network();
            let datagrams = datagrams.into_iter().map(|datagram| OutgoingDatagram {
                remote_address: datagram
                    .remote_address
                    .map(|address| network.destination(address.into()).into()),
                ..datagram
            });
            let datagrams = datagrams.collect();
            answer(HostOutgoingDatagramStream::send(&mut state.sockets(), stream, datagrams))
        },
    )
}

fn seen(network: &Network, address: IpSocketAddress) -> IpSocketAddress {
    network.seen(SocketAddr::from(address)).into()
}

/// A look-up under way or done: `resolve-address-stream`.
struct Lookup(Progress);

enum Progress {
    Waiting(BoxFuture<'static, Result<Vec<IpAddr>, DialError>>),
    Found(std::vec::IntoIter<IpAddr>),
    Failed(ErrorCode),
}

impl Lookup {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Progress::Waiting(waiting) = &mut self.0 {
            let Poll::Ready(found) = waiting.as_mut().poll(cx) else { return Poll::Pending };
            self.0 = match found {
                Ok(found) => Progress::Found(found.into_iter()),
                Err(DialError::Denied | DialError::ProhibitedAddress) => {
                    Progress::Failed(ErrorCode::AccessDenied)
                }
                Err(DialError::TooMany) => Progress::Failed(ErrorCode::TemporaryResolverFailure),
                Err(DialError::Lookup(_) | DialError::NotFound | DialError::Connect(_)) => {
                    Progress::Failed(ErrorCode::NameUnresolvable)
                }
            };
        }
        Poll::Ready(())
    }

    fn next(&mut self) -> Result<Option<IpAddress>, ErrorCode> {
        // Whether it is ready; who wants to be woken has subscribed.
        let _ = self.poll(&mut Context::from_waker(Waker::noop()));
        match &mut self.0 {
            Progress::Waiting(_) => Err(ErrorCode::WouldBlock),
            Progress::Found(found) => {
                Ok(found.next().map(|address| match SocketAddr::new(address, 0).into() {
                    IpSocketAddress::Ipv4(socket) => IpAddress::Ipv4(socket.address),
                    IpSocketAddress::Ipv6(socket) => IpAddress::Ipv6(socket.address),
                }))
            }
            Progress::Failed(code) => Err(*code),
        }
    }
}

impl Pollable for Lookup {
    // What `async_trait` would make of `async fn ready(&mut self)`.
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::poll_fn(|cx| self.poll(cx)))
    }
}

/// The longest name that is looked up, in bytes: DNS has 253.
const LONGEST_NAME: usize = 255;

/// Whether this may be the name of a host, or an address.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME && name.is_ascii()
}

fn lookup(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    const STREAM: &str = "resolve-address-stream";
    let mut lookup = linker.instance(LOOKUP)?;
    lookup.resource(STREAM, ResourceType::host::<Lookup>(), |mut store, rep| {
        store.data_mut().table().delete(Resource::<Lookup>::new_own(rep))?;
        Ok(())
    })?;
    lookup.func_wrap(
        "resolve-addresses",
        |mut store: StoreContextMut<'_, HostState>, (network, name): (Resource<NetworkResource>, String)| {
            let state = store.data_mut();
            // The resource is what entitles to the call.
            state.table().get(&network)?;
            if !is_name(&name) {
                return Ok((Err(ErrorCode::InvalidArgument),));
            }
            let network = state.network().clone();
            let mut lookup = Lookup(Progress::Waiting(Box::pin(async move { network.lookup(&name).await })));
            // What is known at once is said at once.
            let _ = lookup.poll(&mut Context::from_waker(Waker::noop()));
            if let Progress::Failed(code) = lookup.0 {
                return Ok((Err(code),));
            }
            Ok((Ok(state.table().push(lookup)?),))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store: StoreContextMut<'_, HostState>, (stream,): (Resource<Lookup>,)| {
            Ok((store.data_mut().table().get_mut(&stream)?.next(),))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: StoreContextMut<'_, HostState>, (stream,): (Resource<Lookup>,)| {
            let pollable: Resource<DynPollable> = subscribe(store.data_mut().table(), stream)?;
            Ok((pollable,))
        },
    )
}
