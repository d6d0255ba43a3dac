//! The authorization endpoint. Discovery names it because MSAL refuses one that does not; whoever is sent there is told what is missing.

use super::{Entra, OAuthError};
use crate::wire::{Request, Response};

/// Nothing of the request is repeated in it, and nobody is sent back: a redirect would look like an answer to the application.
const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Signing in is not there yet</title></head>
<body>
<h1>Signing in is not there yet</h1>
<p>An application has sent you here to sign in. This server, twinhub, knows no users so far, so nobody can.</p>
<p>What works: an application or a tool that signs in as itself, with a client id and a client secret. The first one is made at the
first start; <code>twinhub env</code> prints it. With the Azure command line:
<code>az login --service-principal --username "$AZURE_CLIENT_ID" --password "$AZURE_CLIENT_SECRET" --tenant "$AZURE_TENANT_ID"</code></p>
</body>
</html>
"#;

/// `GET /{tenant}/oauth2/v2.0/authorize`, and the same without a version.
pub(super) async fn page(door: Entra, (): (), request: Request) -> Response {
    let asked = request.param("tenant");
    if !door.directory.is_tenant(asked) {
        return OAuthError::UnknownTenant(asked.to_owned()).answer(&request.head, &door.clock);
    }
    Response::bytes(501, "text/html; charset=utf-8", PAGE)
        .header("content-security-policy", "default-src 'none'")
        .header("x-content-type-options", "nosniff")
}
