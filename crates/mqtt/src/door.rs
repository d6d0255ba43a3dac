//! The door that every MQTT connection comes in through: the CONNECT, the choice between the hubs and the provisioning
//! services, the return code. `server` calls it with a stream that has no transport left to negotiate. It runs one task's
//! worth of work and starts none.

use std::net::IpAddr;
use std::sync::Arc;

use base::hosts::{Dialled, Host, Hosts, Service};
use base::tasks::Tasks;
use base::{Clock, Elapsed, caps};
use hub::{Hub, Hubs};
use provisioning::Services;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::codec::{self, ConnAck, Connect, ConnectReturnCode, Packet};
use crate::connect::{self, Credential, Refusal, Request};
use crate::link::{End, Link};
use crate::user_name::{HubUserName, ProvisioningUserName};
use crate::{hub_door, provisioning_door};

/// What the door is given of its surroundings.
pub struct Context {
    pub hubs: Hubs,
    pub services: Services,
    pub hosts: Hosts,
    pub clock: Clock,
    pub tasks: Tasks,
}

/// What the transport knows of a client.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The address of ours that was called: some instances have one of their own.
    pub local_address: Option<IpAddr>,
    /// The client's address; `None` counts as this machine.
    pub remote_address: Option<IpAddr>,
    /// The host name of the TLS handshake.
    pub sni: Option<String>,
    /// When the connection was accepted; its handshake counts among the time that a stranger has. `None`: now.
    pub accepted_at: Option<Elapsed>,
    /// The chain that the client proved to hold, leaf first; nobody has judged it yet.
    pub client_certificates: Vec<CertificateDer<'static>>,
}

impl Peer {
    /// Whether the client is on this machine: some instances take no other.
    pub(crate) fn is_local(&self) -> bool {
        self.remote_address.is_none_or(|address| address.to_canonical().is_loopback())
    }
}

/// Clones share the surroundings.
#[derive(Clone)]
pub struct Door(Arc<Context>);

/// A client that may come in.
enum Admitted<S> {
    Hub(Box<hub_door::Connection<S>>),
    Provisioning(Box<provisioning_door::Connection<S>>),
}

impl Door {
    pub fn new(context: Context) -> Self {
        Self(Arc::new(context))
    }

    /// Serves one connection to its end. At shutdown it takes nothing more, pays what it owes and closes.
    pub fn serve<S>(&self, stream: S, peer: Peer) -> impl Future<Output = ()> + Send + use<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let door = self.clone();
        let clock = &self.0.clock;
        let accepted_at = peer.accepted_at.unwrap_or_else(|| clock.elapsed());
        let link = Link::new(stream, clock, accepted_at, self.0.tasks.stopping());
        // Boxed because it takes more room than the connection that comes after it, and is given back before that.
        let greeting = Box::pin(async move { door.greet(link, peer).await });
        async move {
            let admitted = greeting.await;
            match admitted {
                Some(Admitted::Hub(connection)) => connection.run().await,
                Some(Admitted::Provisioning(connection)) => connection.run().await,
                None => {}
            }
        }
    }

    async fn greet<S>(&self, mut link: Link<S>, peer: Peer) -> Option<Admitted<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let refusal = match link.receive().await {
            Ok(Packet::Connect(mut connect)) => match self.admit(&mut connect, &peer).await {
                Ok(admission) => return Some(admission.enter(link, *connect)),
                Err(refusal) => refusal,
            },
            Ok(Packet::ForeignConnect { level: 5 }) => {
                link.out().extend_from_slice(&codec::CONNACK_V5_UNSUPPORTED);
                link.finish().await;
                return None;
            }
            Ok(Packet::ForeignConnect { .. }) => ConnectReturnCode::UnacceptableProtocolVersion.into(),
            Ok(_) => Refusal::Close,
            Err(end) => {
                log_early_end(&end);
                return None;
            }
        };
        tracing::debug!(?refusal, "a connection was refused");
        if let Refusal::Code(return_code) = refusal {
            let connack = ConnAck { session_present: false, return_code };
            connack.encode(link.out()).expect("a CONNACK fits");
        }
        link.finish().await;
        None
    }

    async fn admit(&self, connect: &mut Connect, peer: &Peer) -> Result<Admission, Refusal> {
        match connect::parse(connect)? {
            Request::Hub { name, credential } => {
                let hub = self.hub(&name, peer).ok_or(ConnectReturnCode::NotAuthorized)?;
                let admission = hub_door::admit(hub, &name, &credential, peer, connect.clean_session).await;
                admission.map(Admission::Hub).map_err(|error| return_code(&error).into())
            }
            Request::Provisioning { name, credential } => {
                self.admit_registration(name, credential, peer).await
            }
        }
    }

    /// The id scope chooses the service, whatever host was called, unless that is one at which nobody answers.
    async fn admit_registration(
        &self,
        name: ProvisioningUserName,
        credential: Credential,
        peer: &Peer,
    ) -> Result<Admission, Refusal> {
        let host = self.0.hosts.resolve(peer.sni.as_deref().unwrap_or_default(), peer.local_address);
        if let Host::UnknownInstance(_) = host {
            return Err(ConnectReturnCode::NotAuthorized.into());
        }
        let service = self.0.services.by_id_scope(&name.id_scope);
        let service = service.filter(|service| peer.is_local() || service.settings().public_network_access);
        let service = service.ok_or(ConnectReturnCode::NotAuthorized)?;
        let registration_id =
            name.registration_id.parse().map_err(|_| ConnectReturnCode::IdentifierRejected)?;
        let api_version = name.api_version.and_then(|version| version.parse().ok());
        let api_version = api_version.ok_or(ConnectReturnCode::BadUserNameOrPassword)?;
        let dialled = Dialled::new(peer.sni.as_deref(), peer.local_address);
        let admission =
            provisioning_door::admit(service, registration_id, api_version, credential, dialled).await;
        Ok(Admission::Provisioning(admission))
    }

    /// The hub that the user name's host names; where that names none of ours, the hub that the handshake asked for. Two
    /// different hubs of ours are one too many, and a hub that is not there is none.
    fn hub(&self, name: &HubUserName, peer: &Peer) -> Option<Hub> {
        let by_handshake = peer.sni.as_deref().map(|sni| self.0.hosts.resolve(sni, None));
        match (self.0.hosts.resolve(&name.host, None), by_handshake) {
            (_, Some(Host::UnknownInstance(_))) => None,
            (Host::Instance(Service::Hub, hub), Some(Host::Instance(Service::Hub, other)))
                if hub != other =>
            {
                None
            }
            (Host::Unnamed, Some(Host::Instance(Service::Hub, hub))) => self.0.hubs.find(&hub),
            _ => self.0.hubs.at_host(&name.host, peer.local_address),
        }
    }
}

enum Admission {
    Hub(hub_door::Admission),
    Provisioning(provisioning_door::Admission),
}

impl Admission {
    fn enter<S>(self, link: Link<S>, connect: Connect) -> Admitted<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        match self {
            Self::Hub(admission) => Admitted::Hub(admission.enter(link, connect)),
            Self::Provisioning(admission) => Admitted::Provisioning(admission.enter(link, &connect)),
        }
    }
}

fn log_early_end(end: &End) {
    tracing::debug!(?end, limit = caps::UNAUTHENTICATED_BYTES_MAX, "a connection ended before its CONNECT");
}

/// 3 tells a client to come back, 5 that it may not come in.
fn return_code(error: &hub::Error) -> ConnectReturnCode {
    use hub::Error;
    match error {
        Error::ThrottlingException { .. }
        | Error::ServerBusy
        | Error::ServerError
        | Error::Conflict
        // Displaced by another connection before it was let in.
        | Error::DeviceConnectionClosedRemotely => ConnectReturnCode::ServerUnavailable,
        Error::ArgumentInvalid(_)
        | Error::ArgumentNull(_)
        | Error::InvalidDeviceScope(_)
        | Error::ConnectionForcefullyClosedOnNewConnection
        | Error::IotHubNotFound
        | Error::IotHubUnauthorizedAccess
        | Error::PrincipalUnauthorized(_)
        | Error::IotHubQuotaExceeded
        | Error::DeviceDisabled(_)
        | Error::DeviceMaximumInflightMethodExceeded(_)
        | Error::DeviceNotFound(_)
        | Error::ModuleNotFound { .. }
        | Error::DeviceNotOnline
        | Error::DeviceAlreadyExists(_)
        | Error::ModuleAlreadyExistsOnDevice { .. }
        | Error::PreconditionFailed(_)
        | Error::MessageTooLarge(_)
        | Error::TooManyModulesOnDevice(_)
        | Error::BadGateway(_)
        | Error::GatewayTimeout => ConnectReturnCode::NotAuthorized,
    }
}
