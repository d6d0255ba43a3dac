//! Who calls and what they may do: callers, permissions, roles, the directory with its token issuer, certificates.
//! Called by every operation's first line and by the doors. It must never know a protocol.

pub mod ca_certificates;
mod caller;
pub mod certificates;
pub mod client_certificates;
pub mod directory;
mod files;
mod network;
mod permission;
pub mod roles;
pub mod secrets;
pub mod shared_access;
mod signing_key;
mod token;

pub use ca_certificates::{CaCertificate, CaCertificateDraft, CaCertificateError, CaCertificates};
pub use caller::{Caller, Denied, Grant};
pub use certificates::{Certificates, KeyKind};
pub use client_certificates::ClientCertificates;
pub use directory::Directory;
pub use files::FileError;
pub use network::{InvalidIpMask, IpFilter, IpMask, IpRule, IpRuleScope, Network, NetworkTarget};
pub use permission::{Permission, Right};
pub use secrets::{SealingKey, ServerSecrets};
pub use shared_access::SharedAccessPolicy;
pub use signing_key::{PublicSigningKey, SigningKeyError};
pub use token::{TokenError, audiences, resource_of_scope};
