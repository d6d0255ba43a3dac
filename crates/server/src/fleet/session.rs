//! One connection of a simulated device, on which everything goes on at the same time: it sends when it is time, and answers
//! whatever comes meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use base::{Elapsed, caps};
use mqtt::codec::{Delivery, Packet, PacketId, Publish};
use mqtt::topic::{FromDevice, ToDevice};
use serde_json::Value;
use tokio::sync::watch;

use super::device::TOKEN_LIFE;
use super::firmware::Firmware;
use super::simulation::{self, Context};
use super::tally::Step;
use super::{Device, Fault};
use crate::client::{ClientError, MqttClient};

/// Well within the minute that the connection was opened with.
const PING_EVERY: Duration = Duration::from_secs(25);
/// How often a device reports a property of its own.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// After which share of a token's life a device comes with a new one: between these, so that not all do at once.
const RENEWED_FROM: f64 = 0.65;
const RENEWED_UP_TO: f64 = 0.85;

/// Why a session ended that did not break.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Told,
    /// Its token would end soon.
    ToRenew,
}

pub(super) struct Session<'a> {
    context: &'a Context,
    device: &'a Device,
    firmware: &'a mut Firmware,
    client: MqttClient,
    in_flight: VecDeque<(PacketId, Elapsed)>,
    reports: VecDeque<(u64, Elapsed)>,
    next_request: u64,
    heard_at: Elapsed,
    pinged_at: Elapsed,
    reported_at: Elapsed,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        context: &'a Context,
        device: &'a Device,
        firmware: &'a mut Firmware,
        client: MqttClient,
    ) -> Self {
        let now = context.site.clock.elapsed();
        Self {
            context,
            device,
            firmware,
            client,
            in_flight: VecDeque::new(),
            reports: VecDeque::new(),
            next_request: 1,
            heard_at: now,
            pinged_at: now,
            reported_at: now,
        }
    }

    /// Lives until it is told to end, or until the connection breaks. `phase` of the pause between two messages passes before the first.
    pub(super) async fn run(mut self, phase: f64, stop: &mut watch::Receiver<bool>) -> Result<Ended, Fault> {
        let clock = self.context.site.clock.clone();
        let begun_at = clock.elapsed();
        self.ask(&FromDevice::GetTwin { request_id: "twin" }, "").await?;
        let every = self.context.every;
        let mut due = begun_at.plus(every.mul_f64(phase));
        let renewed_after = TOKEN_LIFE.mul_f64(RENEWED_FROM + (RENEWED_UP_TO - RENEWED_FROM) * phase);
        loop {
            let now = clock.elapsed();
            if now >= due {
                self.send_telemetry(now).await?;
                // Without catching up: what was late is late.
                due = if now >= due.plus(every) { now.plus(every) } else { due.plus(every) };
            }
            self.keep_alive(now).await?;
            if now.since(begun_at) > renewed_after {
                self.end().await;
                return Ok(Ended::ToRenew);
            }
            let pause = due.since(now).min(PING_EVERY);
            tokio::select! {
                packet = self.client.receive() => self.take(packet?).await?,
                () = tokio::time::sleep(pause) => {}
                () = simulation::told(stop) => {
                    self.end().await;
                    return Ok(Ended::Told);
                }
            }
        }
    }

    async fn send_telemetry(&mut self, now: Elapsed) -> Result<(), Fault> {
        let tally = &self.context.tally;
        if self.in_flight.len() >= caps::SIMULATED_IN_FLIGHT_MAX {
            tally.held_back.up();
            return Ok(());
        }
        let message = self.firmware.next_message(self.context.site.clock.now());
        let content = "%24.ct=application%2Fjson&%24.ce=utf-8";
        let bag = match message.component {
            Some(component) => format!("{content}&%24.sub={component}"),
            None => content.to_owned(),
        };
        let topic = FromDevice::Telemetry { bag: &bag }.text(&self.device.identity);
        let packet_id = self.client.send_publish(&topic, message.body.to_string()).await?;
        self.in_flight.push_back((packet_id, now));
        tally.sent.up();
        Ok(())
    }

    /// Pings when nothing else was said, and notices a server that says nothing any more.
    async fn keep_alive(&mut self, now: Elapsed) -> Result<(), Fault> {
        if now.since(self.heard_at) > Duration::from_secs(caps::SIMULATED_SILENCE_SECONDS_MAX) {
            return Err(ClientError::Timeout(caps::SIMULATED_SILENCE_SECONDS_MAX).into());
        }
        if now.since(self.heard_at) >= PING_EVERY && now.since(self.pinged_at) >= PING_EVERY {
            self.pinged_at = now;
            self.client.ping().await?;
        }
        if now.since(self.reported_at) >= REPORT_EVERY {
            self.reported_at = now;
            if let Some(patch) = self.firmware.next_report(self.context.site.clock.now()) {
                self.report(&patch).await?;
            }
        }
        Ok(())
    }

    async fn take(&mut self, packet: Packet) -> Result<(), Fault> {
        let now = self.context.site.clock.elapsed();
        self.heard_at = now;
        match packet {
            Packet::PubAck(packet_id) => {
                // Azure acknowledges in the order of receipt, and so does twinhub.
                if let Some(place) = self.in_flight.iter().position(|(id, _)| *id == packet_id)
                    && let Some((_, sent_at)) = self.in_flight.remove(place)
                {
                    self.context.tally.took(Step::Publish, now.since(sent_at));
                }
                Ok(())
            }
            Packet::Publish(publish) => {
                if let Delivery::AtLeastOnce { packet_id, .. } = publish.delivery {
                    self.client.send(&Packet::PubAck(packet_id)).await?;
                }
                self.hear(&publish, now).await
            }
            _ => Ok(()),
        }
    }

    async fn hear(&mut self, publish: &Publish, now: Elapsed) -> Result<(), Fault> {
        let body: Value = serde_json::from_slice(&publish.payload).unwrap_or_default();
        let tally = self.context.tally.clone();
        match ToDevice::parse(publish.topic.as_str()) {
            Ok(ToDevice::TwinResponse { status: 200, request_id: "twin", .. }) => {
                let patch = self.firmware.first_report(&body["desired"]);
                self.report(&patch).await
            }
            Ok(ToDevice::TwinResponse { status, request_id, .. }) => {
                let place = self.reports.iter().position(|(id, _)| id.to_string() == request_id);
                let Some((_, sent_at)) = place.and_then(|place| self.reports.remove(place)) else {
                    tally.failed("twin", &format!("answered {status}"));
                    return Ok(());
                };
                if status == 204 {
                    tally.took(Step::Report, now.since(sent_at));
                } else {
                    let message = body["message"].as_str().unwrap_or_default();
                    tally.failed("report", &format!("answered {status}: {message}"));
                }
                Ok(())
            }
            Ok(ToDevice::DesiredChanged { version }) => {
                tally.desired.up();
                match self.firmware.take_desired(&body, version) {
                    Some(patch) => self.report(&patch).await,
                    None => Ok(()),
                }
            }
            Ok(ToDevice::Method { name, request_id }) => {
                let (status, answer) = self.firmware.answer(name, &body, self.context.site.clock.now());
                tally.methods.up();
                let status = status.to_string();
                let answer = answer.to_string();
                self.ask(&FromDevice::MethodResponse { status: &status, request_id }, &answer).await
            }
            Ok(ToDevice::ProvisioningResponse { .. }) | Err(_) => Ok(()),
        }
    }

    async fn report(&mut self, patch: &Value) -> Result<(), Fault> {
        let id = self.next_request;
        self.next_request += 1;
        if self.reports.len() >= caps::SIMULATED_IN_FLIGHT_MAX {
            self.reports.pop_front();
        }
        self.reports.push_back((id, self.context.site.clock.elapsed()));
        let request_id = id.to_string();
        let topic = FromDevice::PatchReported { request_id: Some(&request_id), expected_version: None };
        self.ask(&topic, &patch.to_string()).await
    }

    /// Says something whose answer, if there is one, comes as a publish of its own.
    async fn ask(&mut self, topic: &FromDevice<'_>, body: &str) -> Result<(), Fault> {
        Ok(self.client.send_at_most_once(&topic.text(&self.device.identity), body.to_owned()).await?)
    }

    /// Waits for what is under way, and says goodbye. A connection that is gone by then is as good.
    async fn end(mut self) {
        let tally = self.context.tally.clone();
        let acknowledged = async {
            while !self.in_flight.is_empty() {
                let packet = self.client.receive().await?;
                self.take(packet).await?;
            }
            Ok::<(), Fault>(())
        };
        let limit = Duration::from_secs(caps::SIMULATED_DRAIN_SECONDS_MAX);
        match tokio::time::timeout(limit, acknowledged).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tally.failed("connection lost at the end", &fault),
            Err(_) => tally.failed("end", &"messages were not acknowledged in time"),
        }
        let _ = self.client.disconnect().await;
    }
}
