//! An IoT hub: identities, device twins, sessions, messages both ways and direct methods. Every rule of the hub is here.
//! Called by the doors, by provisioning and by Resource Manager. It knows no protocol, no HTTP and no storage engine.

mod authentication;
pub mod bus;
pub mod cloud_to_device;
pub mod configuration;
pub mod consumer_group;
mod context;
pub mod device;
pub mod digital_twin;
pub mod direct_method;
mod due;
mod error;
pub mod file_upload;
mod held;
mod hub;
mod hubs;
mod identity;
pub mod job;
mod lock;
mod mailbox;
mod measures;
mod presence;
pub mod query;
pub mod registry_job;
pub mod service_bound;
mod sessions;
mod settings;
mod subscription;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod twin;

pub use authentication::DeviceAuthentication;
pub use bus::CloseReason;
pub use context::Context;
pub use error::Error;
pub use hub::{EVENT_STREAM, Hub};
pub use hubs::Hubs;
pub use lock::{LockToken, NoLockToken, Settlement};
pub use mailbox::Command;
pub use measures::Measures;
pub use presence::Connection;
pub use sessions::Session;
pub use settings::{CloudToDevice, FileUpload, HubSettings, ServiceBoundQueue, StorageEndpoint};
