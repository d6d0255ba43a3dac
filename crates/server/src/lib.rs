//! The parts of the `twinhub` command that other programs of this workspace use too: its clients and the demo.

pub mod client;
pub mod demo;
pub mod out;
