//! What every other crate may use: identifiers, scopes, etags, tokens, time, limits.
//! Called by everyone, calls nobody. It must never do I/O beyond reading the clock, and never know a service.

pub mod address;
pub mod caps;
pub mod clock;
pub mod etag;
pub mod hosts;
pub mod ids;
pub mod iso_duration;
pub mod json;
pub mod json_patch;
pub mod measure;
pub mod meter;
pub mod outbound;
pub mod page;
pub mod reading;
pub mod refusals;
pub mod refused;
pub mod sas;
pub mod scope;
pub mod secret;
pub mod tasks;
mod timestamp;

pub use address::{ConnectionString, Url};
pub use clock::{Clock, Elapsed};
pub use etag::{IfMatch, IfNoneMatch};
pub use ids::{DeviceId, InstanceId, ModuleId};
pub use meter::{Meter, Throttle};
pub use page::{Continuation, Page};
pub use refusals::{Dismissal, Lacks, Refusals, Who};
pub use refused::Refused;
pub use scope::Scope;
pub use secret::{Key, Secret};
pub use timestamp::Timestamp;
