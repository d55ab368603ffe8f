//! `wasi:tls` 0.2 and 0.3.

use crate::{Lines, prepare};
use coracle_sandbox::{
    Container, ContainerSpec, EgressPolicy, Exit, MemoryBudget, Network, NetworkSpec, Prepared, StdStream,
    TlsClient,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

static P2: LazyLock<Prepared> = LazyLock::new(|| prepare(coracle_fixtures::tls()));
static P3: LazyLock<Prepared> = LazyLock::new(|| prepare(coracle_fixtures::p3_command()));

/// A guest, and its arguments before the host and the address.
type Guest = (&'static Prepared, &'static [&'static str]);

/// Answers every line with another, for the name `tls.example`. Answers where, and the certificate to be trusted.
async fn server() -> (SocketAddr, String) {
    let signed = rcgen::generate_simple_self_signed(vec!["tls.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    // Whoever names a protocol at all has to name this one.
    config.alpn_protocols = vec![b"lines".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut heard = [0; 6];
                stream.read_exact(&mut heard).await?;
                let answer = [b"heard ".as_slice(), &heard].concat();
                stream.write_all(&answer).await?;
                stream.shutdown().await
            });
        }
    });
    (address, signed.cert.pem())
}

async fn talk(
    (guest, first): Guest,
    host: &str,
    address: SocketAddr,
    rules: &str,
    tls: TlsClient,
    memory: MemoryBudget,
) -> (Exit, String) {
    let lines = Lines::default();
    let egress = EgressPolicy::parse(&rules.replace("SERVER", &address.to_string())).unwrap();
    let spec = ContainerSpec {
        args: first.iter().copied().chain([host, &address.to_string()]).map(str::to_owned).collect(),
        network: Network::new(NetworkSpec { egress, tls, ..NetworkSpec::default() }),
        memory,
        output: Arc::new(lines.clone()),
        ..ContainerSpec::default()
    };
    let exit = Container::new(guest, spec).unwrap().run().await;
    (exit, lines.of(StdStream::Stdout).concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_speaks_tls_with_whom_it_may() {
    speaks_with_whom_it_may((&P2, &["guest"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_of_wasi_0_3_speaks_tls_with_whom_it_may() {
    speaks_with_whom_it_may((&P3, &["guest", "tls"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_that_never_connect_are_paid_for() {
    let memory = MemoryBudget::new(64 << 20);
    let spec = ContainerSpec {
        args: vec!["guest".into(), "hoard-tls".into()],
        memory: memory.clone(),
        ..ContainerSpec::default()
    };
    let exit = Container::new(&P3, spec).unwrap().run().await;
    assert!(matches!(exit, Exit::OutOfMemory { .. }), "{exit:?}");
    assert!(memory.peak() > 32 << 20, "{}", memory.peak());
}

async fn speaks_with_whom_it_may(guest: Guest) {
    let (address, certificate) = server().await;
    let trusting = TlsClient::with_extra_roots(certificate.as_bytes()).unwrap();
    let much = || MemoryBudget::new(u64::MAX);
    let said = talk(guest, "tls.example", address, "SERVER, tls.example", trusting.clone(), much()).await;
    assert_eq!(said, (Exit::Code(0), "heard hello".to_owned()));

    let refused = async |host: &str, rules: &str, tls: &TlsClient, memory: MemoryBudget| {
        let (exit, said) = talk(guest, host, address, rules, tls.clone(), memory).await;
        assert_eq!(exit, Exit::Code(1), "{said}");
        said
    };
    let said = refused("tls.example", "SERVER", &trusting, much()).await;
    assert!(said.contains("no egress rule allows"), "{said}");
    let said = refused("other.example", "SERVER, other.example", &trusting, much()).await;
    assert!(said.contains("certificate"), "it is for another name: {said}");
    let said = refused("tls.example", "SERVER, tls.example", &TlsClient::default(), much()).await;
    assert!(said.contains("certificate"), "nobody trusts it: {said}");
    let said = refused("tls.example", "tls.example", &trusting, much()).await;
    let said = said.to_lowercase().replace('-', "");
    assert!(said.contains("accessdenied"), "its socket may not go there: {said}");
}
