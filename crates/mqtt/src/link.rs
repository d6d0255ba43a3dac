//! One connection as both services' loops see it: packets in, answers out, and the reasons for which it ends by itself: the peer
//! has gone, it has been silent for too long, its credential has run out, the server stops. It knows no topic.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base::measure::Traffic;
use base::tasks::Stopping;
use base::{Clock, Elapsed, Timestamp, caps};
use bytes::BytesMut;
use entrance::websocket::Violation;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::codec::{Malformed, Packet};
use crate::wire::Wire;

/// Why a connection is over. Nothing but [`End::Disconnect`] is a goodbye of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Disconnect,
    /// The peer closed the transport, or it broke.
    Gone,
    /// Nothing was heard for one and a half keep-alive intervals.
    Silent,
    /// The token ran out, and the grace after it.
    Expired,
    Malformed(Malformed),
    /// A packet that is well formed but not allowed here.
    Violation(&'static str),
    /// An operation failed and MQTT has no answer that could say so.
    Refused(&'static str),
    /// The hub closed the session: taken over, disabled, deleted.
    Closed(hub::CloseReason),
    Stopping,
}

impl End {
    /// Why the server ended the connection, where the device is to blame or unwelcome. A device that comes back with a new
    /// token, or takes over its own connection, is neither.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Malformed(_) => Some("it sent a malformed packet"),
            Self::Violation(why) | Self::Refused(why) => Some(why),
            Self::Closed(hub::CloseReason::DeviceDisabled) => Some("its device was disabled"),
            Self::Closed(hub::CloseReason::DeviceDeleted) => Some("it was deleted"),
            Self::Closed(hub::CloseReason::HubRemoved) => Some("its hub was removed"),
            Self::Closed(hub::CloseReason::NodeLost) => Some("this server had lost its hold on the store"),
            Self::Closed(hub::CloseReason::QueueFull) => Some("it did not take what was sent to it"),
            Self::Closed(hub::CloseReason::TakenOver | hub::CloseReason::Ended)
            | Self::Disconnect
            | Self::Gone
            | Self::Silent
            | Self::Expired
            | Self::Stopping => None,
        }
    }
}

/// What woke the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// Bytes came in, or room for answers was made.
    Bytes,
    /// Shutdown began: take nothing more, but pay what is owed.
    Stopping,
}

pub(crate) struct Link<S> {
    wire: Wire<S>,
    clock: Clock,
    traffic: Arc<Traffic>,
    heard_at: Elapsed,
    silence_max: Duration,
    leave_at: Option<Elapsed>,
    cut_at: Option<Timestamp>,
    alarm: Pin<Box<dyn Future<Output = ()> + Send>>,
    stopping: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// A connection of which nothing is known yet: it may hold little and not for long.
    /// What its handshake took counts as silence.
    pub(crate) fn new(
        stream: S,
        clock: &Clock,
        traffic: Arc<Traffic>,
        accepted_at: Elapsed,
        mut stopping: Stopping,
    ) -> Self {
        let silence_max = entrance::STRANGERS_STAY;
        let heard_at = accepted_at;
        Self {
            wire: Wire::new(stream),
            traffic,
            heard_at,
            silence_max,
            leave_at: None,
            cut_at: None,
            alarm: alarm(clock.clone(), heard_at.plus(silence_max)),
            stopping: Some(Box::pin(async move { stopping.wait().await })),
            clock: clock.clone(),
        }
    }

    /// From now on the client's own keep-alive counts: the connection ends after one and a half of it without a packet in
    /// either direction. Zero stands for the longest time there is.
    pub(crate) fn keep_alive(&mut self, keep_alive_seconds: u16) {
        let allowed = Duration::from_secs(caps::MQTT_KEEP_ALIVE_SECONDS_MAX);
        self.silence_max = match keep_alive_seconds {
            0 => allowed,
            seconds => (Duration::from_secs(seconds.into()) * 3 / 2).min(allowed),
        };
        self.heard_at = self.clock.elapsed();
        self.set_alarm();
    }

    /// The connection ends within this time, whatever is heard.
    pub(crate) fn leave_within(&mut self, patience: Duration) {
        self.leave_at = Some(self.clock.elapsed().plus(patience));
        self.set_alarm();
    }

    /// The connection ends at this moment of the calendar, which its token names, whatever is heard.
    pub(crate) fn cut_at(&mut self, cut_at: Option<Timestamp>) {
        self.cut_at = cut_at;
        self.set_alarm();
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn allow_packets_of(&mut self, packet_bytes_max: usize) {
        self.wire.allow_packets_of(packet_bytes_max);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_none()
    }

    pub(crate) fn is_written(&self) -> bool {
        self.wire.is_written()
    }

    pub(crate) fn is_clogged(&self) -> bool {
        self.wire.is_clogged()
    }

    /// Counts a publish that was written to [`Self::out`].
    pub(crate) fn note_sent(&self) {
        self.traffic.messages_out.add(1);
    }

    pub(crate) fn out(&mut self) -> &mut BytesMut {
        self.wire.out()
    }

    pub(crate) fn next_packet(&mut self) -> Result<Option<Packet>, End> {
        let packet = self.wire.next_packet().map_err(End::Malformed)?;
        if matches!(packet, Some(Packet::Publish(_))) {
            self.traffic.messages_in.add(1);
        }
        if packet.is_some() {
            self.heard_at = self.clock.elapsed();
            // The alarm is looked at only when there is nothing to read, and some peers never stop.
            if self.is_cut() {
                return Err(End::Expired);
            }
        }
        Ok(packet)
    }

    /// A wall clock that is wrong for a moment cuts nobody.
    fn is_cut(&self) -> bool {
        self.leave_at.is_some_and(|leave_at| self.clock.elapsed() >= leave_at)
            || self.cut_at.is_some_and(|cut_at| self.clock.stamp() >= cut_at)
    }

    /// Writes what is to go out, reads if it `may_read`, and watches the time.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, may_read: bool) -> Poll<Result<Moved, End>> {
        let (was_clogged, was_written) = (self.is_clogged(), self.is_written());
        self.poll_write(cx)?;
        // Someone may have waited for just that.
        if was_clogged && !self.is_clogged() || self.is_stopping() && !was_written && self.is_written() {
            return Poll::Ready(Ok(Moved::Bytes));
        }
        if may_read && !self.is_stopping() && !self.is_clogged() {
            match self.wire.poll_read(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(End::Gone)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(broken(&error))),
                Poll::Ready(Ok(_)) => return Poll::Ready(Ok(Moved::Bytes)),
                Poll::Pending => {}
            }
        }
        if let Some(stopping) = &mut self.stopping
            && stopping.as_mut().poll(cx).is_ready()
        {
            self.stopping = None;
            return Poll::Ready(Ok(Moved::Stopping));
        }
        self.poll_alarm(cx).map(Err)
    }

    /// A peer that takes bytes is alive.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if self.wire.is_written() {
            return Ok(());
        }
        let before = self.wire.out().len();
        let written = self.wire.poll_write(cx);
        if self.wire.out().len() < before {
            self.heard_at = self.clock.elapsed();
        }
        if matches!(written, Poll::Ready(Err(_))) { Err(End::Gone) } else { Ok(()) }
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            if self.is_cut() {
                return Poll::Ready(End::Expired);
            }
            if self.clock.elapsed() >= self.heard_at.plus(self.silence_max) {
                return Poll::Ready(End::Silent);
            }
            self.set_alarm();
        }
    }

    /// The alarm is not moved with every packet; when it rings too early it is set again.
    fn set_alarm(&mut self) {
        let silent_at = self.heard_at.plus(self.silence_max);
        // Where the wall clock is set meanwhile, it rings too early or the next packet tells.
        let in_time = |cut_at: Timestamp| self.clock.elapsed().plus(cut_at.since(self.clock.stamp()));
        let ends = [self.leave_at, self.cut_at.map(in_time)].into_iter().flatten();
        self.alarm = alarm(self.clock.clone(), ends.fold(silent_at, Elapsed::min));
    }

    /// The next packet, before there is a session.
    pub(crate) async fn receive(&mut self) -> Result<Packet, End> {
        loop {
            if let Some(packet) = self.next_packet()? {
                return Ok(packet);
            }
            if std::future::poll_fn(|cx| self.poll(cx, true)).await? == Moved::Stopping {
                return Err(End::Stopping);
            }
        }
    }

    /// Writes what is left to write, as long as the peer takes it, and closes.
    pub(crate) async fn finish(&mut self) {
        let silence_max = entrance::STRANGERS_STAY;
        let mut patience = alarm(self.clock.clone(), self.clock.elapsed().plus(silence_max));
        std::future::poll_fn(|cx| {
            let closed = match self.wire.poll_write(cx) {
                Poll::Ready(Ok(())) => self.wire.poll_shutdown(cx).map(drop),
                Poll::Ready(Err(_)) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            };
            if closed.is_ready() { closed } else { patience.as_mut().poll(cx) }
        })
        .await;
    }
}

/// A peer that speaks nonsense below MQTT is to blame as much as one that does so in it.
fn broken(error: &io::Error) -> End {
    let violation = error.get_ref().and_then(|inner| inner.downcast_ref::<Violation>());
    violation.map_or(End::Gone, |violation| End::Violation(violation.why()))
}

fn alarm(clock: Clock, at: Elapsed) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move { clock.sleep_until(at).await })
}
