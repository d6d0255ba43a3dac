//! The door that every MQTT connection comes in through: the CONNECT, the choice between the hubs and the provisioning
//! services, the return code. `server` calls it with a stream that has no transport left to negotiate. It runs one task's
//! worth of work and starts none.

use std::sync::Arc;

use access::NetworkTarget;
use base::hosts::{Dialable, Host, Hosts, Service};
use base::measure::Traffic;
use base::tasks::Tasks;
use base::{Clock, Dismissal, Refusals, caps};
use entrance::Peer;
use hub::{Hub, Hubs};
use provisioning::{RegistrationId, Services};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::codec::{self, ConnAck, Connect, ConnectReturnCode, Packet};
use crate::connect::{self, Credential, Refusal, Request};
use crate::link::{End, Link};
use crate::user_name::{HubUserName, ProvisioningUserName, UserName};
use crate::{hub_door, provisioning_door};

/// What the door is given of its surroundings.
pub struct Context {
    pub hubs: Hubs,
    pub services: Services,
    pub hosts: Hosts,
    pub clock: Clock,
    pub tasks: Tasks,
    pub refusals: Refusals,
    pub traffic: Arc<Traffic>,
}

/// As the log and `/metrics` call this door.
pub(crate) const NAME: &str = "mqtt";

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
        let (door, remote_address) = (self.clone(), peer.remote_address());
        let clock = &self.0.clock;
        let accepted_at = peer.accepted_at.unwrap_or_else(|| clock.elapsed());
        let (traffic, stopping) = (self.0.traffic.clone(), self.0.tasks.stopping());
        let link = Link::new(stream, clock, traffic, accepted_at, stopping);
        // Boxed because it takes more room than the connection that comes after it, and is given back before that.
        let greeting = Box::pin(async move { door.greet(link, peer).await });
        let door = self.clone();
        async move {
            let dismissal = match greeting.await {
                Some(Admitted::Hub(connection)) => connection.run().await,
                Some(Admitted::Provisioning(connection)) => connection.run().await,
                None => None,
            };
            if let Some(dismissal) = dismissal {
                door.0.refusals.tell(&Dismissal { peer: remote_address, ..*dismissal });
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
                Err(refusal) => {
                    self.0.refusals.tell(&self.dismissal(&connect, &peer, refusal.why));
                    refusal
                }
            },
            Ok(Packet::ForeignConnect { level: 5 }) => {
                link.out().extend_from_slice(&codec::CONNACK_V5_UNSUPPORTED);
                link.finish().await;
                return None;
            }
            Ok(Packet::ForeignConnect { .. }) => {
                Refusal::with(ConnectReturnCode::UnacceptableProtocolVersion, "an old version of MQTT")
            }
            Ok(_) => Refusal::close("a packet before CONNECT"),
            Err(end) => {
                log_early_end(&end);
                link.finish().await;
                return None;
            }
        };
        tracing::debug!(?refusal, "a connection was refused");
        if let Some(return_code) = refusal.code {
            let connack = ConnAck { session_present: false, return_code };
            connack.encode(link.out()).expect("a CONNACK fits");
        }
        link.finish().await;
        None
    }

    async fn admit(&self, connect: &mut Connect, peer: &Peer) -> Result<Admission, Refusal> {
        match connect::parse(connect)? {
            Request::Hub { name, credential } => {
                let unknown =
                    Refusal::with(ConnectReturnCode::NotAuthorized, "no hub is called what it asks for");
                let hub = self.hub(&name, peer).ok_or(unknown)?;
                let admission = hub_door::admit(hub, &name, &credential, peer, connect.clean_session).await;
                admission
                    .map(Admission::Hub)
                    .map_err(|refused| Refusal::with(return_code(&refused.error), refused.why))
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
        use ConnectReturnCode::{BadUserNameOrPassword, IdentifierRejected, NotAuthorized};
        let host = self.0.hosts.resolve(peer.sni.as_deref().unwrap_or_default(), peer.local_address());
        let unknown = Refusal::with(NotAuthorized, "no provisioning service has its id scope or its address");
        if let Host::UnknownInstance(_) = host {
            return Err(unknown);
        }
        let service = self.0.services.by_id_scope(&name.id_scope).ok_or(unknown)?;
        let reached = service.settings().network().check(peer.remote_address(), NetworkTarget::DeviceApi);
        reached.map_err(|why| Refusal::with(NotAuthorized, why))?;
        let registration_id = name
            .registration_id
            .parse()
            .map_err(|_| Refusal::with(IdentifierRejected, "its registration id holds what none may"))?;
        let api_version = name.api_version.and_then(|version| version.parse().ok());
        let api_version = api_version.ok_or(Refusal::with(
            BadUserNameOrPassword,
            "its user name holds no api-version, or one that is no date",
        ))?;
        let admission =
            provisioning_door::admit(service, registration_id, api_version, credential, peer.dialled()).await;
        if let Some(dismissal) = admission.dismissal() {
            self.0.refusals.tell(&Dismissal { peer: peer.remote_address(), ..dismissal });
        }
        Ok(Admission::Provisioning(admission))
    }

    /// Whom the log names: the device of the user name, or the address of somebody who names none.
    fn dismissal(&self, connect: &Connect, peer: &Peer, why: &'static str) -> Dismissal {
        let name = connect.login.as_ref().map(|login| UserName::parse(&login.user_name, &connect.client_id));
        let named = match name {
            Some(Ok(UserName::Hub(name))) if is_host(&name.host) => {
                let hub =
                    self.hub(&name, peer).map_or_else(|| name.host.clone(), |hub| hub.name().to_owned());
                Some((hub, name.identity.to_string()))
            }
            Some(Ok(UserName::Provisioning(name))) if name.id_scope.len() <= caps::ID_CHARACTERS_MAX => {
                let service = self.0.services.by_id_scope(&name.id_scope);
                let service =
                    service.map_or_else(|| name.id_scope.clone(), |service| service.name().to_owned());
                name.registration_id.parse::<RegistrationId>().ok().map(|id| (service, id.to_string()))
            }
            _ => None,
        };
        let peer = peer.remote_address();
        match named {
            Some((service, device)) => Dismissal { peer, ..Dismissal::of_device(NAME, service, device, why) },
            None => Dismissal::of_stranger(NAME, "unknown".to_owned(), peer, why),
        }
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
            _ => self.0.hubs.at_host(&name.host, peer.local_address()),
        }
    }
}

/// A key or a connection string in the place of a user name must not be printed, and neither begins like a host.
fn is_host(host: &str) -> bool {
    host == "localhost" || host.parse::<Dialable>().is_ok()
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
        Error::BadRequest
        | Error::ArgumentInvalid(_)
        | Error::ArgumentNull(_)
        | Error::InvalidDeviceScope(_)
        | Error::InvalidDigitalTwinJsonPatch(_)
        | Error::InvalidDigitalTwinPayload(_)
        | Error::InvalidDigitalTwinPatch(_)
        | Error::InvalidDigitalTwinPatchPath(_)
        | Error::ConnectionForcefullyClosedOnNewConnection
        | Error::IotHubNotFound
        | Error::IotHubUnauthorizedAccess
        | Error::PrincipalUnauthorized(_)
        | Error::IotHubQuotaExceeded
        | Error::DefaultStorageEndpointNotConfigured
        | Error::BlobContainerValidationError(_)
        | Error::DeserializationError(_)
        | Error::InvalidStorageEndpoint(_)
        | Error::InvalidStorageEndpointOrBlob(_)
        | Error::InvalidEndpointAuthenticationType(_)
        | Error::InvalidFileUploadCorrelationId
        | Error::ExpiredFileUploadCorrelationId
        | Error::InvalidFileUploadCompletionStatus(_)
        | Error::DeviceMaximumActiveFileUploadLimitExceeded
        | Error::DeviceMaximumQueueDepthExceeded(_)
        | Error::InvalidConfigurationTargetCondition(_)
        | Error::InvalidConfigurationContent(_)
        | Error::InvalidConfigurationCustomMetricsQuery(_)
        | Error::ConfigurationNotFound(_)
        | Error::ConfigurationAlreadyExists(_)
        | Error::ConfigurationCountLimitExceeded(_)
        | Error::JobQuotaExceeded(_)
        | Error::JobNotFound(_)
        | Error::JobAlreadyExists(_)
        | Error::OperationNotAllowedInCurrentState(_)
        | Error::ThrottlingMaxActiveJobCountExceeded(_)
        | Error::InvalidMessageExpiryTime
        | Error::DeviceMessageLockLost
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
        | Error::TooManyDevices(_)
        | Error::DeviceDefinedMultipleTimes(_)
        | Error::SystemModuleModifyUnauthorizedAccess(_)
        | Error::BadGateway(_)
        | Error::GatewayTimeout => ConnectReturnCode::NotAuthorized,
    }
}
