//! The kinds of attestation as clients write them, read them and send them back.

use access::CaCertificateDraft;
use base::Key;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::fixture::*;

fn with(attestation: &Value) -> Value {
    json!({"registrationId": "dev-1", "attestation": attestation})
}

async fn put(fixture: &Fixture, attestation: &Value) -> Answer {
    let ask = fixture.ask("PUT", "/enrollments/dev-1").json(&with(attestation));
    ask.header("if-match", "*").send().await
}

#[tokio::test]
async fn keys_of_16_to_64_bytes_are_taken_and_one_alone_keeps_the_other() {
    let fixture = Fixture::new().await;
    let keys =
        |primary: &Key| json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": primary.text()}});
    for (length, fits) in [(15, false), (16, true), (64, true), (65, false)] {
        let answer = put(&fixture, &keys(&Key::generate(length))).await;
        if fits {
            answer.is(200)
        } else {
            answer.refused(400_004)
        };
    }
    let both = put(&fixture, &keys(&Key::generate(32))).await.is(200).json()["attestation"].clone();
    let primary = Key::generate(32);
    let changed = put(&fixture, &keys(&primary)).await.is(200).json()["attestation"].clone();
    assert_eq!(changed["symmetricKey"]["primaryKey"], primary.text());
    assert_eq!(changed["symmetricKey"]["secondaryKey"], both["symmetricKey"]["secondaryKey"]);
}

#[tokio::test]
async fn a_tpm_shows_its_keys_and_is_for_single_devices() {
    let fixture = Fixture::new().await;
    let tpm = json!({"type": "tpm", "tpm": {"endorsementKey": "AToAAQ==", "storageRootKey": "AAAA"}});
    assert_eq!(put(&fixture, &tpm).await.is(200).json()["attestation"], tpm);
    assert_eq!(fixture.get("/enrollments/dev-1").await["attestation"], tpm);
    let without = json!({"type": "tpm", "tpm": {"endorsementKey": "AToAAQ==", "storageRootKey": ""}});
    let shown = put(&fixture, &without).await.is(200).json();
    assert_eq!(shown["attestation"], json!({"type": "tpm", "tpm": {"endorsementKey": "AToAAQ=="}}));
    for endorsement_key in [json!("not base64"), json!(""), json!(null)] {
        let bad = json!({"type": "tpm", "tpm": {"endorsementKey": endorsement_key}});
        put(&fixture, &bad).await.refused(400_004);
    }
    let body = json!({"enrollmentGroupId": "g", "attestation": tpm});
    fixture.ask("PUT", "/enrollmentGroups/g").json(&body).send().await.refused(400_004);
}

#[tokio::test]
async fn every_form_of_a_certificate_is_the_same_certificate() {
    let fixture = Fixture::new().await;
    let pem = certificate("dev-1");
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let forms =
        [pem.clone(), pem.replace('\n', ""), pem.replace('\n', "\r\n"), der.clone(), STANDARD.encode(&pem)];
    for form in forms {
        let x509 = json!({"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": form}, "secondary": null}}});
        let shown = put(&fixture, &x509).await.is(200).json();
        let certificates = &shown["attestation"]["x509"]["clientCertificates"];
        assert_eq!(certificates["primary"]["certificate"], der);
        assert_eq!(certificates["primary"]["info"]["subjectName"], "CN=dev-1");
        assert_eq!(
            members(&certificates["primary"]["info"]),
            [
                "subjectName",
                "sha1Thumbprint",
                "sha256Thumbprint",
                "issuerName",
                "notBeforeUtc",
                "notAfterUtc",
                "serialNumber",
                "version"
            ]
        );
        assert!(certificates.get("secondary").is_none());
        assert_eq!(fixture.get("/enrollments/dev-1").await["attestation"], shown["attestation"]);
    }
}

#[tokio::test]
async fn a_certificate_that_is_sent_back_without_its_text_is_kept() {
    let fixture = Fixture::new().await;
    let pair =
        json!({"primary": {"certificate": certificate("a")}, "secondary": {"certificate": certificate("b")}});
    let x509 = json!({"type": "x509", "x509": {"clientCertificates": pair}});
    let made = put(&fixture, &x509).await.is(200).json()["attestation"].clone();
    let mut edited = made.clone();
    let pair = &mut edited["x509"]["clientCertificates"];
    pair["primary"] = json!(null);
    pair["secondary"].as_object_mut().unwrap().remove("certificate");
    let kept = put(&fixture, &edited).await.is(200).json()["attestation"].clone();
    assert_eq!(
        kept["x509"]["clientCertificates"],
        json!({"secondary": made["x509"]["clientCertificates"]["secondary"]})
    );
}

#[tokio::test]
async fn exactly_one_form_of_x509_fits_each_kind_of_enrollment() {
    let fixture = Fixture::new().await;
    let pair = json!({"primary": {"certificate": certificate("a")}});
    let put_group = async |x509: Value| {
        let body = json!({"enrollmentGroupId": "g", "attestation": {"type": "x509", "x509": x509}});
        fixture.ask("PUT", "/enrollmentGroups/g").json(&body).header("if-match", "*").send().await
    };
    put(&fixture, &json!({"type": "x509", "x509": {"clientCertificates": pair}})).await.is(200);
    put_group(json!({"signingCertificates": pair})).await.is(200);
    put_group(json!({"clientCertificates": pair})).await.refused(400_004);
    for x509 in [
        json!({}),
        json!({"signingCertificates": pair}),
        json!({"clientCertificates": pair, "caReferences": {"primary": "ca"}}),
        json!({"clientCertificates": {}}),
        json!({"clientCertificates": {"primary": {"certificate": ""}}}),
        json!({"clientCertificates": {"primary": {"certificate": "AAAA"}}}),
        json!({"clientCertificates": {"primary": {"certificate": "no base64"}}}),
    ] {
        put(&fixture, &json!({"type": "x509", "x509": x509})).await.refused(400_004);
    }
}

#[tokio::test]
async fn a_ca_reference_names_a_verified_certificate_of_the_service() {
    let fixture = Fixture::new().await;
    for (name, is_verified) in [("good", true), ("unproven", false)] {
        let (name, is_verified) = (name.to_owned(), Some(is_verified));
        let draft = CaCertificateDraft { certificate: certificate(&name), name, is_verified };
        let put =
            fixture.service.change_certificates(|all, now| all.put(&draft, &base::IfMatch::Absent, now));
        put.await.unwrap();
    }
    let refer = |pair: Value| json!({"type": "x509", "x509": {"caReferences": pair}});
    let good = refer(json!({"primary": "good"}));
    assert_eq!(put(&fixture, &good).await.is(200).json()["attestation"], good);
    assert_eq!(
        put(&fixture, &refer(json!({"primary": "good", "secondary": ""}))).await.is(200).json()["attestation"],
        good
    );
    for pair in [
        json!({"primary": "absent"}),
        json!({"primary": "unproven"}),
        json!({"primary": "good", "secondary": "absent"}),
        json!({"secondary": "good"}),
        json!({}),
    ] {
        put(&fixture, &refer(pair)).await.refused(400_004);
    }
}
