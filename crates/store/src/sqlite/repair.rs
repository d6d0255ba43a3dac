//! What to do about a damaged write-ahead log: refuse to start over it, tell what is wrong, and make a database that opens
//! from what is whole. Run while no server has the directory; nothing that was there is ever destroyed.

use base::caps;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::wal::{self, Damage, FRAME_HEADER_BYTES, Frame, State, Survey};
use super::{DATABASE, LOG};
use crate::directory_lock::DirectoryLock;
use crate::error::StoreError;
use crate::report::Report;
use crate::table;

const UNFINISHED: &str = "records.db.unfinished";

/// Looks at the database and its log without changing either.
pub fn check_records(directory: &Path) -> Result<Report, StoreError> {
    let _lock = lock_existing(directory)?;
    check(directory)
}

/// Makes a database that opens from a damaged log: the longest version that passes `SQLite`'s own check. What was there is kept
/// beside it.
pub fn repair_records(directory: &Path) -> Result<Report, StoreError> {
    let _lock = lock_existing(directory)?;
    let survey = wal::survey(&directory.join(LOG))?;
    match &survey {
        Some(survey) if survey.damage.is_some() => repair(directory, survey),
        _ => {
            let mut report = check(directory)?;
            report.lines.push(if report.is_sound {
                "There is nothing to repair.".into()
            } else {
                format!("{DATABASE} itself is damaged; its log cannot mend that. Restore a backup.")
            });
            Ok(report)
        }
    }
}

/// Fails where `SQLite` would silently drop transactions that were acknowledged.
pub(super) fn refuse_damage(directory: &Path) -> Result<(), StoreError> {
    match wal::survey(&directory.join(LOG))?.and_then(|survey| survey.damage) {
        None => Ok(()),
        Some(damage) => Err(StoreError::Corrupt(format!(
            "{}. Nothing was changed. See more with `twinhub records check`, make the best of it with `twinhub records repair`",
            describe(directory, &damage)
        ))),
    }
}

fn describe(directory: &Path, damage: &Damage) -> String {
    let path = directory.join(LOG);
    let place = match damage.frame {
        0 => "the header (byte 0)".to_owned(),
        frame => format!("frame {frame} (byte {})", damage.position),
    };
    format!(
        "{place} of {} is damaged, and {} transactions at or behind it would be lost",
        path.display(),
        damage.commits_behind
    )
}

fn lock_existing(directory: &Path) -> Result<DirectoryLock, StoreError> {
    if directory.join(DATABASE).is_file() {
        return DirectoryLock::take(directory);
    }
    Err(StoreError::Refused(format!("there is no {DATABASE} in {}", directory.display())))
}

fn check(directory: &Path) -> Result<Report, StoreError> {
    let survey = wal::survey(&directory.join(LOG))?;
    if let Some(damage) = survey.as_ref().and_then(|survey| survey.damage.as_ref()) {
        let lines = vec![
            format!("{}.", describe(directory, damage)),
            "No server starts on it; `twinhub records repair` makes the best of it and keeps what is there."
                .into(),
        ];
        return Ok(Report { is_sound: false, lines });
    }
    let mut lines = vec![match &survey {
        Some(survey) => {
            format!("{LOG}: {} whole transactions in {} pages", survey.commits(), survey.frames.len())
        }
        None => format!("{LOG}: nothing in it; {DATABASE} is complete by itself"),
    }];
    let found = inspect(&directory.join(DATABASE));
    let is_sound = found.is_ok();
    lines.extend(found.unwrap_or_else(|faults| faults).into_iter().map(|one| format!("{DATABASE}: {one}")));
    Ok(Report { is_sound, lines })
}

/// What is in a database, or else what `SQLite` says against it.
fn inspect(path: &Path) -> Result<Vec<String>, Vec<String>> {
    let looked = look(path).and_then(|connection| {
        let sql = format!("PRAGMA integrity_check({})", caps::RECORDS_FAULTS_SHOWN_MAX);
        let said = texts(&connection, &sql)?;
        if said == ["ok"] { Ok(Ok(vec![rows(&connection)?])) } else { Ok(Err(said)) }
    });
    looked.unwrap_or_else(|error| Err(vec![error.to_string()]))
}

/// A connection that leaves the files as they are.
fn look(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn texts(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

fn rows(connection: &Connection) -> rusqlite::Result<String> {
    let mut counts = Vec::new();
    for name in table::ALL.iter().map(|table| table.name).chain(["counter", "outbox"]) {
        let count: u64 =
            connection.query_row(&format!("SELECT count(*) FROM {name}"), [], |row| row.get(0))?;
        if count > 0 {
            counts.push(format!("{name} {count}"));
        }
    }
    Ok(format!("passes the check; rows: {}", counts.join(", ")))
}

/// What can be made of the two files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    /// The database with everything that is whole in the log.
    All,
    /// The database with the log up to the last transaction before the damage.
    Cut,
    /// The database as it is.
    Alone,
}

fn repair(directory: &Path, survey: &Survey) -> Result<Report, StoreError> {
    let mut lines: Vec<String> =
        survey.damage.iter().map(|d| format!("{}.", describe(directory, d))).collect();
    for kept in keep_aside(directory)? {
        lines.push(format!("Kept as it was: {}", kept.display()));
    }
    let files = Files::open(directory, survey)?;
    for version in files.versions()? {
        files.make(version)?;
        if let Ok(found) = inspect(&directory.join(UNFINISHED)) {
            lines.extend(files.losses(version)?);
            lines.extend(found.into_iter().map(|one| format!("{DATABASE}: {one}")));
            put_in_place(directory)?;
            return Ok(Report { is_sound: true, lines });
        }
        remove_unfinished(directory)?;
    }
    lines.push("No version of it passes SQLite's check. Nothing was changed. Restore a backup.".into());
    Ok(Report { is_sound: false, lines })
}

/// Copies both files to names that are free.
fn keep_aside(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let name = |file: &str, number: u32| directory.join(format!("{file}.damaged-{number}"));
    let is_free = |number: &u32| [DATABASE, LOG].iter().all(|file| !name(file, *number).exists());
    let number = (1..=u32::MAX).find(is_free).expect("nobody repairs that often");
    let mut kept = Vec::new();
    for file in [DATABASE, LOG] {
        let copy = name(file, number);
        copy_private(&directory.join(file), &copy)?.sync_all()?;
        kept.push(copy);
    }
    sync_names(directory)?;
    Ok(kept)
}

/// The copy can be read by its owner alone.
fn copy_private(from: &Path, to: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut copy = options.open(to)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    Ok(copy)
}

/// The database first: a log that is still there when we are cut off is refused again, while a database without its log would
/// open and lack what was in it.
fn put_in_place(directory: &Path) -> Result<(), StoreError> {
    File::open(directory.join(UNFINISHED))?.sync_all()?;
    std::fs::rename(directory.join(UNFINISHED), directory.join(DATABASE))?;
    sync_names(directory)?;
    remove_all(directory, &[LOG, "records.db-shm"])?;
    remove_unfinished(directory)?;
    Ok(sync_names(directory)?)
}

/// With what `SQLite` put beside it.
fn remove_unfinished(directory: &Path) -> io::Result<()> {
    remove_all(directory, &[UNFINISHED, "records.db.unfinished-wal", "records.db.unfinished-shm"])
}

fn remove_all(directory: &Path, names: &[&str]) -> io::Result<()> {
    for name in names {
        match std::fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn sync_names(directory: &Path) -> io::Result<()> {
    // Directories cannot be opened as files there; NTFS journals names by itself.
    if cfg!(windows) { Ok(()) } else { File::open(directory)?.sync_all() }
}

fn read_at(mut file: &File, bytes: &mut [u8], position: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(position))?;
    file.read_exact(bytes)
}

/// The two files and what is known of the log.
struct Files<'a> {
    directory: &'a Path,
    database: File,
    log: File,
    survey: &'a Survey,
}

impl<'a> Files<'a> {
    fn open(directory: &'a Path, survey: &'a Survey) -> io::Result<Self> {
        let (database, log) = (File::open(directory.join(DATABASE))?, File::open(directory.join(LOG))?);
        Ok(Self { directory, database, log, survey })
    }

    /// What to try, the one that keeps most first. A database that already has pages from behind the damage would be torn by
    /// laying only the beginning of the log over it.
    fn versions(&self) -> io::Result<Vec<Version>> {
        let is_whole = self.missing().is_empty();
        Ok(if is_whole || self.database_is_ahead()? {
            vec![Version::All, Version::Alone]
        } else {
            vec![Version::Cut, Version::All, Version::Alone]
        })
    }

    fn frames(&self, version: Version) -> &[Frame] {
        match version {
            Version::All => &self.survey.frames,
            Version::Cut => &self.survey.frames[..self.survey.unbroken()],
            Version::Alone => &[],
        }
    }

    /// The last content of each page.
    fn last(frames: &[Frame]) -> HashMap<u32, Frame> {
        let known = frames.iter().filter(|frame| frame.has_content());
        known.map(|frame| (frame.page, *frame)).collect()
    }

    /// Frames whose content is not known and that no later one makes up for.
    fn missing(&self) -> Vec<Frame> {
        let last = Self::last(&self.survey.frames);
        let is_missing = |frame: &&Frame| {
            let later = last.get(&frame.page).is_some_and(|later| later.number > frame.number);
            !frame.has_content() && !later
        };
        self.survey.frames.iter().filter(is_missing).copied().collect()
    }

    /// Whether a checkpoint has already brought something from behind the damage into the database.
    fn database_is_ahead(&self) -> io::Result<bool> {
        let before = Self::last(self.frames(Version::Cut));
        for (page, frame) in Self::last(&self.survey.frames) {
            if frame.number as usize <= self.survey.unbroken() {
                continue;
            }
            let new = self.content(&frame)?;
            let old = before.get(&page).map(|frame| self.content(frame)).transpose()?;
            if old.as_ref() != Some(&new) && self.of_database(page)? == Some(new) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn content(&self, frame: &Frame) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; FRAME_HEADER_BYTES + self.survey.page_bytes];
        read_at(&self.log, &mut bytes, frame.position)?;
        if let State::Mendable(Some(mend)) = frame.state {
            bytes[mend.at..mend.at + mend.word.len()].copy_from_slice(&mend.word);
        }
        Ok(bytes.split_off(FRAME_HEADER_BYTES))
    }

    fn of_database(&self, page: u32) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; self.survey.page_bytes];
        match read_at(&self.database, &mut bytes, self.place(page)) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn place(&self, page: u32) -> u64 {
        u64::from(page.saturating_sub(1)) * self.survey.page_bytes as u64
    }

    /// Writes a version beside the database.
    fn make(&self, version: Version) -> io::Result<()> {
        let file = copy_private(&self.directory.join(DATABASE), &self.directory.join(UNFINISHED))?;
        let frames = self.frames(version);
        for (page, frame) in Self::last(frames) {
            (&file).seek(SeekFrom::Start(self.place(page)))?;
            (&file).write_all(&self.content(&frame)?)?;
        }
        let ends = |frame: &&Frame| frame.has_content() && frame.commit_pages != 0;
        if let Some(end) = frames.iter().rev().find(ends) {
            file.set_len(u64::from(end.commit_pages) * self.survey.page_bytes as u64)?;
        }
        Ok(())
    }

    /// What the version that lies ready lacks, for the person who has to do it again.
    fn losses(&self, version: Version) -> Result<Vec<String>, StoreError> {
        let frames = &self.survey.frames;
        let all = Self::last(frames);
        let mut is_in_database = true;
        for (page, frame) in &all {
            is_in_database &= self.of_database(*page)? == Some(self.content(frame)?);
        }
        let missing = self.missing();
        let (what, pages): (String, BTreeSet<u32>) = match version {
            Version::All if missing.is_empty() => {
                return Ok(vec!["Nothing is lost: all that was damaged could be made whole.".into()]);
            }
            _ if is_in_database && version != Version::Cut => {
                return Ok(vec!["Nothing is lost: the database already had all of the log.".into()]);
            }
            Version::All => (
                "These pages are as the database had them before; what was written to them later is lost"
                    .into(),
                missing.iter().map(|frame| frame.page).collect(),
            ),
            Version::Cut | Version::Alone => {
                let lost = &frames[self.frames(version).len()..];
                let commits = lost.iter().filter(|frame| frame.commit_pages != 0).count();
                let what = format!("The last {commits} transactions are lost; they changed these pages");
                (what, lost.iter().map(|frame| frame.page).collect())
            }
        };
        let list: Vec<String> = pages.iter().map(u32::to_string).collect();
        let mut lines = vec![format!("{what}: {}", list.join(", "))];
        let sql =
            format!("SELECT DISTINCT name FROM dbstat WHERE pageno IN ({}) ORDER BY name", list.join(", "));
        let tables =
            look(&self.directory.join(UNFINISHED)).and_then(|connection| texts(&connection, &sql))?;
        lines.push(format!("They hold, in what is left: {}", tables.join(", ")));
        Ok(lines)
    }
}
