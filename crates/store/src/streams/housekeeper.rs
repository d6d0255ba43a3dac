//! Slow file work beside the appender: makes the next segment's file of zeros and unlinks segments that nobody needs.
//! Nothing here touches a file that is appended to. In memory there is nothing to do.

use std::sync::Arc;
use std::thread::JoinHandle;

use base::caps;
use parking_lot::Mutex;

use super::condense;
use super::log::Log;
use super::medium::{LogFile, Medium};
use super::segment::{Segment, UNFINISHED};
use crate::error::StoreError;
use crate::queue::Queue;
use crate::workers;

/// A file of zeros that waits to become a segment.
pub(crate) const SPARE: &str = "spare";
const ZEROS_BYTES: usize = 1024 * 1024;

pub(crate) struct Housekeeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    medium: Medium,
    jobs: Queue<Job>,
    spare: Mutex<Spare>,
}

enum Job {
    Spare(u32),
    Remove(Arc<Segment>),
    Condense(Arc<Log>, Arc<Segment>),
}

enum Spare {
    None,
    Wanted,
    Ready(LogFile),
    /// The disk would not have it, or has too little left: not tried again before the next segment.
    Failed,
}

impl Housekeeper {
    pub(crate) fn start(medium: &Medium) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            medium: medium.clone(),
            jobs: Queue::new(caps::LOG_HOUSEKEEPING_MAX),
            spare: Mutex::new(Spare::None),
        });
        let thread = match medium {
            Medium::Memory(_) => None,
            Medium::Directory(_) => {
                let shared = Arc::clone(&shared);
                let work = move || shared.run();
                Some(workers::spawn("log-house", work)?)
            }
        };
        Ok(Self { shared, thread })
    }

    pub(crate) fn has_spare(&self) -> bool {
        matches!(*self.shared.spare.lock(), Spare::Ready(_))
    }

    pub(crate) fn want_spare(&self, bytes: u32) {
        let mut spare = self.shared.spare.lock();
        if self.thread.is_some()
            && matches!(*spare, Spare::None)
            && self.shared.jobs.push(Job::Spare(bytes)).is_ok()
        {
            *spare = Spare::Wanted;
        }
    }

    /// The file of zeros, under the name of a segment that is being made.
    pub(crate) fn take_spare(&self) -> Option<LogFile> {
        let mut spare = self.shared.spare.lock();
        match std::mem::replace(&mut *spare, Spare::None) {
            Spare::Ready(file) => self.shared.medium.rename(SPARE, UNFINISHED).ok().map(|()| file),
            Spare::Wanted => {
                *spare = Spare::Wanted;
                None
            }
            Spare::None | Spare::Failed => None,
        }
    }

    /// Unlinks segments, oldest first. What cannot be queued is found again by a later trim or at the next start.
    pub(crate) fn remove_all(&self, segments: Vec<Arc<Segment>>) {
        for segment in segments {
            if self.thread.is_none() {
                self.shared.remove(&segment);
            } else if self.shared.jobs.push(Job::Remove(segment)).is_err() {
                tracing::warn!("too many log segments are being removed at once");
            }
        }
    }

    /// Gives back the space of what is forgotten in a segment that must stay; one at a time, for each trim brings the next.
    pub(crate) fn condense_next(&self, log: &Arc<Log>) {
        if self.thread.is_some()
            && let Some(segment) = log.next_to_condense()
            && self.shared.jobs.push(Job::Condense(Arc::clone(log), segment)).is_err()
        {
            tracing::debug!("too much waits to condense another log segment");
        }
    }

    pub(crate) fn stop(&mut self) {
        self.shared.jobs.close();
        workers::join(self.thread.take());
    }
}

impl Shared {
    fn run(&self) {
        while let Some(jobs) = self.jobs.take(1) {
            for job in jobs {
                match job {
                    Job::Spare(bytes) => self.make_spare(bytes),
                    Job::Remove(segment) => self.remove(&segment),
                    Job::Condense(log, segment) => self.condense(&log, &segment),
                }
            }
        }
    }

    fn condense(&self, log: &Log, segment: &Arc<Segment>) {
        if self.jobs.is_closed() {
            return;
        }
        if let Err(error) = condense::condense(log, segment) {
            tracing::warn!(%error, segment = segment.name, "what is forgotten of a log segment keeps its space");
            let _ = self.medium.remove(condense::CONDENSED);
        }
    }

    fn make_spare(&self, wanted: u32) {
        let free = self.medium.free_bytes();
        let Some(bytes) = affordable(wanted, free) else {
            tracing::warn!(
                free,
                "no log segment is made ahead, for little of the disk is left; appends go on without"
            );
            *self.spare.lock() = Spare::Failed;
            return;
        };
        let made = self.zeros(bytes);
        if let Err(error) = &made {
            tracing::warn!(%error, "no log segment could be made ahead; appends go on without");
            // Half of it would only hold space.
            let _ = self.medium.remove(SPARE);
        }
        *self.spare.lock() = match made {
            Ok(Some(file)) => Spare::Ready(file),
            Ok(None) => Spare::None,
            Err(_) => Spare::Failed,
        };
    }

    /// Nothing when the log is closed meanwhile.
    fn zeros(&self, bytes: u32) -> std::io::Result<Option<LogFile>> {
        let file = self.medium.create(SPARE)?;
        let zeros = vec![0; ZEROS_BYTES];
        let mut done = 0;
        while done < bytes as usize {
            if self.jobs.is_closed() {
                self.medium.remove(SPARE)?;
                return Ok(None);
            }
            // Others may fill the disk meanwhile, and need what is left of it more.
            if self.medium.free_bytes().is_some_and(|free| free < u64::from(bytes)) {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            let count = zeros.len().min(bytes as usize - done);
            file.write_at(&zeros[..count], done as u64)?;
            // Small steps keep the disk's queue short for the appender's own syncs.
            file.sync()?;
            done += count;
        }
        Ok(Some(file))
    }

    fn remove(&self, segment: &Segment) {
        if let Err(error) = self.medium.remove(&segment.name) {
            tracing::warn!(%error, segment = segment.name, "an old log segment could not be removed");
        }
    }
}

/// As much of what is wanted ahead as a disk with so much left should give; `None` when that is too little to be of use.
fn affordable(wanted: u32, free: Option<u64>) -> Option<u32> {
    let share = free.map(|free| free / caps::LOG_SPARE_FREE_TIMES);
    let bytes = share.map_or(wanted, |share| u32::try_from(share).unwrap_or(u32::MAX).min(wanted));
    (bytes >= caps::LOG_SPARE_BYTES_MIN.min(wanted)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_file_made_ahead_leaves_most_of_what_the_disk_has() {
        let wanted = 64 * 1024 * 1024;
        assert_eq!(affordable(wanted, None), Some(wanted));
        assert_eq!(affordable(wanted, Some(256 * MIB)), Some(wanted));
        assert_eq!(affordable(wanted, Some(64 * MIB)), Some(wanted / 4));
        assert_eq!(affordable(wanted, Some(4 * MIB)), Some(wanted / 64));
        assert_eq!(affordable(wanted, Some(4 * MIB - 1)), None);
        assert_eq!(affordable(1000, Some(4000)), Some(1000));
    }

    #[test]
    fn no_file_is_made_ahead_on_a_disk_that_is_nearly_full() {
        let directory = tempfile::tempdir().unwrap();
        for (free, has_spare) in [(3 * MIB, false), (40 * MIB, true)] {
            let mut medium = Medium::directory(directory.path().to_owned());
            if let Medium::Directory(directory) = &mut medium {
                directory.free_bytes = Some(free);
            }
            let mut housekeeper = Housekeeper::start(&medium).unwrap();
            housekeeper.shared.make_spare(64 * 1024 * 1024);
            assert_eq!(housekeeper.has_spare(), has_spare);
            let length = std::fs::metadata(directory.path().join(SPARE)).map(|file| file.len());
            assert_eq!(length.ok(), has_spare.then_some(10 * MIB));
            housekeeper.stop();
        }
    }
}
