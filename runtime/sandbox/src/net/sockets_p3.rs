//! `wasi:sockets` 0.3 in a guest's own network: see [`super::sockets_p2`] for what stands before wasmtime's functions
//! and why.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use wasmtime::component::{
    Access, Accessor, FutureConsumer, FutureReader, Linker, Resource, ResourceType, Source, StreamReader,
};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi::TrappableError;
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup::ErrorCode as LookupError;
use wasmtime_wasi::p3::bindings::sockets::types::{
    ErrorCode, HostTcpSocket, HostTcpSocketWithStore, HostUdpSocket, HostUdpSocketWithStore, IpAddress,
    IpAddressFamily, IpSocketAddress, TcpSocket, UdpSocket,
};
use wasmtime_wasi::sockets::WasiSockets;

use super::place::{BUFFER, Direction, LARGEST_BUFFER};
use super::sockets_p2::{again, buffer_size, is_name, may_enlarge};
use super::{DialError, Network, Place};
use crate::host::HostState;

/// The versions wasmtime links; others of 0.3 match them.
const TYPES: &str = "wasi:sockets/types@0.3.0";
const LOOKUP: &str = "wasi:sockets/ip-name-lookup@0.3.0";

/// What a function of this interface returns.
type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

/// Puts the functions that know addresses before wasmtime's, which have to be in the linker already, and adds the
/// look-up of names, which must not be.
pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    tcp(linker)?;
    udp(linker)?;
    linker.allow_shadowing(false);
    lookup(linker)
}

/// An answer of wasmtime's, as it goes to the guest: an error that is not the guest's to see ends it.
fn answer<T>(result: Result<T, TrappableError<ErrorCode>>) -> Answer<T> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => error.downcast().map(|code| (Err(code),)),
    }
}

fn too_many() -> ErrorCode {
    ErrorCode::Other(Some("the task has as many sockets open as it may".to_owned()))
}

fn seen(network: &Network, address: IpSocketAddress) -> IpSocketAddress {
    network.seen(SocketAddr::from(address)).into()
}

fn destination(state: &HostState, address: IpSocketAddress) -> IpSocketAddress {
    state.network().destination(SocketAddr::from(address)).into()
}

/// How a direction of a connection ends.
type End = Result<(), ErrorCode>;

/// Keeps what a connection takes until this direction of it has ended: a guest may drop its socket long before.
fn keep(
    mut store: StoreContextMut<'_, HostState>,
    place: Option<Arc<Place>>,
    end: FutureReader<End>,
) -> wasmtime::Result<FutureReader<End>> {
    let (tell, told) = oneshot::channel();
    end.pipe(&mut store, Ending { tell: Some(tell), place })?;
    FutureReader::new(&mut store, told)
}

/// Hears of the end, gives back the place, and passes it on.
struct Ending {
    tell: Option<oneshot::Sender<End>>,
    place: Option<Arc<Place>>,
}

impl FutureConsumer<HostState> for Ending {
    type Item = End;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        store: StoreContextMut<'_, HostState>,
        mut source: Source<'_, End>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut end = None;
        source.read(store, &mut end)?;
        self.place = None;
        if let (Some(tell), Some(end)) = (self.tell.take(), end) {
            // Whoever wanted to know may have gone.
            let _ = tell.send(end);
        }
        Poll::Ready(Ok(()))
    }
}

fn tcp(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TYPES)?;
    types.resource("tcp-socket", ResourceType::host::<TcpSocket>(), |mut store, rep| {
        let state = store.data_mut();
        state.release(rep);
        HostTcpSocket::drop(&mut state.sockets(), Resource::new_own(rep))
    })?;
    types.func_wrap(
        "[static]tcp-socket.create",
        |mut store: StoreContextMut<'_, HostState>, (family,): (IpAddressFamily,)| {
            let state = store.data_mut();
            let Some(place) = state.take_place() else { return Ok((Err(too_many()),)) };
            let created = HostTcpSocket::create(&mut state.sockets(), family);
            answer(created.and_then(|socket| {
                state.hold(socket.rep(), place);
                // Connections that it accepts inherit them.
                HostTcpSocket::set_receive_buffer_size(&mut state.sockets(), again(&socket), BUFFER)?;
                HostTcpSocket::set_send_buffer_size(&mut state.sockets(), again(&socket), BUFFER)?;
                Ok(socket)
            }))
        },
    )?;
    buffer_size!(
        types,
        "[method]tcp-socket.set-receive-buffer-size",
        TcpSocket,
        Receive,
        HostTcpSocket::set_receive_buffer_size
    )?;
    buffer_size!(
        types,
        "[method]tcp-socket.set-send-buffer-size",
        TcpSocket,
        Send,
        HostTcpSocket::set_send_buffer_size
    )?;
    types.func_wrap_async(
        "[method]tcp-socket.bind",
        |mut store: StoreContextMut<'_, HostState>,
         (socket, address): (Resource<TcpSocket>, IpSocketAddress)| {
            Box::new(async move {
                let state = store.data_mut();
                let Some(address) = state.network().binding(address.into(), false) else {
                    return Ok((Err(ErrorCode::AddressNotBindable),));
                };
                answer(HostTcpSocket::bind(&mut state.sockets(), socket, address.into()).await)
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]tcp-socket.connect",
        |accessor: &Accessor<HostState>, (socket, address): (Resource<TcpSocket>, IpSocketAddress)| {
            Box::pin(async move {
                let address = accessor.with(|mut store| destination(store.get(), address));
                let sockets = accessor.with_getter::<WasiSockets>(HostState::sockets);
                answer(
                    <WasiSockets as HostTcpSocketWithStore<HostState>>::connect(&sockets, socket, address)
                        .await,
                )
            })
        },
    )?;
    types.func_wrap_async(
        "[method]tcp-socket.listen",
        |mut store: StoreContextMut<'_, HostState>, (socket,): (Resource<TcpSocket>,)| {
            Box::new(async move {
                let access =
                    Access::<HostState, WasiSockets>::new(store.as_context_mut(), HostState::accepting);
                let listening =
                    <WasiSockets as HostTcpSocketWithStore<HostState>>::listen(access, socket).await;
                // It has looked the socket up in the same way.
                store.data_mut().accepted_none();
                answer(listening)
            })
        },
    )?;
    types.func_wrap(
        "[method]tcp-socket.send",
        |mut store: StoreContextMut<'_, HostState>,
         (socket, data): (Resource<TcpSocket>, StreamReader<u8>)| {
            let place = store.data_mut().place(socket.rep());
            let access = Access::<HostState, WasiSockets>::new(store.as_context_mut(), HostState::sockets);
            let end = <WasiSockets as HostTcpSocketWithStore<HostState>>::send(access, socket, data)?;
            Ok((keep(store, place, end)?,))
        },
    )?;
    types.func_wrap(
        "[method]tcp-socket.receive",
        |mut store: StoreContextMut<'_, HostState>, (socket,): (Resource<TcpSocket>,)| {
            let place = store.data_mut().place(socket.rep());
            let access = Access::<HostState, WasiSockets>::new(store.as_context_mut(), HostState::sockets);
            let (data, end) = <WasiSockets as HostTcpSocketWithStore<HostState>>::receive(access, socket)?;
            Ok(((data, keep(store, place, end)?),))
        },
    )?;
    types.func_wrap(
        "[method]tcp-socket.get-local-address",
        |mut store: StoreContextMut<'_, HostState>, (socket,): (Resource<TcpSocket>,)| {
            let state = store.data_mut();
            let address = HostTcpSocket::get_local_address(&mut state.sockets(), socket);
            answer(address.map(|address| seen(state.network(), address)))
        },
    )?;
    types.func_wrap(
        "[method]tcp-socket.get-remote-address",
        |mut store: StoreContextMut<'_, HostState>, (socket,): (Resource<TcpSocket>,)| {
            let state = store.data_mut();
            let address = HostTcpSocket::get_remote_address(&mut state.sockets(), socket);
            answer(address.map(|address| seen(state.network(), address)))
        },
    )
}

fn udp(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TYPES)?;
    types.resource("udp-socket", ResourceType::host::<UdpSocket>(), |mut store, rep| {
        let state = store.data_mut();
        state.release(rep);
        HostUdpSocket::drop(&mut state.sockets(), Resource::new_own(rep))
    })?;
    types.func_wrap_async(
        "[static]udp-socket.create",
        |mut store: StoreContextMut<'_, HostState>, (family,): (IpAddressFamily,)| {
            Box::new(async move {
                let state = store.data_mut();
                let Some(place) = state.take_place() else { return Ok((Err(too_many()),)) };
                let created = HostUdpSocket::create(&mut state.sockets(), family).await;
                answer(created.and_then(|socket| {
                    state.hold(socket.rep(), place);
                    HostUdpSocket::set_receive_buffer_size(&mut state.sockets(), again(&socket), BUFFER)?;
                    HostUdpSocket::set_send_buffer_size(&mut state.sockets(), again(&socket), BUFFER)?;
                    Ok(socket)
                }))
            })
        },
    )?;
    buffer_size!(
        types,
        "[method]udp-socket.set-receive-buffer-size",
        UdpSocket,
        Receive,
        HostUdpSocket::set_receive_buffer_size
    )?;
    buffer_size!(
        types,
        "[method]udp-socket.set-send-buffer-size",
        UdpSocket,
        Send,
        HostUdpSocket::set_send_buffer_size
    )?;
    type Addressed = (Resource<UdpSocket>, IpSocketAddress);
    types.func_wrap_async(
        "[method]udp-socket.bind",
        |mut store: StoreContextMut<'_, HostState>, (socket, address): Addressed| {
            Box::new(async move {
                let state = store.data_mut();
                let Some(address) = state.network().binding(address.into(), true) else {
                    return Ok((Err(ErrorCode::AddressNotBindable),));
                };
                answer(HostUdpSocket::bind(&mut state.sockets(), socket, address.into()).await)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]udp-socket.connect",
        |mut store: StoreContextMut<'_, HostState>, (socket, address): Addressed| {
            Box::new(async move {
                let state = store.data_mut();
                let address = destination(state, address);
                answer(HostUdpSocket::connect(&mut state.sockets(), socket, address).await)
            })
        },
    )?;
    type Datagram = (Resource<UdpSocket>, Vec<u8>, Option<IpSocketAddress>);
    types.func_wrap_concurrent(
        "[method]udp-socket.send",
        |accessor: &Accessor<HostState>, (socket, data, address): Datagram| {
            Box::pin(async move {
                let address =
                    accessor.with(|mut store| address.map(|address| destination(store.get(), address)));
                let sockets = accessor.with_getter::<WasiSockets>(HostState::sockets);
                let sent =
                    <WasiSockets as HostUdpSocketWithStore<HostState>>::send(&sockets, socket, data, address);
                answer(sent.await)
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]udp-socket.receive",
        |accessor: &Accessor<HostState>, (socket,): (Resource<UdpSocket>,)| {
            Box::pin(async move {
                let sockets = accessor.with_getter::<WasiSockets>(HostState::sockets);
                let received =
                    <WasiSockets as HostUdpSocketWithStore<HostState>>::receive(&sockets, socket).await;
                answer(received.map(|(data, address)| {
                    (data, accessor.with(|mut store| seen(store.get().network(), address)))
                }))
            })
        },
    )?;
    types.func_wrap(
        "[method]udp-socket.get-local-address",
        |mut store: StoreContextMut<'_, HostState>, (socket,): (Resource<UdpSocket>,)| {
            let state = store.data_mut();
            let address = HostUdpSocket::get_local_address(&mut state.sockets(), socket);
            answer(address.map(|address| seen(state.network(), address)))
        },
    )?;
    types.func_wrap(
        "[method]udp-socket.get-remote-address",
        |mut store: StoreContextMut<'_, HostState>, (socket,): (Resource<UdpSocket>,)| {
            let state = store.data_mut();
            let address = HostUdpSocket::get_remote_address(&mut state.sockets(), socket);
            answer(address.map(|address| seen(state.network(), address)))
        },
    )
}

fn lookup(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.instance(LOOKUP)?.func_wrap_concurrent(
        "resolve-addresses",
        |accessor: &Accessor<HostState>, (name,): (String,)| {
            Box::pin(async move {
                if !is_name(&name) {
                    return Ok((Err(LookupError::InvalidArgument),));
                }
                let network = accessor.with(|mut store| store.get().network().clone());
                let found = network.lookup(&name).await.map_err(|error| match error {
                    DialError::Denied | DialError::ProhibitedAddress => LookupError::AccessDenied,
                    DialError::TooMany => LookupError::TemporaryResolverFailure,
                    DialError::Lookup(_) | DialError::NotFound | DialError::Connect(_) => {
                        LookupError::NameUnresolvable
                    }
                });
                Ok((found.map(|found| found.into_iter().map(IpAddress::from).collect::<Vec<_>>()),))
            })
        },
    )
}
