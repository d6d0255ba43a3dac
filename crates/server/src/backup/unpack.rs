//! From a backup to a data directory, believing nothing: every byte is held against the sums in the file, and what comes out is
//! opened before it is called good.

use base::caps;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use store::{Durability, Location, Options, Store, Streams, chunk_files};
use tar::Archive;

use super::{BLOBS, CHECKSUMS, FORMAT, KEPT, LOG, MANIFEST, Manifest, READ_ME, RECORDS, Summed};
use crate::data_directory::at;
use crate::{Failure, data_directory};

/// Says in a directory that it is being restored. No server starts on half of its data.
const MARK: &str = "restore.unfinished";
const BUFFER_BYTES: usize = 1024 * 1024;

pub(crate) fn refuse_half_restored(data_dir: &Path) -> Result<(), Failure> {
    if data_dir.join(MARK).exists() {
        let directory = data_dir.display();
        return Err(format!("a restore into {directory} was cut off; run it again").into());
    }
    Ok(())
}

/// Marks an empty directory, or one in which a restore was cut off, from which it takes what that had put there. The mark keeps
/// other restores off as long as it is held.
pub(crate) fn claim(directory: &Path) -> Result<File, Failure> {
    data_directory::make(directory)?;
    if directory.join(MARK).exists() {
        let mark = data_directory::take_private(&directory.join(MARK))?;
        clear(directory)?;
        return Ok(mark);
    }
    // A file system of its own is not quite empty.
    if fs::read_dir(directory)
        .map_err(at(directory))?
        .any(|entry| entry.is_ok_and(|entry| entry.file_name() != "lost+found"))
    {
        let directory = directory.display();
        return Err(format!("{directory} is not empty; give an empty directory with --data-dir").into());
    }
    let mark = data_directory::take_private(&directory.join(MARK))?;
    mark.sync_all().map_err(at(directory))?;
    sync_names(directory)?;
    Ok(mark)
}

/// Empties the directory again.
pub(crate) fn give_up(directory: &Path) -> Result<(), Failure> {
    clear(directory)?;
    release(directory)
}

pub(crate) fn release(directory: &Path) -> Result<(), Failure> {
    sync_names(directory)?;
    let mark = directory.join(MARK);
    fs::remove_file(&mark).map_err(at(&mark))?;
    Ok(sync_names(directory)?)
}

fn clear(directory: &Path) -> io::Result<()> {
    let beside = ["records.db-wal", "records.db-shm", "lock"];
    for name in KEPT.into_iter().chain([RECORDS]).chain(beside) {
        let path = directory.join(name);
        ignore_absence(fs::remove_file(&path)).map_err(at(&path))?;
    }
    for folder in [LOG, BLOBS] {
        let folder = directory.join(folder);
        ignore_absence(fs::remove_dir_all(&folder)).map_err(at(&folder))?;
    }
    Ok(())
}

fn ignore_absence(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_names(directory: &Path) -> io::Result<()> {
    // Directories cannot be opened as files there; NTFS journals names by itself.
    if cfg!(windows) {
        Ok(())
    } else {
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
    }
}

/// Writes what is in the archive into a directory, synced. The path is for what is said of it.
pub(crate) fn unpack(archive: &Path, file: File, directory: &Path) -> Result<(), Failure> {
    let senseless =
        |error: io::Error| format!("{} is no backup, or not all of one: {error}", archive.display());
    let mut tar = Archive::new(BufReader::with_capacity(BUFFER_BYTES, file));
    data_directory::make(&directory.join(LOG))?;
    let mut sums = String::new();
    for entry in tar.entries().map_err(senseless)? {
        let entry = entry.map_err(senseless)?;
        let name = entry.path().map_err(senseless)?.to_string_lossy().into_owned();
        if name == CHECKSUMS {
            return check_sums(archive, entry, &sums);
        }
        let size = entry.size();
        let mut content = Summed::new(entry);
        take_out(&mut content, &name, directory)?;
        if content.bytes != size {
            return Err(incomplete(archive));
        }
        sums.push_str(&content.line(&name));
    }
    Err(incomplete(archive))
}

fn incomplete(archive: &Path) -> Failure {
    format!("{} is no backup, or not all of one: it ends too early", archive.display()).into()
}

fn check_sums(archive: &Path, entry: impl Read, sums: &str) -> Result<(), Failure> {
    let mut wanted = String::new();
    entry.take(caps::BACKUP_TEXT_BYTES_MAX).read_to_string(&mut wanted).map_err(|_| incomplete(archive))?;
    match wanted.lines().zip(sums.lines()).find(|(wanted, is)| wanted != is) {
        None if wanted.len() == sums.len() => Ok(()),
        None => Err(incomplete(archive)),
        Some((wanted, _)) => {
            let name = wanted.rsplit(' ').next().unwrap_or_default();
            Err(format!("{} is damaged: {name} is not what was put in", archive.display()).into())
        }
    }
}

fn take_out(content: &mut impl Read, name: &str, directory: &Path) -> Result<(), Failure> {
    // Nothing from the file decides where something is written.
    let base = name.strip_prefix(LOG).and_then(|name| name.strip_suffix(".log"));
    let is_segment = base.is_some_and(|base| base.bytes().all(|byte| byte.is_ascii_digit()));
    if name == READ_ME {
        io::copy(content, &mut io::sink())?;
    } else if name == MANIFEST {
        let mut text = String::new();
        content.take(caps::BACKUP_TEXT_BYTES_MAX).read_to_string(&mut text)?;
        check_format(&text)?;
    } else if name.strip_prefix(BLOBS).is_some_and(chunk_files::is_name) {
        let path = directory.join(name);
        if let Some(folder) = path.parent() {
            data_directory::make(folder)?;
        }
        let mut file = data_directory::make_private(&path)?;
        io::copy(content, &mut file).and_then(|_| file.sync_all()).map_err(at(&path))?;
    } else if name == RECORDS || is_segment || KEPT.contains(&name) {
        let path = directory.join(name);
        let mut file = data_directory::make_private(&path)?;
        io::copy(content, &mut file).and_then(|_| file.sync_all()).map_err(at(&path))?;
    } else {
        return Err(format!("there is {name} in the backup, which this version does not know").into());
    }
    Ok(())
}

fn check_format(manifest: &str) -> Result<(), Failure> {
    let manifest: Manifest =
        serde_json::from_str(manifest).map_err(|error| format!("{MANIFEST} in the backup: {error}"))?;
    if manifest.format > FORMAT {
        let (is, made_by) = (manifest.format, manifest.made_by);
        return Err(format!(
            "the backup has format {is}, made by {made_by}; this version knows up to {FORMAT}"
        )
        .into());
    }
    Ok(())
}

/// Opens what was unpacked as a server would, and makes records and log fit each other. Gives what is in it, in sentences.
pub(crate) fn open_all(directory: &Path) -> Result<Vec<String>, Failure> {
    let report = store::check_records(directory)?;
    if !report.is_sound {
        return Err(report.lines.join("; ").into());
    }
    // Damage that the server's log already had is in the backup as it was, and is no reason to have none.
    let log = store::check_log(directory)?;
    let options = Options::new(Location::File(directory.to_owned()), Durability::Full);
    let streams = Streams::open(&options)?;
    let store = Store::open(&options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(store.raise_outbox(streams.greatest_origin()))?;
    store.close();
    Ok([report.lines, log.lines].concat())
}
