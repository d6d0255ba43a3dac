//! `/metadata/endpoints`: where clients of a custom cloud find everything else. Its shape depends on the api-version
//! (`arm-and-auth.md` §5.2). Needs no credentials.

use serde_json::{Value, json};

use super::error::Refusal;
use super::{At, Outcome};
use crate::wire::{Request, Response};

/// Names under which clients look for a cloud. `AzureCloud` must be there: `az` starts from it.
const CLOUDS: &[&str] = &["AzureCloud", "twinhub"];

pub(super) async fn get(_: At, request: &Request) -> Outcome {
    let version = request.api_version().ok_or(Refusal::MissingApiVersion)?;
    let base = request.base_url();
    let body = match version {
        _ if version <= "2015-01-01" => first(&base),
        _ if version < "2022-09-01" => Value::Array(CLOUDS.iter().map(|name| cloud(name, &base)).collect()),
        _ => cloud("twinhub", &base),
    };
    Ok(Response::json(200, &body))
}

fn first(base: &str) -> Value {
    json!({
        "galleryEndpoint": base,
        "graphEndpoint": base,
        "portalEndpoint": base,
        "authentication": {"loginEndpoint": base, "audiences": [base]}
    })
}

fn cloud(name: &str, base: &str) -> Value {
    json!({
        "name": name,
        "portal": base,
        "authentication": {"loginEndpoint": base, "audiences": [base], "tenant": "common", "identityProvider": "AAD"},
        "resourceManager": base,
        "graphAudience": base,
        "graph": base,
        "microsoftGraphResourceId": base,
        "media": base,
        "gallery": base,
        "batch": base,
        "vmImageAliasDoc": base,
        "sqlManagement": base,
        "activeDirectoryDataLake": base,
        "appInsightsResourceId": base,
        "appInsightsTelemetryChannelResourceId": base,
        "attestationResourceId": base,
        "synapseAnalyticsResourceId": base,
        "logAnalyticsResourceId": base,
        "ossrDbmsResourceId": base,
        "suffixes": {
            "storage": "core.localhost",
            "keyVaultDns": "vault.localhost",
            "sqlServerHostname": "database.localhost",
            "acrLoginServer": "azurecr.localhost",
            "mhsmDns": "managedhsm.localhost",
            "mysqlServerEndpoint": "mysql.database.localhost",
            "postgresqlServerEndpoint": "postgres.database.localhost",
            "mariadbServerEndpoint": "mariadb.database.localhost",
            "storageSyncEndpointSuffix": "afs.localhost",
            "synapseAnalytics": "dev.azuresynapse.localhost",
            "attestationEndpoint": "attest.localhost",
            "azureDataLakeStoreFileSystem": "azuredatalakestore.localhost",
            "azureDataLakeAnalyticsCatalogAndJob": "azuredatalakeanalytics.localhost",
            "azureFrontDoorEndpointSuffix": "azurefd.localhost"
        }
    })
}
