//! What one connection owes its device, in the order in which the device asked: acknowledgements that wait for durability and
//! answers that wait behind them. Some clients take an acknowledgement out of order for a protocol error. Used by the hub's
//! connection; completions come from the log's thread, and nothing here blocks it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use base::caps;
use bytes::BytesMut;
use hub::Error;
use parking_lot::Mutex;

use crate::codec::{Packet, PacketId};

#[derive(Default)]
pub(crate) struct Owed {
    debts: VecDeque<Debt>,
    /// The number of the first debt; each has the next one.
    first: u64,
    /// What the debts hold in memory.
    bytes: usize,
    /// Made with the first append, so that a device that only listens does not pay for it.
    settled: Option<Arc<Mutex<Settled>>>,
}

enum Debt {
    /// An append under way, and what to acknowledge once it is durable; nothing for QoS 0.
    Append { packet_id: Option<PacketId>, bytes: usize },
    /// Bytes that may go out as soon as everything before them has.
    Ready(BytesMut),
}

/// What the log has said since it was last asked.
#[derive(Default)]
struct Settled {
    results: Vec<(u64, Result<(), Error>)>,
    waker: Option<Waker>,
}

/// The right to settle one append. Dropped unused it counts as a failure, so that no acknowledgement waits for ever.
pub(crate) struct Completion {
    settled: Arc<Mutex<Settled>>,
    number: u64,
    stored: Result<(), Error>,
}

impl Completion {
    pub(crate) fn complete(mut self, stored: Result<(), Error>) {
        self.stored = stored;
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let waker = {
            let mut settled = self.settled.lock();
            settled.results.push((self.number, std::mem::replace(&mut self.stored, Ok(()))));
            settled.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Owed {
    /// As much as one connection may have under way: read nothing more from it.
    pub(crate) fn is_full(&self) -> bool {
        self.debts.len() >= caps::MQTT_INCOMING_WINDOW || self.bytes >= caps::MQTT_INCOMING_WINDOW_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.debts.is_empty()
    }

    /// An append that holds `bytes` until it is durable.
    pub(crate) fn append(&mut self, packet_id: Option<PacketId>, bytes: usize) -> Completion {
        let settled = self.settled.get_or_insert_default().clone();
        let number = self.first + self.debts.len() as u64;
        self.debts.push_back(Debt::Append { packet_id, bytes });
        self.bytes += bytes;
        Completion { settled, number, stored: Err(Error::ServerError) }
    }

    /// Writes an answer, at once if nothing is owed before it.
    pub(crate) fn answer(&mut self, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
        if self.debts.is_empty() {
            return write(out);
        }
        let mut answer = BytesMut::new();
        write(&mut answer);
        self.bytes += answer.len();
        self.debts.push_back(Debt::Ready(answer));
    }

    /// Moves to `out` everything that nothing stands in front of any more; pending when there was nothing to move. An error
    /// ends the connection: MQTT has no other way to say that a message was refused or could not be kept.
    pub(crate) fn poll_settle(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut BytesMut,
    ) -> Poll<Result<(), Error>> {
        let Some(settled) = self.settled.as_ref().filter(|_| !self.debts.is_empty()) else {
            return Poll::Pending;
        };
        let results = {
            let mut settled = settled.lock();
            if settled.results.is_empty() {
                settled.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            std::mem::take(&mut settled.results)
        };
        for (number, stored) in results {
            self.settle(number, stored)?;
        }
        while let Some(Debt::Ready(_)) = self.debts.front() {
            let Some(Debt::Ready(bytes)) = self.debts.pop_front() else { unreachable!("just seen") };
            out.extend_from_slice(&bytes);
            self.bytes -= bytes.len();
            self.first += 1;
        }
        if self.debts.is_empty() {
            self.debts = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }

    fn settle(&mut self, number: u64, stored: Result<(), Error>) -> Result<(), Error> {
        let index = usize::try_from(number - self.first).expect("debts are bounded by the window");
        let Debt::Append { packet_id, bytes: held } = self.debts[index] else { unreachable!("settled once") };
        match stored {
            // QoS 0 promises nothing; but what may not be sent may not be sent at any QoS.
            Err(Error::ServerBusy | Error::ServerError) if packet_id.is_none() => {}
            stored => stored?,
        }
        let mut bytes = BytesMut::new();
        if let Some(packet_id) = packet_id {
            Packet::PubAck(packet_id).encode(&mut bytes).expect("an acknowledgement fits");
        }
        self.bytes = self.bytes - held + bytes.len();
        self.debts[index] = Debt::Ready(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    fn settle(owed: &mut Owed, out: &mut BytesMut) -> Poll<Result<(), Error>> {
        owed.poll_settle(&mut Context::from_waker(Waker::noop()), out)
    }

    #[test]
    fn an_answer_waits_for_the_append_before_it() {
        let (mut owed, mut out) = (Owed::default(), BytesMut::new());
        owed.answer(&mut out, |out| out.extend_from_slice(b"first"));
        let completion = owed.append(Some(id(7)), 1);
        owed.answer(&mut out, |out| out.extend_from_slice(b"last"));
        assert_eq!(settle(&mut owed, &mut out), Poll::Pending);
        assert_eq!(&out[..], b"first");
        completion.complete(Ok(()));
        assert_eq!(settle(&mut owed, &mut out), Poll::Ready(Ok(())));
        assert_eq!(&out[..], b"first\x40\x02\x00\x07last");
        assert!(owed.is_empty());
    }

    #[test]
    fn an_append_that_nobody_settles_has_failed() {
        let (mut owed, mut out) = (Owed::default(), BytesMut::new());
        drop(owed.append(None, 1));
        assert_eq!(settle(&mut owed, &mut out), Poll::Ready(Ok(())));
        drop(owed.append(Some(id(1)), 1));
        assert_eq!(settle(&mut owed, &mut out), Poll::Ready(Err(Error::ServerError)));
        assert!(out.is_empty());
    }

    #[test]
    fn the_window_is_bounded() {
        let mut owed = Owed::default();
        let completions: Vec<_> = (1..caps::MQTT_INCOMING_WINDOW).map(|_| owed.append(None, 1)).collect();
        assert!(!owed.is_full());
        drop((completions, owed.append(None, 1)));
        assert!(owed.is_full());
    }

    #[test]
    fn the_window_is_bounded_in_bytes_too() {
        let (mut owed, mut out) = (Owed::default(), BytesMut::new());
        let completion = owed.append(None, caps::MQTT_INCOMING_WINDOW_BYTES - 4);
        owed.answer(&mut out, |out| out.extend_from_slice(b"abc"));
        assert!(!owed.is_full());
        owed.answer(&mut out, |out| out.extend_from_slice(b"d"));
        assert!(owed.is_full());
        completion.complete(Ok(()));
        assert_eq!(settle(&mut owed, &mut out), Poll::Ready(Ok(())));
        assert_eq!((&out[..], owed.bytes), (&b"abcd"[..], 0));
    }

    proptest! {
        #[test]
        fn acknowledgements_leave_in_the_order_of_receipt(
            order in Just((1_u16..40).collect::<Vec<_>>()).prop_shuffle(), polls in 1_usize..8,
        ) {
            let (mut owed, mut out) = (Owed::default(), BytesMut::new());
            let mut completions: Vec<_> = (1_u16..40).map(|n| Some(owed.append(Some(id(n)), 1))).collect();
            for (step, number) in order.into_iter().enumerate() {
                completions[usize::from(number) - 1].take().unwrap().complete(Ok(()));
                if step % polls == 0 {
                    let _ = settle(&mut owed, &mut out);
                }
            }
            let _ = settle(&mut owed, &mut out);
            let expected: Vec<u8> = (1_u16..40).flat_map(|n| [0x40, 2, 0, u8::try_from(n).unwrap()]).collect();
            prop_assert_eq!(&out[..], &expected[..]);
        }
    }
}
