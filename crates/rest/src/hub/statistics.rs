//! Statistics on the wire (`iothub-service.md` §3.5).

use access::Permission;
use hub::device::{RegistryStatistics, ServiceStatistics};
use serde::Serialize;

use super::{HubAt, HubDoor, Refusal, handler};
use crate::router::Routes;
use crate::wire::{Request, Response};

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on("GET", "/statistics/devices", "Statistics_GetDeviceStatistics", handler!(devices))
        .requires(Permission::HubStatisticsRead)
        .on("GET", "/statistics/service", "Statistics_GetServiceStatistics", handler!(service))
        .requires(Permission::HubConnectionStatisticsRead)
}

async fn devices(at: &HubAt, _: &Request) -> Result<Response, Refusal> {
    let RegistryStatistics { total_devices, enabled_devices, disabled_devices } =
        at.hub.registry_statistics(&at.caller).await?;
    let body = RegistryBody {
        total_device_count: total_devices,
        enabled_device_count: enabled_devices,
        disabled_device_count: disabled_devices,
    };
    Ok(Response::json(200, &body))
}

async fn service(at: &HubAt, _: &Request) -> Result<Response, Refusal> {
    let ServiceStatistics { connected_devices } = at.hub.service_statistics(&at.caller).await?;
    Ok(Response::json(200, &ServiceBody { connected_device_count: connected_devices }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the members' names on the wire")]
struct RegistryBody {
    total_device_count: i64,
    enabled_device_count: i64,
    disabled_device_count: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceBody {
    connected_device_count: u64,
}
