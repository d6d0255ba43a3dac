//! Entra ID's face: discovery documents, signing keys and the token endpoint (`arm-and-auth.md` §4).
//! Nothing here needs credentials but the token endpoint, which takes its own. It must never name a fixed host: every URL
//! is built from the address that the client dialled.

use access::Directory;
use base::Clock;

use crate::router::{Door, Fault, RouteInfo, Routes};
use crate::wire::{Head, Response};

mod authorize;
mod discovery;
mod error;
mod form;
#[cfg(test)]
mod tests;
mod token;

use error::OAuthError;

#[derive(Clone)]
pub struct Entra {
    pub directory: Directory,
    pub clock: Clock,
}

impl Door for Entra {
    type Context = ();
    const NAME: &'static str = "entra";

    fn routes() -> Routes<Self> {
        Routes::new()
            .on("GET", "/common/discovery/instance", "Discovery_GetInstance", discovery::instance)
            .on(
                "GET",
                "/{tenant}/v2.0/.well-known/openid-configuration",
                "OpenId_GetConfigurationV2",
                discovery::v2,
            )
            .on("GET", "/{tenant}/.well-known/openid-configuration", "OpenId_GetConfiguration", discovery::v1)
            .on("GET", "/{tenant}/discovery/v2.0/keys", "OpenId_GetKeys", discovery::keys)
            .on("GET", "/{tenant}/discovery/keys", "OpenId_GetKeysV1", discovery::keys)
            .on("POST", "/{tenant}/oauth2/v2.0/token", "OAuth2_TokenV2", token::v2)
            .on("POST", "/{tenant}/oauth2/token", "OAuth2_Token", token::v1)
            .on("GET", "/{tenant}/oauth2/v2.0/authorize", "OAuth2_AuthorizeV2", authorize::page)
            .on("GET", "/{tenant}/oauth2/authorize", "OAuth2_Authorize", authorize::page)
            .on("POST", "/{tenant}/oauth2/v2.0/devicecode", "OAuth2_DeviceCode", token::device_code)
    }

    fn is_open(_: &RouteInfo) -> bool {
        true
    }

    async fn authenticate(&self, _: &Head, _: &RouteInfo) -> Result<(), Response> {
        Ok(())
    }

    fn refuse(&self, head: &Head, fault: Fault) -> Response {
        match fault {
            Fault::Malformed(malformed) => OAuthError::Malformed(malformed).answer(head, &self.clock),
            Fault::UnknownInstance | Fault::UnknownPath | Fault::NotBuilt { .. } => Response::empty(404),
            Fault::MethodNotAllowed => {
                let has = |name: &str| head.segments.iter().any(|segment| segment.eq_ignore_ascii_case(name));
                let is_form = has("oauth2") && !has("authorize");
                let accepted = if is_form { "POST" } else { "GET" };
                let received = head.method.to_string();
                let error = OAuthError::MethodNotAllowed { accepted, received };
                error.answer(head, &self.clock)
            }
            Fault::BodyTooLarge { max_bytes } => {
                OAuthError::BodyTooLarge { max_bytes }.answer(head, &self.clock)
            }
            Fault::BodyIncomplete => OAuthError::MissingField("grant_type").answer(head, &self.clock),
        }
    }

    /// Entra's answers must not be kept: they hold tokens, and discovery follows the address that was dialled.
    fn finish(&self, head: &Head, response: Response) -> Response {
        let response = response.header("x-ms-request-id", &head.request_id.to_string());
        response.header("cache-control", "no-store, no-cache").header("pragma", "no-cache")
    }
}
