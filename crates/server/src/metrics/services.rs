//! Requests over HTTPS, by service.

use std::sync::{Arc, OnceLock};

use rest::Counted;
use rest::admin::{Family, Kind};

/// What is counted of each service; empty until the doors are made, of which one shows it.
#[derive(Clone, Default)]
pub(crate) struct Services(Arc<OnceLock<Vec<Counted>>>);

impl Services {
    /// To be called once, before anyone can ask.
    pub(crate) fn set(&self, counted: Vec<Counted>) {
        let _ = self.0.set(counted);
    }

    fn all(&self) -> &[Counted] {
        self.0.get().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn answers_total(&self) -> u64 {
        self.all().iter().flat_map(Counted::answers).map(|(_, count)| count).sum()
    }
}

pub(super) fn families(services: &Services) -> [Family; 2] {
    const REQUESTS: &str = "Requests over HTTPS that were answered, by service, operation and status; unknown stands for what no operation is at. Of digital_twins Azure's ApiRequests.";
    const LATENCY: &str = "How long requests over HTTPS took until their answer was made, by service. Of digital_twins Azure's ApiRequestsLatency.";
    let (requests, latency) = (services.clone(), services.clone());
    [
        Family::new(Kind::Counter, "twinhub_requests_total", REQUESTS, move |samples| {
            for counted in requests.all() {
                for ((operation, status), count) in counted.answers() {
                    let service = counted.service();
                    samples
                        .count(&[("service", service), ("operation", operation), ("status", status)], count);
                }
            }
        }),
        Family::new(Kind::Histogram, "twinhub_request_seconds", LATENCY, move |samples| {
            for counted in latency.all() {
                samples.distribution(&[("service", counted.service())], &counted.latency());
            }
        }),
    ]
}
