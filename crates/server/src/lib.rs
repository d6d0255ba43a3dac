//! The parts of the `twinhub` command that other programs of this workspace use too: its clients, its devices and the demo.

pub mod client;
pub mod demo;
pub mod fleet;
pub mod out;
