//! MQTT 3.1.1: the door that devices come in through, to their hub and to the provisioning service, and the codec that the
//! demo and the tests use as a client. Translates packets to operations of `hub` and `provisioning`; it holds no rules of theirs.

pub mod codec;
mod connect;
mod door;
mod hub_door;
mod link;
mod owed;
pub mod property_bag;
mod provisioning_door;
mod subscriptions;
pub mod topic;
pub mod user_name;
mod wire;

pub use door::{Context, Door};
