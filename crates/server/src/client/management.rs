//! Entra and Resource Manager as their clients use them: a token for client credentials, and calls that wait for the operations
//! that they begin.

use std::collections::BTreeMap;
use std::time::Duration;

use base::caps;
use serde_json::{Value, json};

use super::service::bytes_of;
use super::{ClientError, Https, Refusal};

const POLL_EVERY: Duration = Duration::from_millis(250);

/// What `twinhub env` prints, by name.
pub type Variables = BTreeMap<String, String>;

/// The value of a variable that must be there.
pub fn variable<'a>(variables: &'a Variables, name: &str) -> Result<&'a str, ClientError> {
    let value = variables.get(name).map(String::as_str);
    value.ok_or_else(|| ClientError::Variable(name.to_owned()))
}

/// A token for `audience`: client credentials at the tenant that the environment names, as the SDKs' credentials do it.
pub async fn token(https: &Https, variables: &Variables, audience: &str) -> Result<String, ClientError> {
    let authority = variable(variables, "AZURE_AUTHORITY_HOST")?.trim_end_matches('/');
    let tenant = variable(variables, "AZURE_TENANT_ID")?;
    let url = format!("{authority}/{tenant}/.well-known/openid-configuration");
    let configuration = https.ask("GET", &url, &[], "").await?.json();
    let endpoint = configuration["token_endpoint"].as_str().unwrap_or_default().to_owned();
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&scope={}/.default",
        escape(variable(variables, "AZURE_CLIENT_ID")?),
        escape(variable(variables, "AZURE_CLIENT_SECRET")?),
        escape(audience.trim_end_matches('/'))
    );
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = https.send("POST", &endpoint, &headers, form).await?;
    if let Some(refusal) = Refusal::of(&answer) {
        return Err(refusal.into());
    }
    let answer = answer.json();
    let token = answer["access_token"].as_str();
    token.map(str::to_owned).ok_or_else(|| ClientError::Broken("the answer holds no token".to_owned()))
}

/// Resource Manager, signed in. Clones share the connections.
#[derive(Clone)]
pub struct Management {
    https: Https,
    base: String,
    authorization: String,
}

impl Management {
    pub async fn sign_in(https: &Https, variables: &Variables) -> Result<Self, ClientError> {
        let base = variable(variables, "AZURE_RESOURCE_MANAGER_ENDPOINT")?.trim_end_matches('/').to_owned();
        let audience = variable(variables, "AZURE_RESOURCE_MANAGER_AUDIENCE")?;
        let authorization = format!("Bearer {}", token(https, variables, audience).await?);
        Ok(Self { https: https.clone(), base, authorization })
    }

    /// A call that waits for the operation that it begins, and then gives the resource. `Null` sends no body.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        version: &str,
        body: &Value,
    ) -> Result<Value, ClientError> {
        let headers = [("authorization", self.authorization.as_str()), ("content-type", "application/json")];
        let url = self.url(path, version);
        let answer = self.https.send(method, &url, &headers, bytes_of(body)).await?;
        if let Some(refusal) = Refusal::of(&answer) {
            return Err(refusal.into());
        }
        let status_url = answer.header("azure-asyncoperation").map(str::to_owned);
        let mut state = match &status_url {
            Some(_) => json!({"status": "Running"}),
            None => answer.json(),
        };
        for _ in 0..caps::CLIENT_OPERATION_POLLS_MAX {
            // A status says `status`; a resource that is its own status says `provisioningState`.
            let status =
                state["status"].as_str().or_else(|| state["properties"]["provisioningState"].as_str());
            match status {
                Some("Failed" | "Canceled") => {
                    return Err(ClientError::Operation(format!("{method} {path}: {state}")));
                }
                Some("Succeeded") if status_url.is_some() => {
                    return Ok(self.https.ask("GET", &url, &headers, "").await?.json());
                }
                None | Some("Succeeded") => return Ok(state),
                Some(_) => tokio::time::sleep(POLL_EVERY).await,
            }
            state = self.https.ask("GET", status_url.as_deref().unwrap_or(&url), &headers, "").await?.json();
        }
        Err(ClientError::Operation(format!("{method} {path} does not come to an end")))
    }

    /// Removes a resource and waits until it is gone.
    pub async fn remove(&self, path: &str, version: &str) -> Result<(), ClientError> {
        let headers = [("authorization", self.authorization.as_str())];
        let url = self.url(path, version);
        self.https.ask("DELETE", &url, &headers, "").await?;
        for _ in 0..caps::CLIENT_OPERATION_POLLS_MAX {
            if !self.https.send("GET", &url, &headers, "").await?.status.is_success() {
                return Ok(());
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
        Err(ClientError::Operation(format!("{path} does not go away")))
    }

    fn url(&self, path: &str, version: &str) -> String {
        format!("{}{path}?api-version={version}", self.base)
    }
}

fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
