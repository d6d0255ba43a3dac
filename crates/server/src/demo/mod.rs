//! `twinhub demo`: what a user of the platform does, through the public wire only. A story in chapters, each of which must be seen to
//! work; the first that is not ends the demo with its name. Called by the command line once the server is ready.

mod building;
mod cloud;
mod fleet;
mod function_app;
mod report;

use std::collections::BTreeMap;

use base::Clock;

use building::Building;
use cloud::{Cloud, Route};
use fleet::Fleet;
use function_app::Carried;

use crate::client::{Https, Trust};
use crate::fleet::{Fault, Group, Site};
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

/// Runs every chapter and reports as it goes. `Ok` only when everything was seen to work.
pub async fn run(target: &Target, clock: &Clock, report: &mut Report) -> Result<Summary, Failure> {
    let mut chapter = "reach the platform";
    let story = async {
        let trust = Trust::only(&target.trust_pem)?;
        let cloud = Cloud::new(target.clone(), Https::new(trust.clone()), clock.clone());
        // A run's own names, so that the demo works again on the same data directory.
        let run_id = base::secret::random_hex(3);
        let site = Site { trust, mqtt_port: target.mqtt_port, clock: clock.clone() };
        Story { site, cloud, run_id, report, chapter: &mut chapter }.run().await
    };
    let told = story.await;
    told.map_err(|fault: Fault| Failure { chapter, reason: fault.to_string() })
}

struct Story<'a> {
    site: Site,
    cloud: Cloud,
    run_id: String,
    report: &'a mut Report,
    chapter: &'a mut &'static str,
}

impl Story<'_> {
    async fn run(mut self) -> Result<Summary, Fault> {
        let building = self.build().await?;
        let route = self.route().await?;
        let group = self.enroll().await?;
        let mut fleet = self.connect(&group, &building).await?;
        self.command(&mut fleet).await?;
        let carried = self.carry(&mut fleet, &building).await?;
        let twin_events = self.look(&building, &route, &carried).await?;
        let latencies = fleet.latencies();
        fleet.disconnect().await;
        Ok(Summary {
            devices: building.rooms.len(),
            twins: building.twins,
            relationships: building.relationships,
            messages: carried.sent,
            twin_updates: carried.updated,
            twin_events,
            latencies,
            sample: self.cloud.device_sample(&group),
        })
    }

    fn begin(&mut self, chapter: &'static str) {
        self.report.begin(self.chapter, chapter);
    }

    async fn build(&mut self) -> Result<Building, Fault> {
        self.begin("sign in at the token issuer");
        self.cloud.sign_in().await?;
        self.report.done("tokens for Resource Manager and Digital Twins");

        self.begin("load the building's models");
        let models = building::load_models(&self.cloud).await?;
        self.report.done(&format!("{models} models"));

        self.begin("build the building");
        let building = building::build(&self.cloud, &self.run_id).await?;
        self.report.done(&format!("{} twins, {} relationships", building.twins, building.relationships));
        Ok(building)
    }

    async fn route(&mut self) -> Result<Route, Fault> {
        self.begin("route twin events to an event hub");
        let route = self.cloud.route_twin_events(&self.run_id).await?;
        self.report.done(&format!("endpoint {} to event hub {}", route.endpoint, route.event_hub));
        Ok(route)
    }

    async fn enroll(&mut self) -> Result<Group, Fault> {
        self.begin("enroll a group of devices");
        let group = self.cloud.enroll_group(&self.run_id).await?;
        self.report.done(&format!("enrollment group {}", group.id));
        Ok(group)
    }

    async fn connect(&mut self, group: &Group, building: &Building) -> Result<Fleet, Fault> {
        self.begin("register devices through provisioning");
        let mut fleet = Fleet::register(&self.site, group, &building.rooms).await?;
        self.report.done(&format!("{} devices assigned to {}", fleet.len(), fleet.hub_host()));

        self.begin("connect the devices to their hub");
        fleet.connect().await?;
        self.report.done(&format!("{} connected over MQTT with TLS", fleet.len()));
        Ok(fleet)
    }

    async fn command(&mut self, fleet: &mut Fleet) -> Result<(), Fault> {
        self.begin("report properties, receive desired properties");
        fleet.set_desired(&self.cloud).await?;
        self.report.done(&format!("{} devices and a module twin agree with the cloud", fleet.len()));

        self.begin("call a direct method on every device");
        fleet.call_methods(&self.cloud).await?;
        self.report.done(&format!("{} answers", fleet.len()));
        Ok(())
    }

    async fn carry(&mut self, fleet: &mut Fleet, building: &Building) -> Result<Carried, Fault> {
        self.begin("send telemetry and carry it to the digital twins");
        let carried = function_app::run(&self.cloud, fleet, building, self.report).await?;
        self.report.done(&format!("{} messages durable, {} twins updated", carried.sent, carried.updated));
        Ok(carried)
    }

    /// Gives the number of twin events that arrived.
    async fn look(&mut self, building: &Building, route: &Route, carried: &Carried) -> Result<usize, Fault> {
        self.begin("ask the graph");
        let rows = building::warm_rooms(&self.cloud, building, &carried.last_temperatures).await?;
        self.report.done(&format!("{rows} rooms answer with live values"));

        self.begin("see twin events arrive at the event hub");
        let events = self.cloud.count_twin_events(route, &building.rooms, carried.updated).await?;
        self.report.done(&format!("{events} events"));
        Ok(events)
    }
}
