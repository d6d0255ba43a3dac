//! Storage accounts of this server: containers, block blobs and append blobs, who may do what with them, and what is to be removed.
//! For the door that serves blobs, for whoever keeps files in an account, and for the client that reaches foreign accounts. It
//! knows no protocol: names, ranges, block lists and signatures are what a request says of itself.

mod account;
mod account_address;
mod accounts;
mod blob;
pub mod block_list;
mod caller;
mod container;
mod content;
mod error;
mod listing;
mod name;
mod policies;
mod range;
mod removal;
pub mod sas;
pub mod shared_key;
mod writer;
mod xml;

#[cfg(test)]
mod tests;

pub use account::{Account, AccountSettings, KeyName};
pub use account_address::{AccountAddress, Credential, InvalidConnectionString, InvalidContainerUri};
pub use accounts::{Accounts, Context};
pub use blob::block::Appended;
pub use blob::conditions::Conditions;
pub use blob::record::{Blob, BlobHeaders, BlobKind, Metadata};
pub use blob::{At, BlockLists, Found, NewBlob};
pub use caller::Caller;
pub use container::{Container, FoundContainer};
pub use content::Reader;
pub use error::Error;
pub use listing::{BlobPage, ContainerPage, Listing};
pub use name::{AccountName, BlobName, ContainerName, InvalidName};
pub use policies::StoredPolicy;
pub use range::{ByteRange, RangeError};
pub use sas::Sas;
pub use writer::Writer;
