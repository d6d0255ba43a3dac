//! Chunks of the embedded engine: a file each, `blobs/{instance}/{two digits}/{id}` in the data directory, written under another
//! name, synced, renamed. In memory where the records are. The work is done on threads of their own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{InstanceId, caps};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::chunks::{ChunkId, is_folder};
use crate::engine::Chunks;
use crate::error::StoreError;
use crate::store::{Durability, create_private, private_file};
use crate::workers::Workers;

pub const FOLDER: &str = "blobs";
const UNFINISHED: &str = "unfinished";

pub(crate) struct ChunkFiles {
    workers: Workers<Medium>,
}

#[derive(Clone)]
enum Medium {
    Directory { root: PathBuf, syncs: bool },
    Memory(Arc<Mutex<BTreeMap<(String, ChunkId), Bytes>>>),
}

impl ChunkFiles {
    pub(crate) fn in_directory(data_directory: &Path, durability: Durability) -> Result<Self, StoreError> {
        let root = data_directory.join(FOLDER);
        Self::start(&Medium::Directory { root, syncs: durability == Durability::Full })
    }

    pub(crate) fn in_memory() -> Result<Self, StoreError> {
        Self::start(&Medium::Memory(Arc::default()))
    }

    fn start(medium: &Medium) -> Result<Self, StoreError> {
        let contexts = vec![medium.clone(); caps::CHUNK_THREADS];
        Ok(Self { workers: Workers::start("chunks", contexts, caps::CHUNK_QUEUE_MAX)? })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Medium) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.workers.run(move |medium| Ok(work(medium)?)).await
    }
}

impl Drop for ChunkFiles {
    fn drop(&mut self) {
        self.workers.stop();
    }
}

impl Chunks for ChunkFiles {
    async fn write_chunk(&self, instance: &InstanceId, id: &ChunkId, bytes: Bytes) -> Result<(), StoreError> {
        let (instance, id) = (instance.as_str().to_owned(), id.clone());
        self.run(move |medium| medium.write(&instance, &id, bytes)).await
    }

    async fn read_chunk(
        &self,
        instance: &InstanceId,
        id: &ChunkId,
        range: Range<usize>,
    ) -> Result<Option<Bytes>, StoreError> {
        let (instance, id) = (instance.as_str().to_owned(), id.clone());
        self.run(move |medium| absent(medium.read(&instance, &id, &range))).await
    }

    async fn remove_chunk(&self, instance: &InstanceId, id: &ChunkId) -> Result<(), StoreError> {
        let (instance, id) = (instance.as_str().to_owned(), id.clone());
        self.run(move |medium| medium.remove(&instance, &id)).await
    }

    async fn remove_chunks(&self, instance: &InstanceId) -> Result<(), StoreError> {
        let instance = instance.as_str().to_owned();
        self.run(move |medium| medium.remove_all(&instance)).await
    }
}

impl Medium {
    fn write(&self, instance: &str, id: &ChunkId, bytes: Bytes) -> io::Result<()> {
        let (root, syncs) = match self {
            Self::Directory { root, syncs } => (root, *syncs),
            Self::Memory(chunks) => {
                chunks.lock().insert((instance.to_owned(), id.clone()), bytes);
                return Ok(());
            }
        };
        let folder = folder(root, instance, id);
        make(root, &folder, syncs)?;
        let (unfinished, finished) = (unfinished(&folder, id), folder.join(id.as_str()));
        let mut file = private_file().create(true).write(true).truncate(true).open(&unfinished)?;
        file.write_all(&bytes)?;
        if syncs {
            file.sync_all()?;
        }
        drop(file);
        fs::rename(&unfinished, &finished)?;
        if syncs { sync_names(&folder) } else { Ok(()) }
    }

    fn read(&self, instance: &str, id: &ChunkId, range: &Range<usize>) -> io::Result<Bytes> {
        match self {
            Self::Directory { root, .. } => {
                let mut file = File::open(folder(root, instance, id).join(id.as_str()))?;
                file.seek(SeekFrom::Start(range.start as u64))?;
                let mut bytes = Vec::with_capacity(range.len());
                file.take(range.len() as u64).read_to_end(&mut bytes)?;
                Ok(bytes.into())
            }
            Self::Memory(chunks) => {
                let chunks = chunks.lock();
                let bytes = chunks.get(&(instance.to_owned(), id.clone())).ok_or(ErrorKind::NotFound)?;
                Ok(bytes.slice(range.start.min(bytes.len())..range.end.min(bytes.len())))
            }
        }
    }

    fn remove(&self, instance: &str, id: &ChunkId) -> io::Result<()> {
        match self {
            Self::Directory { root, .. } => {
                let folder = folder(root, instance, id);
                absent(fs::remove_file(unfinished(&folder, id)))?;
                absent(fs::remove_file(folder.join(id.as_str()))).map(drop)
            }
            Self::Memory(chunks) => {
                chunks.lock().remove(&(instance.to_owned(), id.clone()));
                Ok(())
            }
        }
    }

    fn remove_all(&self, instance: &str) -> io::Result<()> {
        match self {
            Self::Directory { root, .. } => absent(fs::remove_dir_all(root.join(instance))).map(drop),
            Self::Memory(chunks) => {
                chunks.lock().retain(|(of, _), _| of != instance);
                Ok(())
            }
        }
    }
}

fn folder(root: &Path, instance: &str, id: &ChunkId) -> PathBuf {
    root.join(instance).join(id.folder())
}

fn unfinished(folder: &Path, id: &ChunkId) -> PathBuf {
    folder.join(format!("{id}.{UNFINISHED}"))
}

/// A folder that is made must not be lost with its files: each of those above it is synced too.
fn make(root: &Path, folder: &Path, syncs: bool) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    create_private(folder).map_err(|error| io::Error::other(error.to_string()))?;
    if !syncs {
        return Ok(());
    }
    let data_directory = root.parent().unwrap_or(root);
    folder.ancestors().skip(1).take_while(|above| above.starts_with(data_directory)).try_for_each(sync_names)
}

fn sync_names(folder: &Path) -> io::Result<()> {
    // Directories cannot be opened as files there; NTFS journals names by itself.
    if cfg!(windows) { Ok(()) } else { File::open(folder)?.sync_all() }
}

fn absent<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every chunk in a data directory, as `{instance}/{two digits}/{id}` below [`FOLDER`].
pub fn list(data_directory: &Path) -> io::Result<Vec<String>> {
    let mut all = Vec::new();
    for instance in names(&data_directory.join(FOLDER))?.into_iter().filter(|name| is_folder(name)) {
        let of_instance = data_directory.join(FOLDER).join(&instance);
        for two in names(&of_instance)? {
            let chunks = names(&of_instance.join(&two))?.into_iter().filter(|name| ChunkId::is_one(name));
            all.extend(chunks.map(|id| format!("{instance}/{two}/{id}")));
        }
    }
    Ok(all)
}

/// Whether that is how [`list`] calls one.
pub fn is_name(name: &str) -> bool {
    let mut parts = name.split('/');
    let [instance, two, id, end] = [(); 4].map(|()| parts.next());
    let is_id = |id: &str| ChunkId::is_one(id) && two == id.get(..2);
    instance.is_some_and(is_folder) && id.is_some_and(is_id) && end.is_none()
}

/// The instance and the id in such a name.
pub(crate) fn parse(name: &str) -> Option<(InstanceId, ChunkId)> {
    let (instance, id) = name.split_once('/')?;
    let (_, id) = id.split_once('/')?;
    Some((InstanceId::from_stored(instance), ChunkId::from_stored(id)))
}

/// In their order; none where there is no such folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let Some(entries) = absent(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}
