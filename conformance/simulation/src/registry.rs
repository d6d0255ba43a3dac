//! Devices and modules that come and go, and device twins as registers under compare-and-set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use access::Caller;
use base::ids::IdentityId;
use base::{Elapsed, IfMatch};
use fastrand::Rng;
use hub::Error;
use hub::device::{DeviceSpec, ModuleSpec};
use hub::twin::{TwinPatch, TwinView};
use parking_lot::Mutex;
use serde_json::json;

use crate::house::House;
use crate::world::{Outcome, World};

pub(crate) fn identity(name: &str) -> IdentityId {
    name.parse().expect("a device's id")
}

/// One device twin: which value stood under which etag, as far as anybody was told.
#[derive(Default)]
pub(crate) struct Register {
    values: BTreeMap<u64, i64>,
    /// Whoever asks now may not be told of an older one.
    floor: u64,
    /// Values that were refused.
    never: BTreeSet<i64>,
    last: i64,
}

pub(crate) type Shared = Arc<Mutex<Register>>;

impl Register {
    fn seen(&mut self, world: &World, name: &str, (etag, value): (u64, i64), floor: u64) {
        if etag < floor {
            world.fail(format!("{name} was at {etag} behind {floor}, which was told before"));
        }
        if self.never.contains(&value) {
            world.fail(format!("{name} holds {value}, which was refused"));
        }
        let known = *self.values.entry(etag).or_insert(value);
        if known != value {
            world.fail(format!("{name} held {known} and {value} under the etag {etag}"));
        }
        self.floor = self.floor.max(etag);
    }
}

fn state(view: &TwinView) -> (u64, i64) {
    let value = view.twin.properties.desired.values.get("n").and_then(serde_json::Value::as_i64);
    (view.twin.etag.0, value.unwrap_or_default())
}

/// Reads and writes one twin, as others do at the same time.
pub(crate) async fn write_twin(world: Arc<World>, name: String, register: Shared) {
    let mut rng = world.fork();
    while !world.is_over() {
        world.pause(&mut rng, 400).await;
        if let Some(before) = read(&world, &name, &register).await {
            write(&world, &name, &register, before).await;
        }
    }
}

pub(crate) async fn read(world: &World, name: &str, register: &Shared) -> Option<(u64, i64)> {
    let (floor, id) = (register.lock().floor, identity(name));
    let read =
        world.ask(format!("read {name}"), async |house| house.hub().get_twin(&Caller::system(), &id).await);
    let state = state(&read.await.ok()?);
    register.lock().seen(world, name, state, floor);
    Some(state)
}

async fn write(world: &World, name: &str, register: &Shared, (etag, _): (u64, i64)) {
    let (value, floor) = {
        let mut register = register.lock();
        register.last += 1;
        (register.last, register.floor)
    };
    let patch = TwinPatch::from_json(&json!({"properties": {"desired": {"n": value}}}));
    let patch = patch.expect("a patch that a twin takes");
    let (id, tag) = (identity(name), hub::twin::TwinEtag(etag).to_string());
    let written = world.ask(format!("write {value} over {etag} of {name}"), async |house| {
        house.hub().update_twin(&Caller::system(), &id, &patch, &IfMatch::Tag(tag)).await
    });
    let outcome = written.await;
    let mut register = register.lock();
    match outcome {
        Outcome::Answered(Ok(view)) => {
            let now = state(&view);
            if now != (etag + 1, value) {
                world.fail(format!("{name} is {now:?} behind a write of {value} over {etag}"));
            }
            register.seen(world, name, now, floor);
        }
        Outcome::Answered(Err(Error::PreconditionFailed(_))) => drop(register.never.insert(value)),
        // It may be there or not.
        Outcome::Answered(Err(_)) | Outcome::Cut => {}
    }
}

/// Makes and deletes one device or module, alone; gives whether it is there in the end, where that is known.
pub(crate) async fn come_and_go(world: Arc<World>, name: String) {
    let mut rng = world.fork();
    let mut believed = Believed { may_be: BTreeSet::from([false]), late: Vec::new() };
    while !world.is_over() {
        world.pause(&mut rng, 600).await;
        one_turn(&world, &name, &mut rng, &mut believed).await;
    }
}

async fn make(house: &House, id: &IdentityId) -> Result<(), Error> {
    let (hub, caller, device_id) = (house.hub(), Caller::system(), id.device_id.clone());
    let spec = DeviceSpec::new(device_id.clone());
    let Some(module_id) = id.module_id.clone() else {
        return hub.put_device(&caller, &spec, &IfMatch::Absent).await.map(drop);
    };
    let spec = ModuleSpec { device_id, module_id, managed_by: None, authentication: spec.authentication };
    hub.put_module(&caller, &spec, &IfMatch::Absent).await.map(drop)
}

async fn delete(house: &House, id: &IdentityId) -> Result<(), Error> {
    let (hub, caller) = (house.hub(), Caller::system());
    match &id.module_id {
        None => hub.delete_device(&caller, &id.device_id, &IfMatch::Any).await,
        Some(_) => hub.delete_module(&caller, id, &IfMatch::Any).await,
    }
}

async fn look(house: &House, id: &IdentityId) -> Result<(), Error> {
    let (hub, caller) = (house.hub(), Caller::system());
    match &id.module_id {
        None => hub.get_device(&caller, &id.device_id).await.map(drop),
        Some(_) => hub.get_module(&caller, id).await.map(drop),
    }
}

/// Whether something may be there, as far as one who makes and deletes it alone can know.
struct Believed {
    may_be: BTreeSet<bool>,
    /// What a house that was cut off may still do to it, until that is over.
    late: Vec<(Elapsed, bool)>,
}

/// Longer than a house hangs on.
const LATE_MAX: Duration = Duration::from_secs(20);

async fn one_turn(world: &World, name: &str, rng: &mut Rng, believed: &mut Believed) {
    let id = identity(name);
    let (is, becomes, outcome) = match rng.u8(0..3) {
        0 => {
            let made = world.ask(format!("make {name}"), async |house| make(house, &id).await);
            (false, true, made.await)
        }
        1 => {
            let deleted = world.ask(format!("delete {name}"), async |house| delete(house, &id).await);
            (true, false, deleted.await)
        }
        _ => {
            let read = world.ask(format!("look for {name}"), async |house| look(house, &id).await);
            (true, true, read.await)
        }
    };
    let now = world.clock.elapsed();
    believed.late.retain(|(until, _)| *until > now);
    let late = believed.late.iter().map(|(_, becomes)| *becomes);
    let may_be: BTreeSet<bool> = believed.may_be.iter().copied().chain(late.clone()).collect();
    let told = |found: bool, now: bool| {
        if !may_be.contains(&found) {
            world.fail(format!("{name} was told to be there: {found}, which cannot be"));
        }
        BTreeSet::from([now])
    };
    let is_cut = matches!(outcome, Outcome::Cut);
    believed.may_be = match outcome {
        Outcome::Answered(Ok(())) => told(is, becomes),
        Outcome::Answered(Err(Error::DeviceAlreadyExists(_) | Error::ModuleAlreadyExistsOnDevice { .. })) => {
            told(true, true)
        }
        Outcome::Answered(Err(Error::DeviceNotFound(_) | Error::ModuleNotFound { .. })) => told(false, false),
        Outcome::Answered(Err(_)) | Outcome::Cut => {
            let changed = may_be.contains(&is).then_some(becomes);
            may_be.iter().copied().chain(changed).collect()
        }
    };
    if is_cut && is != becomes {
        believed.late.push((now.plus(LATE_MAX), becomes));
    }
}
