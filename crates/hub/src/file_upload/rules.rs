//! When a device may begin to upload one more file, and what it may say of one that it began (`iothub-device.md` §7). Pure.

use base::{Timestamp, caps};

use super::record::Upload;
use crate::error::Error;

/// Refuses what no file may be called.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    let max = caps::FILE_NAME_CHARACTERS_MAX;
    if name.is_empty() || name.chars().count() > max {
        return Err(Error::invalid(format!("blobName must have between 1 and {max} characters.")));
    }
    Ok(())
}

/// The uploads of a device once another one has begun. Of those whose time is over the last ones are kept in mind.
pub(super) fn begin(uploads: Vec<Upload>, next: Upload, now: Timestamp) -> Result<Vec<Upload>, Error> {
    let (active, mut over): (Vec<_>, Vec<_>) = uploads.into_iter().partition(|upload| upload.expires > now);
    if active.len() >= caps::FILE_UPLOADS_ACTIVE_MAX {
        return Err(Error::DeviceMaximumActiveFileUploadLimitExceeded);
    }
    over.drain(..over.len().saturating_sub(caps::FILE_UPLOADS_OVER_MAX));
    Ok(over.into_iter().chain(active).chain([next]).collect())
}

/// The upload that its device tells the end of.
pub(super) fn ended<'a>(
    uploads: &'a [Upload],
    correlation_id: &str,
    now: Timestamp,
) -> Result<&'a Upload, Error> {
    let begun = uploads.iter().find(|upload| upload.correlation_id == correlation_id);
    let begun = begun.ok_or(Error::InvalidFileUploadCorrelationId)?;
    if begun.expires > now { Ok(begun) } else { Err(Error::ExpiredFileUploadCorrelationId) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn upload(id: usize, expires: i64) -> Upload {
        Upload {
            correlation_id: format!("u{id}"),
            blob_name: String::new(),
            blob_uri: String::new(),
            expires: Timestamp::from_unix_seconds(expires),
        }
    }

    #[test]
    fn a_name_has_up_to_1024_characters_whatever_their_bytes() {
        assert_eq!((check_name("x"), check_name(&"ü".repeat(1024))), (Ok(()), Ok(())));
        for wrong in [String::new(), "x".repeat(1025)] {
            assert!(matches!(check_name(&wrong), Err(Error::ArgumentInvalid(_))));
        }
    }

    proptest! {
        /// Each begins at its place in the list, and its time is over so many seconds later.
        #[test]
        fn ten_are_active_at_the_most_and_the_last_ten_that_are_over_are_known(times in proptest::collection::vec(1_i64..40, 1..80)) {
            let (mut uploads, mut begun) = (Vec::new(), Vec::new());
            for (at, length) in times.into_iter().enumerate() {
                let second = i64::try_from(at).unwrap();
                let now = Timestamp::from_unix_seconds(second);
                let active = begun.iter().filter(|upload: &&Upload| upload.expires > now).count();
                let next = upload(at, second + length);
                let Ok(after) = begin(uploads.clone(), next.clone(), now) else {
                    prop_assert_eq!(active, 10);
                    continue;
                };
                prop_assert!(active < 10);
                begun.push(next);
                for known in &begun {
                    let told = ended(&after, &known.correlation_id, now);
                    match told {
                        Ok(found) => prop_assert_eq!((found, known.expires > now), (known, true)),
                        Err(Error::ExpiredFileUploadCorrelationId) => prop_assert!(known.expires <= now),
                        Err(_) => {
                            let over = begun.iter().filter(|other| other.expires <= now).count();
                            prop_assert!(known.expires <= now && over > 10);
                        }
                    }
                }
                prop_assert!(after.len() <= 20);
                uploads = after;
            }
        }
    }
}
