//! HTTPS listeners: which certificate is shown, what replaces it, and what is asked of clients.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::harness::*;
use super::listeners;
use crate::{
    ClientCertificates, HttpsConfig, ListenerAttributes, ListenerConfig, ListenerProtocol, ListenerState,
    LoadBalancerAttributes, Router, RouterConfig, TlsCertificate,
};

/// An authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> (TlsCertificate, CertificateDer<'static>, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        let pem = TlsCertificate { id: name.to_owned(), chain: leaf.pem(), key: key.serialize_pem() };
        (pem, leaf.der().clone(), key)
    }

    fn certificate(&self, name: &str) -> TlsCertificate {
        self.issue(name).0
    }
}

fn https(certificates: Vec<TlsCertificate>, client_certificates: ClientCertificates) -> ListenerConfig {
    let policy = "ELBSecurityPolicy-TLS13-1-2-2021-06".to_owned();
    let config = HttpsConfig { certificates, policy, client_certificates };
    let mut listener = listeners::listener(vec![], listeners::forward(&[("g", 1)]));
    listener.load_balancer.attributes = LoadBalancerAttributes { tells_tls: true, ..Default::default() };
    ListenerConfig { protocol: ListenerProtocol::Https(config), ..listener }
}

fn publish(router: &Router, listener: ListenerConfig) {
    router.publish(listeners::table(listener, vec![listeners::group("g", &[&echo("t")])]));
}

/// A router whose listener is open.
async fn start(listener: ListenerConfig) -> (Router, SocketAddr) {
    let default_port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let router = Router::new(RouterConfig::default(), &prometheus::Registry::new()).unwrap();
    tokio::spawn(router.clone().serve(default_port, std::future::pending()));
    publish(&router, listener);
    let mut states = router.listener_states();
    let states = states.wait_for(|states| !states.is_empty()).await.unwrap();
    let ListenerState::Listening(address) = states["listener"] else { panic!("{states:?}") };
    drop(states);
    (router, address)
}

/// A client that trusts `authority`, and shows a certificate if it has one.
fn client(
    authority: &Authority,
    shown: Option<(CertificateDer<'static>, &KeyPair)>,
    alpn: &[&str],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        Some((certificate, key)) => {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn connect(
    tls: &TlsConnector,
    address: SocketAddr,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tls.connect(name, TcpStream::connect(address).await.unwrap()).await
}

async fn get<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(client: &mut Client<T>) -> Reply {
    client
        .send("GET / HTTP/1.1\r\nHost: a.example\r\nX-Amzn-Mtls-Clientcert-Subject: CN=forged\r\n\r\n")
        .await;
    client.reply().await
}

#[tokio::test]
async fn clients_are_shown_the_certificate_they_name() {
    let authority = Authority::new("Root");
    let certificates = vec![authority.certificate("a.example"), authority.certificate("*.b.example")];
    let (_router, address) = start(https(certificates, ClientCertificates::Off)).await;
    let tls = client(&authority, None, &[]);
    for name in ["a.example", "x.b.example"] {
        let stream = connect(&tls, address, name).await.unwrap();
        let reply = get(&mut Client::new(stream)).await;
        assert!(reply.body.contains("x-forwarded-proto: https\n"), "{}", reply.body);
        assert!(reply.body.contains("x-amzn-tls-version: TLSv1.3\n"), "{}", reply.body);
        assert!(reply.body.contains("x-amzn-tls-cipher-suite: TLS_"), "{}", reply.body);
        assert!(!reply.body.contains("forged"), "{}", reply.body);
    }
    connect(&tls, address, "c.example").await.expect_err("the first one is shown, which is for another name");
    // Not TLS at all: closed, and nobody else is disturbed.
    let mut plain = Client::new(TcpStream::connect(address).await.unwrap());
    plain.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    assert!(plain.try_until("HTTP").await.is_none());
    connect(&tls, address, "a.example").await.unwrap();
}

#[tokio::test]
async fn http2_is_agreed_on_by_alpn() {
    let authority = Authority::new("Root");
    let certificates = vec![authority.certificate("a.example")];
    let (router, address) = start(https(certificates.clone(), ClientCertificates::Off)).await;
    let tls = client(&authority, None, &["h2", "http/1.1"]);
    let stream = connect(&tls, address, "a.example").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://a.example/x").body(Empty::<Bytes>::new()).unwrap();
    let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let body = std::str::from_utf8(&body).unwrap();
    assert!(body.starts_with("GET /x\n") && body.contains("host: a.example"), "{body}");

    let mut listener = https(certificates, ClientCertificates::Off);
    listener.load_balancer.attributes.http2 = false;
    publish(&router, listener);
    let stream = connect(&tls, address, "a.example").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn new_certificates_disturb_no_connection() {
    let (old, new) = (Authority::new("Old"), Authority::new("New"));
    let (router, address) = start(https(vec![old.certificate("a.example")], ClientCertificates::Off)).await;
    let mut open = Client::new(connect(&client(&old, None, &[]), address, "a.example").await.unwrap());
    assert_eq!(get(&mut open).await.status, 200);
    publish(&router, https(vec![new.certificate("a.example")], ClientCertificates::Off));
    connect(&client(&old, None, &[]), address, "a.example").await.expect_err("the new one is shown");
    connect(&client(&new, None, &[]), address, "a.example").await.unwrap();
    assert_eq!(get(&mut open).await.status, 200);
    // One that can't be used leaves the listener without, rather than with another one's.
    let broken = TlsCertificate { key: String::new(), ..new.certificate("a.example") };
    publish(&router, https(vec![broken], ClientCertificates::Off));
    connect(&client(&new, None, &[]), address, "a.example").await.unwrap_err();
    assert_eq!(get(&mut open).await.status, 200);
}

#[tokio::test]
async fn clients_are_verified() {
    let (authority, strangers) = (Authority::new("Root"), Authority::new("Strangers"));
    let verify = ClientCertificates::Verify {
        ca_bundle: authority.0.pem(),
        ignore_expiry: false,
        advertise_names: true,
    };
    let (_router, address) = start(https(vec![authority.certificate("a.example")], verify)).await;
    let (_, leaf, key) = authority.issue("device-7");
    let tls = client(&authority, Some((leaf, &key)), &[]);
    let reply = get(&mut Client::new(connect(&tls, address, "a.example").await.unwrap())).await;
    for told in [
        "subject: CN=device-7\n",
        "issuer: CN=Root\n",
        "serial-number: ",
        "validity: NotBefore=",
        "leaf: -----BEGIN%20",
    ] {
        assert!(reply.body.contains(&format!("x-amzn-mtls-clientcert-{told}")), "{told}: {}", reply.body);
    }
    assert!(!reply.body.contains("forged"), "{}", reply.body);

    let (_, leaf, key) = strangers.issue("device-7");
    for shown in [None, Some((leaf, &key))] {
        let tls = client(&authority, shown, &[]);
        // Over TLS 1.3 a client learns of it when it reads.
        if let Ok(stream) = connect(&tls, address, "a.example").await {
            let mut client = Client::new(stream);
            client.try_send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
            assert!(client.try_reply().await.is_none());
        }
    }
}

#[tokio::test]
async fn certificates_of_clients_are_passed_through() {
    let (authority, strangers) = (Authority::new("Root"), Authority::new("Strangers"));
    let certificates = vec![authority.certificate("a.example")];
    let (_router, address) = start(https(certificates, ClientCertificates::Passthrough)).await;
    let (_, leaf, key) = strangers.issue("anyone");
    let tls = client(&authority, Some((leaf, &key)), &[]);
    let reply = get(&mut Client::new(connect(&tls, address, "a.example").await.unwrap())).await;
    assert!(
        reply.body.contains("x-amzn-mtls-clientcert: -----BEGIN%20CERTIFICATE-----%0A"),
        "{}",
        reply.body
    );
    let tls = client(&authority, None, &[]);
    let reply = get(&mut Client::new(connect(&tls, address, "a.example").await.unwrap())).await;
    assert!(reply.status == 200 && !reply.body.contains("mtls"), "{}", reply.body);
}

#[tokio::test]
async fn a_listener_may_call_what_it_tells_of_clients_otherwise() {
    let authority = Authority::new("Root");
    let mut listener = https(vec![authority.certificate("a.example")], ClientCertificates::Off);
    listener.attributes =
        ListenerAttributes::parse([("routing.http.request.x_amzn_tls_version.header_name", "X-Tls-Version")]);
    let (_router, address) = start(listener).await;
    let stream = connect(&client(&authority, None, &[]), address, "a.example").await.unwrap();
    let reply = get(&mut Client::new(stream)).await;
    assert!(reply.body.contains("\nx-tls-version: TLSv1.3\n"), "{}", reply.body);
    assert!(!reply.body.contains("x-amzn-tls-version"), "{}", reply.body);
    assert!(reply.body.contains("x-amzn-tls-cipher-suite: TLS_"), "{}", reply.body);
}
