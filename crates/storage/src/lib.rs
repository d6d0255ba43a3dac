//! What a blob endpoint must understand of a request before it touches a byte: names, ranges, block lists, signatures.
//! For the door that serves blobs and the client that reaches foreign accounts. Pure: no I/O, no clock, no protocol library.

pub mod block_list;
mod name;
mod range;
pub mod sas;
pub mod shared_key;

pub use name::{AccountName, BlobName, ContainerName, InvalidName};
pub use range::{ByteRange, RangeError};
pub use sas::Sas;
