//! The parts of the `twinhub` command that other programs of this workspace use too: its clients.

pub mod client;
