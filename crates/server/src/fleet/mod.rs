//! Devices of our own: what firmware does, over the public wire alone. The demo tells its story with them; `twinhub simulate` lets
//! thousands of them live side by side.

mod device;
mod firmware;
mod group;
pub(crate) mod latencies;
mod model;
mod session;
mod simulation;
mod tally;
mod values;

use base::Clock;

pub use device::Device;
pub use group::{Group, Provisioning};
pub use latencies::{Latencies, readable};
pub use model::DeviceModel;
pub use simulation::{Outcome, Plan, Simulation};
pub use tally::{Progress, Tally};

use crate::client::{ClientError, Trust};

/// How devices reach the server.
#[derive(Clone)]
pub struct Site {
    pub trust: Trust,
    pub mqtt_port: u16,
    pub clock: Clock,
}

/// What went wrong with a device, or in a chapter of the demo.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{what} answered {status}: {message}")]
    Answered { what: &'static str, status: u16, message: String },
    #[error("{0}")]
    Unexpected(String),
}

impl Fault {
    pub(crate) fn unexpected(what: impl Into<String>) -> Self {
        Self::Unexpected(what.into())
    }

    /// Whether trying again is of no use.
    fn is_final(&self) -> bool {
        matches!(self, Self::Answered { status, .. } if *status != 429 && *status < 500)
    }
}
