//! Hubs and Digital Twins instances that are made and deleted through Resource Manager, and what is left of them.

use std::sync::Arc;
use std::time::Duration;

use access::Caller;
use base::IfMatch;
use hub::device::DeviceSpec;
use resource_manager::{Error, GroupId, ResourceId, ResourceType, instance, iot_hub};

use crate::house::House;
use crate::world::World;

/// Two looks of a house at what others have changed, on an engine that is slow.
const SOON: Duration = Duration::from_secs(4);

/// What resources of this module are called; nothing else begins so.
const NAME: &str = "passing";

fn id_of(house: &House, resource_type: ResourceType, name: &str) -> ResourceId {
    let group = GroupId::new(house.directory.subscription_id(), "twinhub");
    ResourceId::new(&group, resource_type, name)
}

/// One name, at which a resource comes and goes.
#[derive(Clone)]
pub(crate) struct Place {
    resource_type: ResourceType,
    name: String,
}

pub(crate) fn places() -> Vec<Place> {
    let place = |resource_type, number| Place { resource_type, name: format!("{NAME}{number}") };
    vec![
        place(ResourceType::IotHub, 1),
        place(ResourceType::IotHub, 2),
        place(ResourceType::DigitalTwinsInstance, 3),
    ]
}

pub(crate) async fn come_and_go(world: Arc<World>, place: Place) {
    let mut rng = world.fork();
    while !world.is_over() {
        world.pause(&mut rng, 4_000).await;
        if rng.bool() {
            make(&world, &place).await;
        } else {
            delete(&world, &place).await;
        }
        world.pause(&mut rng, 4_000).await;
        use_it(&world, &place).await;
    }
}

async fn make(world: &World, place: &Place) {
    let made = world.ask(format!("make {}", place.name), async |house| {
        let (id, location) = (id_of(house, place.resource_type, &place.name), Some("eastus".to_owned()));
        if place.resource_type == ResourceType::IotHub {
            let sku_name = Some("S1".to_owned());
            let properties = iot_hub::PropertiesRequest { sku_name, ..iot_hub::PropertiesRequest::default() };
            let put = iot_hub::Put { location, properties, ..iot_hub::Put::default() };
            return house.manager.put_iot_hub(&Caller::system(), &id, &put).await.map(drop);
        }
        let put = instance::Put { location, ..instance::Put::default() };
        house.manager.put_digital_twins_instance(&Caller::system(), &id, &put).await.map(drop)
    });
    made.await;
}

async fn delete(world: &World, place: &Place) {
    let deleted = world.ask(format!("delete {}", place.name), async |house| {
        let id = id_of(house, place.resource_type, &place.name);
        house.manager.delete_resource(&Caller::system(), &id).await.map(drop)
    });
    deleted.await;
}

/// Leaves something behind in a hub that its end has to remove.
async fn use_it(world: &World, place: &Place) {
    let used = world.ask(format!("use {}", place.name), async |house| {
        let Some(hub) = house.hubs.find(&place.name) else { return Ok(()) };
        let device = DeviceSpec::new("dev".parse().expect("a device's id"));
        hub.put_device(&Caller::system(), &device, &IfMatch::Absent).await.map(drop)
    });
    used.await;
}

/// Makes and deletes each once more, while every house goes by it soon; and looks whether a start leaves anything.
pub(crate) async fn check(world: &World) {
    for place in places() {
        let (mut turns, mut was_found) = (0, false);
        while is_there(world, &place).await || !was_found {
            if was_found {
                delete(world, &place).await;
            } else {
                make(world, &place).await;
            }
            world.clock.sleep(Duration::from_secs(1)).await;
            if !was_found && world.houses().iter().any(|house| is_found(house, &place)) {
                was_found = true;
                all_go_by(world, &place, true).await;
            }
            turns += 1;
            if turns > 300 {
                return world.fail(format!("{} is not made and deleted after {turns} s", place.name));
            }
        }
        all_go_by(world, &place, false).await;
    }
    // What a house that was killed had begun to make is swept away by the next start at the latest.
    world.open_again().await;
    for kind in ["hub", "twins", "digitaltwins", "adt"] {
        for left in world.database.left_of(&format!("{kind}-{NAME}")) {
            world.fail(format!("of an instance that was deleted is left {left}"));
        }
    }
}

/// What one house has done, the others know soon.
async fn all_go_by(world: &World, place: &Place, is: bool) {
    world.clock.sleep(SOON).await;
    for house in world.houses() {
        if is_found(&house, place) != is {
            world.fail(format!("house {} finds {} to be there: {}", house.number(), place.name, !is));
        }
    }
}

/// By what the house keeps in memory.
fn is_found(house: &House, place: &Place) -> bool {
    match place.resource_type {
        ResourceType::IotHub => house.hubs.find(&place.name).is_some(),
        _ => house.instances.find(&place.name).is_some(),
    }
}

async fn is_there(world: &World, place: &Place) -> bool {
    let found = world.insist(format!("look for {}", place.name), async |house| {
        let id = id_of(house, place.resource_type, &place.name);
        match house.manager.resource(&Caller::system(), &id).await {
            Ok(_) => Ok(true),
            Err(Error::ResourceNotFound(..)) => Ok(false),
            Err(error) => Err(error),
        }
    });
    found.await
}
