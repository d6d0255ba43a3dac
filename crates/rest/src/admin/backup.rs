//! `POST /_twinhub/backup`: everything the server keeps, as one tar file that is made while it is sent. What `twinhub backup` asks.

use base::tasks::Stopping;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use super::{Admin, error};
use crate::wire::{BodyStream, Request, Response};

/// A backup, piece by piece. One that ends with an error is not complete, and its reader can tell.
pub type Pieces = mpsc::Receiver<Result<Bytes, String>>;

pub(super) async fn make(door: Admin, (): (), _: Request) -> Response {
    let mut pieces = match (door.0.backup)() {
        Ok(pieces) => pieces,
        Err(why) => return error(409, "BackupNotPossible", &why),
    };
    // The copy of the records is made before the first piece, and most of what can go wrong goes wrong there.
    match pieces.recv().await {
        Some(Ok(first)) => {
            let rest = Rest { first: Some(first), pieces, stopping: door.0.tasks.stopping() };
            Response::stream(200, "application/x-tar", rest.into_body())
        }
        Some(Err(why)) => error(500, "BackupFailed", &format!("The backup could not be made: {why}")),
        None => error(500, "BackupFailed", "The backup could not be made; the server's log says why."),
    }
}

struct Rest {
    first: Option<Bytes>,
    pieces: Pieces,
    stopping: Stopping,
}

impl Rest {
    fn into_body(self) -> BodyStream {
        Box::pin(stream::unfold(self, |mut rest| async move { Some((rest.next().await?, rest)) }))
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        tokio::select! {
            () = self.stopping.wait() => None,
            piece = self.pieces.recv() => piece?.ok(),
        }
    }
}
