//! Damage in the write-ahead log of a killed server: told from a torn end, refused, repaired.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;

use super::super::wal::{self, FRAME_HEADER_BYTES, HEADER_BYTES, State, Survey};
use super::super::{DATABASE, LOG, PAGE_BYTES};
use super::{Blob, open, put};
use crate::{Key, Store, StoreError, check_records, repair_records};

const FRAME_BYTES: usize = FRAME_HEADER_BYTES + PAGE_BYTES;

/// The files as a kill leaves them, and what was acknowledged: each record's id and its length.
struct Killed {
    database: Vec<u8>,
    log: Vec<u8>,
    records: BTreeMap<String, usize>,
}

impl Killed {
    /// Writes `records` one after another to a store that was ended cleanly before, so that the log holds them alone.
    async fn writing(records: &[(&str, usize)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()).unwrap());
        let store = open(directory.path()).unwrap();
        for (id, bytes) in records {
            put(&store, id, *bytes).await.unwrap();
        }
        Self::copy(directory.path(), records)
    }

    /// What lies in the page cache outlives the process, so the files can be copied while it still runs.
    fn copy(directory: &Path, records: &[(&str, usize)]) -> Self {
        let file = |name: &str| std::fs::read(directory.join(name)).unwrap();
        let records = records.iter().map(|(id, bytes)| ((*id).to_owned(), *bytes)).collect();
        Self { database: file(DATABASE), log: file(LOG), records }
    }

    fn survey(log: &[u8]) -> Survey {
        wal::read(&mut &log[..], PAGE_BYTES).unwrap().unwrap()
    }

    fn with_log(&self, log: &[u8]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(DATABASE), &self.database).unwrap();
        std::fs::write(directory.path().join(LOG), log).unwrap();
        directory
    }

    /// The log with some bytes of a frame made unreadable; they lie apart, so that no one byte explains it.
    fn smashed(&self, frame: u32) -> Vec<u8> {
        let mut log = self.log.clone();
        let start = HEADER_BYTES + (frame as usize - 1) * FRAME_BYTES + FRAME_HEADER_BYTES;
        log[start + 100..start + 400].iter_mut().for_each(|byte| *byte ^= 0x55);
        log
    }

    async fn has_all(&self, store: &Store) {
        for (id, bytes) in &self.records {
            assert_eq!(size(store, id).await, Some(*bytes), "{id}");
        }
    }
}

async fn size(store: &Store, id: &str) -> Option<usize> {
    let stored = store.get::<Blob>(&Key::new(["i", id, ""])).await.unwrap();
    stored.map(|stored| stored.record.1.len())
}

fn refusal(directory: &Path) -> String {
    match open(directory) {
        Err(StoreError::Corrupt(said)) => said,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started over damage"),
    }
}

/// Every byte that is not page content, and one in a hundred of those that are.
fn places(length: usize) -> impl Iterator<Item = usize> {
    let is_header = |at: usize| at < HEADER_BYTES || (at - HEADER_BYTES) % FRAME_BYTES < FRAME_HEADER_BYTES;
    (0..length).filter(move |at| is_header(*at) || at % 101 == 0)
}

/// Whether a byte is the highest of a word, or one of the two highest of a sum, which the checksum cannot always place.
fn is_ambiguous(at: usize) -> bool {
    let in_sum = at >= HEADER_BYTES && (16..24).contains(&((at - HEADER_BYTES) % FRAME_BYTES));
    let highest = if cfg!(target_endian = "little") { 3 } else { 0 };
    if in_sum { at % 4 < 2 } else { at % 4 == highest }
}

#[tokio::test]
async fn any_flipped_bit_is_named_with_its_frame_and_nothing_is_lost_silently() {
    let killed = Killed::writing(&[("a", 10), ("b", 3000), ("c", 20), ("a", 40), ("b", 3000)]).await;
    let whole = Killed::survey(&killed.log);
    assert_eq!((whole.damage.as_ref(), whole.commits() >= 5), (None, true));
    let length = HEADER_BYTES + whole.frames.len() * FRAME_BYTES;
    for (count, at) in places(length).enumerate() {
        let mut log = killed.log.clone();
        log[at] ^= 1 << (at % 8);
        let damage = Killed::survey(&log).damage.unwrap_or_else(|| panic!("byte {at} went unnoticed"));
        let frame = if at < HEADER_BYTES { 0 } else { (at - HEADER_BYTES) / FRAME_BYTES + 1 };
        assert_eq!(damage.frame as usize, frame, "byte {at}");
        if count % 83 == 0 {
            let directory = killed.with_log(&log);
            let said = refusal(directory.path());
            let start = if frame == 0 { 0 } else { HEADER_BYTES + (frame - 1) * FRAME_BYTES };
            let place = if frame == 0 { "the header".to_owned() } else { format!("frame {frame}") };
            assert!(said.contains(&format!("{place} (byte {start}) of ")) && said.contains(LOG), "{said}");
            assert_eq!(std::fs::read(directory.path().join(LOG)).unwrap(), log, "it was changed");
            assert!(!check_records(directory.path()).unwrap().is_sound);
            let report = repair_records(directory.path()).unwrap();
            let says = |what: &str| report.lines.iter().any(|line| line.contains(what));
            assert!(report.is_sound, "byte {at}: {:?}", report.lines);
            let store = open(directory.path()).unwrap();
            if says("Nothing is lost") {
                killed.has_all(&store).await;
            } else {
                assert!(is_ambiguous(at) && says("transactions are lost"), "byte {at}: {:?}", report.lines);
            }
        }
    }
}

#[tokio::test]
async fn no_flip_hides_that_a_frame_ends_a_transaction() {
    let killed = Killed::writing(&[("a", 10), ("b", 20)]).await;
    let frames = Killed::survey(&killed.log).frames;
    for bit in 0..32 {
        let mut log = killed.log.clone();
        let last = HEADER_BYTES + (frames.len() - 1) * FRAME_BYTES;
        log[last + 4 + bit / 8] ^= 1 << (bit % 8);
        assert!(Killed::survey(&log).damage.is_some(), "bit {bit}");
    }
}

#[tokio::test]
async fn no_flip_makes_a_frame_pass_for_another_page() {
    let killed = Killed::writing(&[("a", 10), ("b", 3000), ("a", 20)]).await;
    let frames = Killed::survey(&killed.log).frames;
    for (at, bit) in (0..frames.len()).flat_map(|at| (0..32).map(move |bit| (at, bit))) {
        let mut log = killed.log.clone();
        log[HEADER_BYTES + at * FRAME_BYTES + bit / 8] ^= 1 << (bit % 8);
        let found = Killed::survey(&log).frames[at];
        assert!([0, frames[at].page].contains(&found.page), "bit {bit} of frame {}: {found:?}", at + 1);
    }
}

#[tokio::test]
async fn two_damaged_frames_cost_what_is_behind_the_one_that_cannot_be_mended() {
    let killed = Killed::writing(&[("a", 10), ("b", 20), ("big", 40_000), ("c", 30)]).await;
    let survey = Killed::survey(&killed.log);
    let is_alone =
        |frame: &&wal::Frame| survey.frames.iter().filter(|other| other.page == frame.page).count() == 1;
    let mut log = killed.smashed(survey.frames.iter().rev().find(is_alone).unwrap().number);
    log[HEADER_BYTES + FRAME_HEADER_BYTES + 100] ^= 4;
    let directory = killed.with_log(&log);
    assert!(refusal(directory.path()).contains("frame 1 "));
    assert!(repair_records(directory.path()).unwrap().is_sound);
    let store = open(directory.path()).unwrap();
    assert_eq!((size(&store, "a").await, size(&store, "b").await), (Some(10), Some(20)));
    assert_eq!((size(&store, "big").await, size(&store, "c").await), (None, None));
}

#[tokio::test]
async fn a_log_that_is_torn_in_what_was_not_acknowledged_opens_without_complaint() {
    let killed = Killed::writing(&[("a", 10), ("b", 3000), ("big", 9000)]).await;
    let whole = Killed::survey(&killed.log);
    let acknowledged = whole.frames.iter().rev().skip(1).find(|frame| frame.commit_pages != 0).unwrap();
    let start = HEADER_BYTES + acknowledged.number as usize * FRAME_BYTES;
    assert!(killed.log.len() >= start + 3 * FRAME_BYTES, "the last transaction is too small to mean much");
    for (count, length) in (start..HEADER_BYTES + whole.frames.len() * FRAME_BYTES).enumerate() {
        if count % 61 != 0 {
            continue;
        }
        let survey = Killed::survey(&killed.log[..length]);
        assert_eq!((survey.damage, survey.frames.len()), (None, acknowledged.number as usize));
        // A file may keep its length and lack what was to be in it.
        let mut zeros = killed.log[..length].to_vec();
        zeros.resize(killed.log.len(), 0);
        assert_eq!(Killed::survey(&zeros).damage, None);
        if count % 1159 == 0 {
            let directory = killed.with_log(&zeros);
            let store = open(directory.path()).unwrap();
            assert_eq!((size(&store, "a").await, size(&store, "big").await), (Some(10), None));
        }
    }
}

#[tokio::test]
async fn what_a_kill_left_of_a_transaction_is_no_damage_at_the_next_kill() {
    let killed = Killed::writing(&[("a", 10), ("big", 40_000)]).await;
    let torn = killed.log.len() - FRAME_BYTES;
    let directory = killed.with_log(&killed.log[..torn]);
    let store = open(directory.path()).unwrap();
    put(&store, "b", 20).await.unwrap();
    let again = Killed::copy(directory.path(), &[("a", 10), ("b", 20)]);
    let survey = Killed::survey(&again.log);
    assert_eq!(survey.damage, None);
    assert!(again.log.len() > HEADER_BYTES + survey.frames.len() * FRAME_BYTES, "nothing was left over");
    again.has_all(&open(again.with_log(&again.log).path()).unwrap()).await;
}

#[tokio::test]
async fn a_page_that_was_written_again_is_not_missed() {
    let killed = Killed::writing(&[("a", 3000), ("a", 3001), ("a", 3002), ("a", 3003)]).await;
    let survey = Killed::survey(&killed.log);
    let is_rewritten =
        |at: &usize| survey.frames[at + 1..].iter().any(|later| later.page == survey.frames[*at].page);
    let at = (0..survey.frames.len()).find(is_rewritten).unwrap();
    let log = killed.smashed(survey.frames[at].number);
    assert_eq!(Killed::survey(&log).frames[at].state, State::Lost);
    let directory = killed.with_log(&log);
    refusal(directory.path());
    let report = repair_records(directory.path()).unwrap();
    assert!(report.lines.iter().any(|line| line.starts_with("Nothing is lost")), "{:?}", report.lines);
    killed.has_all(&open(directory.path()).unwrap()).await;
}

#[tokio::test]
async fn a_page_that_is_gone_costs_what_was_written_from_there_on_and_it_is_said() {
    let killed = Killed::writing(&[("a", 10), ("big", 40_000), ("b", 20)]).await;
    let survey = Killed::survey(&killed.log);
    // A page that only the big record has.
    let is_alone =
        |frame: &&wal::Frame| survey.frames.iter().filter(|other| other.page == frame.page).count() == 1;
    let lost = survey.frames.iter().rev().find(is_alone).unwrap();
    let log = killed.smashed(lost.number);
    let directory = killed.with_log(&log);
    let said = refusal(directory.path());
    assert!(said.contains(&format!("frame {} ", lost.number)), "{said}");
    let report = repair_records(directory.path()).unwrap();
    let said = report.lines.join("\n");
    assert!(said.contains("The last 2 transactions are lost") && said.contains("thing"), "{said}");
    for (kept, was) in [("records.db.damaged-1", &killed.database), ("records.db-wal.damaged-1", &log)] {
        let path = directory.path().join(kept);
        assert_eq!(&std::fs::read(&path).unwrap(), was, "{kept}");
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions()) & 0o777,
            0o600
        );
    }
    let mut names: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["lock", "records.db", "records.db-wal.damaged-1", "records.db.damaged-1"]);
    let store = open(directory.path()).unwrap();
    assert_eq!((size(&store, "a").await, size(&store, "big").await), (Some(10), None));
    put(&store, "b", 20).await.unwrap();
}

#[tokio::test]
async fn pages_that_a_checkpoint_brought_over_are_not_covered_by_older_ones() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    let store = open(directory.path()).unwrap();
    put(&store, "a", 1000).await.unwrap();
    put(&store, "big", 40_000).await.unwrap();
    put(&store, "a", 2000).await.unwrap();
    // A reader keeps the log from being begun anew, as under load.
    let reader = Connection::open(directory.path().join(DATABASE)).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM meta").unwrap();
    let checkpointer = super::super::connect(&directory.path().join(DATABASE)).unwrap();
    super::super::checkpoint::checkpoint(&checkpointer, "PASSIVE").unwrap();
    put(&store, "c", 30).await.unwrap();
    let killed = Killed::copy(directory.path(), &[("a", 2000), ("big", 40_000), ("c", 30)]);
    let survey = Killed::survey(&killed.log);
    let is_alone =
        |frame: &&wal::Frame| survey.frames.iter().filter(|other| other.page == frame.page).count() == 1;
    let lost = survey.frames.iter().find(is_alone).unwrap();
    let killed_directory = killed.with_log(&killed.smashed(lost.number));
    refusal(killed_directory.path());
    let report = repair_records(killed_directory.path()).unwrap();
    assert!(report.is_sound, "{:?}", report.lines);
    killed.has_all(&open(killed_directory.path()).unwrap()).await;
}

#[tokio::test]
async fn sound_records_are_told_to_be_and_a_server_keeps_others_off() {
    let killed = Killed::writing(&[("a", 10)]).await;
    let directory = killed.with_log(&killed.log);
    let report = check_records(directory.path()).unwrap();
    assert!(
        report.is_sound && report.lines.iter().any(|line| line.contains("thing 1")),
        "{:?}",
        report.lines
    );
    assert_eq!(std::fs::read(directory.path().join(LOG)).unwrap(), killed.log, "looking changed it");
    assert!(repair_records(directory.path()).unwrap().lines.contains(&"There is nothing to repair.".into()));
    let _store = open(directory.path()).unwrap();
    assert!(matches!(check_records(directory.path()), Err(StoreError::InUse(_))));
    assert!(matches!(repair_records(directory.path()), Err(StoreError::InUse(_))));
    let elsewhere = directory.path().join("elsewhere");
    assert!(matches!(check_records(&elsewhere), Err(StoreError::Refused(_))) && !elsewhere.exists());
}

#[tokio::test]
async fn a_database_that_is_itself_damaged_is_told_and_left_alone() {
    let killed = Killed::writing(&[("a", 10)]).await;
    let mut database = killed.database.clone();
    database[PAGE_BYTES..].fill(0x77);
    let killed = Killed { database: database.clone(), ..killed };
    let directory = killed.with_log(&killed.log);
    assert!(!check_records(directory.path()).unwrap().is_sound);
    let report = repair_records(directory.path()).unwrap();
    assert!(!report.is_sound && report.lines.last().unwrap().contains("Restore a backup"));
    assert_eq!(std::fs::read(directory.path().join(DATABASE)).unwrap(), database);
}
