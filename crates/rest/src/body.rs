//! The body of a request as it comes: most doors read it whole and small, that of blobs passes it on in parts. No door sees a byte of
//! it before it has asked.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::router::Fault;

/// A body that is read whole must arrive within this time.
pub(crate) const WHOLE: Duration = Duration::from_secs(60);

type Part<'a> = Pin<Box<dyn Future<Output = Result<Option<Bytes>, Fault>> + Send + 'a>>;

pub trait RequestBody: Send {
    /// The next bytes; `None` at the end.
    fn next(&mut self) -> Part<'_>;

    /// At least so many are to come.
    fn least(&self) -> u64;
}

/// The whole body, if it is not longer than that.
pub async fn read(body: &mut dyn RequestBody, max_bytes: usize) -> Result<Bytes, Fault> {
    if body.least() > max_bytes as u64 {
        return Err(Fault::BodyTooLarge { max_bytes });
    }
    let collect = async {
        let mut collected = BytesMut::new();
        while let Some(part) = body.next().await? {
            if collected.len() + part.len() > max_bytes {
                return Err(Fault::BodyTooLarge { max_bytes });
            }
            collected.extend_from_slice(&part);
        }
        Ok(collected.freeze())
    };
    tokio::time::timeout(WHOLE, collect).await.unwrap_or(Err(Fault::BodyIncomplete))
}

/// A body that is there already: tests.
pub struct AtHand(Option<Bytes>);

impl AtHand {
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self(Some(body.into()))
    }
}

impl RequestBody for AtHand {
    fn next(&mut self) -> Part<'_> {
        Box::pin(std::future::ready(Ok(self.0.take())))
    }

    fn least(&self) -> u64 {
        self.0.as_ref().map_or(0, |body| body.len() as u64)
    }
}
