//! One connection's bytes: what has come in and is not yet a packet, what is to go out and is not yet written. Used by the loops
//! of both services. An idle connection holds no buffer here; nothing in it waits for anything but the socket.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base::caps;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::codec::{self, Malformed, Packet};

/// Bytes taken from the socket at a time. They live on the thread's stack, so that a connection that waits holds none.
const READ_BYTES: usize = 8 * 1024;

pub(crate) struct Wire<S> {
    stream: Box<S>,
    incoming: BytesMut,
    outgoing: BytesMut,
    is_flushed: bool,
    packet_bytes_max: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// The stream is boxed: a future that holds it by value holds it more than once.
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream: Box::new(stream),
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            is_flushed: true,
            packet_bytes_max: caps::UNAUTHENTICATED_BYTES_MAX,
        }
    }

    /// What a peer may send in one packet from now on.
    pub(crate) fn allow_packets_of(&mut self, packet_bytes_max: usize) {
        self.packet_bytes_max = packet_bytes_max;
    }

    /// The next packet that has come in whole.
    pub(crate) fn next_packet(&mut self) -> Result<Option<Packet>, Malformed> {
        let packet = codec::decode(&mut self.incoming, self.packet_bytes_max);
        if self.incoming.is_empty() {
            self.incoming = BytesMut::new();
        }
        packet
    }

    /// Where packets are written to. They leave with [`Self::poll_write`].
    pub(crate) fn out(&mut self) -> &mut BytesMut {
        &mut self.outgoing
    }

    /// The peer reads more slowly than we answer: take nothing more from it until it has caught up.
    pub(crate) fn is_clogged(&self) -> bool {
        self.outgoing.len() >= caps::MQTT_OUTGOING_BYTES_MAX
    }

    pub(crate) fn is_written(&self) -> bool {
        self.outgoing.is_empty() && self.is_flushed
    }

    /// Takes some bytes from the socket; zero is its end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // There is room for one packet of the largest kind and no more; a whole one has been taken before.
        let room = self.packet_bytes_max.saturating_sub(self.incoming.len()).clamp(1, READ_BYTES);
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut space = ReadBuf::uninit(&mut space[..room]);
        ready!(Pin::new(&mut *self.stream).poll_read(cx, &mut space))?;
        self.incoming.extend_from_slice(space.filled());
        Poll::Ready(Ok(space.filled().len()))
    }

    /// Writes what is to go out; ready once all of it has left.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.outgoing.has_remaining() {
            let count = ready!(Pin::new(&mut *self.stream).poll_write(cx, &self.outgoing))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(count);
            self.is_flushed = false;
        }
        self.outgoing = BytesMut::new();
        if !self.is_flushed {
            ready!(Pin::new(&mut *self.stream).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Says goodbye to the transport, where it has a way to (TLS, WebSocket).
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}
