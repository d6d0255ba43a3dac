//! The demo's function app: reads what devices send and carries it to the digital twins, as a cloud function would.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Report;
use super::building::Building;
use super::cloud::{self, Cloud};
use super::fleet::Fleet;
use crate::fleet::Fault;

const ROUNDS: usize = 10;

pub(super) struct Carried {
    pub sent: usize,
    pub updated: usize,
    /// What each room's device sent last.
    pub last_temperatures: BTreeMap<String, f64>,
}

pub(super) async fn run(
    cloud: &Cloud,
    fleet: &mut Fleet,
    building: &Building,
    report: &mut Report,
) -> Result<Carried, Fault> {
    let mut last = BTreeMap::new();
    for round in 0..ROUNDS {
        fleet.send(move |index| temperature(round, index)).await?;
        report.progress(&format!("round {} of {ROUNDS} sent", round + 1));
        // The rooms are sorted like the devices, so that index and id agree.
        let mut rooms = building.rooms.clone();
        rooms.sort();
        last = rooms.into_iter().enumerate().map(|(index, room)| (room, temperature(round, index))).collect();
    }
    let sent = ROUNDS * fleet.len();
    let messages = collect(cloud, building, sent).await?;
    let mut updated = 0;
    for (device_id, body) in &messages {
        let patch = json!([
            {"op": "replace", "path": "/temperature", "value": body["temperature"]},
            {"op": "replace", "path": "/humidity", "value": body["humidity"]},
        ]);
        let answer = cloud.twins("PATCH", &format!("/digitaltwins/{device_id}"), &[], &patch).await?;
        cloud::expect_success(&answer, "digital twin")?;
        updated += 1;
        if updated % 10 == 0 {
            report.progress(&format!("{updated} of {} twins updated", messages.len()));
        }
    }
    Ok(Carried { sent, updated, last_temperatures: last })
}

/// Reads the hub's events until all messages of this run's devices are there, in the order of each device.
async fn collect(cloud: &Cloud, building: &Building, wanted: usize) -> Result<Vec<(String, Value)>, Fault> {
    let mut messages = Vec::new();
    let read = cloud.follow("from=earliest", |event| {
        let device_id = event["deviceId"].as_str().unwrap_or_default();
        if event["source"] == "Telemetry" && building.rooms.iter().any(|room| room == device_id) {
            messages.push((device_id.to_owned(), event["body"].clone()));
        }
        messages.len() >= wanted
    });
    read.await
        .map_err(|fault| Fault::unexpected(format!("{fault} (after {} of {wanted})", messages.len())))?;
    Ok(messages)
}

/// Different for every room and round, and exact in a double.
fn temperature(round: usize, index: usize) -> f64 {
    let quarters = u32::try_from(80 + index + round).unwrap_or(80);
    f64::from(quarters) / 4.0
}
