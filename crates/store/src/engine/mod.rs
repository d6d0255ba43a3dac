//! What an engine must give, one trait for each part of it. Private to `store`: the house sees `Store` and `Streams`, and nothing
//! above knows which engine keeps them. The contract suite runs on every one of them.

mod leases;
mod sessions;

pub(crate) use self::leases::Leases;
pub(crate) use self::sessions::Sessions;
