//! Devices that prove themselves with the certificates of their handshake.

use hub::device::{AuthenticationKind, AuthenticationSpec};
use test_certificates::{Certified, leaf};

use super::*;

/// A peer that presented `chain` and proved to hold the key of its first certificate.
fn peer(chain: &[&Certified]) -> Peer {
    let der = chain.iter().map(|certified| Bytes::copy_from_slice(&certified.der));
    Peer { client_certificates: der.collect(), ..Peer::default() }
}

async fn connect(
    fixture: &Fixture,
    chain: &[&Certified],
    connect: Connect,
) -> Result<Device, ConnectReturnCode> {
    match Client::connect(fixture.stream_from(peer(chain)), connect).await {
        Ok(device) => Ok(device),
        Err(ClientError::Refused(code)) => Err(code),
        Err(other) => panic!("{other}"),
    }
}

async fn put(fixture: &Fixture, id: &str, authentication: AuthenticationSpec) {
    let spec = DeviceSpec { authentication, ..DeviceSpec::new(id.parse().unwrap()) };
    fixture.hub.put_device(&Caller::system(), &spec, &IfMatch::Absent).await.unwrap();
}

fn by_thumbprint(certified: &Certified) -> AuthenticationSpec {
    let thumbprint = access::certificates::describe(&certified.der).unwrap().sha256_thumbprint;
    AuthenticationSpec {
        kind: Some(AuthenticationKind::SelfSigned),
        secondary_thumbprint: Some(thumbprint),
        ..AuthenticationSpec::default()
    }
}

fn without_password(id: &str) -> Connect {
    hub_connect(HOST, &id.parse().unwrap(), None).unwrap()
}

#[tokio::test]
async fn a_device_with_the_registered_thumbprint_sends_and_its_messages_say_how_it_came() {
    let fixture = Fixture::new().await;
    let own = Certified::own(leaf("anything"));
    put(&fixture, "dev1", by_thumbprint(&own)).await;
    let mut device = connect(&fixture, &[&own], without_password("dev1")).await.unwrap();
    device.publish(TELEMETRY, b"21").await.unwrap();
    let [message] = &fixture.messages().await[..] else { panic!("one message") };
    assert_eq!(
        message.system("iothub-connection-auth-method"),
        Some(r#"{"scope":"device","type":"x509","issuer":"external","acceptingIpFilterRule":null}"#)
    );
}

#[tokio::test]
async fn a_password_is_not_made_up_for_by_a_certificate_and_the_reverse() {
    let fixture = Fixture::new().await;
    let (own, other) = (Certified::own(leaf("dev1")), Certified::own(leaf("dev1")));
    put(&fixture, "dev1", by_thumbprint(&own)).await;
    let with_key = fixture.device("dev2").await;
    let refused = Err(ConnectReturnCode::NotAuthorized);
    for (chain, packet) in [
        (&[][..], without_password("dev1")),
        (&[&other], without_password("dev1")),
        (&[&other, &own], without_password("dev1")),
        (&[&own], without_password("dev2")),
        (&[&own], without_password("nobody")),
    ] {
        let client_id = packet.client_id.to_string();
        assert_eq!(connect(&fixture, chain, packet).await.map(drop), refused, "{client_id}");
    }
    let policy = fixture.hub.settings().policy("device").unwrap().primary_key.clone();
    let expires_at = fixture.clock.now().plus(std::time::Duration::from_mins(5));
    let of_policy = sas::build(HOST, &policy, expires_at, Some("device"));
    let packet = hub_connect(HOST, &"dev1".parse().unwrap(), Some(&of_policy)).unwrap();
    assert_eq!(
        connect(&fixture, &[&own], packet).await.map(drop),
        refused,
        "a policy for a device without keys"
    );
    let with_token = connect(&fixture, &[&own], with_key.connect_packet()).await;
    assert!(with_token.is_ok(), "a certificate that nobody asked for does no harm");
}
