//! Blobs that are put whole and in blocks, written over and deleted, each by one writer who knows what may lie there, and read by
//! others at the same time: what is read is whole. In the end all of it goes, and nothing is left of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base::{Elapsed, caps};
use bytes::Bytes;
use fastrand::Rng;
use storage::block_list::{BlockId, Entry, Source};
use storage::{
    Account, BlobHeaders, BlobKind, BlobName, Caller, Conditions, ContainerName, Error, Metadata, NewBlob,
};

use crate::house::House;
use crate::world::{Outcome, World};

/// Longer than a house that is out of reach goes on.
const LATE_MAX: Duration = Duration::from_secs(20);
/// Everything that waits to be removed is due behind it.
const LONG: Duration = Duration::from_secs(caps::UNCOMMITTED_BLOCK_SECONDS + caps::UPLOAD_SECONDS_MAX);

pub(crate) const NAMES: [&str; 3] = ["blob1", "blob2", "dir/blob3"];

pub(crate) fn container() -> ContainerName {
    "files".parse().expect("a container's name")
}

pub(crate) fn blob(name: &str) -> BlobName {
    name.parse().expect("a blob's name")
}

pub(crate) fn account(house: &House) -> Account {
    house.accounts.find("storage").expect("nobody removes the default account")
}

fn new() -> NewBlob {
    NewBlob { kind: BlobKind::Block, headers: BlobHeaders::default(), metadata: Metadata::new() }
}

/// The bytes of a number: it comes first, and the rest follows from it. Another number has others everywhere.
pub(crate) fn bytes(number: u64) -> Bytes {
    let mut rng = Rng::with_seed(number);
    let length = rng.usize(0..3_000);
    number.to_le_bytes().into_iter().chain(std::iter::repeat_with(|| rng.u8(..)).take(length)).collect()
}

/// What one blob may hold: a number, or it is not there.
pub(crate) struct Believed {
    may_be: BTreeSet<Option<u64>>,
    /// What a house that was cut off may still do to it, until that is over.
    late: Vec<(Elapsed, Option<u64>)>,
}

impl Believed {
    fn new() -> Self {
        Self { may_be: BTreeSet::from([None]), late: Vec::new() }
    }

    fn allowed(&mut self, world: &World) -> BTreeSet<Option<u64>> {
        let now = world.clock.elapsed();
        // What is over by now may have happened since the last look.
        let over = self.late.extract_if(.., |(until, _)| *until <= now);
        self.may_be.extend(over.map(|(_, becomes)| becomes));
        self.may_be.iter().copied().chain(self.late.iter().map(|(_, becomes)| *becomes)).collect()
    }

    /// What has become of a change to `becomes`.
    fn changed<T>(&mut self, world: &World, becomes: Option<u64>, outcome: &Outcome<T, Error>) {
        // Before, it may have been anything that it was allowed to be.
        let before = self.allowed(world);
        match outcome {
            Outcome::Answered(Ok(_)) => self.may_be = BTreeSet::from([becomes]),
            Outcome::Answered(Err(Error::BlobNotFound)) if becomes.is_none() => {
                self.may_be = BTreeSet::from([None]);
            }
            Outcome::Answered(Err(Error::InvalidBlockList)) => {}
            Outcome::Answered(Err(_)) | Outcome::Cut => {
                self.may_be = before.into_iter().chain([becomes]).collect();
            }
        }
        if matches!(outcome, Outcome::Cut) {
            self.late.push((world.clock.elapsed().plus(LATE_MAX), becomes));
        }
    }

    fn read(&mut self, world: &World, name: &str, found: Option<u64>) {
        let allowed = self.allowed(world);
        if !allowed.contains(&found) {
            world.fail(format!("{name} holds {found:?}, and may hold one of {allowed:?}"));
        }
        self.may_be = BTreeSet::from([found]);
    }
}

/// The number of a blob, whose bytes are all its own.
async fn read(house: &House, name: &str) -> Result<Option<u64>, Error> {
    let account = account(house);
    let (container, blob) = (container(), blob(name));
    let found = match account.get_blob(&Caller::Key, (&container, &blob), &Conditions::default()).await {
        Ok(found) => found,
        Err(Error::BlobNotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    let (mut reader, mut all) = (account.read(&found, None)?.1, Vec::new());
    while let Some(part) = reader.next().await? {
        all.extend_from_slice(&part);
    }
    let number = all.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
    assert!(all == bytes(number), "{name} is no whole blob: {} bytes, of {number}", all.len());
    Ok(Some(number))
}

/// What a look has found.
struct Seen(Option<u64>);

/// `None` where nobody knows.
async fn look(world: &World, name: &str) -> Option<Seen> {
    let read = world.ask(format!("read {name}"), async |house| read(house, name).await).await;
    if let Outcome::Answered(Err(Error::Store(store::StoreError::Corrupt(why)))) = &read {
        world.fail(format!("{name} cannot be read: {why}"));
    }
    read.ok().map(Seen)
}

pub(crate) async fn put(house: &House, name: &str, number: u64) -> Result<(), Error> {
    let (account, container, blob, none) = (account(house), container(), blob(name), Conditions::default());
    let (at, bytes) = ((&container, &blob), bytes(number));
    let mut writer = account.receive_blob(&Caller::Key, at, &none, Some(bytes.len() as u64)).await?;
    writer.write(bytes).await?;
    account.put_blob(&Caller::Key, at, new(), &none, writer, None).await.map(drop)
}

/// Of its number and its place, so that no other content has it.
fn block_id(number: u64, place: usize) -> BlockId {
    let id = format!("{:012}", number * 10 + place as u64);
    base64(id.as_bytes()).parse().expect("a block's id")
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

async fn put_block(house: &House, name: &str, id: &BlockId, bytes: Bytes) -> Result<(), Error> {
    let (account, container, blob) = (account(house), container(), blob(name));
    let at = (&container, &blob);
    let mut writer = account.receive_block(&Caller::Key, at, Some(bytes.len() as u64)).await?;
    writer.write(bytes).await?;
    account.put_block(&Caller::Key, at, id, writer, None).await.map(drop)
}

async fn put_list(house: &House, name: &str, ids: &[BlockId]) -> Result<(), Error> {
    let (account, container, blob, none) = (account(house), container(), blob(name), Conditions::default());
    let entry = |id: &BlockId| Entry { source: Source::Uncommitted, id: id.clone() };
    let entries: Vec<Entry> = ids.iter().map(entry).collect();
    account.put_block_list(&Caller::Key, (&container, &blob), &entries, &new(), &none).await.map(drop)
}

async fn delete(house: &House, name: &str) -> Result<(), Error> {
    let (container, blob) = (container(), blob(name));
    account(house).delete_blob(&Caller::Key, (&container, &blob), &Conditions::default()).await
}

/// Writes one blob, alone, and gives what it may hold in the end.
pub(crate) async fn write(world: Arc<World>, name: &'static str) -> (&'static str, Believed) {
    let (mut rng, mut believed, mut number) = (world.fork(), Believed::new(), 0);
    while !world.is_over() {
        world.pause(&mut rng, 600).await;
        number += 1;
        match rng.u8(0..8) {
            0..=2 => {
                let what = format!("put {number} into {name}");
                let outcome = world.ask(what, async |house| put(house, name, number).await).await;
                believed.changed(&world, Some(number), &outcome);
            }
            3..=5 => write_blocks(&world, name, number, &mut rng, &mut believed).await,
            6 => {
                let outcome =
                    world.ask(format!("delete {name}"), async |house| delete(house, name).await).await;
                if matches!(outcome, Outcome::Answered(Err(Error::BlobNotFound))) {
                    believed.read(&world, name, None);
                }
                believed.changed(&world, None, &outcome);
            }
            _ => {}
        }
        if let Some(Seen(found)) = look(&world, name).await {
            believed.read(&world, name, found);
        }
    }
    (name, believed)
}

/// Some blocks and their list; or blocks that are given up, and that nobody sees.
async fn write_blocks(world: &World, name: &str, number: u64, rng: &mut Rng, believed: &mut Believed) {
    let (all, count) = (bytes(number), rng.usize(1..4));
    let blocks: Vec<_> = all.chunks(all.len().div_ceil(count)).map(Bytes::copy_from_slice).collect();
    let mut ids = Vec::new();
    for (place, block) in blocks.into_iter().enumerate() {
        let id = block_id(number, place);
        let what = format!("put block {place} of {number} for {name}");
        let outcome = world.ask(what, async |house| put_block(house, name, &id, block).await);
        if outcome.await.ok().is_none() {
            return;
        }
        ids.push(id);
    }
    if rng.u8(0..4) == 0 {
        return;
    }
    let is_alone = believed.late.is_empty();
    let what = format!("list the blocks of {number} for {name}");
    let outcome = world.ask(what, async |house| put_list(house, name, &ids).await).await;
    // A list that was committed, and a late put of another content, take what waits with them.
    if is_alone && matches!(outcome, Outcome::Answered(Err(Error::InvalidBlockList))) {
        world.fail(format!("a block of {number} for {name} was acknowledged and is gone"));
    }
    believed.changed(world, Some(number), &outcome);
}

/// Reads what others write; what it holds they judge, here it is whole.
pub(crate) async fn keep_reading(world: Arc<World>) {
    let mut rng = world.fork();
    while !world.is_over() {
        world.pause(&mut rng, 300).await;
        look(&world, NAMES[rng.usize(0..NAMES.len())]).await;
    }
}

/// What is there when everybody rests; then everything is removed, and nothing is left but what was there at first.
pub(crate) async fn check(world: &World, all: Vec<(&'static str, Believed)>, at_first: &[String]) {
    for (name, mut believed) in all {
        let found = world.insist(format!("read {name}"), async |house| read(house, name).await).await;
        believed.read(world, name, found);
    }
    let gone = world.insist("delete the container", async |house| {
        let deleted =
            account(house).delete_container(&Caller::Key, &container(), &Conditions::default()).await;
        // By a try of which nobody knew.
        if deleted == Err(Error::ContainerNotFound) { Ok(()) } else { deleted }
    });
    gone.await;
    world.clock.advance(LONG);
    // Houses find out that they were away, and come back.
    world.clock.sleep(LATE_MAX).await;
    world.insist("sweep", async |house| house.accounts.sweep().await).await;
    let left = world.database.left_of(STORAGE);
    if left != at_first {
        world.fail(format!("of what was removed is left {left:?}, and there was {at_first:?} at first"));
    }
    let waiting = world.database.left_of("removals");
    if !waiting.is_empty() {
        world.fail(format!("what was due is not removed: {waiting:?}"));
    }
}

/// How ids of accounts begin.
pub(crate) const STORAGE: &str = "storage-";
