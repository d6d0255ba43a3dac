//! Storage accounts, their names and their keys.

use super::*;

const API: &str = "api-version=2023-05-01";

fn url(rest: &str) -> String {
    format!(
        "/subscriptions/{RECORDED}/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/{rest}?{API}"
    )
}

#[tokio::test]
async fn an_account_is_made_shown_listed_and_deleted() {
    let arm = Arm::new().await;
    arm.group(RECORDED, "g").await;
    let body = json!({"location": "westus", "sku": {"name": "Standard_GRS"}, "kind": "StorageV2"});
    assert_eq!(arm.put(&url("files1"), body.clone()).await.status, 200);
    let (_, account) = arm.get(&url("files1")).await;
    assert_eq!(account["properties"]["provisioningState"], "Succeeded");
    assert_eq!(account["properties"]["primaryEndpoints"]["blob"], "https://files1.blob.azure.net/");
    assert_eq!((&account["sku"]["tier"], &account["kind"]), (&json!("Standard"), &json!("StorageV2")));
    let all = format!("/subscriptions/{RECORDED}/providers/Microsoft.Storage/storageAccounts?{API}");
    assert_eq!(arm.get(&all).await.1["value"].as_array().unwrap().len(), 1);
    let check = format!("/subscriptions/{RECORDED}/providers/Microsoft.Storage/checkNameAvailability?{API}");
    for (name, reason) in [("files1", "AlreadyExists"), ("Files-1", "AccountNameInvalid")] {
        let (_, told) =
            arm.post(&check, json!({"name": name, "type": "Microsoft.Storage/storageAccounts"})).await;
        assert_eq!((&told["nameAvailable"], &told["reason"]), (&json!(false), &json!(reason)));
    }
    assert_eq!(arm.post(&check, json!({"name": "files2"})).await.1["nameAvailable"], true);
    assert_eq!(arm.put(&url("Files"), body.clone()).await.status, 400);
    let odd = json!({"location": "westus", "sku": {"name": "Golden"}});
    assert_eq!(arm.put(&url("files2"), odd).await.status, 400);
    assert_eq!(
        [arm.delete(&url("files1")).await.status, arm.delete(&url("files1")).await.status],
        [200, 204]
    );
    assert_eq!(arm.get(&url("files1")).await.0, 404);
}

#[tokio::test]
async fn keys_are_listed_and_made_anew_one_by_one_and_a_put_keeps_them() {
    let arm = Arm::new().await;
    arm.group(RECORDED, "g").await;
    arm.put(&url("files1"), json!({"location": "westus"})).await;
    let keys = async |rest: &str, body: Value| {
        let (status, told) = arm.post(&url(&format!("files1/{rest}")), body).await;
        assert_eq!(status, 200, "{told}");
        let keys = told["keys"].as_array().unwrap().clone();
        assert_eq!((&keys[0]["keyName"], &keys[1]["keyName"]), (&json!("key1"), &json!("key2")));
        [keys[0]["value"].clone(), keys[1]["value"].clone()]
    };
    let before = keys("listKeys", Value::Null).await;
    arm.put(&url("files1"), json!({"location": "westus", "tags": {"a": "b"}})).await;
    assert_eq!(keys("listKeys", Value::Null).await, before);
    let after = keys("regenerateKey", json!({"keyName": "key2"})).await;
    assert_eq!((after[0] == before[0], after[1] == before[1]), (true, false));
    assert_eq!(keys("listKeys", Value::Null).await, after);
    let (status, _) = arm.post(&url("files1/regenerateKey"), json!({"keyName": "key3"})).await;
    assert_eq!(status, 400);
    let scope = format!("/subscriptions/{RECORDED}");
    let reader = format!("Bearer {}", arm.token_of(Some(roles::READER), &scope).await);
    let refused = arm.ask("POST", &url("files1/listKeys"), &[("authorization", &reader)], "").await;
    assert_eq!(refused.status, 403, "keys are for who may have them");
}
