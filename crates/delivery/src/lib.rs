//! The doors out: what this server asks of services elsewhere. So far storage accounts, for files that devices upload; wired to the
//! traits of the domain crates by whoever opens the house. It decides nothing, and every request has a deadline and a cap.

mod blobs;
mod file_storage;
mod listing;
mod requests;
mod trust;

pub use blobs::{Account, BlobProperties, DeliveryError};
pub use file_storage::ForeignStorage;
pub use listing::Listing;
pub use requests::Requests;
pub use trust::Trust;
