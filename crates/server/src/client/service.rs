//! The HTTPS API of one hub or provisioning service, called with a shared access policy as back ends call it.

use std::time::Duration;

use base::{Clock, ConnectionString, Key, sas};
use serde_json::Value;

use super::{Answer, ClientError, Https, Refusal};

const TOKEN_LIFE: Duration = Duration::from_hours(1);

/// Clones share the connections.
#[derive(Clone)]
pub struct ServiceApi {
    https: Https,
    clock: Clock,
    /// With its port, where it has one.
    host: String,
    policy: String,
    key: Key,
}

impl ServiceApi {
    /// `HostName=…;SharedAccessKeyName=…;SharedAccessKey=…`
    pub fn new(connection: &ConnectionString, https: Https, clock: Clock) -> Result<Self, ClientError> {
        let unusable = || ClientError::ConnectionString(connection.to_string());
        let key = connection.shared_access_key().and_then(|key| key.parse().ok());
        Ok(Self {
            host: connection.host_name().ok_or_else(unusable)?.to_owned(),
            policy: connection.shared_access_key_name().ok_or_else(unusable)?.to_owned(),
            key: key.ok_or_else(unusable)?,
            https,
            clock,
        })
    }

    /// The same, where an answer may take so long instead of a minute.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self { https: self.https.within(timeout), ..self.clone() }
    }

    pub fn policy(&self) -> &str {
        &self.policy
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whatever the service answers. `path` holds its query; `Null` sends no body.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer, ClientError> {
        let ends_at = self.clock.now().plus(TOKEN_LIFE);
        let token = sas::build(&self.host, &self.key, ends_at, Some(&self.policy));
        let mut all =
            vec![("authorization", token.as_str()), ("content-type", "application/json; charset=utf-8")];
        all.extend_from_slice(headers);
        self.https.send(method, &format!("https://{}{path}", self.host), &all, bytes_of(body)).await
    }

    /// [`Self::send`], where anything other than success is [`ClientError::Service`].
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, ClientError> {
        let answer = self.send(method, path, headers, body).await?;
        Refusal::of(&answer).map_or_else(|| Ok(answer.json()), |refusal| Err(refusal.into()))
    }
}

pub(super) fn bytes_of(body: &Value) -> Vec<u8> {
    if body.is_null() { Vec::new() } else { body.to_string().into_bytes() }
}
