//! The built binary to devices that come in over the ports of HTTPS: what they are counted as, and what they may cost.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::stress::{metric, move_clock};
use super::*;

const OPEN_MQTT: &str = "twinhub_connections{protocol=\"mqtt\"}";
const OPEN_HTTPS: &str = "twinhub_connections{protocol=\"https\"}";

/// A stranger's WebSocket at the port of HTTPS.
async fn upgraded(trust: &Trust, server: &Server) -> TlsStream<TcpStream> {
    let mut stream = trust.connect(&server.address, 8443).await.unwrap();
    let request = "GET /$iothub/websocket HTTP/1.1\r\nhost: hub.azure-devices.localhost\r\nconnection: Upgrade\r\n\
        upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        sec-websocket-protocol: mqtt\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream
}

#[tokio::test]
async fn a_websocket_counts_as_mqtt_and_a_stranger_on_it_is_gone_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let https = client(directory.path());
    let pem = std::fs::read_to_string(directory.path().join("ca.pem")).unwrap();
    let trust = Trust::only(&pem).unwrap();
    let before = metric(&https, &server, OPEN_HTTPS).await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(upgraded(&trust, &server).await);
    }
    while metric(&https, &server, OPEN_MQTT).await < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(metric(&https, &server, OPEN_HTTPS).await, before);
    move_clock(&https, directory.path(), &server, "{\"advanceSeconds\": 11}").await;
    for mut stranger in strangers {
        // A goodbye with the code 1000, which is not waited for any longer than this is answered.
        let mut heard = [0; 4];
        let read = tokio::time::timeout(Duration::from_secs(5), stranger.read_exact(&mut heard)).await;
        read.expect("the stranger is sent away").unwrap();
        assert_eq!(heard, [0x88, 2, 0x03, 0xe8]);
        stranger.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await.unwrap();
        let read = tokio::time::timeout(Duration::from_secs(5), stranger.read(&mut heard)).await;
        assert!(matches!(read.expect("it is closed"), Ok(0) | Err(_)));
    }
}
