//! What becomes of an accepted connection: the TLS handshake in time, then the door of its protocol.
//! Called by the listeners; each connection is a task that ends with its client or at shutdown.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::measure::Traffic;
use base::tasks::{Part, Tasks};
use base::{Clock, Dismissal, Elapsed, Refusals, caps};
use bytes::Bytes;
use entrance::Peer;
use rest::Front;
use rest::connection::Switched;
use rest::websocket::SubProtocol;
use rustls::AlertDescription;
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::allowance::Allowance;
use crate::listeners::{Accept, Kind};
use crate::open_files::OpenFiles;
use crate::tls::{Protocol, Tls};

/// Bytes that rustls may hold for a connection before we read them.
const TLS_BUFFER_BYTES: usize = 16 * 1024;

pub(crate) struct Connections {
    pub(crate) tls: Arc<Tls>,
    pub(crate) front: Arc<Front>,
    pub(crate) mqtt: mqtt::Door,
    pub(crate) tasks: Tasks,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) open_files: Arc<OpenFiles>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) refusals: Refusals,
    pub(crate) clock: Clock,
}

/// For `/metrics`.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) https_open: AtomicU64,
    pub(crate) https_total: AtomicU64,
    pub(crate) mqtt_open: AtomicU64,
    pub(crate) mqtt_total: AtomicU64,
    pub(crate) https: Arc<Traffic>,
    pub(crate) mqtt: Arc<Traffic>,
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// Counts a connection as long as it lives.
struct Open {
    counters: Arc<Counters>,
    kind: Kind,
}

impl Open {
    fn new(counters: &Arc<Counters>, kind: Kind) -> Self {
        let (open, total) = counters.of(kind);
        open.fetch_add(1, Ordering::Relaxed);
        total.fetch_add(1, Ordering::Relaxed);
        Self { counters: counters.clone(), kind }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counters.of(self.kind).0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    fn of(&self, kind: Kind) -> (&AtomicU64, &AtomicU64) {
        match kind {
            Kind::Https => (&self.https_open, &self.https_total),
            Kind::Mqtt | Kind::MqttPlain => (&self.mqtt_open, &self.mqtt_total),
        }
    }
}

impl Accept for Connections {
    fn accept(&self, kind: Kind, stream: TcpStream, remote: SocketAddr, part: Option<Arc<Part>>) {
        if !self.open_files.has_room_for(kind, &stream) {
            return self.refuse(kind);
        }
        // Without it, small answers wait for the client's delayed acknowledgement: 40 ms each.
        let (Ok(()), Ok(local)) = (stream.set_nodelay(true), stream.local_addr()) else { return };
        // A socket for both families shows 127.0.0.1 as ::ffff:127.0.0.1, which is no loopback address to anyone who asks.
        let plain = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        let (remote, local) = (plain(remote), plain(local));
        match kind {
            Kind::Https => self.accept_https(stream, remote, local, part),
            Kind::Mqtt => self.accept_mqtt(stream, remote, local, part),
            Kind::MqttPlain => self.accept_mqtt_plain(stream, remote, local, part),
        }
    }
}

/// Serves a connection until the address that it came to ends. Boxed where it is used, so that only such connections have the
/// room for it.
async fn until_ended(part: Arc<Part>, serving: impl Future<Output = ()>) {
    let mut ending = part.ending();
    tokio::select! {
        () = ending.wait() => {}
        () = serving => {}
    }
}

impl Connections {
    fn accept_https(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        local: SocketAddr,
        part: Option<Arc<Part>>,
    ) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return self.refuse(Kind::Https);
        };
        let tls = self.tls.clone();
        let (front, clock) = (self.front.clone(), self.clock.clone());
        let stopping = part.as_ref().map_or_else(|| self.tasks.stopping(), |part| part.stopping());
        let (counters, refusals) = (self.counters.clone(), self.refusals.clone());
        let (door, open_files) = (self.mqtt.clone(), self.open_files.clone());
        self.tasks.spawn(async move {
            let open = Open::new(&counters, Kind::Https);
            let accepted_at = clock.elapsed();
            let stream = Allowance::new(stream, caps::UNAUTHENTICATED_BYTES_MAX, counters.https.clone());
            let handshake = handshake(tls, stream, local.ip(), Protocol::Https);
            let stream = match Box::pin(handshake).await {
                Ok(stream) => stream,
                Err(failed) => return tell_failed(&failed, remote, &counters, &refusals),
            };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let peer = peer(&stream, remote, local, accepted_at);
            let connection = rest::Connection { is_http2, peer: peer.clone(), clock, stopping };
            // Boxed, so that an idle device does not carry the room of HTTP.
            let serving = Box::pin(rest::connection::serve(stream, connection, front));
            let Some(Switched { protocol: SubProtocol::Mqtt, mut stream, since }) = serving.await else {
                return;
            };
            // From here on it is a device like any other.
            drop((open, place));
            let _open = Open::new(&counters, Kind::Mqtt);
            let socket = stream.get_mut().get_mut().0;
            if !open_files.has_room_for(Kind::Mqtt, socket.get_ref()) {
                counters.refused.fetch_add(1, Ordering::Relaxed);
                return open_files.refuse(Kind::Mqtt);
            }
            socket.count_as(counters.mqtt.clone());
            let peer = Peer { accepted_at: Some(since), ..peer };
            match part {
                None => door.serve(stream, peer).await,
                Some(part) => Box::pin(until_ended(part, door.serve(stream, peer))).await,
            }
        });
    }

    /// Devices are not counted against a number of ours: the system's open files are the bound, and those who do not prove
    /// themselves are gone within seconds.
    fn accept_mqtt(&self, stream: TcpStream, remote: SocketAddr, local: SocketAddr, part: Option<Arc<Part>>) {
        let tls = self.tls.clone();
        let (door, counters) = (self.mqtt.clone(), self.counters.clone());
        let refusals = self.refusals.clone();
        let accepted_at = self.clock.elapsed();
        self.tasks.spawn(async move {
            let _open = Open::new(&counters, Kind::Mqtt);
            // Boxed, so that an idle device does not carry the room of its handshake.
            let stream = Allowance::new(stream, caps::UNAUTHENTICATED_BYTES_MAX, counters.mqtt.clone());
            let handshake = handshake(tls, stream, local.ip(), Protocol::Mqtt);
            let stream = match Box::pin(handshake).await {
                Ok(stream) => stream,
                Err(failed) => return tell_failed(&failed, remote, &counters, &refusals),
            };
            let peer = peer(&stream, remote, local, accepted_at);
            match part {
                None => door.serve(stream, peer).await,
                Some(part) => Box::pin(until_ended(part, door.serve(stream, peer))).await,
            }
        });
    }

    fn accept_mqtt_plain(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        local: SocketAddr,
        part: Option<Arc<Part>>,
    ) {
        let (door, counters) = (self.mqtt.clone(), self.counters.clone());
        self.tasks.spawn(async move {
            let _open = Open::new(&counters, Kind::MqttPlain);
            let stream = Allowance::without_bound(stream, counters.mqtt.clone());
            let peer = Peer { remote: Some(remote), local: Some(local), ..Peer::default() };
            match part {
                None => door.serve(stream, peer).await,
                Some(part) => Box::pin(until_ended(part, door.serve(stream, peer))).await,
            }
        });
    }

    /// Closing at once tells the client more than a connection that nobody serves.
    fn refuse(&self, kind: Kind) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        self.open_files.refuse(kind);
    }
}

async fn handshake(
    tls: Arc<Tls>,
    stream: Allowance<TcpStream>,
    local: IpAddr,
    protocol: Protocol,
) -> Result<TlsStream<Allowance<TcpStream>>, Failed> {
    let handshake = async {
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let configuration = tls.configuration(begun.client_hello(), local, protocol).await;
        begun
            .into_stream_with(configuration, |session| session.set_buffer_limit(Some(TLS_BUFFER_BYTES)))
            .await
    };
    match tokio::time::timeout(entrance::STRANGERS_STAY, handshake).await {
        Ok(Ok(mut stream)) => {
            stream.get_mut().0.lift();
            Ok(stream)
        }
        Ok(Err(error)) => Err(Failed::Broken(error)),
        Err(_) => Err(Failed::TooSlow),
    }
}

/// Why there was no handshake.
enum Failed {
    Broken(std::io::Error),
    TooSlow,
}

impl Failed {
    /// `None`: it said nothing that could be wrong, as whoever only looks whether the port is open.
    fn why(&self) -> Option<&'static str> {
        let Self::Broken(error) = self else { return Some("its TLS handshake took too long") };
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())?;
        Some(match inner {
            rustls::Error::AlertReceived(
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnsupportedCertificate,
            ) => "it does not trust the server's certificate",
            rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
                "it takes the server's certificate for expired: its clock may be wrong"
            }
            rustls::Error::AlertReceived(_) => "it gave up the TLS handshake",
            rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => {
                "it spoke no TLS"
            }
            rustls::Error::PeerIncompatible(_) => "it speaks no version or suite of TLS that is served",
            rustls::Error::InvalidCertificate(_) => "its client certificate is not valid",
            _ => "its TLS handshake failed",
        })
    }
}

fn tell_failed(failed: &Failed, remote: SocketAddr, counters: &Counters, refusals: &Refusals) {
    counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
    if let Failed::Broken(error) = failed {
        tracing::debug!(%remote, %error, "a TLS handshake failed");
    }
    if let Some(why) = failed.why() {
        refusals.tell(&Dismissal::of_stranger("tls", "unknown".to_owned(), Some(remote.ip()), why));
    }
}

fn peer(
    stream: &TlsStream<Allowance<TcpStream>>,
    remote: SocketAddr,
    local: SocketAddr,
    accepted_at: Elapsed,
) -> Peer {
    let session = stream.get_ref().1;
    let certificates = session.peer_certificates().unwrap_or_default();
    Peer {
        remote: Some(remote),
        local: Some(local),
        sni: session.server_name().map(str::to_owned),
        client_certificates: certificates.iter().map(|der| Bytes::copy_from_slice(der)).collect(),
        accepted_at: Some(accepted_at),
        proof: entrance::Proof::default(),
    }
}
