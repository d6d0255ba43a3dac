//! Direct methods: a service asks, a connected device answers, both within time limits (`iothub-service.md` §6).
//! Nothing of it is stored; a device that is not there is waited for only as long as the service says.

#[cfg(test)]
mod tests;

use std::time::Duration;

use access::{Caller, Permission};
use base::ids::IdentityId;
use base::{Elapsed, Meter, caps};
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::bus::{CloseReason, Delivery, Reply};
use crate::error::Error;
use crate::hub::Hub;
use crate::mailbox::MethodAnswer;
use crate::sessions::Session;

/// What a service asks for. Times as it wrote them.
#[derive(Clone, Debug)]
pub struct MethodRequest {
    pub name: String,
    /// JSON text; `None` reaches the device as an empty payload.
    pub payload: Option<Box<RawValue>>,
    pub connect_timeout_seconds: Option<u64>,
    pub response_timeout_seconds: Option<u64>,
}

/// What the device answered.
#[derive(Clone, Debug)]
pub struct MethodResponse {
    pub status: i32,
    /// JSON text; `None` when the device sent no payload.
    pub payload: Option<Box<RawValue>>,
}

/// How long the device may take to come, and the whole call to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timeouts {
    connect: Duration,
    response: Duration,
}

impl Hub {
    /// `Devices_InvokeMethod`, `Modules_InvokeMethod`.
    pub async fn invoke_method(
        &self,
        caller: &Caller,
        id: &IdentityId,
        request: MethodRequest,
    ) -> Result<MethodResponse, Error> {
        let measures = self.measures();
        let bytes =
            |payload: &Option<Box<RawValue>>| payload.as_ref().map_or(0, |raw| raw.get().len() as u64);
        measures.method_request_bytes.add(bytes(&request.payload));
        let response = measures.methods.note(self.call_method(caller, id, request).await)?;
        measures.method_response_bytes.add(bytes(&response.payload));
        Ok(response)
    }

    async fn call_method(
        &self,
        caller: &Caller,
        id: &IdentityId,
        request: MethodRequest,
    ) -> Result<MethodResponse, Error> {
        caller.require(Permission::DirectMethodInvoke, self.scope())?;
        self.charge(Meter::DirectMethod)?;
        let timeouts = check(&request)?;
        self.require_registered(id).await?;
        let place = self.mailboxes().method_place(id);
        let asked_at = self.clock().elapsed();
        let _place = place.ok_or_else(|| Error::DeviceMaximumInflightMethodExceeded(id.to_string()))?;
        let deadline = asked_at.plus(timeouts.response);
        tokio::select! {
            biased;
            reply = self.offer(id, request, asked_at.plus(timeouts.connect), deadline) => response(reply?),
            () = self.clock().sleep_until(deadline) => Err(Error::GatewayTimeout),
        }
    }

    /// Offers the method to the device once it listens, on whatever node that is, and waits for what becomes of it. The device gets
    /// it once at the most.
    async fn offer(
        &self,
        id: &IdentityId,
        request: MethodRequest,
        comes_before: Elapsed,
        deadline: Elapsed,
    ) -> Result<Reply, Error> {
        let payload =
            request.payload.map_or_else(Bytes::new, |raw| Bytes::from(String::from(Box::<str>::from(raw))));
        loop {
            // Before the look, so that nobody comes unseen between it and the wait.
            let line = self.mailboxes().line(id);
            let left = deadline.since(self.clock().elapsed()).as_millis();
            let timeout_ms = u64::try_from(left).unwrap_or(u64::MAX);
            let (name, payload) = (request.name.clone(), payload.clone());
            match self.deliver(id, Delivery::Method { name, payload, timeout_ms }).await? {
                Reply::NotListening | Reply::NotMine => {}
                reply => return Ok(reply),
            }
            self.wait_for_listener(line, comes_before).await?;
        }
    }

    /// A device's answer. `false` when nobody waits for it any more, which is no fault of the device.
    pub fn complete_method(&self, session: &Session, request_id: u64, status: i32, payload: Bytes) -> bool {
        session.touch();
        session.answer_method(request_id, MethodAnswer::Sent { status, payload })
    }

    /// For a door whose device has not subscribed to this method: the service hears at once that nobody is there for it.
    pub fn decline_method(&self, session: &Session, request_id: u64) {
        session.answer_method(request_id, MethodAnswer::Declined);
    }

    async fn require_registered(&self, id: &IdentityId) -> Result<(), Error> {
        if self.identity(&IdentityId::device(id.device_id.clone())).await?.is_none() {
            return Err(Error::DeviceNotFound(id.device_id.to_string()));
        }
        match &id.module_id {
            Some(module_id) if self.identity(id).await?.is_none() => {
                let (device_id, module_id) = (id.device_id.to_string(), module_id.to_string());
                Err(Error::ModuleNotFound { device_id, module_id })
            }
            _ => Ok(()),
        }
    }

    /// Until the device may have come: to this node, which tells at once, or to another, which is asked again and again.
    async fn wait_for_listener(
        &self,
        line: oneshot::Receiver<()>,
        comes_before: Elapsed,
    ) -> Result<(), Error> {
        let mut stopping = self.context().tasks.stopping();
        let now = self.clock().elapsed();
        let look_again = now.plus(Duration::from_millis(caps::LISTENER_LOOK_MS)).min(comes_before);
        tokio::select! {
            biased;
            // An error means that the line was dissolved; look again.
            _ = line => return Ok(()),
            // No device will come any more. Nothing was sent, so whoever tries again does no harm.
            () = stopping.wait() => return Err(Error::ServerBusy),
            () = self.clock().sleep_until(look_again) => {}
        }
        if self.clock().elapsed() < comes_before { Ok(()) } else { Err(Error::DeviceNotOnline) }
    }
}

fn response(reply: Reply) -> Result<MethodResponse, Error> {
    let (status, payload) = match reply {
        Reply::Answered { status, payload } => (status, payload),
        Reply::TimedOut => return Err(Error::GatewayTimeout),
        Reply::Closed(CloseReason::TakenOver) => {
            return Err(Error::ConnectionForcefullyClosedOnNewConnection);
        }
        Reply::Closed(_) => return Err(Error::DeviceConnectionClosedRemotely),
        Reply::Declined | Reply::NotListening | Reply::NotMine | Reply::Taken => {
            return Err(Error::DeviceNotOnline);
        }
    };
    if payload.len() > caps::METHOD_PAYLOAD_BYTES_MAX {
        return Err(Error::BadGateway("The device's response is larger than a direct method allows."));
    }
    if payload.iter().all(u8::is_ascii_whitespace) {
        return Ok(MethodResponse { status, payload: None });
    }
    let payload = serde_json::from_slice(&payload)
        .map_err(|_| Error::BadGateway("The device's response is not valid JSON."))?;
    Ok(MethodResponse { status, payload: Some(payload) })
}

/// Whether such a call can be made at all.
pub(crate) fn check_request(request: &MethodRequest) -> Result<(), Error> {
    check(request).map(drop)
}

fn check(request: &MethodRequest) -> Result<Timeouts, Error> {
    if request.name.is_empty() {
        return Err(Error::ArgumentNull("methodName"));
    }
    let allowed = |c: char| c.is_ascii_graphic() && !r#"$()<>@,;:\"/[]?={}"#.contains(c);
    if request.name.chars().count() > caps::METHOD_NAME_CHARACTERS_MAX || !request.name.chars().all(allowed) {
        return Err(Error::invalid(
            "methodName holds characters that a method's name cannot have, or too many.",
        ));
    }
    let payload_bytes = request.payload.as_ref().map_or(0, |raw| raw.get().len());
    if payload_bytes > caps::METHOD_PAYLOAD_BYTES_MAX {
        let max = caps::METHOD_PAYLOAD_BYTES_MAX;
        return Err(Error::MessageTooLarge(format!("The payload exceeds the limit of {max} bytes.")));
    }
    timeouts(request.connect_timeout_seconds, request.response_timeout_seconds)
}

fn timeouts(connect: Option<u64>, response: Option<u64>) -> Result<Timeouts, Error> {
    let connect = connect.unwrap_or(0);
    let response = response.unwrap_or(caps::METHOD_RESPONSE_SECONDS_DEFAULT);
    if !caps::METHOD_RESPONSE_SECONDS.contains(&response) {
        let (min, max) = caps::METHOD_RESPONSE_SECONDS.into_inner();
        return Err(Error::invalid(format!("responseTimeoutInSeconds must lie between {min} and {max}.")));
    }
    if connect > caps::METHOD_CONNECT_SECONDS_MAX {
        let max = caps::METHOD_CONNECT_SECONDS_MAX;
        return Err(Error::invalid(format!("connectTimeoutInSeconds must lie between 0 and {max}.")));
    }
    if connect > response {
        let text = format!(
            "Device connection timeout of {connect} seconds cannot be longer than an overall call timeout of {response} seconds."
        );
        return Err(Error::invalid(text));
    }
    Ok(Timeouts { connect: Duration::from_secs(connect), response: Duration::from_secs(response) })
}
