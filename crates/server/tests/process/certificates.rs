//! Devices that prove themselves in the TLS handshake of the built binary: both versions of TLS, MQTT and HTTPS.

use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use test_certificates::{Certified, leaf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

async fn connect(
    directory: &Path,
    server: &Server,
    port: u16,
    (version, certified): (&'static SupportedProtocolVersion, Option<&Certified>),
) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
    let builder = builder.unwrap().with_root_certificates(roots);
    let config = match certified {
        None => builder.with_no_client_auth(),
        Some(certified) => {
            let chain = vec![CertificateDer::from(certified.der.clone())];
            let key = PrivateKeyDer::try_from(certified.key_der()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let stream = TcpStream::connect((server.address.as_str(), port)).await.unwrap();
    let name = ServerName::try_from(server.address.clone()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// The return code of a CONNECT without a password.
async fn mqtt(mut stream: TlsStream<TcpStream>, host: &str) -> u8 {
    let user_name = format!("{host}/dev1/?api-version=2021-04-12");
    let mut packet = b"\x00\x04MQTT\x04\x80\x00\x3c\x00\x04dev1".to_vec();
    packet.extend(u16::try_from(user_name.len()).unwrap().to_be_bytes());
    packet.extend(user_name.as_bytes());
    let length = u8::try_from(packet.len()).ok().filter(|length| *length < 0x80).unwrap();
    packet.splice(0..0, [0x10, length]);
    stream.write_all(&packet).await.unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await.unwrap();
    assert_eq!(connack[..2], [0x20, 2]);
    connack[3]
}

/// The status of a message over HTTPS.
async fn https(mut stream: TlsStream<TcpStream>, host: &str) -> u16 {
    let head = "POST /devices/dev1/messages/events?api-version=2021-04-12 HTTP/1.1";
    let request = format!("{head}\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_certificate_of_the_handshake_opens_its_device_over_mqtt_and_https() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let (own, other) = (Certified::own(leaf("dev1")), Certified::own(leaf("dev1")));
    let thumbprint = access::certificates::describe(&own.der).unwrap().sha256_thumbprint;
    let (made, said, complaint) =
        twinhub(directory.path(), &["device", "create", "dev1", "--thumbprint", &thumbprint]);
    assert!(made, "{said} {complaint}");
    let host = environment(directory.path())["IOTHUB_HOSTNAME"].clone();
    for version in [&TLS12, &TLS13] {
        for (presented, return_code, status) in [(None, 5, 401), (Some(&other), 5, 401), (Some(&own), 0, 204)]
        {
            let to = |port| connect(directory.path(), &server, port, (version, presented));
            assert_eq!(mqtt(to(8883).await, &host).await, return_code, "{version:?}");
            assert_eq!(https(to(8443).await, &host).await, status, "{version:?}");
        }
    }
    let (_, events, _) = twinhub(directory.path(), &["events", "--from", "earliest", "--json"]);
    assert_eq!(events.matches(r#"\"type\":\"x509\""#).count(), 2, "{events}");
}
