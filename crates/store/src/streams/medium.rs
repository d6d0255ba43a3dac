//! Where segment files lie: a directory, or memory for tests and for servers that keep nothing.
//! Knows files by name and bytes by position; knows nothing of records.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::store::private_file;

#[derive(Clone)]
pub(crate) enum Medium {
    Directory(Directory),
    Memory(Arc<Memory>),
}

#[derive(Clone)]
pub(crate) struct Directory {
    path: PathBuf,
    /// What a test wants to be free.
    #[cfg(test)]
    pub(crate) free_bytes: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Memory {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
    #[cfg(test)]
    pub(crate) faults: Arc<Faults>,
}

#[derive(Default)]
pub(crate) struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
    #[cfg(test)]
    faults: Arc<Faults>,
}

/// What a test makes go wrong.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) write: std::sync::atomic::AtomicBool,
    pub(crate) sync: std::sync::atomic::AtomicBool,
    pub(crate) create: std::sync::atomic::AtomicBool,
}

#[cfg(test)]
fn fail_if(fault: &std::sync::atomic::AtomicBool) -> io::Result<()> {
    let broken = fault.load(std::sync::atomic::Ordering::SeqCst);
    if broken { Err(io::Error::other("injected fault")) } else { Ok(()) }
}

pub(crate) enum LogFile {
    Disk(File),
    Memory(Arc<MemoryFile>),
}

/// Earlier versions made files that others could read.
#[cfg(unix)]
fn make_private(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_private(_: &File) -> io::Result<()> {
    Ok(())
}

impl Medium {
    /// Names of all files, in order.
    pub(crate) fn list(&self) -> io::Result<Vec<String>> {
        match self {
            Self::Directory(directory) => {
                let mut names = Vec::new();
                for entry in std::fs::read_dir(&directory.path)? {
                    names.extend(entry?.file_name().into_string().ok());
                }
                names.sort();
                Ok(names)
            }
            Self::Memory(memory) => Ok(memory.files.lock().keys().cloned().collect()),
        }
    }

    pub(crate) fn open(&self, name: &str) -> io::Result<LogFile> {
        match self {
            Self::Directory(directory) => {
                let file = File::options().read(true).write(true).open(directory.path.join(name))?;
                make_private(&file)?;
                Ok(LogFile::Disk(file))
            }
            Self::Memory(memory) => match memory.files.lock().get(name) {
                Some(file) => Ok(LogFile::Memory(Arc::clone(file))),
                None => Err(io::ErrorKind::NotFound.into()),
            },
        }
    }

    /// An empty file, whatever was there.
    pub(crate) fn create(&self, name: &str) -> io::Result<LogFile> {
        match self {
            Self::Directory(directory) => {
                let mut options = private_file();
                options.read(true).write(true).create(true).truncate(true);
                Ok(LogFile::Disk(options.open(directory.path.join(name))?))
            }
            Self::Memory(memory) => {
                #[cfg(test)]
                fail_if(&memory.faults.create)?;
                let file = Arc::new(MemoryFile {
                    #[cfg(test)]
                    faults: Arc::clone(&memory.faults),
                    ..MemoryFile::default()
                });
                memory.files.lock().insert(name.to_owned(), Arc::clone(&file));
                Ok(LogFile::Memory(file))
            }
        }
    }

    /// Copies a file; durable when it returns.
    pub(crate) fn copy(&self, from: &str, to: &str) -> io::Result<()> {
        const CHUNK: usize = 1024 * 1024;
        let (from, to) = (self.open(from)?, self.create(to)?);
        let (mut chunk, mut position) = (vec![0; CHUNK], 0);
        loop {
            let count = from.read_at(&mut chunk, position)?;
            if count == 0 {
                break;
            }
            to.write_at(&chunk[..count], position)?;
            position += count as u64;
        }
        to.sync()?;
        self.sync_names()
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        match self {
            Self::Directory(directory) => std::fs::rename(directory.path.join(from), directory.path.join(to)),
            Self::Memory(memory) => {
                let mut files = memory.files.lock();
                let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
                files.insert(to.to_owned(), file);
                Ok(())
            }
        }
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match self {
            Self::Directory(directory) => std::fs::remove_file(directory.path.join(name)),
            Self::Memory(memory) => {
                memory.files.lock().remove(name);
                Ok(())
            }
        }
    }

    /// Makes created, renamed and removed names durable.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        match self {
            // Directories cannot be opened as files there; NTFS journals names by itself.
            Self::Directory(_) if cfg!(windows) => Ok(()),
            Self::Directory(directory) => File::open(&directory.path)?.sync_all(),
            Self::Memory(_) => Ok(()),
        }
    }

    /// What the disk has left for this process; `None` where nobody knows.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let Self::Directory(directory) = self else { return None };
        #[cfg(test)]
        if directory.free_bytes.is_some() {
            return directory.free_bytes;
        }
        free_bytes(&directory.path)
    }

    pub(crate) fn directory(path: PathBuf) -> Self {
        Self::Directory(Directory {
            path,
            #[cfg(test)]
            free_bytes: None,
        })
    }

    pub(crate) fn memory() -> Self {
        Self::Memory(Arc::default())
    }
}

#[cfg(test)]
impl Memory {
    /// Every file's bytes, as a disk image.
    pub(crate) fn image(&self) -> BTreeMap<String, Vec<u8>> {
        self.files.lock().iter().map(|(name, file)| (name.clone(), file.bytes.lock().clone())).collect()
    }

    pub(crate) fn from_image(image: &BTreeMap<String, Vec<u8>>) -> Arc<Self> {
        let memory = Self::default();
        for (name, bytes) in image {
            let file = MemoryFile { bytes: Mutex::new(bytes.clone()), faults: Arc::clone(&memory.faults) };
            memory.files.lock().insert(name.clone(), Arc::new(file));
        }
        Arc::new(memory)
    }
}

impl LogFile {
    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Disk(file) => Ok(file.metadata()?.len()),
            Self::Memory(file) => Ok(file.bytes.lock().len() as u64),
        }
    }

    pub(crate) fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        match self {
            Self::Disk(file) => write_all_at(file, bytes, position),
            Self::Memory(file) => {
                let mut content = file.bytes.lock();
                let start = usize::try_from(position).map_err(io::Error::other)?;
                let end = start + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                // A failing write leaves half of its bytes behind, as a disk may.
                #[cfg(test)]
                if let Err(error) = fail_if(&file.faults.write) {
                    let half = bytes.len() / 2;
                    content[start..start + half].copy_from_slice(&bytes[..half]);
                    return Err(error);
                }
                content[start..end].copy_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    pub(crate) fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match self {
            Self::Disk(file) => {
                let mut done = 0;
                while done < buffer.len() {
                    match read_some_at(file, &mut buffer[done..], position + done as u64) {
                        Ok(0) => break,
                        Ok(count) => done += count,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(done)
            }
            Self::Memory(file) => {
                let content = file.bytes.lock();
                let start = usize::try_from(position).map_err(io::Error::other)?.min(content.len());
                let count = buffer.len().min(content.len() - start);
                buffer[..count].copy_from_slice(&content[start..start + count]);
                Ok(count)
            }
        }
    }

    pub(crate) fn set_len(&self, length: u64) -> io::Result<()> {
        match self {
            Self::Disk(file) => file.set_len(length),
            Self::Memory(file) => {
                let length = usize::try_from(length).map_err(io::Error::other)?;
                file.bytes.lock().resize(length, 0);
                Ok(())
            }
        }
    }

    /// Makes written bytes durable, with the length where it changed.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match self {
            Self::Disk(file) => file.sync_data(),
            #[cfg(not(test))]
            Self::Memory(_) => Ok(()),
            #[cfg(test)]
            Self::Memory(file) => fail_if(&file.faults.sync),
        }
    }
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, position)
}

#[cfg(unix)]
fn read_some_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, position)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_write(file, bytes, position)?;
        bytes = &bytes[count..];
        position += count as u64;
    }
    Ok(())
}

#[cfg(windows)]
fn read_some_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, position)
}
