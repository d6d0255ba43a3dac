//! `twinhub demo`: what a user of the platform does, through the public wire only. A story in chapters, each of which must be seen to
//! work; the first that is not ends the demo with its name. Called by the command line once the server is ready.

mod building;
mod cloud;
mod device;
mod fleet;
mod function_app;
mod report;

use std::collections::BTreeMap;

use base::Clock;

use crate::client::{ClientError, Https, Trust};
pub use report::{Report, Summary};

/// Where the platform is and who we are: what `twinhub env` prints, and what live control needs.
#[derive(Clone)]
pub struct Target {
    pub variables: BTreeMap<String, String>,
    pub trust_pem: String,
    /// `https://127.0.0.1:8443`
    pub admin_url: String,
    pub admin_key: String,
    pub mqtt_port: u16,
}

/// A chapter that did not work, and why.
#[derive(Debug, thiserror::Error)]
#[error("{chapter}: {reason}")]
pub struct Failure {
    pub chapter: &'static str,
    pub reason: String,
}

/// What went wrong inside a chapter.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Unexpected(String),
}

impl Fault {
    fn unexpected(what: impl Into<String>) -> Self {
        Self::Unexpected(what.into())
    }
}

/// Runs every chapter and reports as it goes. `Ok` only when everything was seen to work.
pub async fn run(target: &Target, clock: &Clock, report: &mut Report) -> Result<Summary, Failure> {
    let mut chapter = "reach the platform";
    let story = Story::run(target, clock, report, &mut chapter).await;
    story.map_err(|fault| Failure { chapter, reason: fault.to_string() })
}

struct Story;

impl Story {
    async fn run(
        target: &Target,
        clock: &Clock,
        report: &mut Report,
        chapter: &mut &'static str,
    ) -> Result<Summary, Fault> {
        let trust = Trust::only(&target.trust_pem)?;
        let cloud = cloud::Cloud::new(target.clone(), Https::new(trust.clone()), clock.clone());
        // A run's own names, so that the demo works again on the same data directory.
        let run_id = base::secret::random_hex(3);

        report.begin(chapter, "sign in at the token issuer");
        cloud.sign_in().await?;
        report.done("tokens for Resource Manager and Digital Twins");

        report.begin(chapter, "load the building's models");
        let models = building::load_models(&cloud).await?;
        report.done(&format!("{models} models"));

        report.begin(chapter, "build the building");
        let building = building::build(&cloud, &run_id).await?;
        report.done(&format!("{} twins, {} relationships", building.twins, building.relationships));

        report.begin(chapter, "route twin events to an event hub");
        let route = cloud.route_twin_events(&run_id).await?;
        report.done(&format!("endpoint {} to event hub {}", route.endpoint, route.event_hub));

        report.begin(chapter, "enroll a group of devices");
        let group = cloud.enroll_group(&run_id).await?;
        report.done(&format!("enrollment group {}", group.id));

        report.begin(chapter, "register devices through provisioning");
        let mut fleet = fleet::Fleet::register(target, &trust, clock, &group, &building.rooms).await?;
        report.done(&format!("{} devices assigned to {}", fleet.len(), fleet.hub_host()));

        report.begin(chapter, "connect the devices to their hub");
        fleet.connect().await?;
        report.done(&format!("{} connected over MQTT with TLS", fleet.len()));

        report.begin(chapter, "report properties, receive desired properties");
        fleet.set_desired(&cloud).await?;
        report.done(&format!("{} devices and a module twin agree with the cloud", fleet.len()));

        report.begin(chapter, "call a direct method on every device");
        fleet.call_methods(&cloud).await?;
        report.done(&format!("{} answers", fleet.len()));

        report.begin(chapter, "send telemetry and carry it to the digital twins");
        let carried = function_app::run(&cloud, &mut fleet, &building, report).await?;
        report.done(&format!("{} messages durable, {} twins updated", carried.sent, carried.updated));

        report.begin(chapter, "ask the graph");
        let rows = building::warm_rooms(&cloud, &building, &carried.last_temperatures).await?;
        report.done(&format!("{rows} rooms answer with live values"));

        report.begin(chapter, "see twin events arrive at the event hub");
        let events = cloud.count_twin_events(&route, &building.rooms, carried.updated).await?;
        report.done(&format!("{events} events"));

        let latencies = fleet.latencies();
        fleet.disconnect().await;
        Ok(Summary {
            devices: building.rooms.len(),
            twins: building.twins,
            relationships: building.relationships,
            messages: carried.sent,
            twin_updates: carried.updated,
            twin_events: events,
            latencies,
            sample: cloud.device_sample(&group),
        })
    }
}
