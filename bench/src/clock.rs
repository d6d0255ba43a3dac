//! Time as the benchmarks measure it. The one place here that reads the system's clock.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a stopwatch measures real time; no product code runs here")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
